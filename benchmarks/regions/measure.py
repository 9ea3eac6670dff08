"""Pointing accuracy of region relevance, of the same with other words, and of fixed places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track

from benchmarks.regions.faces import MOVEMENTS, MovedFace
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.metrics.bootstrap import Interval, bootstrap_weights, with_interval

# Methods, in the order of the table.
MODEL, OTHER_WORDS, OTHER_PART, FIXED, CENTRE = "model", "other words", "other part", "fixed", "centre"
# Faces that are encoded together.
BATCH = 64


@dataclass(frozen=True)
class Pointing:
    """Whether the points of each method are right, for N faces.

    Attributes:
        people: (N,) number of the person.
        movements: (N,) index in `MOVEMENTS`.
        right: For each method, (N,) the share of points that are right, 0 to 1.
    """

    people: np.ndarray
    movements: np.ndarray
    right: dict[str, np.ndarray]

    def accuracy(self, method: str, minus: str | None = None, draws: int = 2000) -> Interval:
        """Pointing accuracy, or its difference to another method, with its 95% bootstrap interval over people."""
        values = self.right[method] - (self.right[minus] if minus else 0.0)
        _, people = np.unique(self.people, return_inverse=True)
        counts = np.bincount(people)
        weights = bootstrap_weights(len(counts), draws, 0)
        return with_interval((weights @ np.bincount(people, values)) / (weights @ counts))

    def of_movement(self, index: int) -> "Pointing":
        """The faces with one movement."""
        return self._selected(self.movements == index)

    def of_part(self, part: str) -> "Pointing":
        """The faces that move in one part."""
        return self._selected(np.array([MOVEMENTS[index].part == part for index in self.movements]))

    def _selected(self, chosen: np.ndarray) -> "Pointing":
        right = {method: values[chosen] for method, values in self.right.items()}
        return Pointing(self.people[chosen], self.movements[chosen], right)


def with_movements(model: TGDFERForVideoClassification, processor: TGDFERProcessor) -> None:
    """Replaces the classes of a model by the movements, each with its description."""
    model.set_classes(processor.encode_classes({one.name: [one.text] for one in MOVEMENTS}))


@torch.no_grad()
def relevance_of(
    model: TGDFERForVideoClassification,
    processor: TGDFERProcessor,
    faces: Sequence[MovedFace],
    progress: bool = False,
) -> np.ndarray:
    """Region relevance of faces for the descriptions of all movements, in the order of `MOVEMENTS`: (N, K, P)."""
    config: Any = model.config
    names = [config.id2label[index] for index in range(config.num_labels)]
    order = [names.index(one.name) for one in MOVEMENTS]
    found = []
    starts = range(0, len(faces), BATCH)
    for start in track(starts, "Hiding places", console=get_console(), disable=not progress):
        pictures = np.stack([face.picture for face in faces[start : start + BATCH]])
        clips = [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in pictures]
        pixels = processor.video_processor(clips, num_frames=1, face_crop="none", return_tensors="pt")
        found.append(model.get_region_relevance(pixels["pixel_values_videos"])[:, 0, :, 0].numpy())
    return np.concatenate(found)[:, order]


def points_of(relevance: np.ndarray, size: int) -> np.ndarray:
    """Centres of the places with the highest relevance: (..., P) -> (..., 2) row and column in pixels."""
    side = round(relevance.shape[-1] ** 0.5)
    places = np.stack(np.divmod(relevance.argmax(-1), side), -1)
    return ((places + 0.5) * size / side).astype(int)


def measure(relevance: np.ndarray, test: Sequence[MovedFace], train: Sequence[MovedFace]) -> Pointing:
    """Compares the points of each method with the regions of the test faces.

    Args:
        relevance (`np.ndarray` of shape `(N, K, P)`): Region relevance of the test faces.
        test (`Sequence[MovedFace]`): N test faces.
        train (`Sequence[MovedFace]`): Faces of other people, on which the best fixed place is chosen.
    """
    near = np.stack([face.near for face in test])  # (N, S, S)
    faces, size = np.arange(len(test)), near.shape[-1]
    movements = np.array([face.movement for face in test])
    points = points_of(relevance, size)  # (N, K, 2)
    right = near[faces[:, None], points[..., 0], points[..., 1]].astype(float)  # (N, K)
    kinds = np.arange(len(MOVEMENTS))
    parts = np.array([one.part for one in MOVEMENTS])
    others = kinds[None] != movements[:, None]
    elsewhere = parts[None] != parts[movements][:, None]
    fixed = np.unravel_index(np.mean([face.near for face in train], axis=0).argmax(), near.shape[1:])
    return Pointing(
        np.array([face.person for face in test]),
        movements,
        {
            MODEL: right[faces, movements],
            # The expected accuracy with the description of a random other movement.
            OTHER_WORDS: (right * others).sum(1) / others.sum(1),
            OTHER_PART: (right * elsewhere).sum(1) / elsewhere.sum(1),
            FIXED: near[:, fixed[0], fixed[1]].astype(float),
            CENTRE: near[:, size // 2, size // 2].astype(float),
        },
    )
