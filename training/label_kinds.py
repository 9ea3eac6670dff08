"""Results for clips with several labels, and for clips with votes."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.markup import escape
from rich.table import Table
from scipy.special import expit, softmax

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.soft_labels import JOINT
from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text
from tgdfer.training.measure import ClipPrediction
from tgdfer.training.metrics.label_kinds import multiple_label_figures, vote_figures

# Probability from which a label counts as predicted.
THRESHOLD = 0.5


def vote_metrics(
    clips: LabelledClips, predictions: Sequence[ClipPrediction], config: TGDFERConfig
) -> dict[str, dict[str, float]]:
    """Compares the predicted distributions with the votes, as `vote_figures`.

    Args:
        clips (`LabelledClips`): The clips.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        config (`TGDFERConfig`): Config of the model, with its temperature.

    Returns:
        The figures, as `votes`. Empty if the clips have no votes.
    """
    if clips.soft is None or clips.soft.kind != "votes":
        return {}
    probabilities = softmax(_logits(predictions) / (config.temperature or 1.0), axis=1)
    return {"votes": vote_figures(probabilities, clips.soft.ordered(config.class_names))}


def require_several_labels(config: TGDFERConfig) -> None:
    """Checks that a model can be evaluated on clips with several labels.

    Raises:
        UserError: If the model was trained for one label per clip.
    """
    if config.problem_type != "multi_label_classification":
        raise UserError(
            "The model gives each clip one label, so it cannot be evaluated on clips with several labels: train one"
            " with --label-kind multiple, or evaluate with another --label-kind."
        )


def several_label_metrics(
    clips: LabelledClips, predictions: Sequence[ClipPrediction], config: TGDFERConfig
) -> dict[str, Any]:
    """Computes mAP and F1 of clips with several labels, as `multiple_label_figures`.

    Args:
        clips (`LabelledClips`): Clips with several labels.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        config (`TGDFERConfig`): Config of the model.

    Returns:
        The figures, `label_kind`, `labels`, and `clips_with`, the number of clips with each label.
    """
    assert clips.soft is not None
    names = config.class_names
    targets = clips.soft.ordered(names)
    counts = {name: int(count) for name, count in zip(names, targets.sum(0), strict=True)}
    figures = multiple_label_figures(expit(_logits(predictions)), targets, names, THRESHOLD)
    return {"label_kind": "multiple", "labels": names, "clips_with": counts, **figures}


def write_several_labels(
    folder: Path,
    metrics: dict[str, Any],
    clips: LabelledClips,
    predictions: Sequence[ClipPrediction],
    config: TGDFERConfig,
) -> None:
    """Writes `metrics.json`, and `predictions.csv` with the labels and the probabilities of each clip."""
    folder.mkdir(parents=True, exist_ok=True)
    names, probabilities = config.class_names, expit(_logits(predictions))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "labels", "predicted", *names])
    for file, labels, row in zip(clips.files, clips.labels, probabilities, strict=True):
        predicted = JOINT.join(name for name, value in zip(names, row, strict=True) if value >= THRESHOLD)
        writer.writerow([file, labels, predicted, *(f"{value:.4f}" for value in row)])
    write_text(folder / "predictions.csv", table.getvalue())
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def print_several_labels(metrics: dict[str, Any]) -> None:
    """Prints the metrics of clips with several labels as a table, in percent."""
    title = f"{metrics['dataset']}, {metrics['split']}: {metrics['num_clips']} clips"
    table = Table("", "clips", "average precision", "F1", title=title, caption="in percent")
    for label, count in metrics["clips_with"].items():
        figures = (metrics["average_precision"][label], metrics["f1"][label])
        table.add_row(escape(label), str(count), *("" if value is None else f"{100 * value:.1f}" for value in figures))
    table.add_section()
    table.add_row("mean", "", f"{100 * metrics['map']:.1f}", f"{100 * metrics['macro_f1']:.1f}", style="bold")
    table.add_row("all labels together", "", "", f"{100 * metrics['micro_f1']:.1f}")
    table.add_row("all labels of a clip right", "", "", f"{100 * metrics['exact_match']:.1f}")
    get_console().print(table)


def _logits(predictions: Sequence[ClipPrediction]) -> np.ndarray:
    return np.array([prediction.logits for prediction in predictions], float)
