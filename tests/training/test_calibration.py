"""Calibration of a trained model on its validation clips."""

import hashlib
import json

import numpy as np
import pytest
import torch

from tgdfer import TGDFERConfig
from tgdfer.processing.explanation_tgdfer import decisive_frames
from tgdfer.processing.search_tgdfer import SearchReference
from tgdfer.training import calibration
from tgdfer.training.calibration import calibrate, choose_threshold, description_references, fit_temperature
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.train import train

LABELS = ["happiness", "neutral", "sadness"]


def sharpened(temperature, clips=4000):
    """Logits that are right as often as they say after division by a temperature."""
    logits = 2 * torch.randn(clips, 5)
    targets = torch.multinomial(logits.softmax(-1), 1).squeeze(1)
    return temperature * logits, targets


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_found(temperature):
    assert fit_temperature(*sharpened(temperature)) == pytest.approx(temperature, rel=0.06)


def test_temperature_is_where_the_likelihood_is_highest():
    logits, targets = sharpened(2.0, clips=200)
    found = fit_temperature(logits, targets)
    smoothing = 1 / 201
    losses = [
        torch.nn.functional.cross_entropy(logits / value, targets, label_smoothing=smoothing)
        for value in found * np.array([0.97, 1.0, 1.03])
    ]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_few_clips_that_are_all_right_do_not_make_the_model_certain():
    logits, targets = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 0])
    best = float((logits / fit_temperature(logits, targets)).softmax(-1).max())
    assert best == pytest.approx(13 / 15, abs=1e-3), "four fifths and a third of one"


def test_logits_that_say_nothing_have_no_temperature():
    assert fit_temperature(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])) == 1.0


