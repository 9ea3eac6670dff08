"""What was measured on one data set, as a card shows it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult


class Figure(NamedTuple):
    """A figure of metrics.json that a table shows.

    Args:
        key: Its name in metrics.json.
        heading: Its name in the table.
        metric: Id of the metric for the `model-index`; None of those that the Hub does not know.
        arguments: Arguments of the metric.
        percent: Whether it is a fraction, shown as a percentage, and not a plain number.
    """

    key: str
    heading: str
    metric: str | None = None
    arguments: dict[str, str] | None = None
    percent: bool = True

    def shown(self, value: float | None) -> str:
        """A value as the table shows it; nothing where there is none."""
        if value is None:
            return ""
        return f"{100 * value:.1f}%" if self.percent else f"{value:.2f}"


FIGURES = [
    Figure("war", "WAR", "accuracy"),
    Figure("uar", "UAR", "recall", {"average": "macro"}),
    Figure("frame_ap", "frame AP", "average_precision"),
    Figure("pointing", "pointing"),
    Figure("activity_gain", "activity gain", percent=False),
]
# Figures of how sure the model is.
CONFIDENCE = [
    Figure("coverage", "Clips that are given a label"),
    Figure("covered_war", "WAR of these clips"),
    Figure("ece", "Expected calibration error (15 bins)"),
    Figure("risk_coverage_area", "Area under the curve of risk against coverage"),
]
# Figures of what needs no model, by their prefix in metrics.json.
CHANCE = {"random_": "frames at random", "position_": "frames by closeness to the middle"}
COUNTS = {"num_clips": "clips", "num_people": "people"}


@dataclass(frozen=True)
class Measured:
    """The figures of a model on one data set.

    Args:
        metrics: Content of `metrics.json`, or of one of its `also_measured`; folders cut down to their names.
        is_on_the_hub: Whether the data set has an id on the Hub.
    """

    metrics: dict[str, Any]
    is_on_the_hub: bool = False

    @property
    def figures(self) -> list[Figure]:
        """The figures that were measured."""
        return [figure for figure in FIGURES if self.metrics.get(figure.key) is not None]

    @property
    def about(self) -> str:
        """For example "210 clips of 20 people: split `test` of `rendered-faces`"."""
        counted = [f"{self.metrics[key]} {what}" for key, what in COUNTS.items() if self.metrics.get(key)]
        return f"{' of '.join(counted)}: {self.source}" if counted else self.source

    @property
    def source(self) -> str:
        """For example "split `test` of `rendered-faces`"."""
        return f"split `{self.metrics.get('split')}` of `{self.metrics.get('dataset')}`"

    @property
    def columns(self) -> list[str]:
        """Headings of the table of scores, but for the first column."""
        return [figure.heading for figure in self.figures]

    @property
    def scores(self) -> list[list[str]]:
        """Rows of the table of results, name first: this model, and beside it whatever else was measured."""
        baseline = self.metrics.get("baseline") or {}
        sources = {"this model": self.metrics, baseline.get("name", "baseline"): baseline}
        for prefix, name in CHANCE.items():
            sources[name] = {figure.key: self.metrics.get(prefix + figure.key) for figure in FIGURES}
        rows = [[name, *(fig.shown(source.get(fig.key)) for fig in self.figures)] for name, source in sources.items()]
        return [row for row in rows if any(row[1:])]

    @property
    def recall(self) -> list[list[str]]:
        """Rows of the table of classes: name, clips and recall."""
        recall, matrix = self.metrics.get("recall") or {}, self.metrics.get("confusion_matrix") or []
        labels = self.metrics.get("labels") or []
        if not matrix:
            return []
        return [
            [label.replace("|", "\\|"), str(sum(row)), f"{100 * recall[label]:.1f}%"]
            for label, row in zip(labels, matrix, strict=True)
            if recall.get(label) is not None
        ]

    @property
    def confidence(self) -> dict[str, str]:
        """How sure the model is, by name; only what was measured."""
        known = [figure for figure in CONFIDENCE if self.metrics.get(figure.key) is not None]
        return {figure.heading: figure.shown(self.metrics[figure.key]) for figure in known}

    def eval_results(self) -> list[EvalResult]:
        """The measured figures, as fractions, for the `model-index`."""
        dataset = self.metrics.get("dataset", "")
        kind = dataset if self.is_on_the_hub else re.sub(r"\s", "-", Path(dataset).name.lower())
        return [
            EvalResult(
                task_type="video-classification",
                task_name="Facial expression recognition",
                dataset_type=kind,
                dataset_name=Path(dataset).name,
                dataset_split=self.metrics.get("split"),
                metric_type=figure.metric,
                metric_name=figure.heading,
                metric_value=round(self.metrics[figure.key], 4),
                metric_args=figure.arguments,
            )
            for figure in self.figures
            if figure.metric
        ]
