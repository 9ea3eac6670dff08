"""The expected calibration error of weighted people, for bootstrap intervals.

`tgdfer.training.metrics` has the same error without weights.
"""

import numpy as np

# Number of bins of equal width, as in Guo et al. (2017).
BINS = 15


def calibration_error(
    confidence: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Expected calibration error (ECE) with bins of equal width (Naeini et al., 2015; Guo et al., 2017).

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) whether the prediction is right.
        groups: (N,) index of the person in each picture; by default each picture is a person of its own.
        weights: (R, P) weights of the people, for a bootstrap; by default 1 for each.

    Returns:
        (R,) errors, 0 to 1; NaN where all weights are 0.
    """
    groups = np.arange(len(confidence)) if groups is None else groups
    people = int(groups.max()) + 1 if weights is None else weights.shape[1]
    weights = np.ones((1, people)) if weights is None else weights
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    # Sums of (confidence - correctness) and numbers of pictures, by person and bin.
    gaps, counts = np.zeros((people, BINS)), np.zeros(people)
    np.add.at(gaps, (groups, bins), confidence - right)
    np.add.at(counts, groups, 1)
    with np.errstate(invalid="ignore"):
        return np.abs(weights @ gaps).sum(1) / (weights @ counts)
