"""Computes the figures of a row from its predictions, and differences between rows with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import THRESHOLD, GroundTruth
from tgdfer.training.metrics import clip_figures
from tgdfer.training.metrics.bootstrap import (
    DRAWS,
    Interval,
    bootstrap_weights,
    weighted_mean,
    weighted_uar,
    with_interval,
)

FIGURES = ("war", "uar", "frame_ap", "pointing")
# Stand for random predictions and for frames in random order. Their expected figures are computed exactly.
CHANCE, RANDOM = "chance", "random"

# Mean over the runs of a row, and the standard deviation, which is None for a single run.
Figure = tuple[float, float | None] | None


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of S runs (seeds or folds) of a row on N test clips. Values are NaN where a figure is undefined.

    Attributes:
        right (`np.ndarray` of shape `(S, N)`): 1 if the predicted label is correct, otherwise 0. 1 / K for random
            predictions.
        frame_ap (`np.ndarray` of shape `(S, N)`): Average precision of the frame scores for the true class.
        pointing (`np.ndarray` of shape `(S, N)`): 1 if the frame with the highest score shows the emotion, otherwise
            0.
    """

    right: np.ndarray
    frame_ap: np.ndarray
    pointing: np.ndarray


def outcomes(runs: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Outcomes:
    """Compares the predictions of several runs with the ground truth.

    Args:
        runs (`Sequence[Mapping[str, Any]]`): For each run, a mapping with two keys. `predicted` holds the predicted
            labels of the clips, or `CHANCE`. `scores` holds the scores of their frames for the true class, `RANDOM`,
            or None if the method does not score frames.
        truth (`GroundTruth`): Ground truth of the clips.
    """
    right, frame_ap, pointing = [], [], []
    for run in runs:
        if run["predicted"] == CHANCE:
            right.append(np.full(len(truth.labels), 1 / len(truth.classes)))
        else:
            right.append(np.array(run["predicted"]) == np.array(truth.labels))
        per_clip = [
            _frame_figures(None if run["scores"] is None else run["scores"], index, truth)
            for index in range(len(truth.labels))
        ]
        frame_ap.append([figures[0] for figures in per_clip])
        pointing.append([figures[1] for figures in per_clip])
    return Outcomes(np.array(right, float), np.array(frame_ap, float), np.array(pointing, float))


def _frame_figures(scores: Any, index: int, truth: GroundTruth) -> tuple[float, float]:
    """Returns average precision and pointing of a clip.

    Both are NaN for a neutral clip, and for a clip in which all frames or no frames show the emotion.
    """
    intensity = truth.intensity[index]
    if scores is None or truth.labels[index] == "neutral":
        return np.nan, np.nan
    prefix = "random_" if scores == RANDOM else ""
    figures = clip_figures([0.0] * len(intensity) if prefix else scores[index], intensity, THRESHOLD)
    return (np.nan, np.nan) if figures is None else (figures[f"{prefix}frame_ap"], figures[f"{prefix}pointing"])


def figures_of(results: Outcomes, truth: GroundTruth) -> dict[str, list[float | None]]:
    """Returns WAR, UAR, frame AP and pointing (0 to 1) of each run. A figure is None if no clip defines it."""
    equal_weights = np.ones((1, len(_unique_people(truth)[0])))
    values = {
        "war": results.right.mean(1),
        "uar": _mean_recall(results.right, truth, equal_weights)[0],
        "frame_ap": _mean_over_clips(results.frame_ap, truth, equal_weights)[0],
        "pointing": _mean_over_clips(results.pointing, truth, equal_weights)[0],
    }
    return {name: [None if np.isnan(value) else float(value) for value in per_run] for name, per_run in values.items()}


def mean_and_spread(values: Sequence[float | None]) -> Figure:
    """Returns mean and standard deviation over runs.

    The standard deviation is None for a single run. The result is None if all values are None.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def paired_bootstrap(
    first: Outcomes,
    second: Outcomes,
    truth: GroundTruth,
    draws: int = DRAWS,
    seed: int = 0,
    figures: Sequence[str] = ("uar", "frame_ap"),
) -> dict[str, Interval]:
    """Computes the difference between two rows on the same clips, with its 95% bootstrap interval over people.

    Each draw samples people with replacement and takes all of their clips. Both rows use the same draws (Efron &
    Tibshirani, 1993). The figure of a row is the mean over its runs.

    Args:
        first (`Outcomes`): Outcomes of the first row.
        second (`Outcomes`): Outcomes of the row that is subtracted.
        truth (`GroundTruth`): Ground truth of the clips.
        draws (`int`, *optional*, defaults to `2000`): Number of draws.
        seed (`int`, *optional*, defaults to `0`): Random seed of the draws.
        figures (`Sequence[str]`, *optional*, defaults to `('uar', 'frame_ap')`): Names of the figures, from `FIGURES`.

    Returns:
        `dict[str, Interval]`: For each figure (0 to 1) the difference and the ends of its interval, or None if a row
        lacks the figure.
    """
    weights = _person_weights(truth, draws, seed)
    return {
        name: with_interval(
            _weighted_figure(first, name, truth, weights) - _weighted_figure(second, name, truth, weights)
        )
        for name in figures
    }


def bootstrap(
    results: Outcomes, truth: GroundTruth, draws: int = DRAWS, seed: int = 0, figures: Sequence[str] = FIGURES
) -> dict[str, Interval]:
    """Computes figures of one row with their 95% bootstrap intervals over people; see `paired_bootstrap`."""
    weights = _person_weights(truth, draws, seed)
    return {name: with_interval(_weighted_figure(results, name, truth, weights)) for name in figures}


def restrict_to_labels(results: Outcomes, truth: GroundTruth, labels: Sequence[str]) -> tuple[Outcomes, GroundTruth]:
    """Selects the clips whose true label is in `labels`. Their predictions may be any label.

    Returns:
        `tuple[Outcomes, GroundTruth]`: Outcomes and ground truth of these clips.
    """
    kept = np.flatnonzero(np.isin(truth.labels, list(labels)))

    def pick(values: list[Any]) -> list[Any]:
        return [values[index] for index in kept]

    part = GroundTruth(truth.classes, pick(truth.labels), pick(truth.people), pick(truth.intensity))
    return Outcomes(results.right[:, kept], results.frame_ap[:, kept], results.pointing[:, kept]), part


def _person_weights(truth: GroundTruth, draws: int, seed: int) -> np.ndarray:
    return bootstrap_weights(len(_unique_people(truth)[0]), draws, seed)


def _weighted_figure(results: Outcomes, name: str, truth: GroundTruth, weights: np.ndarray) -> np.ndarray:
    """Returns a figure, averaged over the runs, for each of R weightings (R, P) of the people: (R,)."""
    if name == "uar":
        return _mean_recall(results.right, truth, weights).mean(1)
    values = {"war": results.right, "frame_ap": results.frame_ap, "pointing": results.pointing}
    return _mean_over_clips(values[name], truth, weights).mean(1)


def _unique_people(truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Returns the P different people, and the index of the person in each clip (N,)."""
    return np.unique(truth.people, return_inverse=True)


def _mean_recall(right: np.ndarray, truth: GroundTruth, weights: np.ndarray) -> np.ndarray:
    """Returns the UAR of S runs (S, N) with weights for the people (R, P): (R, S)."""
    people = _unique_people(truth)[1]
    return np.stack([weighted_uar(run, truth.labels, people, weights) for run in right], axis=1)


def _mean_over_clips(values: np.ndarray, truth: GroundTruth, weights: np.ndarray) -> np.ndarray:
    """Returns the mean over the clips of S runs (S, N), without NaN, with weights for the people (R, P): (R, S)."""
    people = _unique_people(truth)[1]
    return np.stack([weighted_mean(run, people, weights) for run in values], axis=1)
