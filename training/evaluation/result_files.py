"""The files of an evaluation: `metrics.json`, `predictions.csv`, `per_class.csv` and the figures."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.figures.risk_coverage import plot_risk_coverage
from tgdfer.training.files import read_json, write_text
from tgdfer.training.measure import ClipPrediction, clip_outcomes
from tgdfer.training.metrics.intervals import ClipOutcomes

METRICS, PREDICTIONS, PER_CLASS = "metrics.json", "predictions.csv", "per_class.csv"
_COLUMNS = ("file", "label", "predicted", "score", "person", "frame_ap", "pointing")


@dataclass(frozen=True)
class Results:
    """The results that an evaluation wrote to a folder.

    Attributes:
        name (`str`): The folder, as it was given.
        files (`list[str]`): Name of each of the N clips.
        predicted (`list[str]`): Predicted label of each clip.
        outcomes (`ClipOutcomes`): Comparison of the predictions with the truth.
        metrics (`dict[str, Any]`): Contents of `metrics.json`.
    """

    name: str
    files: list[str]
    predicted: list[str]
    outcomes: ClipOutcomes
    metrics: dict[str, Any]

    def select(self, rows: Sequence[int]) -> "Results":
        """Returns the results for some of the clips, in the given order."""
        pick = [self.files[row] for row in rows], [self.predicted[row] for row in rows]
        return Results(self.name, *pick, self.outcomes.select(rows), self.metrics)


def write_results(
    folder: Path, metrics: dict[str, Any], clips: LabelledClips, predictions: Sequence[ClipPrediction]
) -> None:
    """Writes all result files. `metrics.json` comes last, so it exists only if the others do.

    Args:
        folder (`Path`): Folder of the results. It is created if it does not exist.
        metrics (`dict[str, Any]`): Metrics of the clips.
        clips (`LabelledClips`): The clips.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = clip_outcomes(clips.labels, predictions)
    people = clips.people or [""] * len(clips)
    _write_table(
        folder / PREDICTIONS,
        _COLUMNS,
        (
            (file, label, prediction.label, f"{prediction.score:.4f}", person, *map(_number, frames))
            for file, label, prediction, person, *frames in zip(
                clips.files, clips.labels, predictions, people, outcomes.frame_ap, outcomes.pointing, strict=True
            )
        ),
    )
    _write_table(folder / PER_CLASS, ("label", *_CLASS_COLUMNS), map(_class_row, metrics["per_class"].items()))
    plot_figures(folder / "figures", metrics, clips.labels, predictions)
    write_metrics(folder, metrics)


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Writes `metrics.json`."""
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")


def plot_figures(
    folder: Path, metrics: dict[str, Any], true_labels: Sequence[str], predictions: Sequence[ClipPrediction]
) -> None:
    """Writes `confusion_matrix.png` and `risk_coverage.png` to a folder.

    Args:
        folder (`Path`): Folder of the figures. It is created if it does not exist.
        metrics (`dict[str, Any]`): Metrics of the clips, as returned by `measure_model`.
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], folder / "confusion_matrix.png")
    correct = [prediction.label == label for prediction, label in zip(predictions, true_labels, strict=True)]
    scores = [prediction.score for prediction in predictions]
    plot_risk_coverage(scores, correct, folder / "risk_coverage.png", metrics.get("unsure_below"))


def read_results(path: str | Path) -> Results:
    """Reads the results that `tgdfer evaluate` wrote.

    Args:
        path (`str` or `Path`): Folder of the results, or its `metrics.json` or `predictions.csv`.

    Raises:
        UserError: If there are no results, they were written by an older version, or they are damaged.
    """
    given = Path(path).expanduser()
    folder = given.parent if given.name in (METRICS, PREDICTIONS) else given
    for name in (METRICS, PREDICTIONS):
        if not (folder / name).is_file():
            raise UserError(
                f"{path} has no {name}, which `tgdfer evaluate` writes: evaluate the model first, or name the folder"
                " that it wrote to."
            )
    try:
        with open(folder / PREDICTIONS, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        if rows and "labels" in rows[0] and "label" not in rows[0]:
            raise UserError(f"{folder / PREDICTIONS} has clips with several labels, which cannot be compared.")
        missing = [name for name in _COLUMNS if rows and name not in rows[0]]
        if missing or not rows:
            raise UserError(
                f"{folder / PREDICTIONS} has no {f'column {missing[0]!r}' if missing else 'rows'}: evaluate the model"
                " again."
            )
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}
        if any(value is None for values in columns.values() for value in values):
            raise ValueError("a row is cut off")
        outcomes = ClipOutcomes(
            labels=np.array(columns["label"]),
            right=np.array([row["label"] == row["predicted"] for row in rows], float),
            people=np.array(columns["person"]) if any(columns["person"]) else None,
            confidence=np.array([float(score) for score in columns["score"]]),
            frame_ap=_floats(columns["frame_ap"]),
            pointing=_floats(columns["pointing"]),
        )
    except UserError:
        raise
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{folder / PREDICTIONS} is damaged ({error}): evaluate the model again.") from error
    return Results(str(path), columns["file"], columns["predicted"], outcomes, read_json(folder / METRICS))


_CLASS_COLUMNS = ("num_clips", "num_answers", "recall", "recall_low", "recall_high", "precision", "f1")


def _class_row(item: tuple[str, dict[str, Any]]) -> list[str]:
    """Returns a row of `per_class.csv`."""
    label, figures = item
    low, high = figures["recall_interval"] or (None, None)
    values = figures | {"recall_low": low, "recall_high": high}
    return [label, *(_number(values[name]) for name in _CLASS_COLUMNS)]


def _number(value: float | None) -> str:
    """Formats a count or a fraction. What is unknown becomes an empty text."""
    if value is None or value != value:  # noqa: PLR0124 (only NaN differs from itself)
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _floats(texts: Iterable[str]) -> np.ndarray:
    return np.array([float(text) if text else np.nan for text in texts])


def _write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_text(path, table.getvalue())
