"""Results on one data set, formatted for a model card."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult


class Figure(NamedTuple):
    """A metric of `metrics.json` that a table shows.

    Attributes:
        key (`str`): Name in `metrics.json`.
        heading (`str`): Name in the table.
        metric (`str`, *optional*): Id of the metric in the `model-index`. None if the Hub does not know the metric.
        arguments (`dict[str, str]`, *optional*): Arguments of the metric.
        percent (`bool`): Whether the value is a fraction that is shown as a percentage.
    """

    key: str
    heading: str
    metric: str | None = None
    arguments: dict[str, str] | None = None
    percent: bool = True

    def format(self, value: float | None) -> str:
        """Formats a value for the table. A missing value becomes an empty string."""
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
# Metrics of the confidence of the model.
CONFIDENCE = [
    Figure("coverage", 'Clips with a label other than "unsure"'),
    Figure("covered_war", "WAR of these clips"),
    Figure("ece", "Expected calibration error (15 bins)"),
    Figure("risk_coverage_area", "Area under the risk-coverage curve"),
]
# Baselines without a model, by their prefix in metrics.json.
CHANCE = {"random_": "random frame scores", "position_": "frame scores by closeness to the middle of the clip"}
COUNTS = {"num_clips": "clips", "num_people": "people"}


@dataclass(frozen=True)
class DatasetResults:
    """Results of a model on one data set.

    Attributes:
        metrics (`dict[str, Any]`): Contents of `metrics.json`, or of an item of its `also_measured`. Paths are
            shortened to their names.
        is_on_the_hub (`bool`): Whether the data set has an id on the Hub.
    """

    metrics: dict[str, Any]
    is_on_the_hub: bool = False

    @property
    def figures(self) -> list[Figure]:
        """Metrics that were measured."""
        return [figure for figure in FIGURES if self.metrics.get(figure.key) is not None]

    @property
    def summary(self) -> str:
        """Summary such as "210 clips of 20 people: split `test` of `rendered-faces`"."""
        counts = [f"{self.metrics[key]} {unit}" for key, unit in COUNTS.items() if self.metrics.get(key)]
        return f"{' of '.join(counts)}: {self.source}" if counts else self.source

    @property
    def source(self) -> str:
        """Source such as "split `test` of `rendered-faces`"."""
        return f"split `{self.metrics.get('split')}` of `{self.metrics.get('dataset')}`"

    @property
    def columns(self) -> list[str]:
        """Headings of the table of scores, without the first column."""
        return [figure.heading for figure in self.figures]

    @property
    def scores(self) -> list[list[str]]:
        """Rows of the table of scores, name first: this model and all measured baselines."""
        baseline = self.metrics.get("baseline") or {}
        sources = {"this model": self.metrics, baseline.get("name", "baseline"): baseline}
        for prefix, name in CHANCE.items():
            sources[name] = {figure.key: self.metrics.get(prefix + figure.key) for figure in FIGURES}
        rows = [[name, *(fig.format(source.get(fig.key)) for fig in self.figures)] for name, source in sources.items()]
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
        """Measured metrics of the confidence, by heading."""
        measured = [figure for figure in CONFIDENCE if self.metrics.get(figure.key) is not None]
        return {figure.heading: figure.format(self.metrics[figure.key]) for figure in measured}

    def eval_results(self) -> list[EvalResult]:
        """Returns the measured metrics as fractions for the `model-index`."""
        dataset = self.metrics.get("dataset", "")
        dataset_id = dataset if self.is_on_the_hub else re.sub(r"\s", "-", Path(dataset).name.lower())
        return [
            EvalResult(
                task_type="video-classification",
                task_name="Facial expression recognition",
                dataset_type=dataset_id,
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
