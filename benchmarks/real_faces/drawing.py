"""The pictures of the report: risk against coverage, and rendered faces with the words that were found on them."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness.calibration import risk_and_coverage
from benchmarks.real_faces.words import rendered_test_faces
from tgdfer.training.figures import save_figure

_COLUMNS = 4


def draw_risk(answers: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draws the error among the most confident answers.

    Args:
        answers: for each method the confidence (N,) of its answers, and whether each is right (N,).
        path: picture to write.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for title, (confidence, right) in answers.items():
        coverage, risk = risk_and_coverage(confidence, right)
        axes.plot(100 * coverage, 100 * risk, label=title, linewidth=1.4)
    axes.set(xlabel="photographs that are answered, in percent", ylabel="wrong answers among these, in percent")
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_words(found: Mapping[str, Any], path: Path) -> None:
    """Draws the rendered faces of `words.write_words`, each above its answer and its words.

    Args:
        found: what `write_words` has written.
        path: picture to write.
    """
    faces = rendered_test_faces(len(found["faces"]))
    rows = -(-len(faces) // _COLUMNS)
    figure = Figure(figsize=(3.0 * _COLUMNS, 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, (label, picture), said in zip(panels, faces, found["faces"], strict=False):
        axes.imshow(picture)
        right = said["predicted"] == label
        answer = f"{said['predicted']} {100 * said['score']:.0f} %" + ("" if right else f" (true: {label})")
        axes.set_title(answer, fontsize=10, color="black" if right else "firebrick")
        words = "\n".join(fill(f"- {text}", 44, subsequent_indent="  ") for text in said["words"])
        axes.set_xlabel(words, fontsize=7.5)  # unlike other texts, labels are given room
    save_figure(figure, path)
