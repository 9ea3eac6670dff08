"""Accuracy, recalls and paired bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tgdfer.training.rendered_faces import EMOTIONS

# Disgust has seven pictures in the test split of FER+, too few to steer by.
SIX = tuple(name for name in EMOTIONS if name != "disgust")

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Share of N pictures whose predicted class, an index, is the label."""
    return float((labels == predicted).mean())


def recalls(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str] = EMOTIONS) -> dict[str, float]:
    """Recall of each class that occurs, by name; classes are indices into `names`."""
    return {name: float((predicted[labels == i] == i).mean()) for i, name in enumerate(names) if (labels == i).any()}


def uar(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the recalls of all classes that occur."""
    return float(np.mean(list(recalls(labels, predicted).values())))


def six_class_uar(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the recalls of all emotions but disgust; classes are indices into `EMOTIONS`."""
    by_name = recalls(labels, predicted)
    return float(np.mean([by_name[name] for name in SIX if name in by_name]))


METRICS: Mapping[str, Metric] = {"accuracy": accuracy, "six_class_uar": six_class_uar, "uar": uar}


def summarise(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """All `METRICS` of one set of answers."""
    return {name: metric(labels, predicted) for name, metric in METRICS.items()}


def bootstrap(
    labels: np.ndarray,
    predicted: np.ndarray,
    metric: Metric,
    other: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % interval of a metric, or of its difference between two sets of answers to the same pictures.

    Args:
        labels: (N,) indices.
        predicted: (N,) answers.
        metric: Of labels and answers.
        other: (N,) other answers; the interval is that of the first minus the other.
        groups: (N,) person of each picture; pictures of one person are drawn together. Default: one picture each.
        rounds: Samples that are drawn, with replacement.
        seed: Decides what is drawn.
    """
    rng = np.random.default_rng(seed)
    numbers = np.arange(len(labels)) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    values = []
    for _ in range(rounds):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        value = metric(labels[drawn], predicted[drawn])
        values.append(value - (metric(labels[drawn], other[drawn]) if other is not None else 0.0))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
