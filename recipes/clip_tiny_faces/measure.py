"""Measures all figures of `clip-tiny-faces`, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import CLIPImageProcessor, CLIPTokenizer

from recipes.clip_tiny_faces.evaluate import (
    action_unit_retrieval,
    embed_classes,
    embed_images,
    file_apexes,
    linear_probe,
    rendered_apexes,
)
from recipes.clip_tiny_faces.ferplus import load_ferplus
from recipes.clip_tiny_faces.scores import METRICS, accuracy, bootstrap, uar
from recipes.clip_tiny_faces.towers import DualEncoder
from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import EMOTIONS


class Figure(NamedTuple):
    """A measured value (0 to 1), with its 95% interval if it is known."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f"  [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{100 * self.value:.1f}{interval}"


class Parts(NamedTuple):
    """A dual encoder with its tokenizer and its image processor."""

    model: DualEncoder
    tokenizer: CLIPTokenizer
    processor: CLIPImageProcessor


def measure_photographs(
    parts: Parts, cache: Path, split: str, others: Mapping[str, np.ndarray] | None = None
) -> Iterator[tuple[str, Figure]]:
    """Measures zero-shot classification and a linear probe on aligned photographs of FER+ with a clear majority.

    Args:
        parts (`Parts`): The measured dual encoder.
        cache (`Path`): File written by `prepare_ferplus`.
        split (`str`): "validation" for choices, "test" only once for a release.
        others (`Mapping[str, np.ndarray]`, *optional*): Predictions of other tools for the same photographs, by name:
            (N,) indices in `EMOTIONS`.
    """
    faces = load_ferplus(cache, split)
    rows = faces.majority_indices()
    labels, images = faces.labels[rows], embed_images(parts.model, parts.processor, list(faces.aligned[rows]))
    scores = images @ embed_classes(parts.model, parts.tokenizer, built_in_descriptions(EMOTIONS)).T
    predicted = scores.argmax(1).numpy()
    for name, metric in METRICS.items():
        yield f"by descriptions, {name}", Figure(metric(labels, predicted), *bootstrap(labels, predicted, metric))
        for other, predictions in (others or {}).items():
            difference = metric(labels, predicted) - metric(labels, predictions)
            yield f"minus {other}, {name}", Figure(difference, *bootstrap(labels, predicted, metric, predictions))
    yield from _text_controls(parts, images.numpy(), labels)
    probed = _probe(parts, cache, images.numpy())
    for name, metric in METRICS.items():
        yield f"linear probe, {name}", Figure(metric(labels, probed), *bootstrap(labels, probed, metric))


def _text_controls(parts: Parts, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, Figure]]:
    """Measures zero-shot classification by class names, and by descriptions that are assigned to random classes."""
    descriptions = built_in_descriptions(EMOTIONS)

    def predict(texts: Mapping[str, Sequence[str]]) -> np.ndarray:
        return (images @ embed_classes(parts.model, parts.tokenizer, texts).numpy().T).argmax(1)

    by_name = predict({name: [name] for name in EMOTIONS})
    rng = np.random.default_rng(0)
    pool = np.array([text for name in EMOTIONS for text in descriptions[name]])
    ends = np.cumsum([len(descriptions[name]) for name in EMOTIONS])[:-1]
    assignments = [dict(zip(EMOTIONS, np.split(rng.permutation(pool), ends), strict=True)) for _ in range(20)]
    shuffled = [predict({name: texts.tolist() for name, texts in assigned.items()}) for assigned in assignments]
    for name, metric in METRICS.items():
        yield f"by class names, {name}", Figure(metric(labels, by_name), *bootstrap(labels, by_name, metric))
        yield f"shuffled descriptions, {name}", Figure(float(np.mean([metric(labels, p) for p in shuffled])))


def _probe(parts: Parts, cache: Path, images: np.ndarray) -> np.ndarray:
    """Predicts images with a linear classifier that is fitted on `train`. Its penalty is selected on `validation`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = {}, {}
    for split in ("train", "validation"):
        faces = load_ferplus(cache, split)
        rows = faces.majority_indices()
        features[split] = embed_images(parts.model, parts.processor, list(faces.aligned[rows])).numpy()
        labels[split] = faces.labels[rows]
    probes = [
        make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500)).fit(
            features["train"], labels["train"]
        )
        for penalty in (1e-3, 1e-2, 1e-1)
    ]
    return max(probes, key=lambda p: p.score(features["validation"], labels["validation"])).predict(images)


def measure_rendered(parts: Parts) -> Iterator[tuple[str, Figure]]:
    """Measures zero-shot classification and action unit retrieval on rendered people who are not in training data."""
    pictures, names = rendered_apexes()
    labels = np.array([EMOTIONS.index(name) for name in names])
    classes = embed_classes(parts.model, parts.tokenizer, built_in_descriptions(EMOTIONS))
    predicted = (embed_images(parts.model, parts.processor, pictures) @ classes.T).argmax(1).numpy()
    yield "rendered faces by descriptions, UAR", Figure(uar(labels, predicted), *bootstrap(labels, predicted, uar))
    precisions = action_unit_retrieval(parts.model, parts.tokenizer, parts.processor)
    yield "action units, mean AP", Figure(float(np.mean(list(precisions.values()))))


def measure_clips(parts: Parts, clips: Path) -> Iterator[tuple[str, Figure]]:
    """Measures zero-shot classification and a linear probe on the apex frames of real clips.

    Both are measured on `test`, and the probe is fitted on `train`. Intervals are over people.
    """
    pictures, names, people = file_apexes(clips / "test")
    labels = np.array([EMOTIONS.index(name) for name in names])
    present = [EMOTIONS[i] for i in np.unique(labels)]
    classes = embed_classes(parts.model, parts.tokenizer, built_in_descriptions(present))
    best = (embed_images(parts.model, parts.processor, pictures) @ classes.T).argmax(1).numpy()
    predicted = np.array([EMOTIONS.index(name) for name in present])[best]
    interval = bootstrap(labels, predicted, uar, groups=people)
    yield "apex frames by descriptions, UAR", Figure(uar(labels, predicted), *interval)
    yield "apex frames by descriptions, accuracy", Figure(accuracy(labels, predicted))
    for name, value in linear_probe(parts.model, parts.processor, clips / "train", clips / "test").items():
        yield f"apex frames, linear probe, UAR on {name}", Figure(value)


def read_predictions(file: Path, count: int) -> np.ndarray:
    """Reads the predictions of another tool from a file with one label per line.

    Args:
        file (`Path`): The file.
        count (`int`): Expected number of lines.

    Returns:
        `np.ndarray`: Indices in `EMOTIONS`, (count,).

    Raises:
        UserError: If the file cannot be read, has another number of lines, or contains an unknown label.
    """
    try:
        lines = file.read_text("utf-8").split()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a file with one label per line.") from error
    names = [canonical_label(line) for line in lines]
    if unknown := sorted(set(names) - set(EMOTIONS)):
        raise UserError(f"{file} contains the label {unknown[0]!r}, but labels must be one of: {', '.join(EMOTIONS)}.")
    if len(names) != count:
        raise UserError(
            f"{file} has {len(names)} labels for {count} photographs: write one label per photograph, in the same"
            " order."
        )
    return np.array([EMOTIONS.index(name) for name in names])
