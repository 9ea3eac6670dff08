"""The pictures of the report: risk against coverage, and rendered faces with the words that were found on them."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.real_faces.words import rendered_test_faces
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.metrics import risk_coverage_curve

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
        _, coverage, risk = risk_coverage_curve(confidence, right)
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
    figure = Figure(figsize=(3.0 * _COLUMNS, 4.2 * rows))
    # Half of the height of a picture is kept for its title and its words.
    room = {"left": 0.02, "right": 0.98, "top": 0.96, "bottom": 0.1, "wspace": 0.1, "hspace": 0.5}
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, gridspec_kw=room).ravel()
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, (label, picture), said in zip(panels, faces, found["faces"], strict=False):
        axes.imshow(picture)
        right = said["predicted"] == label
        answer = f"{said['predicted']} {100 * said['score']:.0f} %" + ("" if right else f" (true: {label})")
        axes.set_title(answer, fontsize=10, color="black" if right else "firebrick")
        words = "\n".join(fill(f"- {text}", 44, subsequent_indent="  ") for text in said["words"])
        axes.set_xlabel(words, fontsize=7.5)
    save_figure(figure, path)
