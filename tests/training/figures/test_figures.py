"""Figures of an evaluation and of a prediction."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_timelines import made_up_person, made_up_result
from PIL import Image

from tgdfer.training.errors import UserError
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.figures.risk_coverage import plot_risk_coverage
from tgdfer.training.figures.saving import require_picture_format
from tgdfer.training.figures.timeline import plot_timeline


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
    every = np.array([0.5, 1.5])
    person = made_up_person(1, every, [(0.0, 2.0, "$\\x$")], every, ("$\\x$", "$a$"))
    plot_timeline(made_up_result([person], every, 2.0), tmp_path / "t.png", title="clip$\\y$.mp4")
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


def test_formats_of_pictures(tmp_path: Path) -> None:
    require_picture_format(tmp_path / "a.PNG")
    for name in ("a", "a.txt"):
        with pytest.raises(
            UserError, match=rf"{name} is not a file name for a figure: it must end in \.png or another"
        ):
            require_picture_format(tmp_path / name)


@pytest.mark.parametrize("backend", ["not_installed", "module://nowhere.backend"])
def test_a_backend_that_is_not_installed_does_not_matter(backend, tmp_path):
    """Notebooks set one for all the processes that they start. What is there is still used by others afterwards."""
    code = (
        "import os, sys; from pathlib import Path; from tgdfer.training.figures.confusion_matrix import *; "
        f"plot_confusion_matrix([[3, 1], [0, 4]], ['a', 'b'], {str(tmp_path / 'm.png')!r}); "
        f"assert os.environ['MPLBACKEND'] == {backend!r}"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": backend}, check=True)
    assert (tmp_path / "m.png").is_file()
