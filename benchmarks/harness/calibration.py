"""Expected calibration error with weights for people, for bootstrap intervals.

`tgdfer.training.metrics` computes the same error without weights.
"""

import numpy as np

# Number of bins of equal width, as in Guo et al. (2017).
BINS = 15


def calibration_error(
    confidence: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Computes the expected calibration error (ECE) with bins of equal width (Naeini et al., 2015; Guo et al., 2017).

    Args:
        confidence (`np.ndarray` of shape `(N,)`): Probability of the predicted class.
        right (`np.ndarray` of shape `(N,)`): Whether the prediction is correct.
        groups (`np.ndarray` of shape `(N,)`, *optional*): Index of the person in each image. By default each image
            counts as a different person.
        weights (`np.ndarray` of shape `(R, P)`, *optional*): Weights of the P people in R bootstrap draws. By default
            there is one draw with all weights 1.

    Returns:
        `np.ndarray`: (R,) errors, 0 to 1. NaN if all weights of a draw are 0.
    """
    groups = np.arange(len(confidence)) if groups is None else groups
    people = int(groups.max()) + 1 if weights is None else weights.shape[1]
    weights = np.ones((1, people)) if weights is None else weights
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    # Sum of (confidence - correctness) for each person and bin, and number of images of each person.
    gaps, counts = np.zeros((people, BINS)), np.zeros(people)
    np.add.at(gaps, (groups, bins), confidence - right)
    np.add.at(counts, groups, 1)
    with np.errstate(invalid="ignore"):
        return np.abs(weights @ gaps).sum(1) / (weights @ counts)
