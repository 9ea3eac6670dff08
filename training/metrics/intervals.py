"""Intervals of the metrics of a model, and of the differences between two models on the same clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tgdfer.training.metrics.bootstrap import (
    DRAWS,
    bootstrap_values,
    weighted_calibration_error,
    weighted_mean,
    weighted_recalls,
    with_error_interval,
    with_interval,
    with_share_interval,
)

# Metrics of the clips, in the order in which they are shown.
METRICS = ("uar", "war", "ece", "frame_ap", "pointing")
# Start of the name of the recall of a class, before its label.
RECALL = "recall of "


@dataclass(frozen=True)
class ClipOutcomes:
    """Outcomes of a model on N clips.

    Attributes:
        labels (`np.ndarray` of shape `(N,)`): True labels.
        right (`np.ndarray` of shape `(N,)`): 1 if the predicted label is correct, otherwise 0.
        confidence (`np.ndarray` of shape `(N,)`): Probability of the predicted label, 0 to 1.
        frame_ap (`np.ndarray` of shape `(N,)`): Average precision of the frame scores, NaN where it is undefined.
        pointing (`np.ndarray` of shape `(N,)`): Whether the frame with the highest score is right, NaN where it is
            undefined.
        people (`np.ndarray` of shape `(N,)`, *optional*): Name of the person in each clip. None if it is unknown.
    """

    labels: np.ndarray
    right: np.ndarray
    confidence: np.ndarray
    frame_ap: np.ndarray
    pointing: np.ndarray
    people: np.ndarray | None = None

    @property
    def over(self) -> str:
        """What the bootstrap draws: "people", or "clips" if the people are unknown."""
        return "clips" if self.people is None else "people"

    @property
    def units(self) -> np.ndarray:
        """Index (N,) of what is drawn with each clip."""
        return np.arange(len(self.labels)) if self.people is None else np.unique(self.people, return_inverse=True)[1]

    def units_of(self, metric: str) -> int:
        """Number of people or clips that a metric is about: for "recall of fear", those with clips of fear."""
        counted = ~np.isnan(getattr(self, metric)) if metric in ("frame_ap", "pointing") else self.labels != ""
        if metric.startswith(RECALL):
            counted = self.labels == metric.removeprefix(RECALL)
        return len(np.unique(self.units[counted]))

    def select(self, rows: Sequence[int]) -> "ClipOutcomes":
        """Returns the outcomes of some of the clips."""
        chosen: dict[str, Any] = {
            field.name: None if (values := getattr(self, field.name)) is None else values[rows]
            for field in fields(self)
        }
        return replace(self, **chosen)


def metric_intervals(outcomes: ClipOutcomes, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Computes the 95% bootstrap intervals of the metrics of a model.

    Args:
        outcomes (`ClipOutcomes`): Outcomes of the model.
        draws (`int`, *optional*, defaults to 2000): Number of draws.
        seed (`int`, *optional*, defaults to 0): Random seed of the draws.

    Returns:
        `dict[str, Any]`: `over` ("people" or "clips"), `units` (their number) and `draws`; the lower and the upper end
        of `uar`, `war`, `ece`, `frame_ap` and `pointing`, and of the `recall` of each class. None where a metric is
        undefined, and if only one person is counted in it.
    """
    units = outcomes.units
    values = bootstrap_values(lambda weights: _metrics(outcomes, units, weights), units.max() + 1, draws, seed)
    found = {name: with_share_interval(value, outcomes.units_of(name)) for name, value in values.items()}
    found["ece"] = with_error_interval(values["ece"])
    ends = {
        # Draws of a single person or clip all have the same value. Shares of 0 and 1 have another interval.
        name: None
        if interval is None or not units.max() or (outcomes.units_of(name) < 2 and interval[1] == interval[2])
        else [max(0.0, interval[1]), min(1.0, interval[2])]
        for name, interval in found.items()
    }
    return {"over": outcomes.over, "units": int(units.max()) + 1, "draws": draws, **_nested(ends)}


def paired_differences(first: ClipOutcomes, second: ClipOutcomes, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Computes the metrics of one model minus those of another one, with 95% bootstrap intervals.

    Both models use the same draws, so what is difficult for both does not widen the intervals.

    Args:
        first (`ClipOutcomes`): Outcomes of the first model.
        second (`ClipOutcomes`): Outcomes of the second model on the same clips, in the same order.
        draws (`int`, *optional*, defaults to 2000): Number of draws.
        seed (`int`, *optional*, defaults to 0): Random seed of the draws.

    Returns:
        `dict[str, Any]`: As `metric_intervals`, but each metric has `first`, `second`, `difference` and `interval`,
        the ends of the interval of the difference, which is None if only one person is counted. A metric is None if a
        model lacks it.
    """
    units = first.units

    def metrics(weights: np.ndarray) -> dict[str, np.ndarray]:
        parts = {"first": _metrics(first, units, weights), "second": _metrics(second, units, weights)}
        return {f"{part} {name}": value for part, found in parts.items() for name, value in found.items()}

    values = bootstrap_values(metrics, units.max() + 1, draws, seed)
    found: dict[str, Any] = {}
    for name in (name.removeprefix("first ") for name in values if name.startswith("first ")):
        one, other = values[f"first {name}"], values[f"second {name}"]
        interval = (with_error_interval if name == "ece" else with_interval)(one - other)
        found[name] = interval and {
            "first": float(one[0]),
            "second": float(other[0]),
            "difference": interval[0],
            "interval": list(interval[1:]) if first.units_of(name) > 1 else None,
        }
    return {"over": first.over, "units": int(units.max()) + 1, "draws": draws, **_nested(found)}


def _metrics(outcomes: ClipOutcomes, units: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Computes all metrics (R,) for R rows of weights (R, U). The key of a recall is "recall of" and the label."""
    recalls = weighted_recalls(outcomes.right, outcomes.labels, units, weights)
    return {
        "uar": np.nanmean(np.stack(list(recalls.values())), axis=0),
        "war": weighted_mean(outcomes.right, units, weights),
        "ece": weighted_calibration_error(outcomes.confidence, outcomes.right, units, weights),
        "frame_ap": weighted_mean(outcomes.frame_ap, units, weights),
        "pointing": weighted_mean(outcomes.pointing, units, weights),
        **{f"{RECALL}{label}": recall for label, recall in recalls.items()},
    }


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Collects the recalls of the classes under `recall`."""
    recalls = {name.removeprefix(RECALL): value for name, value in values.items() if name not in METRICS}
    return {**{name: values[name] for name in METRICS}, "recall": recalls}
