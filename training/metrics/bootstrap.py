"""Bootstrap intervals of metrics, drawn over people or over clips (Efron & Tibshirani, 1993).

A draw samples people with replacement, and takes all of their clips as often as the person was drawn. So each draw is
a row of weights, one for each person, and a metric is computed for all draws at once. Where the people are unknown,
each clip counts as a person. People and clips are both called *units* here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from tgdfer.training.metrics.shares import share_interval

DRAWS = 2000
# Number of bins of equal width of the calibration error, as in Guo et al. (2017).
BINS = 15
# Weights of one chunk of draws. With many units, all draws at once would not fit into memory.
_CHUNK = 1_000_000

# A metric or a difference of two metrics, with the lower and the upper end of its 95% interval.
Interval = tuple[float, float, float] | None


@lru_cache(maxsize=4)
def bootstrap_weights(number: int, draws: int, seed: int) -> np.ndarray:
    """Returns how often each of `number` units is drawn, (1 + draws, number). The first row counts every unit once."""
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    weights = np.vstack([np.ones((1, number)), drawn])
    weights.flags.writeable = False  # The cached array is shared by all callers.
    return weights


def bootstrap_values(
    metrics: Callable[[np.ndarray], Mapping[str, np.ndarray]], number: int, draws: int = DRAWS, seed: int = 0
) -> dict[str, np.ndarray]:
    """Computes metrics for all draws, with the weights of `bootstrap_weights`, of which few are in memory at a time.

    Args:
        metrics (`Callable`): Computes the metrics, each (R,), for R rows of weights (R, number).
        number (`int`): Number of units.
        draws (`int`, *optional*, defaults to 2000): Number of draws.
        seed (`int`, *optional*, defaults to 0): Random seed of the draws.

    Returns:
        `dict[str, np.ndarray]`: (1 + draws,) values of each metric. The first one is that of the data themselves.
    """
    generator, shares = np.random.default_rng(seed), np.full(number, 1 / number)
    parts = [metrics(np.ones((1, number)))]
    at_once = max(1, _CHUNK // number)
    for start in range(0, draws, at_once):
        drawn = generator.multinomial(number, shares, size=min(at_once, draws - start))
        parts.append(metrics(drawn.astype(float)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def with_interval(values: np.ndarray) -> Interval:
    """Returns a value and the ends of its 95% interval. None if the value is undefined.

    Args:
        values (`np.ndarray` of shape `(1 + draws,)`): The value itself, followed by its values in the draws.
    """
    if np.isnan(values[0]):
        return None
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)


def with_share_interval(values: np.ndarray, units: int) -> Interval:
    """Returns a share and the ends of its 95% interval, which is never empty.

    If all clips are right, they are right in every draw, although other clips may be wrong. Then the interval is that
    of a share of the units (Wilson, 1927). The same is true if all clips are wrong.

    Args:
        values (`np.ndarray` of shape `(1 + draws,)`): As in `with_interval`.
        units (`int`): Number of units that have such clips.
    """
    interval = with_interval(values)
    if interval is None or interval[0] not in (0.0, 1.0) or not units:
        return interval
    return (interval[0], *share_interval(round(interval[0]) * units, units))


def with_error_interval(values: np.ndarray) -> Interval:
    """Returns a calibration error, or a difference of two, and the ends of its 95% interval.

    Draws contain some clips several times, which makes the calibration error of nearly all draws higher than that of
    the data. The interval is therefore moved by the mean difference.

    Args:
        values (`np.ndarray` of shape `(1 + draws,)`): As in `with_interval`.
    """
    interval = with_interval(values)
    if interval is None:
        return None
    value, low, high = interval
    bias = float(np.nanmean(values[1:])) - value
    return value, low - bias, high - bias


def weighted_recalls(
    right: np.ndarray, labels: Sequence[str] | np.ndarray, units: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Computes the recall of each class that has clips, with weights for the units.

    Args:
        right (`np.ndarray` of shape `(N,)`): Whether the answer for a clip is right, or the probability that it is.
        labels (`Sequence[str]` or `np.ndarray` of shape `(N,)`): True labels.
        units (`np.ndarray` of shape `(N,)`): Index of the unit of each clip.
        weights (`np.ndarray` of shape `(R, U)`): Weights of the U units in R draws.

    Returns:
        `dict[str, np.ndarray]`: (R,) recalls by label, 0 to 1. NaN in the draws without a clip of the class.
    """
    names = np.asarray(labels)
    return {
        str(label): weighted_mean(right[names == label], units[names == label], weights) for label in np.unique(names)
    }


def weighted_uar(
    right: np.ndarray, labels: Sequence[str] | np.ndarray, units: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Computes the UAR (R,), the mean of `weighted_recalls`. Classes of which nobody is drawn do not count."""
    return np.nanmean(np.stack(list(weighted_recalls(right, labels, units, weights).values())), axis=0)


def weighted_mean(values: np.ndarray, units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Computes the mean (R,) of the values (N,) that are not NaN, with weights for the units, as above."""
    known, number = ~np.isnan(values), weights.shape[1]
    sums = np.bincount(units[known], values[known], minlength=number)
    counts = np.bincount(units[known], minlength=number)
    with np.errstate(invalid="ignore"):
        return (weights @ sums) / (weights @ counts)


def weighted_calibration_error(
    confidence: np.ndarray, right: np.ndarray, units: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Computes the expected calibration error (ECE) with bins of equal width (Naeini et al., 2015; Guo et al., 2017).

    Args:
        confidence (`np.ndarray` of shape `(N,)`): Probability of the predicted class.
        right (`np.ndarray` of shape `(N,)`): Whether the prediction is correct.
        units (`np.ndarray` of shape `(N,)`, *optional*): Index of the unit of each clip. By default each clip is a
            unit.
        weights (`np.ndarray` of shape `(R, U)`, *optional*): Weights of the U units in R bootstrap draws. By default
            there is one draw with all weights 1.

    Returns:
        `np.ndarray`: (R,) errors, 0 to 1. NaN if all weights of a draw are 0.
    """
    units = np.arange(len(confidence)) if units is None else units
    number = int(units.max()) + 1 if weights is None else weights.shape[1]
    weights = np.ones((1, number)) if weights is None else weights
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    # Sum of (confidence - correctness) for each unit and bin, and number of clips of each unit.
    gaps, counts = np.zeros((number, BINS)), np.zeros(number)
    np.add.at(gaps, (units, bins), confidence - right)
    np.add.at(counts, units, 1)
    with np.errstate(invalid="ignore"):
        return np.abs(weights @ gaps).sum(1) / (weights @ counts)
