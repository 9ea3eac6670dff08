"""Recall and calibration of a model for each group, with intervals over people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fairness.faces import Picture
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import at_temperature
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.metrics.bootstrap import (
    Interval,
    bootstrap_weights,
    weighted_calibration_error,
    with_error_interval,
    with_interval,
)

_BATCH = 64


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for N pictures.

    Attributes:
        factors (`NDArray[np.str_]`): Factor of each picture, (N,).
        groups (`NDArray[np.str_]`): Group of each picture, (N,).
        people (`NDArray[np.int64]`): Number of the person in each picture, (N,).
        labels (`NDArray[np.str_]`): True label of each picture, (N,).
        predicted (`NDArray[np.str_]`): Predicted label of each picture, (N,).
        confidence (`NDArray[np.float64]`): Probability of the predicted label, (N,).
    """

    factors: NDArray[np.str_]
    groups: NDArray[np.str_]
    people: NDArray[np.int64]
    labels: NDArray[np.str_]
    predicted: NDArray[np.str_]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class GroupFigures:
    """Figures of a group (0 to 1), each with its 95% interval over people.

    Attributes:
        pictures (`int`): Number of pictures.
        recall (`dict[str, float]`): Recall of each label, without interval.
        uar (`Interval`): Mean recall.
        ece (`Interval`): Expected calibration error.
        uar_difference (`Interval`): UAR minus that of the reference group on the same people. None for the
            reference.
        ece_difference (`Interval`): Calibration error minus that of the reference group. None for the reference.
    """

    pictures: int
    recall: dict[str, float]
    uar: Interval
    ece: Interval
    uar_difference: Interval
    ece_difference: Interval


def predict_pictures(
    model: TGDFERForVideoClassification, video_processor: TGDFERVideoProcessor, pictures: Iterable[Picture]
) -> Predictions:
    """Predicts pictures, each as a clip of one frame. The faces are already aligned and are not cropped again."""
    names = np.array(model.config.class_names)
    metadata: list[tuple[str, str, int, str]] = []
    logits: list[torch.Tensor] = []
    batch: list[np.ndarray] = []

    def predict_batch() -> None:
        inputs = video_processor(batch, num_frames=1, face_crop="none", return_tensors="pt")
        with torch.inference_mode():
            output = model(pixel_values_videos=inputs["pixel_values_videos"], frame_mask=inputs["frame_mask"])
        logits.append(output.logits.float())
        batch.clear()

    for picture in pictures:
        metadata.append((picture.factor, picture.group, picture.person, picture.label))
        batch.append(picture.image[None])
        if len(batch) == _BATCH:
            predict_batch()
    if batch:
        predict_batch()
    confidence, best = at_temperature(torch.cat(logits), model.config).softmax(-1).max(-1)
    factors, groups, people, labels = (np.array(column) for column in zip(*metadata, strict=True))
    return Predictions(factors, groups, people, labels, names[best.numpy()], confidence.double().numpy())


def figures_by_group(
    predictions: Predictions, factor: str, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> dict[str, GroupFigures]:
    """Computes the figures of the groups of a factor.

    Each bootstrap draw samples people with replacement and takes all of their pictures. The draws are the same in all
    groups.

    Args:
        predictions (`Predictions`): Predictions for pictures in which every person shows every label in every group.
        factor (`str`): Name of the factor.
        groups (`Sequence[str]`): Names of its groups, the reference first.
        draws (`int`, *optional*, defaults to `2000`): Number of draws.
        seed (`int`, *optional*, defaults to `0`): Random seed of the draws.
    """
    weights = bootstrap_weights(len(np.unique(predictions.people)), draws, seed)
    figures: dict[str, GroupFigures] = {}
    reference: tuple[np.ndarray, np.ndarray] | None = None
    for group in groups:
        in_group = (predictions.factors == factor) & (predictions.groups == group)
        people = np.unique(predictions.people, return_inverse=True)[1][in_group]
        labels, correct = predictions.labels[in_group], (predictions.predicted == predictions.labels)[in_group]
        recalls = {label: _recall(correct[labels == label], people[labels == label], weights) for label in set(labels)}
        uar = np.mean(list(recalls.values()), axis=0)
        ece = weighted_calibration_error(predictions.confidence[in_group], correct, people, weights)
        figures[group] = GroupFigures(
            pictures=int(in_group.sum()),
            recall={label: float(recalls[label][0]) for label in sorted(recalls)},
            uar=with_interval(uar),
            ece=with_error_interval(ece),
            uar_difference=None if reference is None else with_interval(uar - reference[0]),
            ece_difference=None if reference is None else with_error_interval(ece - reference[1]),
        )
        reference = reference or (uar, ece)
    return figures


def _recall(correct: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the recall of one label for each weighting (R, P) of the people: (R,)."""
    number = weights.shape[1]
    hits, counts = np.bincount(people, correct, minlength=number), np.bincount(people, minlength=number)
    return (weights @ hits) / (weights @ counts)
