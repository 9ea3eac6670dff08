"""How well a model finds an emotion that it was never trained on and that it is given by words alone."""

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

# Fixed beforehand, because nothing can be chosen by for an emotion without labels.
RECIPE = Recipe(rate=1e-3, epochs=20)


def measure_relabelling(dataset: BenchmarkDataset) -> dict[str, dict[str, list[float]]]:
    """How well a model that was trained on the other emotions ranks the clips of each emotion.

    Args:
        dataset: clips, with a CLIP whose texts fit its images.

    Returns:
        For each emotion the areas under the ROC curve of its probability over the test clips: of the model that is not
        trained (`untrained`, once), that is trained on the `others` and on `all` (for every seed).
    """
    untrained = _areas(dataset, _start(dataset, dataset.classes))
    found = {label: {"untrained": [untrained[label]], "others": [], "all": []} for label in dataset.classes}
    jobs = [(seed, left_out) for seed in dataset.settings.seeds for left_out in (None, *dataset.classes)]
    for seed, left_out in track(jobs, "Training", console=get_console()):
        areas = _areas(dataset, trained_without(dataset, left_out, seed))
        if left_out is None:
            for label, area in areas.items():
                found[label]["all"].append(area)
        else:
            found[left_out]["others"].append(areas[left_out])
    return found


def trained_without(dataset: BenchmarkDataset, left_out: str | None, seed: int) -> TGDFERForVideoClassification:
    """TG-DFER on frozen features, trained on all labels but one, and then given all labels by words."""
    kept = [label for label in dataset.classes if label != left_out]
    torch.manual_seed(seed)
    model = _start(dataset, kept)
    # Index of each label among those kept. Clips of the label that is left out are never drawn.
    place = torch.tensor([kept.index(label) if label in kept else -1 for label in dataset.classes])
    targets = place[targets_of(dataset)]
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
