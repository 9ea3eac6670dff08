"""Results on one data set, formatted for a model card."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult

from tgdfer.model_card.intervals import mean_interval, percent, percent_range, share_interval
from tgdfer.model_card.markdown import Markdown, code, escape, one_line, table


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
        return percent(value) if self.percent else f"{value:.2f}"


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
    def summary(self) -> Markdown:
        """Summary such as "210 clips of 20 people: split `test` of `rendered-faces`"."""
        counts = [f"{self.metrics[key]} {unit}" for key, unit in COUNTS.items() if self.metrics.get(key)]
        return Markdown(f"{escape(' of '.join(counts))}: {self.source}") if counts else self.source

    @property
    def source(self) -> Markdown:
        """Source such as "split `test` of `rendered-faces`"."""
        return Markdown(f"split {code(self.metrics.get('split'))} of {code(self.metrics.get('dataset'))}")

    @property
    def columns(self) -> list[str]:
        """Headings of the table of scores, without the first column."""
        return [figure.heading for figure in self.figures]

    def score_table(self) -> Markdown:
        """Formats the scores of this model and of all measured baselines as a table."""
        baseline = self.metrics.get("baseline") or {}
        sources = {"this model": self.metrics, baseline.get("name", "baseline"): baseline}
        for prefix, name in CHANCE.items():
            sources[name] = {figure.key: self.metrics.get(prefix + figure.key) for figure in FIGURES}
        rows = [[name, *(fig.format(source.get(fig.key)) for fig in self.figures)] for name, source in sources.items()]
        return table(["", *self.columns], [row for row in rows if any(row[1:])], range(1, len(self.columns) + 1))

    @property
    def class_counts(self) -> dict[str, tuple[int, int]]:
        """Correct clips and all clips of each class that was measured."""
        matrix, labels = self.metrics.get("confusion_matrix") or [], self.metrics.get("labels") or []
        return {
            label: (row[index], sum(row))
            for index, (label, row) in enumerate(zip(labels, matrix, strict=bool(matrix)))
            if sum(row)
        }

    def recall_table(self) -> Markdown | None:
        """Formats clips and recall of each class as a table. None if there is no confusion matrix."""
        rows = [
            (label, str(total), percent(correct / total), percent_range(share_interval(correct, total)))
            for label, (correct, total) in self.class_counts.items()
        ]
        return table(["class", "clips", "recall", "95% interval"], rows, [1, 2, 3]) if rows else None

    def intervals(self) -> Markdown | None:
        """Says in which intervals WAR and UAR lie. None if there is no confusion matrix."""
        counts = list(self.class_counts.values())
        if not counts:
            return None
        war = share_interval(sum(correct for correct, _ in counts), sum(total for _, total in counts))
        people = self.metrics.get("num_people")
        note = f", although they show only {people} people" if people and people < self.metrics["num_clips"] else ""
        return Markdown(
            f"The 95% interval of the WAR is {percent_range(war)}, and that of the UAR is"
            f" {percent_range(mean_interval(counts))}. These intervals treat the clips as independent{note}."
        )

    def group_tables(self) -> list[tuple[str, Markdown]]:
        """Formats the results of each group of clips as tables, with the names of the attributes."""
        headings = ["clips", "WAR", "95% interval", "UAR"]
        tables = []
        for attribute, groups in (self.metrics.get("groups") or {}).items():
            rows = [
                (
                    group,
                    str(figures["num_clips"]),
                    percent(figures["war"]),
                    percent_range(share_interval(round(figures["war"] * figures["num_clips"]), figures["num_clips"])),
                    percent(figures["uar"]),
                )
                for group, figures in groups.items()
            ]
            tables.append((attribute, table([attribute, *headings], rows, [1, 2, 3, 4])))
        return tables

    @property
    def confidence(self) -> dict[str, str]:
        """Measured metrics of the confidence, by heading."""
        measured = [figure for figure in CONFIDENCE if self.metrics.get(figure.key) is not None]
        return {figure.heading: figure.format(self.metrics[figure.key]) for figure in measured}

    def eval_results(self) -> list[EvalResult]:
        """Returns the measured metrics as fractions for the `model-index`."""
        dataset = one_line(self.metrics.get("dataset") or "unknown")
        dataset_id = dataset if self.is_on_the_hub else re.sub(r"[^\w.-]+", "-", Path(dataset).name.lower()).strip("-")
        return [
            EvalResult(
                task_type="video-classification",
                task_name="Facial expression recognition",
                dataset_type=dataset_id or "unknown",
                dataset_name=Path(dataset).name,
                dataset_split=one_line(self.metrics["split"]) if self.metrics.get("split") else None,
                dataset_revision=self.metrics.get("dataset_revision"),
                metric_type=figure.metric,
                metric_name=figure.heading,
                metric_value=round(self.metrics[figure.key], 4),
                metric_args=figure.arguments,
            )
            for figure in self.figures
            if figure.metric
        ]
