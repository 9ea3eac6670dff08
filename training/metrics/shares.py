"""Intervals of 95% for shares of clips, computed from counts."""

import math
from collections.abc import Sequence

# Quantile of the normal distribution for two-sided intervals of 95%.
_Z = 1.959964


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Computes the interval of a share (Wilson, 1927). It is also valid for few clips and for shares of 0 and 1.

    Args:
        count (`int`): Number of clips that are counted.
        total (`int`): Number of all clips, at least 1.

    Returns:
        The limits of the interval, from 0 to 1.
    """
    share, square = count / total, _Z**2
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = _Z / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Computes the interval of a mean of independent shares from their own intervals (Zou and Donner, 2008).

    Args:
        counts (`Sequence[tuple[int, int]]`): `count` and `total` of each share.

    Returns:
        The limits of the interval, from 0 to 1.
    """
    shares = [count / total for count, total in counts]
    limits = [share_interval(count, total) for count, total in counts]
    below = math.hypot(*(share - low for share, (low, _) in zip(shares, limits, strict=True)))
    above = math.hypot(*(high - share for share, (_, high) in zip(shares, limits, strict=True)))
    mean = math.fsum(shares) / len(shares)
    return max(0.0, mean - below / len(shares)), min(1.0, mean + above / len(shares))
