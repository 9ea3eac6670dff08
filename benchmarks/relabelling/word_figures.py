"""Computes AUC, recall and false alarms of emotions that are added by words, with bootstrap intervals."""

from typing import Any

import numpy as np
from scipy.special import log_softmax

from benchmarks.relabelling.left_out_photographs import Answers
from tgdfer.training.metrics.bootstrap import bootstrap_weights, with_interval

FIGURES = ("auc", "recall", "false_alarms")
# Pairs of kinds of models whose difference is reported.
PAIRS = (
    ("words", "shuffled"),
    ("descriptions", "shuffled"),
    ("descriptions", "words"),
    ("context", "descriptions"),
    ("descriptions", "untrained"),
    ("all", "descriptions"),
)


def word_figures(answers: Answers, draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Computes the figures of every kind of model and every emotion, averaged over its runs.

    Each draw samples photographs with replacement. All kinds of models use the same draws.

    Args:
        answers (`Answers`): Answers of the models.
        draws (`int`, *optional*, defaults to `2000`): Number of draws.
        seed (`int`, *optional*, defaults to `0`): Random seed of the draws.

    Returns:
        `dict[str, Any]`: `figures[kind][figure][label]` and `differences["A - B"][figure][label]`, each a value (0 to
        1) with the ends of its 95% interval. "mean" is the mean over the labels. The figures are:

        - `auc`: area under the ROC curve of the probability of the emotion, against all other photographs.
        - `recall`: share of the photographs of the emotion that get its label.
        - `false_alarms`: share of the other photographs that get its label.
    """
    weights = bootstrap_weights(len(answers.labels), draws, seed)
    samples = {kind: _samples(answers, kind, weights) for kind in answers.logits}
    differences = {
        f"{first} - {second}": {
            figure: {label: samples[first][figure][label] - other for label, other in of.items()}
            for figure, of in samples[second].items()
        }
        for first, second in PAIRS
    }
    return {"figures": _with_intervals(samples), "differences": _with_intervals(differences)}


def _with_intervals(samples: dict[str, dict[str, dict[str, np.ndarray]]]) -> dict[str, Any]:
    return {
        kind: {
            figure: {label: with_interval(values) for label, values in of.items()} for figure, of in by_figure.items()
        }
        for kind, by_figure in samples.items()
    }


def _samples(answers: Answers, kind: str, weights: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Returns the figures (R,) of a kind of model for each of R weightings (R, N) of the photographs."""
    samples: dict[str, dict[str, np.ndarray]] = {figure: {} for figure in FIGURES}
    for index, label in enumerate(answers.classes):
        logits = answers.logits[kind][label]
        positive = np.array(answers.labels) == label
        named = (logits.argmax(-1) == index).mean(0)
        samples["auc"][label] = weighted_auc(log_softmax(logits, -1)[..., index], positive, weights)
        samples["recall"][label] = _weighted_mean(named[positive], weights[:, positive])
        samples["false_alarms"][label] = _weighted_mean(named[~positive], weights[:, ~positive])
    for of in samples.values():
        of["mean"] = np.mean(list(of.values()), axis=0)
    return samples


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Computes the area under the ROC curve for R weightings of N samples, as the mean over S runs.

    It is the weighted share of pairs of a positive and a negative sample in which the positive sample has the higher
    score. Equal scores count half (Hanley & McNeil, 1982).

    Args:
        scores (`np.ndarray` of shape `(S, N)`): Scores of each run.
        positive (`np.ndarray` of shape `(N,)`): Whether each sample is positive.
        weights (`np.ndarray` of shape `(R, N)`): Weights of the samples.

    Returns:
        `np.ndarray`: (R,) areas between 0 and 1.
    """
    wins = np.zeros((positive.sum(), (~positive).sum()))
    for run in scores:
        first, second = run[positive][:, None], run[~positive][None]
        wins += ((first > second) + 0.5 * (first == second)) / len(scores)
    first_weights, second_weights = weights[:, positive], weights[:, ~positive]
    won = ((first_weights @ wins) * second_weights).sum(1)
    return won / (first_weights.sum(1) * second_weights.sum(1))
