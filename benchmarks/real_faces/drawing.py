"""Figures of the report: risk-coverage curves, and rendered faces with the descriptions that a model names."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.real_faces.named_descriptions import rendered_test_faces
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.metrics import risk_coverage_curve

_COLUMNS = 4


def draw_risk(predictions: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draws risk-coverage curves: the error rate among the most confident predictions.

    Args:
        predictions (`Mapping[str, tuple[np.ndarray, np.ndarray]]`): For each method, the confidence (N,) of its
            predictions, and whether they are correct (N,).
        path (`Path`): Path of the picture.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for title, (confidence, correct) in predictions.items():
        _, coverage, risk = risk_coverage_curve(confidence, correct)
        axes.plot(100 * coverage, 100 * risk, label=title, linewidth=1.4)
    axes.set(xlabel="photographs that are answered, in percent", ylabel="wrong answers among these, in percent")
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_descriptions(results: Mapping[str, Any], path: Path) -> None:
    """Draws the rendered faces of `write_descriptions`, each with its prediction and the named descriptions.

    Args:
        results (`Mapping[str, Any]`): Contents of the file that `write_descriptions` writes.
        path (`Path`): Path of the picture.
    """
    faces = rendered_test_faces(len(results["faces"]))
    rows = -(-len(faces) // _COLUMNS)
    figure = Figure(figsize=(3.0 * _COLUMNS, 4.2 * rows))
    # Half of the height of each picture is reserved for its title and its descriptions.
    margins = {"left": 0.02, "right": 0.98, "top": 0.96, "bottom": 0.1, "wspace": 0.1, "hspace": 0.5}
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, gridspec_kw=margins).ravel()
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, (label, picture), result in zip(panels, faces, results["faces"], strict=False):
        axes.imshow(picture)
        correct = result["predicted"] == label
        title = f"{result['predicted']} {100 * result['score']:.0f} %" + ("" if correct else f" (true: {label})")
        axes.set_title(title, fontsize=10, color="black" if correct else "firebrick")
        texts = "\n".join(fill(f"- {text}", 44, subsequent_indent="  ") for text in result["words"])
        axes.set_xlabel(texts, fontsize=7.5)
    save_figure(figure, path)
