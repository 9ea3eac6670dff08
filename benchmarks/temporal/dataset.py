"""The pairs as a data set of a benchmark: their labels, people and curves, and the features of their frames."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.progress import track
from torch import Tensor

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings
from benchmarks.harness.feature_dataset import ClipTable
from benchmarks.harness.provenance import code_hash
from benchmarks.temporal import pairs
from benchmarks.temporal.pairs import FRAMES, INTERVAL, LABELS, Pair, sample_pairs
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training import rendered_faces
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.models import start_model

# People of each split, and pairs of each kind for every person.
PEOPLE = {"train": (60, 2), "test": (40, 2)}


@dataclass
class PairDataset(BenchmarkDataset):
    """Pairs of clips of the same frames. Both clips of a pair follow each other.

    The frames are drawn and encoded once for each pair and then put into the order of each clip, so both clips have
    exactly the same features.

    Args:
        people_of (`dict`): For each split, the number of people, and of pairs of each kind for every person.
    """

    people_of: dict[str, tuple[int, int]]

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of a split."""
        return list(sample_pairs(split, *self.people_of[split]))

    @cached_property
    def train(self) -> Any:
        return _clips(self.pairs("train"))

    @cached_property
    def test(self) -> Any:
        return _clips(self.pairs("test"))

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model on the frozen CLIP, and its processor."""
        return start_model(self.config(frozen_features=True).model, list(LABELS))

    @cached_property
    def _features(self) -> dict[str, FrameFeatures]:
        return {split: self._encode(self.pairs(split), f"Drawing {split} pairs") for split in self.people_of}

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """The features of the clips of a split, in one view. They do not depend on the seed."""
        return self._features[split]

    @torch.no_grad()
    def _encode(self, drawn: Sequence[Pair], text: str) -> FrameFeatures:
        model, processor = self.network
        features: list[Tensor] = []
        for pair in track(drawn, text, console=get_console()):
            video = torch.from_numpy(pair.draw(self.settings.faces)).permute(0, 3, 1, 2)
            pixels = processor.video_processor(video, num_frames=FRAMES, face_crop="none", return_tensors="pt")
            frames = model.get_frame_features(pixels["pixel_values_videos"])[0].half()
            features += [frames[torch.from_numpy(order)] for _, order in pair.clips]
        seconds = torch.arange(FRAMES) * INTERVAL
        return FrameFeatures(
            torch.stack(features)[None],
            torch.ones(1, len(features), FRAMES, dtype=torch.bool),
            seconds.expand(1, len(features), FRAMES).contiguous(),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the frames and their order."""
        facts = [source_hash(rendered_faces), code_hash(pairs), asdict(self.settings.faces), self.people_of]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _clips(listed: Iterable[Pair]) -> ClipTable:
    labels, people, intensity = [], [], []
    for pair in listed:
        for label, order in pair.clips:
            labels.append(label)
            people.append(pair.person)
            intensity.append(pair.levels[order].tolist())
    return ClipTable(labels, people, intensity)


def pair_dataset(settings: Settings, people: dict[str, tuple[int, int]] | None = None) -> PairDataset:
    """The pairs of rendered clips."""
    return PairDataset("pairs", "pairs of the same frames", Path("pairs"), settings, people or PEOPLE)
