"""Results on one data set, formatted for a model card."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult

from tgdfer.model_card.data_facts import split_name
from tgdfer.model_card.intervals import percent, percent_or_empty, percent_range
from tgdfer.model_card.markdown import Markdown, code, escape, join, one_line, table
from tgdfer.training.metrics.shares import mean_interval, share_interval


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
        if self.percent or value is None:
            return percent_or_empty(value)
        return f"{value:.2f}"


FIGURES = [
    Figure("war", "WAR", "accuracy"),
    Figure("uar", "UAR", "recall", {"average": "macro"}),
    Figure("frame_ap", "frame AP", "average_precision"),
    Figure("pointing", "pointing"),
    Figure("activity_gain", "activity gain", percent=False),
    # Of clips with several labels.
    Figure("map", "mAP", "average_precision", {"average": "macro"}),
    Figure("macro_f1", "macro F1", "f1", {"average": "macro"}),
    Figure("micro_f1", "micro F1", "f1", {"average": "micro"}),
    Figure("exact_match", "exact match"),
]
# Metrics of the confidence of the model.
CONFIDENCE = [
    Figure("coverage", 'Clips with a label other than "unsure"'),
    Figure("covered_war", "WAR of these clips"),
    Figure("ece", "Expected calibration error (15 bins)"),
    Figure("risk_coverage_area", "Area under the risk-coverage curve"),
]
# Calibration errors of `temperature_scaling`.
TEMPERATURE_SCALING = {
    "before": "Calibration error without temperature scaling",
    "cross_fitted": "Calibration error if these clips are scaled with a temperature that was fitted on other people or"
    " clips of the same data",
}
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
        return Markdown(f"split {split_name(self.metrics)} of {code(self.metrics.get('dataset'))}")

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
        return {
            label: (row[index], sum(row))
            for index, (label, row) in enumerate(zip(self.metrics.get("labels") or [], self.matrix, strict=False))
            if sum(row)
        }

    @property
    def matrix(self) -> list[list[int]]:
        """Number of clips by true and predicted class. Empty if it was not measured, or the labels are not known."""
        matrix = self.metrics.get("confusion_matrix") or []
        return matrix if len(matrix) == len(self.metrics.get("labels") or []) else []

    def recall_interval(self, label: str) -> tuple[float, float] | None:
        """Returns the 95% interval of the recall of a class: that of the bootstrap, or one from the counts.

        It is None if the evaluation found no interval, because too few people show the class.
        """
        recalls = (self.metrics.get("intervals") or {}).get("recall") or {}
        if label not in recalls:
            return share_interval(*self.class_counts[label])
        return None if recalls[label] is None else (recalls[label][0], recalls[label][1])

    def recall_table(self) -> Markdown | None:
        """Formats clips, recall, precision and F1 of each class as a table. None if there is no confusion matrix.

        The last two are left out if they were not measured.
        """
        headings = ["class", "clips", "recall", "95% interval"]
        rows = [
            [label, str(total), percent(correct / total), percent_range(self.recall_interval(label))]
            for label, (correct, total) in self.class_counts.items()
        ]
        if per_class := self.metrics.get("per_class"):
            headings += ["precision", "F1"]
            for row in rows:
                figures = per_class.get(row[0]) or {}
                row += [percent_or_empty(figures.get(name)) for name in ("precision", "f1")]
        return table(headings, rows, range(1, len(headings))) if rows else None

    def label_table(self) -> Markdown | None:
        """Formats clips, average precision and F1 of each label as a table. None if clips have one label each."""
        counts = self.metrics.get("clips_with") or {}
        rows = [
            [
                label,
                str(count),
                *(percent_or_empty((self.metrics.get(name) or {}).get(label)) for name in ("average_precision", "f1")),
            ]
            for label, count in counts.items()
        ]
        return table(["label", "clips", "average precision", "F1"], rows, range(1, 4)) if rows else None

    def votes(self) -> Markdown | None:
        """Says how close the probabilities are to the votes. None if the clips have no votes."""
        votes = self.metrics.get("votes") or {}
        divergence, accuracy = votes.get("kl_divergence"), votes.get("top_vote_accuracy")
        sentences = []
        if divergence is not None:
            sentences.append(
                f"The Kullback-Leibler divergence of the probabilities from the votes is {divergence:.2f} nats."
            )
        if accuracy is not None:
            sentences.append(
                f"In {percent(accuracy)} of the clips no label has more votes than the most probable one."
            )
        return Markdown(" ".join(sentences)) if sentences else None

    def intervals(self) -> Markdown | None:
        """Says in which intervals WAR and UAR lie. None if there is no confusion matrix."""
        counts = list(self.class_counts.values())
        if not counts:
            return None
        found = self.metrics.get("intervals") or {}
        if found.get("war") and found.get("uar"):
            units = [str(found[key]) for key in ("units", "over") if found.get(key)]
            over = f" over {escape(' '.join(units))}" if len(units) == 2 else ""
            return Markdown(
                f"The 95% interval of the WAR is {percent_range(found['war'])}, and that of the UAR is"
                f" {percent_range(found['uar'])}. They are bootstrap intervals{over}."
            )
        war = share_interval(sum(correct for correct, _ in counts), sum(total for _, total in counts))
        people, clips = self.metrics.get("num_people") or 0, self.metrics.get("num_clips") or 0
        note = f", although they show only {people} people" if 0 < people < clips else ""
        return Markdown(
            f"The 95% interval of the WAR is {percent_range(war)}, and that of the UAR is"
            f" {percent_range(mean_interval(counts))}. These intervals treat the clips as independent{note}."
        )

    def shared_labels(self) -> Markdown | None:
        """Says which clips were left out because the model lacks their label, and what the other labels give."""
        shared = self.metrics.get("shared_labels")
        if not shared:
            return None
        sentences = []
        if shared.get("matched"):
            sentences.append(f"The data set and the model share {len(shared['matched'])} labels.")
        if shared.get("num_left_out"):
            counts = ", ".join(f"{label}: {count}" for label, count in (shared.get("left_out") or {}).items())
            sentences.append(
                f"{shared['num_left_out']} clips were left out, because the model does not have their label"
                f"{f' ({escape(counts)})' if counts else ''}."
            )
        if shared.get("only_model"):
            sentences.append(f"There are no clips of {join(shared['only_model'])}.")
        if shared.get("uar") is not None:
            sentences.append(
                f"If the model may answer only with the shared labels, the UAR is {percent(shared['uar'])}"
                f"{_in_brackets(_measured_interval(shared, 'uar'))}."
            )
        return Markdown(" ".join(sentences)) if sentences else None

    def seen_in_training(self) -> Markdown | None:
        """Says on how many of the clips the model was trained. None if there are none."""
        if not self.metrics.get("seen_in_training"):
            return None
        seen = self.metrics.get("num_seen_in_training") or "some"
        clips = f"{self.metrics['num_clips']} clips" if self.metrics.get("num_clips") else "clips"
        return Markdown(
            f"**The model was trained on {seen} of these {clips}.** These results say little about other clips."
        )

    def views(self) -> Markdown | None:
        """Says over how many windows and crops the logits were averaged. None for a single view."""
        views = self.metrics.get("views") or {}
        counts = [f"{views[unit]} {unit}" for unit in ("windows", "crops") if views.get(unit)]
        return Markdown(f"The logits are averaged over {' and '.join(counts)} of each clip.") if counts else None

    @property
    def groups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Results by attribute and group of clips."""
        measured = (self.metrics.get("groups") or {}).items()
        return {
            name: {group: figures or {} for group, figures in groups.items()} for name, groups in measured if groups
        }

    def group_tables(self) -> list[tuple[str, Markdown]]:
        """Formats the results of each group of clips as tables, with the names of the attributes."""
        headings = ["clips", "WAR", "95% interval", "UAR"]
        tables = []
        for attribute, groups in self.groups.items():
            is_measured = all(_measured_interval(figures, "uar") for figures in groups.values())
            rows = [
                (
                    group,
                    figures.get("num_clips") and str(figures["num_clips"]),
                    percent_or_empty(figures.get("war")),
                    percent_range(_group_interval(figures)),
                    percent_or_empty(figures.get("uar")),
                    *([percent_range(_measured_interval(figures, "uar"))] if is_measured else []),
                )
                for group, figures in groups.items()
            ]
            names = [attribute, *headings, *(["95% interval"] if is_measured else [])]
            tables.append((attribute, table(names, rows, range(1, len(names)))))
        return tables

    @property
    def confidence(self) -> dict[str, str]:
        """Measured metrics of the confidence, by heading."""
        measured = [figure for figure in CONFIDENCE if self.metrics.get(figure.key) is not None]
        scaling = self.metrics.get("temperature_scaling") or {}
        return {figure.heading: figure.format(self.metrics[figure.key]) for figure in measured} | {
            heading: percent(scaling[name]["ece"]) + _in_brackets(scaling[name].get("interval"))
            for name, heading in TEMPERATURE_SCALING.items()
            if (scaling.get(name) or {}).get("ece") is not None
        }

    def eval_results(self) -> list[EvalResult]:
        """Returns the measured metrics as fractions for the `model-index`. Those on training clips are left out."""
        if self.metrics.get("seen_in_training"):
            return []
        dataset = one_line(self.metrics.get("dataset") or "unknown")
        split = self.metrics.get("split_in_dataset") or self.metrics.get("split")
        dataset_id = dataset if self.is_on_the_hub else re.sub(r"[^\w.-]+", "-", Path(dataset).name.lower()).strip("-")
        return [
            EvalResult(
                task_type="video-classification",
                task_name="Facial expression recognition",
                dataset_type=dataset_id or "unknown",
                dataset_name=Path(dataset).name,
                dataset_split=one_line(split) if split else None,
                dataset_revision=self.metrics.get("dataset_revision"),
                metric_type=figure.metric,
                metric_name=figure.heading,
                metric_value=round(self.metrics[figure.key], 4),
                metric_args=figure.arguments,
            )
            for figure in self.figures
            if figure.metric
        ]


def _measured_interval(figures: dict[str, Any], name: str) -> Any:
    """Returns the 95% bootstrap interval of a metric of a group. None if there is none."""
    return (figures.get("intervals") or {}).get(name)


def _group_interval(figures: dict[str, Any]) -> tuple[float, float] | None:
    """Returns the 95% interval of the WAR of a group: that of the bootstrap, or one from the counts, if any."""
    if measured := _measured_interval(figures, "war"):
        low, high = measured
        return low, high
    share, clips = figures.get("war"), figures.get("num_clips")
    return share_interval(round(share * clips), clips) if share is not None and clips else None


def _in_brackets(interval: Any) -> str:
    """Formats an interval after a value. Empty if it is None."""
    return f" (95% interval {percent_range(interval)})" if interval else ""
