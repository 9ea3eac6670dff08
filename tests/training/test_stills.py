"""Training on photographs first: what is trained on, resuming in both stages, and labels that differ."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_clips import COLOURS

from tgdfer.training import train as training
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.labels import with_labels
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained
from tgdfer.training.stills import stills_config
from tgdfer.training.train import train

PHOTOGRAPHS = {"happy": COLOURS["happy"], "sad": COLOURS["Sadness"], "contempt": (60, 220, 60)}


def picture(colour, seed) -> Image.Image:
    noise = np.random.default_rng(seed).normal(colour, 15, (40, 40, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def stills(tmp_path_factory) -> Path:
    """Folder of photographs: 5 of each of three labels, of which clips have two."""
    folder = tmp_path_factory.mktemp("stills") / "photographs"
    for label, colour in PHOTOGRAPHS.items():
        (folder / "train" / label).mkdir(parents=True)
        for index in range(5):
            picture(colour, index).save(folder / "train" / label / f"{index}.png")
    return folder


@pytest.fixture
def staged(options, stills) -> TrainingConfig:
    changes = {"stills": str(stills), "stills_epochs": 3, "epochs": 2, "frozen_features": True, "batch_size": 5}
    return TrainingConfig.from_options(**options | changes)


def rows(run):
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_models(one: Path, other: Path) -> None:
    first, second = (load_file(run / "last" / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_stills_are_trained_on_before_clips(staged, caplog, capsys):
    run = train(staged)
    assert len(rows(run / "stills")) == 3 and len(rows(run)) == 2
    assert "5 of the 15 photographs in split 'train' of" in caplog.text and "(contempt)" in caplog.text
    first, _ = load_trained(run / "stills" / "best")
    assert list(first.config.id2label.values()) == ["happiness", "sadness"] and first.config.num_frames == 1
    model, processor = load_trained(run / "best")
    assert list(model.config.id2label.values()) == ["happiness", "neutral", "sadness"]
    assert model.config.num_frames == processor.video_processor.num_frames == 4
    facts = json.loads((run / "training.json").read_text())
    assert facts["base_model"] == Path(staged.model.model).name and facts["continued_from"]["num_clips"] == 8
    assert facts["dataset"] == "clips" and facts["continued_from"]["dataset"] == "photographs"
    kinds = {entry["name"]: entry["kind"] for entry in model.config.training_data}
    assert kinds["photographs"] == "photographs" and kinds["clips"] == "clips"
    saved = TrainingConfig.from_options(**training.TrainingConfig.from_options(**staged.options()).options())
    assert saved.data.stills == staged.data.stills
    said = capsys.readouterr().out
    assert "Stage 1 of 2: photographs of" in said and "Stage 2 of 2: clips of" in said


def interrupted(config, stage, epoch, monkeypatch):
    save = training._Run._save_epoch

    def save_or_stop(self, record):
        if self.folder.name == stage and record["epoch"] == epoch:
            raise KeyboardInterrupt
        save(self, record)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._Run, "_save_epoch", save_or_stop)
        train(config)


@pytest.mark.slow
def test_both_stages_are_resumed(staged, tmp_path, monkeypatch):
    whole = train(staged.with_options(output=str(tmp_path / "whole")))
    interrupted(staged, "stills", 1, monkeypatch)
    interrupted(staged.with_options(resume=True), "stills", 2, monkeypatch)
    run = tmp_path / "run"
    assert not (run / "best").exists() and len(rows(run / "stills")) == 1
    interrupted(staged.with_options(resume=True), "run", 2, monkeypatch)
    assert len(rows(run / "stills")) == 3 and len(rows(run)) == 1
    kept = (run / "stills" / "last" / "model.safetensors").stat().st_mtime_ns
    train(staged.with_options(resume=True))
    assert rows(run) == rows(whole) and rows(run / "stills") == rows(whole / "stills")
    assert_same_models(run, whole)
    assert_same_models(run / "stills", whole / "stills")
    assert (run / "stills" / "last" / "model.safetensors").stat().st_mtime_ns == kept
    with pytest.raises(UserError, match="is not empty"):
        train(staged)
    with pytest.raises(UserError, match="stills_epochs"):
        train(staged.with_options(resume=True, stills_epochs=1))


@pytest.mark.slow
def test_stills_with_lora_start_the_clips_with_new_lora(options, stills):
    changes = {"stills": str(stills), "epochs": 1, "lora_options": {"use_rslora": True}}
    run = train(TrainingConfig.from_options(**options | changes))
    first, last = (load_trained(path)[0].tgdfer.clip.state_dict() for path in (run / "stills" / "best", run / "last"))
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert changed and all("self_attn" in name for name in changed)


def test_photographs_with_votes(options, tmp_path):
    """A Parquet file with counts of votes. Photographs of another label are left out, and votes are scaled."""
    counts = [[8, 2, 0], [1, 9, 0], [2, 2, 6], [5, 3, 2], [1, 6, 3], [6, 1, 0], [0, 7, 1], [7, 0, 1]]
    rows_ = {"image": [picture(COLOURS["happy"], i) for i in range(len(counts))]}
    rows_ |= {name: [row[i] for row in counts] for i, name in enumerate(("hap", "sad", "con"))}
    features = datasets.Features(
        {"image": datasets.Image(), **{name: datasets.Value("int64") for name in ("hap", "sad", "con")}}
    )
    (tmp_path / "votes").mkdir()
    datasets.Dataset.from_dict(rows_, features=features).to_parquet(tmp_path / "votes" / "train.parquet")
    votes = {"happiness": "hap", "sadness": "sad", "contempt": "con"}
    changes = {"stills": str(tmp_path / "votes"), "stills_vote_columns": votes, "epochs": 1, "frozen_features": True}
    changes |= {"validation_fraction": 0.25}
    config = TrainingConfig.from_options(**options | changes)
    stage = stills_config(config)
    assert stage.data.label_kind == "votes" and stage.model.num_frames == 1 and stage.optimisation.epochs == 1
    clips = load_clips(stage.data.dataset, "train", **stage.data.reading)
    kept = with_labels(clips, ["happiness", "neutral", "sadness"], "votes")
    assert len(kept) == 7 and kept.classes == ["happiness", "sadness"]
    assert kept.soft.values[2].tolist() == pytest.approx([5 / 8, 3 / 8])
    run = train(config)
    assert json.loads((run / "training.json").read_text())["continued_from"]["num_clips"] > 0


def test_too_few_shared_labels_and_nothing_is_written(options, stills, tmp_path):
    (tmp_path / "others").mkdir()
    for label in ("contempt", "happy"):
        (tmp_path / "others" / "train" / label).mkdir(parents=True)
        for index in range(5):
            picture((10, 10, 10), index).save(tmp_path / "others" / "train" / label / f"{index}.png")
    config = TrainingConfig.from_options(**options | {"stills": str(tmp_path / "others")})
    with pytest.raises(UserError, match="has the labels contempt, happiness, but the clips have .*: stills needs at"):
        train(config)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError):
        train(config.with_options(stills=str(tmp_path / "nowhere")))
    assert not (tmp_path / "run").exists()


def test_too_few_clips_are_an_error_before_the_photographs(options, stills, tmp_path):
    config = TrainingConfig.from_options(**options | {"stills": str(stills), "validation_fraction": 0.01})
    with pytest.raises(UserError, match="Too few people to hold out one of 100 folds"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_all_shared_are_kept_without_a_word(stills, caplog):
    clips = load_clips(str(stills), "train")
    assert isinstance(clips, LabelledClips)
    assert with_labels(clips, ["contempt", "happiness", "neutral", "sadness"], "photographs") is clips
    assert not caplog.text
