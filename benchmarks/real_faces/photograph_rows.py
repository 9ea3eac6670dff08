"""Rows on photographs: zero-shot CLIP, a linear probe, a trained TG-DFER model, and `fer`."""

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
from tgdfer.training.baseline import normalised_features

# Penalties of the linear probe. One of them is selected on the validation photographs.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# Number of random assignments of the descriptions to the classes.
SHUFFLES = 20


def photograph_rows(dataset: PhotographDataset, fer: FerEnvironment, trained: TrainedModel | None) -> list[Row]:
    """Returns all rows in the order of the table.

    Args:
        dataset (`PhotographDataset`): The photographs.
        fer (`FerEnvironment`): Virtual environment of the `fer` package.
        trained (`TrainedModel`, *optional*): A trained TG-DFER model that is measured as an additional row.
    """

    def once(run: Callable[[], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
        return lambda part, earlier, folder: run()

    def by_texts(descriptions: Mapping[str, Sequence[str]] | None = None) -> Run:
        return photograph_result(dataset.classes, zero_shot(dataset, descriptions)[0].softmax(-1))

    def shuffled(part: str) -> Run:
        return by_texts(shuffled_descriptions(dataset.network[1].descriptions or {}, seed_of(part)))

    seeds = tuple(f"seed {seed}" for seed in range(SHUFFLES))
    rows = [
        Row("random", "random", ("once",), once(lambda: {"predicted": CHANCE, "scores": None})),
        Row("words", "CLIP by class names", ("once",), once(lambda: by_texts(class_words(dataset.classes)))),
        Row("descriptions", "CLIP by descriptions", ("once",), once(by_texts)),
        Row("shuffled", "CLIP by shuffled descriptions", seeds, lambda part, earlier, folder: shuffled(part)),
        Row("probe", "CLIP, linear probe", ("once",), once(lambda: linear_probe(dataset)), {"penalties": PENALTIES}),
    ]
    if trained is not None:
        config = {"model": trained.fingerprint}
        rows.append(Row("trained", trained.title, ("once",), once(lambda: _trained(dataset, trained)), config))
    return [*rows, Row("fer", "fer", ("once",), once(lambda: _fer(dataset, fer)), {"version": VERSION})]


def photograph_result(classes: Sequence[str], probabilities: Tensor | np.ndarray, **fields: Any) -> Run:
    """Returns the stored result of a run on photographs.

    Args:
        classes (`Sequence[str]`): Names of the K classes.
        probabilities (`Tensor | np.ndarray`): (N, K) probabilities of the classes.
        **fields: Additional fields to store.
    """
    values = np.asarray(probabilities, float)
    predicted = [classes[index] for index in values.argmax(1)]
    stored = [[rounded(value) for value in photograph] for photograph in values.tolist()]
    return {"predicted": predicted, "scores": None, "probabilities": stored} | fields


def shuffled_descriptions(descriptions: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Assigns the descriptions to the classes at random. The number of descriptions per class does not change."""
    texts = [text for class_texts in descriptions.values() for text in class_texts]
    shuffled = iter(np.random.default_rng(seed).permutation(texts).tolist())
    return {label: [next(shuffled) for _ in class_texts] for label, class_texts in descriptions.items()}


def linear_probe(dataset: PhotographDataset) -> Run:
    """Runs a logistic regression on the training features. Its penalty is selected by validation accuracy."""
    features = {
        split: normalised_features(dataset.features(split))[0, :, 0] for split in ("train", "validation", "test")
    }
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
    fields = {"chosen": {"C": chosen, "validation_accuracy": tried[chosen]}, "tried": list(tried.items())}
    indices = [names.index(label) for label in dataset.classes]
    return photograph_result(dataset.classes, probabilities[:, indices], **fields)


def _trained(dataset: PhotographDataset, trained: TrainedModel) -> Run:
    """Runs a trained model on each photograph, as a clip of one frame."""
    model, processor = trained.network
    indices = trained.class_indices(dataset.classes)
    probabilities: list[Tensor] = []
    found: list[bool] = []
    for part in dataset.crops("test"):
        found += part.found
        for batch in inputs(processor.video_processor, part):
            with torch.inference_mode():
                probabilities.append(trained.probabilities(model(**batch).logits))
    all_classes = torch.cat(probabilities)
    confidence = trained.confidence(all_classes, dataset.labels["test"])
    faces_found = float(np.mean(found))
    return photograph_result(dataset.classes, all_classes[:, indices], faces_found=faces_found, **confidence)


def _fer(dataset: PhotographDataset, fer: FerEnvironment) -> Run:
    """Runs the network of `fer` on the published photographs without cropping, because it was trained on them."""
    probabilities = fer.probabilities(dataset.pictures("test"))
    return photograph_result(dataset.classes, probabilities[:, [CLASSES.index(label) for label in dataset.classes]])
