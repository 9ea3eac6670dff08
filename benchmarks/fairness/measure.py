"""Recall and calibration of a model by group, with intervals over people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fairness.faces import Picture
from benchmarks.harness.calibration import calibration_error
from benchmarks.harness.comparison import Difference, bootstrap_weights, with_interval
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import at_temperature
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

_BATCH = 64


@dataclass(frozen=True)
class Answers:
    """Answers of a model to N pictures.

    Attributes:
        factors: factor of each picture.
        groups: group of each picture.
        people: number of the person in each picture, (N,).
        labels: true label of each picture.
        predicted: predicted label of each picture.
        confidence: probability of the predicted label, (N,).
    """

    factors: NDArray[np.str_]
    groups: NDArray[np.str_]
    people: NDArray[np.int64]
    labels: NDArray[np.str_]
    predicted: NDArray[np.str_]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class GroupFigures:
    """Figures of a group, each with its 95 % interval over people.

    Attributes:
        pictures: number of pictures.
        recall: recall of each label, without interval.
        uar: mean recall.
        ece: expected calibration error.
        uar_difference: UAR minus that of the reference group on the same people; None for the reference.
        ece_difference: the same of the calibration error.
    """

    pictures: int
    recall: dict[str, float]
    uar: Difference
    ece: Difference
    uar_difference: Difference
    ece_difference: Difference


def answers_of(
    model: TGDFERForVideoClassification, video_processor: TGDFERVideoProcessor, pictures: Iterable[Picture]
) -> Answers:
    """What a model says of pictures, each given as a clip of one frame. The faces are aligned and not cut again."""
    names = np.array([name for _, name in sorted(model.config.id2label.items())])
    facts: list[tuple[str, str, int, str]] = []
    logits: list[torch.Tensor] = []
    waiting: list[np.ndarray] = []

    def answer() -> None:
        batch = video_processor(waiting, num_frames=1, face_crop="none", return_tensors="pt")
        with torch.inference_mode():
            output = model(pixel_values_videos=batch["pixel_values_videos"], frame_mask=batch["frame_mask"])
        logits.append(output.logits.float())
        waiting.clear()

    for picture in pictures:
        facts.append((picture.factor, picture.group, picture.person, picture.label))
        waiting.append(picture.image[None])
        if len(waiting) == _BATCH:
            answer()
    if waiting:
        answer()
    confidence, best = at_temperature(torch.cat(logits), model.config).softmax(-1).max(-1)
    factors, groups, people, labels = (np.array(column) for column in zip(*facts, strict=True))
    return Answers(factors, groups, people, labels, names[best.numpy()], confidence.double().numpy())


def figures_by_group(
    answers: Answers, factor: str, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> dict[str, GroupFigures]:
    """Figures of the groups of a factor.

    Each bootstrap draw takes people with replacement, the same in all groups, with all of their pictures.

    Args:
        answers: answers to pictures in which every person shows every label in every group.
        factor: the factor.
        groups: its groups, the reference first.
        draws: number of draws.
        seed: seed of the draws.
    """
    weights = bootstrap_weights(len(np.unique(answers.people)), draws, seed)
    found: dict[str, GroupFigures] = {}
    first: tuple[np.ndarray, np.ndarray] | None = None
    for group in groups:
        chosen = (answers.factors == factor) & (answers.groups == group)
        people = np.unique(answers.people, return_inverse=True)[1][chosen]
        labels, right = answers.labels[chosen], (answers.predicted == answers.labels)[chosen]
        recalls = {label: _recall(right[labels == label], people[labels == label], weights) for label in set(labels)}
        uar = np.mean(list(recalls.values()), axis=0)
        ece = calibration_error(answers.confidence[chosen], right, people, weights)
        found[group] = GroupFigures(
            pictures=int(chosen.sum()),
            recall={label: float(recalls[label][0]) for label in sorted(recalls)},
            uar=with_interval(uar),
            ece=with_interval(ece),
            uar_difference=None if first is None else with_interval(uar - first[0]),
            ece_difference=None if first is None else with_interval(ece - first[1]),
        )
        first = first or (uar, ece)
    return found


def _recall(right: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Recall of one label for each weighting (R, P) of the people: (R,)."""
    number = weights.shape[1]
    hits, counts = np.bincount(people, right, minlength=number), np.bincount(people, minlength=number)
    return (weights @ hits) / (weights @ counts)
