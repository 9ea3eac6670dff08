"""Measures how well a model recognises an emotion on real photographs that it knows only by its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track

from benchmarks.harness.fitting import predict, train_head
from benchmarks.harness.heads import FROZEN_CLIP, TextGuidedHead
from benchmarks.harness.zero_shot import class_words
from benchmarks.real_faces.photographs import PhotographDataset, frequent
from benchmarks.relabelling import left_out_emotions
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.config import ModelConfig
from tgdfer.training.features import FrameFeatures
from tgdfer.training.models import start_model

# Training photographs of each label, which every seed draws at random.
PER_LABEL = 100
# Random choices of words for the emotion, with every seed.
SHUFFLES = 5
# Options of TG-DFER for each kind of words.
WORDS: dict[str, dict[str, Any]] = {
    "words": FROZEN_CLIP,
    "descriptions": FROZEN_CLIP,
    "context": FROZEN_CLIP | {"context": "shared"},
}


@dataclass(frozen=True)
class Answers:
    """Answers of models on N test photographs with K labels.

    Attributes:
        classes (`list[str]`): Names of the K labels.
        labels (`list[str]`): Label of each photograph.
        logits (`dict[str, dict[str, np.ndarray]]`): For each kind of model and each emotion that is added by its
            words, the logits (R, N, K) of R runs, in float64.
    """

    classes: list[str]
    labels: list[str]
    logits: dict[str, dict[str, np.ndarray]]


def measure_photographs(dataset: PhotographDataset) -> Answers:
    """Trains on photographs of all labels except one, and adds this label by its words.

    The labels are those with enough test photographs. The kinds of models are:

    - `untrained`: the dual encoder with descriptions, without training.
    - `words`, `descriptions`, `context`: trained without the emotion, which is added by its name, by its descriptions,
      or by its descriptions with the context that was learned on the other labels.
    - `shuffled`: as `descriptions`, but the emotion is added by descriptions of other labels, chosen at random.
    - `all`: with descriptions, trained on all labels.

    Args:
        dataset (`PhotographDataset`): The photographs.
    """
    classes = frequent(dataset.labels["test"])
    kept = np.flatnonzero(np.isin(dataset.labels["test"], classes))
    test = _part(dataset.features("test"), kept)
    runs: dict[str, dict[str, list[np.ndarray]]] = {
        kind: {label: [] for label in classes} for kind in ("untrained", "shuffled", *WORDS, "all")
    }
    untrained = _logits(_start(dataset, classes, "descriptions"), test)
    for label in classes:
        runs["untrained"][label].append(untrained)
    jobs = [(seed, label, kind) for seed in dataset.settings.seeds for label in classes for kind in WORDS]
    for seed, left_out, kind in track(jobs, "Training without an emotion", console=get_console()):
        model = trained_on_photographs(dataset, classes, left_out, kind, seed)
        runs[kind][left_out].append(_logits(model, test))
        if kind == "descriptions":
            rng = np.random.default_rng(seed)
            for _ in range(SHUFFLES):
                _set_classes(dataset, model, wrong_descriptions(dataset, classes, left_out, rng))
                runs["shuffled"][left_out].append(_logits(model, test))
    for seed in track(dataset.settings.seeds, "Training on all emotions", console=get_console()):
        logits = _logits(trained_on_photographs(dataset, classes, None, "descriptions", seed), test)
        for label in classes:
            runs["all"][label].append(logits)
    stacked = {kind: {label: np.stack(values) for label, values in of.items()} for kind, of in runs.items()}
    return Answers(classes, [dataset.labels["test"][index] for index in kept], stacked)


def trained_on_photographs(
    dataset: PhotographDataset, classes: Sequence[str], left_out: str | None, kind: str, seed: int
) -> TGDFERForVideoClassification:
    """Trains TG-DFER on photographs of all labels except one, and then adds this label by its words.

    Args:
        dataset (`PhotographDataset`): The photographs.
        classes (`Sequence[str]`): The labels.
        left_out (`str`, *optional*): Label that is excluded from training. None trains on all labels.
        kind (`str`): Kind of words, from `WORDS`.
        seed (`int`): Random seed of the choice of photographs and of the training.
    """
    kept = [label for label in classes if label != left_out]
    torch.manual_seed(seed)
    model = _start(dataset, kept, kind)
    labels = np.array(dataset.labels["train"])
    rng = np.random.default_rng(seed)
    # Every label is drawn, so that the photographs of a label do not depend on the excluded label.
    drawn = {label: rng.permutation(np.flatnonzero(labels == label))[:PER_LABEL] for label in classes}
    indices = np.concatenate([drawn[label] for label in kept])
    targets = torch.tensor([kept.index(label) if label in kept else -1 for label in labels])
    train_head(TextGuidedHead(model), dataset.features("train"), targets, indices, left_out_emotions.RECIPE, seed)
    if left_out is not None:
        _set_classes(dataset, model, _texts(dataset, classes, kind))
    return model


def wrong_descriptions(
    dataset: PhotographDataset, classes: Sequence[str], label: str, rng: np.random.Generator
) -> dict[str, list[str]]:
    """Returns the descriptions of all labels. Those of `label` are replaced by random ones of other emotions."""
    texts = _texts(dataset, classes, "descriptions")
    others = [
        text for other, known in (dataset.network[1].descriptions or {}).items() if other != label for text in known
    ]
    return texts | {label: rng.choice(others, len(texts[label]), replace=False).tolist()}


def _texts(dataset: PhotographDataset, classes: Sequence[str], kind: str) -> dict[str, list[str]]:
    descriptions = dataset.network[1].descriptions or {}
    return class_words(classes) if kind == "words" else {label: list(descriptions[label]) for label in classes}


def _set_classes(
    dataset: PhotographDataset, model: TGDFERForVideoClassification, texts: Mapping[str, Sequence[str]]
) -> None:
    model.set_classes(dataset.network[1].class_prompts(texts))


def _start(dataset: PhotographDataset, labels: Sequence[str], kind: str) -> TGDFERForVideoClassification:
    options = ModelConfig(model=dataset.settings.model, frozen_features=True, model_options=WORDS[kind])
    model, _ = start_model(options, list(labels))
    if kind == "words":
        _set_classes(dataset, model, _texts(dataset, labels, kind))
    return model


def _logits(model: TGDFERForVideoClassification, photographs: FrameFeatures) -> np.ndarray:
    return predict(TextGuidedHead(model), photographs)[0].double().numpy()


def _part(photographs: FrameFeatures, indices: np.ndarray) -> FrameFeatures:
    kept = torch.from_numpy(indices)
    return FrameFeatures(
        photographs.features[:, kept], photographs.frame_mask[:, kept], photographs.timestamps[:, kept]
    )
