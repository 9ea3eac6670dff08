"""Accuracy, recalls and paired bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tgdfer.training.rendered_faces import EMOTIONS

# Disgust is excluded, because it has only seven pictures in the test split of FER+.
SIX = tuple(name for name in EMOTIONS if name != "disgust")

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the share of correct predictions. Both arguments are class indices (N,)."""
    return float((labels == predicted).mean())


def recalls(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str] = EMOTIONS) -> dict[str, float]:
    """Returns the recall of each class that occurs, by name. Classes are indices in `names`."""
    return {name: float((predicted[labels == i] == i).mean()) for i, name in enumerate(names) if (labels == i).any()}


def uar(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the mean recall of all classes that occur."""
    return float(np.mean(list(recalls(labels, predicted).values())))


def six_class_uar(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the mean recall of all emotions except disgust. Classes are indices in `EMOTIONS`."""
    by_name = recalls(labels, predicted)
    return float(np.mean([by_name[name] for name in SIX if name in by_name]))


METRICS: Mapping[str, Metric] = {"accuracy": accuracy, "six_class_uar": six_class_uar, "uar": uar}


def summarise(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Returns all `METRICS` of a set of predictions."""
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
    """Returns the 95% interval of a metric, or of its difference between two sets of predictions.

    Args:
        labels (`np.ndarray` of shape `(N,)`): Class indices.
        predicted (`np.ndarray` of shape `(N,)`): Predicted class indices.
        metric (`Metric`): Metric of labels and predictions.
        other (`np.ndarray` of shape `(N,)`, *optional*): Other predictions. If they are given, the interval is that of
            the first minus the other.
        groups (`Sequence[str]`, *optional*): Person in each of the N pictures. The pictures of a person are drawn
            together. By default each picture counts as a different person.
        rounds (`int`, *optional*, defaults to `2000`): Number of bootstrap samples.
        seed (`int`, *optional*, defaults to `0`): Random seed of the samples.
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
