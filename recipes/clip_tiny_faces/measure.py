"""Every figure that `clip-tiny-faces` is judged by, with intervals."""

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
    """A measured value, and its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f"  [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{100 * self.value:.1f}{interval}"


class Parts(NamedTuple):
    """A dual encoder with what prepares its inputs."""

    model: DualEncoder
    tokenizer: CLIPTokenizer
    processor: CLIPImageProcessor


def measure_photographs(
    parts: Parts, cache: Path, split: str, others: Mapping[str, np.ndarray] | None = None
) -> Iterator[tuple[str, Figure]]:
    """By words alone and with a linear probe, on the aligned photographs of FER+ with a clear majority.

    Args:
        parts: What is measured.
        cache: File of `prepare_ferplus`.
        split: "validation" to choose by, "test" once for a release.
        others: Other answers to the same photographs by name of who gave them; (N,) indices into `EMOTIONS`.
    """
    faces = load_ferplus(cache, split)
    clear = faces.clear()
    labels, images = faces.labels[clear], embed_images(parts.model, parts.processor, list(faces.aligned[clear]))
    scores = images @ embed_classes(parts.model, parts.tokenizer, built_in_descriptions(EMOTIONS)).T
    said = scores.argmax(1).numpy()
    for name, metric in METRICS.items():
        yield f"by words, {name}", Figure(metric(labels, said), *bootstrap(labels, said, metric))
        for other, answers in (others or {}).items():
            difference = metric(labels, said) - metric(labels, answers)
            yield f"minus {other}, {name}", Figure(difference, *bootstrap(labels, said, metric, answers))
    yield from _words_matter(parts, images.numpy(), labels)
    probed = _probe(parts, cache, images.numpy())
    for name, metric in METRICS.items():
        yield f"linear probe, {name}", Figure(metric(labels, probed), *bootstrap(labels, probed, metric))


def _words_matter(parts: Parts, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, Figure]]:
    """Class names in place of descriptions, and descriptions that are dealt to the classes at random."""
    described = built_in_descriptions(EMOTIONS)

    def said(descriptions: Mapping[str, Sequence[str]]) -> np.ndarray:
        return (images @ embed_classes(parts.model, parts.tokenizer, descriptions).numpy().T).argmax(1)

    named = said({name: [name] for name in EMOTIONS})
    rng = np.random.default_rng(0)
    pool = np.array([text for name in EMOTIONS for text in described[name]])
    counts = np.cumsum([len(described[name]) for name in EMOTIONS])[:-1]
    dealt = [dict(zip(EMOTIONS, np.split(rng.permutation(pool), counts), strict=True)) for _ in range(20)]
    shuffled = [said({name: texts.tolist() for name, texts in hand.items()}) for hand in dealt]
    for name, metric in METRICS.items():
        yield f"by class names, {name}", Figure(metric(labels, named), *bootstrap(labels, named, metric))
        yield f"shuffled descriptions, {name}", Figure(float(np.mean([metric(labels, s) for s in shuffled])))


def _probe(parts: Parts, cache: Path, images: np.ndarray) -> np.ndarray:
    """Answers (N,) of a linear classifier that is fitted on `train`; its penalty is chosen on `validation`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = {}, {}
    for split in ("train", "validation"):
        faces = load_ferplus(cache, split)
        clear = faces.clear()
        features[split] = embed_images(parts.model, parts.processor, list(faces.aligned[clear])).numpy()
        labels[split] = faces.labels[clear]
    probes = [
        make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500)).fit(
            features["train"], labels["train"]
        )
        for penalty in (1e-3, 1e-2, 1e-1)
    ]
    return max(probes, key=lambda p: p.score(features["validation"], labels["validation"])).predict(images)


def measure_rendered(parts: Parts) -> Iterator[tuple[str, Figure]]:
    """Rendered people whom no training has seen, by words; and single action units found by their words."""
    pictures, names = rendered_apexes()
    labels = np.array([EMOTIONS.index(name) for name in names])
    classes = embed_classes(parts.model, parts.tokenizer, built_in_descriptions(EMOTIONS))
    said = (embed_images(parts.model, parts.processor, pictures) @ classes.T).argmax(1).numpy()
    yield "rendered faces by words, UAR", Figure(uar(labels, said), *bootstrap(labels, said, uar))
    precisions = action_unit_retrieval(parts.model, parts.tokenizer, parts.processor)
    yield "action units, mean AP", Figure(float(np.mean(list(precisions.values()))))


def measure_clips(parts: Parts, clips: Path) -> Iterator[tuple[str, Figure]]:
    """Apex frames of real clips: by words on `test`, and with a linear probe that is fitted on `train`.

    Intervals are over people.
    """
    pictures, names, people = file_apexes(clips / "test")
    labels = np.array([EMOTIONS.index(name) for name in names])
    present = [EMOTIONS[i] for i in np.unique(labels)]
    classes = embed_classes(parts.model, parts.tokenizer, built_in_descriptions(present))
    best = (embed_images(parts.model, parts.processor, pictures) @ classes.T).argmax(1).numpy()
    said = np.array([EMOTIONS.index(name) for name in present])[best]
    yield "apex frames by words, UAR", Figure(uar(labels, said), *bootstrap(labels, said, uar, groups=people))
    yield "apex frames by words, accuracy", Figure(accuracy(labels, said))
    for name, value in linear_probe(parts.model, parts.processor, clips / "train", clips / "test").items():
        yield f"apex frames, linear probe, UAR on {name}", Figure(value)


def read_answers(file: Path, count: int) -> np.ndarray:
    """Answers (count,) of another tool, one label a line, as indices into `EMOTIONS`.

    Raises:
        UserError: If the file cannot be read, has another number of lines, or a line is no emotion.
    """
    try:
        lines = file.read_text("utf-8").split()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): name a file with one label a line.") from error
    names = [canonical_label(line) for line in lines]
    if unknown := sorted(set(names) - set(EMOTIONS)):
        raise UserError(f"{file} has the label {unknown[0]!r}, but must have one of: {', '.join(EMOTIONS)}.")
    if len(names) != count:
        raise UserError(f"{file} has {len(names)} labels for {count} photographs: write one for each, in order.")
    return np.array([EMOTIONS.index(name) for name in names])
