"""Bags of photographs as a data set of a benchmark: a few show the label of the bag, and the others are neutral."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings
from benchmarks.harness.feature_dataset import ClipTable
from benchmarks.real_faces.photographs import PhotographDataset, frequent
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.errors import UserError
from tgdfer.training.features import FrameFeatures
from tgdfer.training.models import start_model

# Name of the folder of results.
BAGS = "bags"
# Photographs of a bag, and how many of them show its label. All photographs of a neutral bag are neutral.
SIZE, SHOWN = 16, 4
# For each split, the number of groups and the number of bags of each label in a group.
GROUPS = {"train": (20, 5), "test": (1, 50)}


@dataclass(frozen=True)
class Bag:
    """A bag of photographs.

    Attributes:
        label (`str`): Label of the bag.
        group (`int`): Group of the bag. Bags of different groups have no photograph in common.
        photographs (`list[int]`): Indices of the photographs in their split, in the order of the bag.
        shown (`list[bool]`): Whether each photograph shows the label. False in neutral bags.
    """

    label: str
    group: int
    photographs: list[int]
    shown: list[bool]


@dataclass
class PhotographBags(BenchmarkDataset):
    """Bags of photographs of FER+ in random order.

    Photographs of different people are mixed, so the bags say nothing about time. The labels are those with enough
    test photographs. All photographs of a bag are different. A photograph is in a second bag only after all
    photographs of its label and its group are in one. Training bags belong to groups without common photographs, which
    take the place of people in cross-validation. Every test bag counts as a person.

    Args:
        photographs (`PhotographDataset`): The photographs.
        groups (`dict[str, tuple[int, int]]`): For each split, the number of groups and the number of bags of each
            label in a group.
    """

    photographs: PhotographDataset
    groups: dict[str, tuple[int, int]]

    @cached_property
    def bags(self) -> dict[str, list[Bag]]:
        """The bags of each split.

        Raises:
            UserError: If there are too few photographs.
        """
        labels = frequent(self.photographs.labels["test"])
        if "neutral" not in labels or len(labels) < 2:
            raise UserError(
                f"{self.photographs.path} has too few test photographs of neutral faces or of an emotion: give another"
                " file to --photographs."
            )
        return {split: self._draw(split, labels) for split in self.groups}

    def _draw(self, split: str, labels: Sequence[str]) -> list[Bag]:
        rng = np.random.default_rng(0)
        number, bags = self.groups[split]
        known = np.array(self.photographs.labels[split])
        pools = {label: rng.permutation(np.flatnonzero(known == label)) for label in labels}
        if small := [name for name in labels if len(pools[name]) < number * (SIZE if name == "neutral" else SHOWN)]:
            raise UserError(
                f"{self.photographs.path} has too few photographs of {small[0]!r} in the split {split!r}: give another"
                " file to --photographs."
            )
        drawn = []
        for group in range(number):
            decks = {label: _Deck(pool[group::number], rng) for label, pool in pools.items()}
            drawn += [_bag(label, group, decks, rng) for label in labels for _ in range(bags)]
        return drawn

    def require_complete(self) -> None:
        """Draws the bags, so that a lack of photographs is found before any training starts."""
        _ = self.bags

    @cached_property
    def train(self) -> Any:
        return _table(self.bags["train"], [f"group {bag.group}" for bag in self.bags["train"]])

    @cached_property
    def test(self) -> Any:
        return _table(self.bags["test"], [f"bag {index}" for index in range(len(self.bags["test"]))])

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model with a frozen CLIP, and its processor."""
        return start_model(self.config(frozen_features=True).model, self.classes)

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """Returns the features of the photographs of the bags of a split, in one view. The seed is ignored."""
        photographs = torch.tensor([bag.photographs for bag in self.bags[split]])
        features = self.photographs.features(split).features[:, photographs, 0]
        seconds = torch.arange(SIZE) * self.network[0].config.frame_interval
        mask = torch.ones(features.shape[:3], dtype=torch.bool)
        return FrameFeatures(features, mask, seconds.expand(mask.shape).contiguous())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the file of photographs and of the bags."""
        drawn = {split: [bag.photographs for bag in bags] for split, bags in self.bags.items()}
        facts = [self.photographs.fingerprint, drawn, self.train.labels, self.people, self.test.labels]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class _Deck:
    """Photographs of one label and one group, from which bags are drawn."""

    def __init__(self, photographs: np.ndarray, rng: np.random.Generator) -> None:
        self.photographs, self.rng = photographs, rng
        self.uses = np.zeros(len(photographs), int)

    def draw(self, number: int) -> list[int]:
        """Draws different photographs at random among those that were drawn least often."""
        chosen = np.lexsort((self.rng.random(len(self.uses)), self.uses))[:number]
        self.uses[chosen] += 1
        return self.photographs[chosen].tolist()


def _bag(label: str, group: int, decks: dict[str, _Deck], rng: np.random.Generator) -> Bag:
    number = 0 if label == "neutral" else SHOWN
    photographs = decks[label].draw(number) + decks["neutral"].draw(SIZE - number)
    order = rng.permutation(SIZE)
    return Bag(label, group, [photographs[index] for index in order], (order < number).tolist())


def _table(bags: Sequence[Bag], people: list[str]) -> ClipTable:
    intensity = [[float(shown) for shown in bag.shown] for bag in bags]
    return ClipTable([bag.label for bag in bags], people, intensity)


def photograph_bags(
    photographs: PhotographDataset, settings: Settings, groups: dict[str, tuple[int, int]] | None = None
) -> PhotographBags:
    """Returns the data set of bags of photographs. They have one view.

    Args:
        photographs (`PhotographDataset`): The photographs.
        settings (`Settings`): Settings of the benchmark.
        groups (`dict[str, tuple[int, int]]`, *optional*): As in `PhotographBags`, by default `GROUPS`.
    """
    settings = replace(settings, views=1, num_frames=SIZE)
    return PhotographBags(BAGS, "bags of photographs", photographs.path, settings, photographs, groups or GROUPS)
