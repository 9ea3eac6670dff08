"""Figures of a row from its predictions of the test clips, and differences between two rows with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import THRESHOLD, Truth
from tgdfer.training.metrics import clip_figures

FIGURES = ("war", "uar", "frame_ap", "pointing")
# Instead of predictions or scores: guesses at chance and a random order, whose expected figures are known exactly.
CHANCE, RANDOM = "chance", "random"

# Mean over the runs of a row, and their standard deviation if there are several.
Figure = tuple[float, float | None] | None
# Difference between two rows, and the ends of its interval.
Difference = tuple[float, float, float] | None


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of S runs (seeds or folds) of a row on N test clips; NaN if a clip has no such figure.

    Attributes:
        right: (S, N) 1 if the predicted label is right, 0 if not; 1 / K at chance.
        frame_ap: (S, N) average precision of the frame scores for the true class.
        pointing: (S, N) whether the top frame shows the emotion.
    """

    right: np.ndarray
    frame_ap: np.ndarray
    pointing: np.ndarray


def outcomes(runs: Sequence[Mapping[str, Any]], truth: Truth) -> Outcomes:
    """Outcomes of runs.

    Args:
        runs: for each run the `predicted` labels of the clips or "chance", and the `scores` of their frames for the
            true class, "random", or None if the method has no scores.
        truth: truth about the clips.
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


def _frame_figures(scores: Any, index: int, truth: Truth) -> tuple[float, float]:
    """Average precision and pointing of a clip; NaN if it is neutral or its frames are of one kind."""
    intensity = truth.intensity[index]
    if scores is None or truth.labels[index] == "neutral":
        return np.nan, np.nan
    which = "random_" if scores == RANDOM else ""
    figures = clip_figures([0.0] * len(intensity) if which else scores[index], intensity, THRESHOLD)
    return (np.nan, np.nan) if figures is None else (figures[f"{which}frame_ap"], figures[f"{which}pointing"])


def figures_of(found: Outcomes, truth: Truth) -> dict[str, list[float | None]]:
    """WAR, UAR, frame AP and pointing (0 to 1) of each run; None if no clip has the figure."""
    every = np.ones((1, len(_people(truth)[0])))
    values = {
        "war": found.right.mean(1),
        "uar": _mean_recall(found.right, truth, every)[0],
        "frame_ap": _mean_over_clips(found.frame_ap, truth, every)[0],
        "pointing": _mean_over_clips(found.pointing, truth, every)[0],
    }
    return {name: [None if np.isnan(one) else float(one) for one in of_runs] for name, of_runs in values.items()}


def mean_and_spread(values: Sequence[float | None]) -> Figure:
    """Mean over runs and their standard deviation, which is None for a single run; None if there is no figure."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def paired_bootstrap(
    one: Outcomes, other: Outcomes, truth: Truth, draws: int = 2000, seed: int = 0
) -> dict[str, Difference]:
    """Difference between two rows on the same clips, with its 95 % interval over people.

    Each draw takes people with replacement, with all of their clips, the same for both rows (Efron & Tibshirani,
    1993). The figure of a row is the mean over its runs.

    Args:
        one: outcomes of the first row.
        other: outcomes of the row that is subtracted.
        truth: truth about the clips.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        For `uar` and `frame_ap` (0 to 1) the difference and the ends of its interval; None if a row has no such
        figure.
    """
    number = len(_people(truth)[0])
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    weights = np.vstack([np.ones((1, number)), drawn])  # all people once, for the difference itself
    found: dict[str, Difference] = {}
    for name, figure, values in (
        ("uar", _mean_recall, (one.right, other.right)),
        ("frame_ap", _mean_over_clips, (one.frame_ap, other.frame_ap)),
    ):
        first, second = (figure(of_row, truth, weights).mean(1) for of_row in values)
        difference = first - second
        if np.isnan(difference[0]):
            found[name] = None
            continue
        low, high = np.nanpercentile(difference[1:], [2.5, 97.5])
        found[name] = (float(difference[0]), float(low), float(high))
    return found


def _people(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """The people, and the index of the person in each clip."""
    return np.unique(truth.people, return_inverse=True)


def _mean_recall(right: np.ndarray, truth: Truth, weights: np.ndarray) -> np.ndarray:
    """UAR of S runs (S, N) with a weight for each person (R, P): (R, S). Classes without any person do not count."""
    people, of_clip = _people(truth)
    labels = np.array(truth.labels)
    classes = sorted(set(truth.labels))
    counts = np.stack([np.bincount(of_clip[labels == label], minlength=len(people)) for label in classes])
    recalls = []
    for run in right:
        hits = np.stack([np.bincount(of_clip[labels == k], run[labels == k], minlength=len(people)) for k in classes])
        with np.errstate(invalid="ignore"):
            recalls.append(np.nanmean((weights @ hits.T) / (weights @ counts.T), axis=1))
    return np.stack(recalls, axis=1)


def _mean_over_clips(values: np.ndarray, truth: Truth, weights: np.ndarray) -> np.ndarray:
    """Mean over clips of S runs (S, N) without NaN, with a weight for each person (R, P): (R, S)."""
    people, of_clip = _people(truth)
    means = []
    for run in values:
        known = ~np.isnan(run)
        sums = np.bincount(of_clip[known], run[known], minlength=len(people))
        counts = np.bincount(of_clip[known], minlength=len(people))
        with np.errstate(invalid="ignore"):
            means.append((weights @ sums) / (weights @ counts))
    return np.stack(means, axis=1)
