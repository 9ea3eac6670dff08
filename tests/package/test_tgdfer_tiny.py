"""The trained model that the package carries: its folder, and the commands that use it when none is named."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoProcessor

import tgdfer
from tgdfer.command_line import main
from tgdfer.model_card.card import read_metrics, require_measured
from tgdfer.training import models
from tgdfer.training.config import ModelConfig
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.models import is_trained, load_trained, start_model
from tgdfer.training.predict import PredictionOptions, predict
from tgdfer.training.rendered_faces import EMOTIONS
from tgdfer.training.runs import run_folder
from tgdfer.weights import DEFAULT_MODEL, TGDFER_TINY

NAME = "tgdfer-tiny"
LABELS = ["happiness", "neutral", "sadness"]


@pytest.fixture
def stand_in(clip_folder, descriptions_file, tmp_path, monkeypatch) -> Path:
    """A small random model in the place of the one in the package."""
    folder = tmp_path / "weights" / NAME
    options = {"model": str(clip_folder), "descriptions": str(descriptions_file), "num_frames": 4}
    model, processor = start_model(ModelConfig(**options, frozen_features=True), LABELS)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    facts = {"base_model": str(clip_folder), "dataset": "photographs", "num_clips": 3}
    (folder / "training.json").write_text(json.dumps(facts))
    monkeypatch.setitem(models.BUNDLED, NAME, folder)
    return folder


def test_the_package_names_its_models():
    assert tgdfer.tgdfer_tiny() == TGDFER_TINY and TGDFER_TINY.name == NAME == DEFAULT_MODEL
    assert "tgdfer_tiny" in dir(tgdfer)
    assert models.model_source(NAME) == str(TGDFER_TINY)
    assert models.model_source("clip-tiny-faces") == str(tgdfer.clip_tiny_faces())


@pytest.mark.slow
def test_commands_use_it_when_no_model_is_named(stand_in, clips_folder, capsys, tmp_path):
    video = str(next((clips_folder / "test").rglob("*.mp4")))
    assert main(["predict", video, "--face-crop", "none", "--json", str(tmp_path / "found.json")]) == 0
    (found,) = json.loads((tmp_path / "found.json").read_text())["results"]
    assert found["file"] == video and set(found["people"][0]["scores"]) == set(LABELS)
    options = PredictionOptions({"face_crop": "none"})
    for again in (predict([video], options=options), predict([video], stand_in, options=options)):
        assert found["people"][0]["scores"] == again[video]["people"][0]["scores"]
    assert main(["evaluate", "--dataset", str(clips_folder), "--output", str(tmp_path / "measured")]) == 0
    metrics = json.loads((tmp_path / "measured" / "metrics.json").read_text())
    assert metrics["model"] == NAME and len(metrics["weights_sha256"]) == 64
    assert metrics["command"].startswith(f"tgdfer evaluate {NAME} --dataset")
    assert metrics["uar"] == evaluate_model(stand_in, EvaluationData(str(clips_folder)))["uar"]
    capsys.readouterr()
    assert main(["evaluate"]) == 2
    assert f"{NAME} is not the folder of a run: name the data set" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_help_says_what_is_used(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f'"{NAME}" is the model in the package' in shown and f"[default: {NAME}]" in shown


def test_training_goes_on_from_it_and_says_what_it_had_learnt_from(stand_in, options, tmp_path):
    assert main(["train", "--dataset", options["dataset"], "--model", NAME, "--output", str(tmp_path / "run"),
                 "--epochs", "1", "--num-frames", "4", "--frozen-features"]) == 0  # fmt: skip
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    assert facts["continued_from"]["dataset"] == "photographs" and facts["base_model"] == options["model"]
    assert is_trained(NAME) and run_folder.previous_run_facts("clip-tiny-faces") is None


@pytest.mark.parametrize("trusting", [False, True])
def test_transformers_loads_the_folder(trusting):
    options = {"trust_remote_code": True} if trusting else {}
    model = AutoModelForVideoClassification.from_pretrained(tgdfer.tgdfer_tiny(), **options)
    processor = AutoProcessor.from_pretrained(tgdfer.tgdfer_tiny(), **options)
    assert type(model) is tgdfer.TGDFERForVideoClassification and type(processor) is tgdfer.TGDFERProcessor
    assert set(model.config.label2id) == set(EMOTIONS) == set(processor.descriptions)
    assert model.config.is_calibrated and model.config.unsure_below is not None
    frames = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    inputs = processor(videos=[frames], face_crop="none", num_frames=1, return_tensors="pt")
    with torch.inference_mode():
        assert model(**inputs).logits.shape == (1, 7)


def test_the_folder_is_small_and_whole_and_holds_no_code():
    names = {path.name for path in TGDFER_TINY.iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "README.md", "metrics.json"} <= names
    assert "training.json" in names and not [name for name in names if name.endswith((".py", ".bin", ".pkl"))]
    assert sum(path.stat().st_size for path in TGDFER_TINY.rglob("*") if path.is_file()) < 18e6
    for name in ("config.json", "processor_config.json"):
        assert not {"auto_map", "custom_pipelines"} & set(json.loads((TGDFER_TINY / name).read_text())), name


def test_its_figures_are_of_these_weights():
    metrics = read_metrics(TGDFER_TINY)
    assert metrics["weights_sha256"]
    require_measured(TGDFER_TINY, metrics, TGDFER_TINY)
    for measured in (metrics, *metrics.get("also_measured", [])):
        assert measured["dataset"] and measured["num_clips"] and 0 < measured["uar"] <= 1


def test_it_is_relabelled_by_words():
    model, processor = load_trained(NAME)
    model.set_classes(processor.encode_classes({"joy": ["a broad smile"], "boredom": ["half-closed eyes"]}))
    assert set(model.config.label2id) == {"joy", "boredom"} and not model.config.is_calibrated
