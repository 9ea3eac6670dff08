"""The rows on photographs: the CLIP by words, a linear probe, a trained TG-DFER, and `fer`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.harness.comparison import CHANCE
from benchmarks.harness.row import Row, Run, rounded, seed_of
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.harness.zero_shot import class_words, zero_shot
from benchmarks.real_faces.cropped_photographs import inputs
from benchmarks.real_faces.fer_environment import CLASSES, VERSION, FerEnvironment
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.training.baseline import directions

# Penalties of the linear probe, of which the validation photographs choose one.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# Number of times that descriptions are dealt to the classes at random.
SHUFFLES = 20


def photograph_rows(dataset: PhotographDataset, fer: FerEnvironment, trained: TrainedModel | None) -> list[Row]:
    """All rows, in the order of the table.

    Args:
        dataset: the photographs.
        fer: environment of the `fer` package.
        trained: a trained TG-DFER; without it there is no such row.
    """

    def once(run: Callable[[], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
        return lambda part, earlier, folder: run()

    def words(descriptions: Mapping[str, Sequence[str]] | None = None) -> Run:
        return said(dataset.classes, zero_shot(dataset, descriptions)[0].softmax(-1))

    def shuffled(part: str) -> Run:
        return words(shuffled_descriptions(dataset.network[1].descriptions or {}, seed_of(part)))

    seeds = tuple(f"seed {seed}" for seed in range(SHUFFLES))
    rows = [
        Row("random", "random", ("once",), once(lambda: {"predicted": CHANCE, "scores": None})),
        Row("words", "CLIP by class names", ("once",), once(lambda: words(class_words(dataset.classes)))),
        Row("descriptions", "CLIP by descriptions", ("once",), once(words)),
        Row("shuffled", "CLIP by shuffled descriptions", seeds, lambda part, earlier, folder: shuffled(part)),
        Row("probe", "CLIP, linear probe", ("once",), once(lambda: linear_probe(dataset)), {"penalties": PENALTIES}),
    ]
    if trained is not None:
        config = {"model": trained.fingerprint}
        rows.append(Row("trained", trained.title, ("once",), once(lambda: _trained(dataset, trained)), config))
    return [*rows, Row("fer", "fer", ("once",), once(lambda: _fer(dataset, fer)), {"version": VERSION})]


def said(classes: Sequence[str], probabilities: Tensor | np.ndarray, **facts: Any) -> Run:
    """What is kept of a run on photographs.

    Args:
        classes: names of the K classes.
        probabilities: (N, K).
        facts: what is kept beside it.
    """
    values = np.asarray(probabilities, float)
    predicted = [classes[index] for index in values.argmax(1)]
    kept = [[rounded(value) for value in row] for row in values.tolist()]
    return {"predicted": predicted, "scores": None, "probabilities": kept} | facts


def shuffled_descriptions(descriptions: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """The same descriptions, dealt to the classes at random; each class has as many as before."""
    texts = [text for of_class in descriptions.values() for text in of_class]
    dealt = iter(np.random.default_rng(seed).permutation(texts).tolist())
    return {label: [next(dealt) for _ in of_class] for label, of_class in descriptions.items()}


def linear_probe(dataset: PhotographDataset) -> Run:
    """Logistic regression on the features of train; validation chooses its penalty by accuracy."""
    features = {split: directions(dataset.features(split))[0, :, 0] for split in ("train", "validation", "test")}
    probes = {
        penalty: make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500)).fit(
            features["train"], dataset.labels["train"]
        )
        for penalty in PENALTIES
    }
    tried = {
        penalty: float(probe.score(features["validation"], dataset.labels["validation"]))
        for penalty, probe in probes.items()
    }
    chosen = max(tried, key=lambda penalty: tried[penalty])
    probabilities = probes[chosen].predict_proba(features["test"])
    names = probes[chosen].classes_.tolist()
    facts = {"chosen": {"C": chosen, "validation_accuracy": tried[chosen]}, "tried": list(tried.items())}
    return said(dataset.classes, probabilities[:, [names.index(label) for label in dataset.classes]], **facts)


def _trained(dataset: PhotographDataset, trained: TrainedModel) -> Run:
    """A trained model, given each photograph as a clip of one frame."""
    model, processor = trained.network
    places = trained.class_indices(dataset.classes)
    probabilities: list[Tensor] = []
    found: list[bool] = []
    for part in dataset.crops("test"):
        found += part.found
        for batch in inputs(processor.video_processor, part):
            with torch.inference_mode():
                probabilities.append(trained.probabilities(model(**batch).logits))
    every = torch.cat(probabilities)
    sure = trained.confidence(every, dataset.labels["test"])
    return said(dataset.classes, every[:, places], faces_found=float(np.mean(found)), **sure)


def _fer(dataset: PhotographDataset, fer: FerEnvironment) -> Run:
    """The network of `fer`, given each photograph as published, as it was trained on such pictures."""
    probabilities = fer.probabilities(dataset.pictures("test"))
    return said(dataset.classes, probabilities[:, [CLASSES.index(label) for label in dataset.classes]])
