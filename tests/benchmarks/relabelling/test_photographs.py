"""How a model is measured on photographs of an emotion that it knows only by its words."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.fitting import Recipe
from benchmarks.real_faces.photographs import PhotographDataset
from benchmarks.relabelling import left_out_emotions, left_out_photographs
from benchmarks.relabelling.left_out_photographs import (
    WORDS,
    Answers,
    measure_photographs,
    trained_on_photographs,
    wrong_descriptions,
)
from benchmarks.relabelling.report import KINDS, photograph_figures, write_relabelling_report
from benchmarks.relabelling.word_figures import PAIRS, weighted_auc, word_figures
from tgdfer import built_in_descriptions
from tgdfer.training.features import FrameFeatures

CLASSES = ["anger", "happiness", "neutral"]


@pytest.fixture
def photographs(tmp_path, clip_folder, monkeypatch) -> PhotographDataset:
    """Noise of three labels with enough test photographs, and of one without. No face is found in it."""
    monkeypatch.setattr(
        "tgdfer.processing.detectors_tgdfer._detector", lambda name, model: lambda picture: np.zeros((0, 15))
    )
    monkeypatch.setattr(left_out_emotions, "RECIPE", Recipe(rate=1e-3, epochs=2))
    monkeypatch.setattr(left_out_photographs, "PER_LABEL", 6)
    rng = np.random.default_rng(0)
    rows = []
    for label in [*CLASSES, "fear"]:
        for split, number in (("train", 8), ("validation", 1), ("test", 50 - (label == "fear"))):
            for _ in range(number):
                image = cv2.imencode(".png", rng.integers(0, 255, (48, 48), np.uint8))[1].tobytes()
                rows.append({"image": {"bytes": image, "path": ""}, "label": label, "split": split, "near": ""})
    path = tmp_path / "photographs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return PhotographDataset(path, Settings(model=str(clip_folder), seeds=(0, 1)), tmp_path / "work")


@pytest.mark.parametrize("kind", WORDS)
def test_photographs_of_the_emotion_that_is_left_out_are_never_seen(photographs, monkeypatch, kind):
    """They are no numbers here: one step with any of them would leave no number in the model."""
    seen = photographs.features("train")
    spoilt = seen.features.clone()
    spoilt[:, [label not in ("anger", "neutral") for label in photographs.labels["train"]]] = torch.nan
    monkeypatch.setattr(
        PhotographDataset,
        "features",
        lambda self, split, seed=0: FrameFeatures(spoilt, seen.frame_mask, seen.timestamps),
    )
    model = trained_on_photographs(photographs, CLASSES, "happiness", kind, 0)
    assert list(model.config.id2label.values()) == CLASSES
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert model.bias[[0, 2]].abs().min() > 0, "it has learnt"
    assert model.bias[1].item() == pytest.approx(model.bias[[0, 2]].mean().item(), abs=1e-6)
    assert (model.tgdfer.text_guidance.context is not None) == (kind == "context")


def test_wrong_descriptions_are_those_of_other_emotions(photographs):
    known = built_in_descriptions()
    texts = wrong_descriptions(photographs, CLASSES, "anger", np.random.default_rng(0))
    assert {label: texts[label] for label in CLASSES[1:]} == {label: known[label] for label in CLASSES[1:]}
    assert len(set(texts["anger"])) == len(known["anger"]) and not set(texts["anger"]) & set(known["anger"])
    assert texts != wrong_descriptions(photographs, CLASSES, "anger", np.random.default_rng(1))


def test_weighted_area_is_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 8, (2, 40)).astype(float)  # With equal scores.
    positive, weights = rng.random(40) < 0.3, rng.integers(0, 4, (5, 40))
    expected = [
        np.mean([roc_auc_score(np.repeat(positive, row), np.repeat(run, row)) for run in scores]) for row in weights
    ]
    assert weighted_auc(scores, positive, weights) == pytest.approx(expected)


def test_recall_and_false_alarms_are_means_over_runs():
    labels = ["a"] * 4 + ["b"] * 6
    one_hot = np.eye(2)[[0, 0, 0, 1, 1, 1, 1, 1, 1, 0]]
    logits = np.stack([one_hot, np.eye(2)[[1] * 10]])
    kinds = {kind: {"a": logits, "b": logits} for pair in PAIRS for kind in pair}
    result = word_figures(Answers(["a", "b"], labels, kinds), draws=50)
    figures = result["figures"]["words"]
    assert figures["recall"]["a"][0] == pytest.approx(3 / 8) and figures["recall"]["b"][0] == pytest.approx(11 / 12)
    assert figures["false_alarms"]["a"][0] == pytest.approx(1 / 12)
    assert figures["recall"]["mean"][0] == pytest.approx((3 / 8 + 11 / 12) / 2)
    low, high = figures["recall"]["a"][1:]
    assert low < 3 / 8 < high
    assert result["differences"]["context - descriptions"]["auc"]["mean"] == (0.0, 0.0, 0.0)


@pytest.mark.slow
def test_report_keeps_the_figures_of_rendered_clips(photographs, tmp_path):
    answers = measure_photographs(photographs)
    assert answers.classes == CLASSES and len(answers.labels) == 150
    runs = {kind: len(answers.logits[kind]["anger"]) for kind in KINDS}
    assert runs == {"untrained": 1, "shuffled": 10, "words": 2, "descriptions": 2, "context": 2, "all": 2}
    path, figures = tmp_path / "relabelling.md", tmp_path / "relabelling.json"
    areas = {label: {name: [0.5, 0.75] for name in ("untrained", "others", "all")} for label in CLASSES}
    rendered = {"areas": areas, "test_clips": 280, "recipe": {"rate": 1e-3, "epochs": 20}}
    figures.write_text(json.dumps(rendered | {"command": "first", "commit": "abc", "machine": "one CPU core"}))
    write_relabelling_report({"photographs": photograph_figures(photographs, answers, "second")}, path, figures)
    text, facts = path.read_text(), json.loads(figures.read_text())
    assert facts["areas"] == areas and facts["photographs"]["test_photographs"] == dict.fromkeys(CLASSES, 50)
    assert "| mean | 62.5 ±17.7 |" in text and "`first`" in text and "`second`" in text
    assert "The dual encoder has seen all six emotions" in text and "| happiness (50) |" in text
    assert text.index("## Rendered faces") < text.index("## Photographs")
