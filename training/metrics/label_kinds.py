"""Metrics of several labels per clip, and of the distribution of votes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score


def multiple_label_figures(
    probabilities: np.ndarray, targets: np.ndarray, labels: Sequence[str], threshold: float = 0.5
) -> dict[str, Any]:
    """Computes mAP and F1 of clips with several labels.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`): Probability of each label, 0 to 1.
        targets (`np.ndarray` of shape `(N, K)`): 1 for each label that a clip has, else 0.
        labels (`Sequence[str]`): Names of the K labels.
        threshold (`float`, *optional*, defaults to 0.5): Probability from which a label counts as predicted.

    Returns:
        `average_precision` and `f1` by label (None for a label without clips); `map` and `macro_f1`, their means over
        the labels that have clips; `micro_f1`, over all labels and clips together; and `exact_match`, the share of
        clips whose labels are all right. All are from 0 to 1.
    """
    truth, predicted = np.asarray(targets) > 0, np.asarray(probabilities) >= threshold
    present = truth.sum(0) > 0
    average_precision: dict[str, float | None] = {}
    f1: dict[str, float | None] = {}
    for index, label in enumerate(labels):
        known = bool(present[index])
        average_precision[label] = (
            float(average_precision_score(truth[:, index], probabilities[:, index])) if known else None
        )
        f1[label] = float(f1_score(truth[:, index], predicted[:, index], zero_division=0.0)) if known else None
    return {
        "map": _mean(average_precision),
        "macro_f1": _mean(f1),
        "micro_f1": float(f1_score(truth, predicted, average="micro", zero_division=0.0)),
        "exact_match": float((truth == predicted).all(1).mean()),
        "average_precision": average_precision,
        "f1": f1,
    }


def vote_figures(probabilities: np.ndarray, votes: np.ndarray) -> dict[str, float]:
    """Compares predicted distributions with the distributions of votes.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`): Probability of each label, with a sum of 1 for each clip.
        votes (`np.ndarray` of shape `(N, K)`): Share of the votes for each label, with a sum of 1 for each clip.

    Returns:
        `kl_divergence`, the mean Kullback-Leibler divergence of the prediction from the votes in nats, at least 0; and
        `top_vote_accuracy`, the share of clips whose most probable label has as many votes as any other, 0 to 1.
    """
    predicted, shares = np.asarray(probabilities, float), np.asarray(votes, float)
    ratio = np.log(np.maximum(shares, 1e-12)) - np.log(np.maximum(predicted, 1e-12))
    best = predicted.argmax(1)
    # Ties between votes are common, and no answer among them is wrong.
    hits = shares[np.arange(len(shares)), best] >= shares.max(1) - 1e-6
    return {
        "kl_divergence": float(np.where(shares > 0, shares * ratio, 0.0).sum(1).mean()),
        "top_vote_accuracy": float(hits.mean()),
    }


def _mean(values: dict[str, float | None]) -> float:
    known = [value for value in values.values() if value is not None]
    return float(np.mean(known))
