"""Linear probes: whether the person and the label can be read from the parts of a frame (Alain & Bengio, 2017)."""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.harness.feature_dataset import AnyDataset
from tgdfer.modeling_tgdfer.layers_tgdfer import masked_mean, unit
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.data.splits import people_folds

# Groups of labels, or of people, each of which is left out once.
_FOLDS = 3


def linear_probes(model: TGDFERForVideoClassification, dataset: AnyDataset, seed: int) -> dict[str, Any]:
    """Measures how well logistic regressions on clip means recognise the person and the label of the test clips.

    The person is recognised in clips of labels that the probe has not seen, so the expression does not help. The label
    is recognised in clips of people that the probe has not seen.

    Args:
        model (`TGDFERForVideoClassification`): Model with a residue.
        dataset (`AnyDataset`): The data set. Only its test clips are used, and nothing is selected with them.
        seed (`int`): Random seed of the folds.

    Returns:
        `dict[str, Any]`: For `frames`, `emotion` and `residue` the accuracies (0 to 1) for `person` and `label`.
        `chance` has the accuracies of random answers. `person` is None if a person has clips of one label only.
    """
    test = dataset.features("test")
    mask = test.frame_mask[0]
    with torch.no_grad():
        frames = unit(test.features[0].float().masked_fill(~mask.unsqueeze(-1), 0.0))
        residue = model.tgdfer.residue(frames)
    parts = {"frames": frames, "emotion": frames - residue, "residue": residue}
    people, labels = np.array(dataset.test.people or []), np.array(dataset.test.labels)
    figures: dict[str, Any] = {name: _probe(part, mask, people, labels, seed) for name, part in parts.items()}
    chance = {"person": 1 / len(set(people.tolist())), "label": 1 / len(set(labels.tolist()))}
    return figures | {"chance": chance}


def _probe(part: Tensor, mask: Tensor, people: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float | None]:
    """Returns the accuracy for the person and for the label: frames (N, T, D), mask (N, T), people and labels (N,)."""
    clips = masked_mean(part, mask).numpy()
    names = np.random.default_rng(seed).permutation(sorted(set(labels.tolist())))
    by_label = [np.isin(labels, names[start::_FOLDS]) for start in range(_FOLDS)]
    by_person = [np.isin(np.arange(len(labels)), held) for _, held in people_folds(labels, people, seed)]
    return {"person": _accuracy(clips, people, by_label), "label": _accuracy(clips, labels, by_person)}


def _accuracy(clips: np.ndarray, targets: np.ndarray, folds: list[np.ndarray]) -> float | None:
    """Returns the accuracy over all folds, of which each is left out once. None if a target is unknown there."""
    right = []
    for held in folds:
        if not held.any() or not set(targets[held].tolist()) <= set(targets[~held].tolist()):
            return None
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(clips[~held], targets[~held])
        right.append(classifier.predict(clips[held]) == targets[held])
    return float(np.concatenate(right).mean()) if right else None
