"""Figures of a row from its predictions of the test clips, and differences between two rows with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import THRESHOLD, Truth
from tgdfer.training.metrics import clip_figures

FIGURES = ("war", "uar", "frame_ap", "pointing")
# Instead of predictions or scores: guesses at chance and a random order, whose expected figures are known exactly.
CHANCE, RANDOM = "chance", "random"

# Mean over the runs of a row, and their standard deviation if there are several.
Figure = tuple[float, float | None] | None
# A figure, or a difference between two rows, and the ends of its interval.
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
    one: Outcomes,
    other: Outcomes,
    truth: Truth,
    draws: int = 2000,
    seed: int = 0,
    figures: Sequence[str] = ("uar", "frame_ap"),
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
        figures: names of figures, of `FIGURES`.

    Returns:
        For each figure (0 to 1) the difference and the ends of its interval; None if a row has no such figure.
    """
    weights = _drawn_people(truth, draws, seed)
    return {
        name: with_interval(_drawn_figure(one, name, truth, weights) - _drawn_figure(other, name, truth, weights))
        for name in figures
    }


def bootstrap(
    found: Outcomes, truth: Truth, draws: int = 2000, seed: int = 0, figures: Sequence[str] = FIGURES
) -> dict[str, Difference]:
    """Figures of one row with their 95 % intervals over people; see `paired_bootstrap`."""
    weights = _drawn_people(truth, draws, seed)
    return {name: with_interval(_drawn_figure(found, name, truth, weights)) for name in figures}


def of_labels(found: Outcomes, truth: Truth, labels: Sequence[str]) -> tuple[Outcomes, Truth]:
    """The outcomes on the clips of some labels, and the truth about these. Predictions may be any label."""
    kept = np.flatnonzero(np.isin(truth.labels, list(labels)))

    def pick(values: list[Any]) -> list[Any]:
        return [values[index] for index in kept]

    part = Truth(truth.classes, pick(truth.labels), pick(truth.people), pick(truth.intensity))
    return Outcomes(found.right[:, kept], found.frame_ap[:, kept], found.pointing[:, kept]), part


@lru_cache(maxsize=4)
def drawn_weights(number: int, draws: int, seed: int) -> np.ndarray:
    """How often each of `number` people is drawn (1 + draws, number); the first row has everybody once."""
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    weights = np.vstack([np.ones((1, number)), drawn])
    weights.flags.writeable = False  # it is shared by all callers
    return weights


def _drawn_people(truth: Truth, draws: int, seed: int) -> np.ndarray:
    return drawn_weights(len(_people(truth)[0]), draws, seed)


def _drawn_figure(found: Outcomes, name: str, truth: Truth, weights: np.ndarray) -> np.ndarray:
    """A figure of a row for each of R weightings of the people (R, P), as the mean over its runs: (R,)."""
    if name == "uar":
        return _mean_recall(found.right, truth, weights).mean(1)
    values = {"war": found.right, "frame_ap": found.frame_ap, "pointing": found.pointing}
    return _mean_over_clips(values[name], truth, weights).mean(1)


def with_interval(values: np.ndarray) -> Difference:
    """A value and the ends of its 95 % interval, from the value itself and those of all draws (1 + draws,)."""
    if np.isnan(values[0]):
        return None
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)


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
