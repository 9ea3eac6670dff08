"""Measures how well a model recognises an emotion that it knows only from descriptions."""

from collections.abc import Sequence

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from sklearn.metrics import roc_auc_score

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.fitting import Recipe, predict, train_head
from benchmarks.harness.heads import FROZEN_CLIP, TextGuidedHead
from benchmarks.harness.row import targets_of
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.models import start_model

# The options are fixed in advance, because an emotion without labels has no data to select them on.
RECIPE = Recipe(rate=1e-3, epochs=20)


def measure_relabelling(dataset: BenchmarkDataset) -> dict[str, dict[str, list[float]]]:
    """Measures how well a model ranks the clips of each emotion if it was trained on the other emotions.

    Args:
        dataset (`BenchmarkDataset`): Clips, with a CLIP that is trained on pairs of images and texts.

    Returns:
        `dict[str, dict[str, list[float]]]`: For each emotion, the areas under the ROC curve (0 to 1) of its
        probability over the test clips. `untrained` has one value. `others` and `all` have one value per seed, for
        models that are trained on the other emotions and on all emotions.
    """
    untrained = _areas(dataset, _start(dataset, dataset.classes))
    result = {label: {"untrained": [untrained[label]], "others": [], "all": []} for label in dataset.classes}
    jobs = [(seed, left_out) for seed in dataset.settings.seeds for left_out in (None, *dataset.classes)]
    for seed, left_out in track(jobs, "Training", console=get_console()):
        areas = _areas(dataset, trained_without(dataset, left_out, seed))
        if left_out is None:
            for label, area in areas.items():
                result[label]["all"].append(area)
        else:
            result[left_out]["others"].append(areas[left_out])
    return result


def trained_without(dataset: BenchmarkDataset, left_out: str | None, seed: int) -> TGDFERForVideoClassification:
    """Trains TG-DFER on frozen features of all labels except one, and then sets all labels by their descriptions.

    Args:
        dataset (`BenchmarkDataset`): The clips.
        left_out (`str`, *optional*): Label that is excluded from training. None trains on all labels.
        seed (`int`): Random seed of the training.
    """
    kept = [label for label in dataset.classes if label != left_out]
    torch.manual_seed(seed)
    model = _start(dataset, kept)
    # Index of each label among the training labels. Clips of the excluded label are not used.
    new_index = torch.tensor([kept.index(label) if label in kept else -1 for label in dataset.classes])
    targets = new_index[targets_of(dataset)]
    indices = np.flatnonzero(targets.numpy() >= 0)
    train_head(TextGuidedHead(model), dataset.features("train", seed), targets, indices, RECIPE, seed)
    if left_out is not None:
        model.set_classes(dataset.network[1].class_prompts())
    return model


def _start(dataset: BenchmarkDataset, labels: Sequence[str]) -> TGDFERForVideoClassification:
    return start_model(dataset.config(frozen_features=True, model_options=FROZEN_CLIP).model, list(labels))[0]


def _areas(dataset: BenchmarkDataset, model: TGDFERForVideoClassification) -> dict[str, float]:
    logits, _ = predict(TextGuidedHead(model), dataset.features("test"))
    probabilities = logits.softmax(-1).numpy()
    return {
        label: float(roc_auc_score(np.array(dataset.test.labels) == label, probabilities[:, index]))
        for index, label in enumerate(dataset.classes)
    }
