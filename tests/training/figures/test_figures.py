"""Figures of an evaluation and of a prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tgdfer.training.errors import UserError
from tgdfer.training.figures import (
    plot_confusion_matrix,
    plot_risk_coverage,
    plot_timeline,
    require_picture_format,
)
from tgdfer.training.figures.timeline import RELEVANCE_COLOUR


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_confusion_matrix_shows_the_counts(tmp_path: Path) -> None:
    for name, matrix in {"good": [[9, 0], [0, 9]], "bad": [[0, 9], [9, 0]]}.items():
        plot_confusion_matrix(matrix, ["anger", "fear"], tmp_path / f"{name}.png")
    good, bad = pixels(tmp_path / "good.png"), pixels(tmp_path / "bad.png")
    assert good.shape == bad.shape
    assert np.abs(good - bad).mean() > 5
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    plot_confusion_matrix([[1, 0], [0, 1]], ["a$\\fracc$", "$b$"], tmp_path / "m.png")
    timeline = {
        "label": "$\\x$",
        "scores": {"$\\x$": 1.0},
        "timestamps": [0.5],
        "frame_scores": {"$\\x$": [1.0]},
        "frame_relevance": [1.0],
    }
    plot_timeline(timeline, np.zeros((1, 20, 20, 3), np.uint8), tmp_path / "t.png", title="clip$\\y$.mp4")
    assert (tmp_path / "m.png").is_file() and (tmp_path / "t.png").is_file()


def test_risk_coverage_marks_the_threshold(tmp_path: Path) -> None:
    """The dot of the threshold is on the curve; without a threshold there is none."""
    confidences, correct = np.linspace(1, 0.1, 10), [True] * 5 + [False] * 5
    for name, threshold in {"low": 0.15, "high": 0.95, "none": None}.items():
        plot_risk_coverage(confidences, correct, tmp_path / f"{name}.png", threshold)
    dot = np.array([255, 127, 14])  # the second colour of matplotlib
    orange = {}
    for name in ("low", "high", "none"):
        orange[name] = np.abs(pixels(tmp_path / f"{name}.png") - dot).sum(-1) < 12
    assert orange["high"].any() and orange["low"].any() and not orange["none"].any()
    assert (orange["high"] != orange["low"]).any()
    plot_risk_coverage([0.5], [False], tmp_path / "one.png", 0.9)
    assert (tmp_path / "one.png").is_file() and list(tmp_path.glob(".*")) == []


def test_timeline_of_an_unsure_model(tmp_path: Path) -> None:
    timeline = {
        "label": "unsure",
        "candidates": ["fear", "anger"],
        "scores": {"anger": 0.4, "fear": 0.45, "joy": 0.15},
        "timestamps": [0.5, 1.5],
        "frame_scores": {"anger": [0.4, 0.4], "fear": [0.4, 0.5], "joy": [0.2, 0.1]},
        "frame_relevance": [0.5, 0.5],
    }
    plot_timeline(timeline, np.zeros((2, 20, 20, 3), np.uint8), tmp_path / "t.png")
    assert (tmp_path / "t.png").is_file()


def test_timeline_shows_relevance_and_frames(tmp_path: Path) -> None:
    """The relevance colour is where relevance is, and the film strip holds the frames in order."""
    shades = torch.tensor([0, 80, 160, 240], dtype=torch.uint8)
    frames = shades.view(4, 1, 1, 1).expand(4, 20, 20, 3).numpy()
    timeline = {
        "label": "fear",
        "scores": {"anger": 0.2, "fear": 0.8},
        "timestamps": [0.5, 1.5, 2.5, 3.5],
        "frame_scores": {"anger": [0.9, 0.5, 0.2, 0.1], "fear": [0.1, 0.5, 0.8, 0.9]},
        "frame_relevance": [0.0, 0.0, 0.0, 1.0],
    }
    plot_timeline(timeline, frames, tmp_path / "t.png", title="clip.mp4")
    picture = pixels(tmp_path / "t.png")
    edge = np.array([int(RELEVANCE_COLOUR[start : start + 2], 16) for start in (1, 3, 5)])
    columns = np.flatnonzero((np.abs(picture - edge).sum(-1) < 12).any(0))
    assert columns.min() > 0.6 * picture.shape[1]
    row = picture[int(0.8 * picture.shape[0])]
    seen = [shade for shade in row[:, 0] if (np.abs(shades.numpy().astype(int) - shade) <= 1).any()]
    order = [value for index, value in enumerate(seen) if index == 0 or value != seen[index - 1]]
    assert [order.index(shade) for shade in (0, 80, 160, 240)] == sorted(order.index(s) for s in (0, 80, 160, 240))


def test_formats_of_pictures(tmp_path: Path) -> None:
    require_picture_format(tmp_path / "a.PNG")
    for name in ("a", "a.txt"):
        with pytest.raises(
            UserError, match=rf"{name} is not the name of a picture: end it in \.png, or in another of"
        ):
            require_picture_format(tmp_path / name)