@pytest.mark.parametrize(
    ("right", "threshold"),
    [
        ([1] * 10, 0.0),
        # Four of ten are wrong: of the first eight two, which is a quarter and no more than a fifth; of seven one.
        ([1, 1, 1, 1, 1, 0, 1, 0, 0, 0], 0.4),
        ([1, 1, 1, 1, 0, 1, 1, 1, 1, 1], 0.1 + 0.5),
        # The errors are as frequent among the confident clips: half of them keep their label.
        ([0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 0.6),
        ([0] * 10, 0.6),
    ],
)
def test_threshold_halves_the_errors_or_keeps_half_of_the_clips(right, threshold):
    confidences = np.linspace(1.0, 0.1, 10)
    assert choose_threshold(confidences, np.array(right, dtype=bool)) == pytest.approx(threshold)


def test_references_count_every_label_alike():
    targets = torch.tensor([0, 0, 0, 1])
    cosines = torch.zeros(4, 2, 2, dtype=torch.float64)
    cosines[:, 0, 0] = torch.tensor([0.4, 0.4, 0.4, 0.2])
    cosines[:, 1, 1] = 0.3
    found = description_references(cosines, targets, ["awe", "joy"], {"awe": ["mouth open"], "joy": ["a", "b"]})
    assert found == {"awe": {"mouth open": pytest.approx([0.3, 0.1])}, "joy": {}}, "what never varies says nothing"


def test_calibration_is_written_and_nothing_else(options, clips_folder, tmp_path):
    config = TrainingConfig.from_options(**options | {"frozen_features": True})
    model, processor = start_model(config.model, LABELS)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    before = {path: hash_of(path) for path in (tmp_path / "model").iterdir()}
    data = ClipDataset(load_clips(str(clips_folder), "test"), LABELS, processor.video_processor, 4)
    batch = data.collate([data[index] for index in range(len(data))])
    targets = batch["labels"].clone()
    found = calibrate(tmp_path / "model", [batch], "cpu")
    changed = [path.name for path in (tmp_path / "model").iterdir() if before.get(path) != hash_of(path)]
    assert sorted(changed) == ["config.json", "processor_config.json"]

    saved, saved_processor = load_trained(tmp_path / "model")
    reference = SearchReference.from_dict(saved_processor.search_reference)
    assert reference.source == "frames of 15 validation clips"
    features = saved.get_frame_features(batch["pixel_values_videos"], batch["frame_mask"])[batch["frame_mask"]]
    assert torch.allclose(reference.mean, torch.nn.functional.normalize(features, dim=-1).mean(0), atol=0.01)
    assert saved.config.is_calibrated and saved.config.temperature == found.temperature != 1
    assert saved.config.unsure_below == found.unsure_below
    output = saved(**{name: batch[name] for name in ("pixel_values_videos", "frame_mask", "timestamps")})
    assert fit_temperature(output.logits.detach(), targets) == pytest.approx(found.temperature, rel=1e-3)
    # Every label has five clips, so the mean over clips is plain.
    first = []
    for clip in range(15):
        mask = batch["frame_mask"][clip]
        decisive = decisive_frames(output.frame_relevance[clip, mask, 2])
        first.append(output.description_relevance[clip, mask, 2, 1][decisive].mean().item())
    references = saved.config.description_references["sadness"]
    assert list(references) == processor.descriptions["sadness"]
    assert references[processor.descriptions["sadness"][1]] == pytest.approx([np.mean(first), np.std(first)], rel=1e-3)
    assert found.num_clips == 15 and 0 <= found.coverage <= 1 and found.coverage >= 0.5
    assert str(found).startswith("Calibrated on 15 validation clips: temperature ")


def test_calibration_keeps_the_order_of_the_classes(tmp_path):
    """The indices are texts in JSON, where 10 comes before 2 if they are sorted as texts."""
    names = {index: f"class {index}" for index in range(11)}
    TGDFERConfig(id2label=names).save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text("{}")
    calibration._write_config(tmp_path, calibration.Calibration(9, 2.0, None, {}, None, 0.2, 0.1, 1.0, 0.5))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["temperature"] == 2.0 and list(saved["id2label"]) == [str(index) for index in range(11)]


def test_class_that_is_called_unsure_is_never_taken_for_the_answer(options, tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=5)
    for split in ("train", "test"):
        metadata = folder / split / "metadata.jsonl"
        metadata.write_text(metadata.read_text().replace('"label": "happy"', '"label": "unsure"'))
    words = tmp_path / "words.yaml"
    words.write_text("unsure: [a smile]\nsad: [a frown]\nneutral: [at rest]\n")
    changes = {"dataset": str(folder), "descriptions": str(words), "epochs": 1}
    run = train(TrainingConfig.from_options(**options | changes))
    config = load_trained(run)[0].config
    assert config.unsure_below is None and config.temperature != 1


@pytest.mark.slow
def test_training_calibrates_its_best_model_and_no_other(options, tmp_path, monkeypatch, capsys):
    run = train(TrainingConfig.from_options(**options))
    best, last = (json.loads((run / name / "config.json").read_text()) for name in ("best", "last"))
    facts = json.loads((run / "training.json").read_text())["calibration"]
    assert facts["temperature"] == best["temperature"] and facts["unsure_below"] == best["unsure_below"]
    assert facts["num_clips"] == 3 and set(best["description_references"]) <= set(LABELS)
    assert (last["temperature"], last["unsure_below"], last["description_references"]) == (1.0, None, None)
    assert "Calibrated on 3 validation clips" in " ".join(capsys.readouterr().out.split())
    # Neither the epochs nor the weights know of it.
    monkeypatch.setattr("tgdfer.training.train.calibrate", lambda *_: pytest.fail("nobody is held out"))
    other = {"output": str(tmp_path / "other"), "validation_fraction": 0, "epochs": 1}
    all_clips = train(TrainingConfig.from_options(**options | other))
    assert not load_trained(all_clips)[0].config.is_calibrated
    # A training that goes on starts without the calibration of other weights.
    continued = TrainingConfig.from_options(**options | {"model": str(run / "best")}).model
    assert not start_model(continued, LABELS)[0].config.is_calibrated


@pytest.mark.slow
def test_resumed_after_the_calibration_was_cut_off(options, tmp_path, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    config = TrainingConfig.from_options(**options | {"frozen_features": True})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(calibration, "_write_config", cut_off)
        train(config)
    run = tmp_path / "run"
    weights = hash_of(run / "best" / "model.safetensors")
    assert not load_trained(run)[0].config.is_calibrated
    train(config.with_options(resume=True))
    assert load_trained(run)[0].config.is_calibrated
    assert hash_of(run / "best" / "model.safetensors") == weights
    assert not list(run.glob("**/.*"))


def test_calibration_is_not_an_option_of_training(options):
    config = TrainingConfig.from_options(**options | {"model_options": {"temperature": 2.0}})
    with pytest.raises(UserError, match="unknown field 'temperature'"):
        start_model(config.model, LABELS)


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
