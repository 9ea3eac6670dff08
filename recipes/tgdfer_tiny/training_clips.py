"""The clips that `tgdfer-tiny` learns from, as frame features: photographs, bags of photographs, and videos."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tgdfer.training.data.batches import derived_seed
from tgdfer.training.features import FeatureDataset

# A photograph belongs into a bag if at least this share of the votes is for its emotion.
_AGREED = 0.6
# Seconds between the photographs of a bag.
_INTERVAL = 0.25


class Clip(NamedTuple):
    """The T frames of a clip.

    Attributes:
        features: float32 (T, D).
        timestamps: float32 (T,), seconds.
        label: its class.
    """

    features: Tensor
    timestamps: Tensor
    label: int


class ClipSource(Protocol):
    """Where clips come from."""

    targets: list[int]

    def clip(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip at `index`, or another one of this kind that `rng` chooses."""
        ...


class Photographs:
    """Photographs as clips of one frame, each with a label that is drawn by the votes for it.

    Args:
        features: (V, N, D) float16, V views of N photographs, any of which may be seen.
        votes: (N, K) shares of the votes; rows sum to one.
        count: Number that is drawn for an epoch; None sees each once.
        balance: They are drawn by the frequency of their class to the power of minus this.
    """

    def __init__(self, features: Tensor, votes: np.ndarray, count: int | None = None, balance: float = 0.0) -> None:
        self.features, self.votes, self.drawn = features, votes, count is not None
        classes = votes.argmax(1)
        frequency = np.bincount(classes, minlength=votes.shape[1])[classes].astype(float)
        self.chances = (frequency**-balance).cumsum()
        self.targets: list[int] = np.resize(classes, len(classes) if count is None else count).tolist()

    def clip(self, index: int, rng: np.random.Generator) -> Clip:
        row = index
        if self.drawn:
            row = int(np.searchsorted(self.chances, rng.random() * self.chances[-1]))
        label = int((self.votes[row].cumsum() < rng.random()).sum())
        view = int(rng.integers(len(self.features)))
        return Clip(self.features[view, row].float()[None], torch.zeros(1), min(label, self.votes.shape[1] - 1))


class Bags:
    """Bags of photographs: some show an emotion, the others are neutral, as the frames of a weakly labelled clip.

    Which photographs are in a bag is drawn anew every time. Those that show the emotion stand together.

    Args:
        features: (V, N, D) float16, V views of N photographs.
        votes: (N, K) shares of the votes.
        neutral: Index of the neutral class, whose bags hold nothing else.
        count: Number of bags, equally many of each class.
        frames: Photographs in a bag.
    """

    def __init__(self, features: Tensor, votes: np.ndarray, neutral: int, count: int, frames: int = 16) -> None:
        self.features, self.neutral, self.frames = features, neutral, frames
        self.members = [np.flatnonzero(of_class >= _AGREED) for of_class in votes.T]
        self.targets: list[int] = [number % len(self.members) for number in range(count)]

    def clip(self, index: int, rng: np.random.Generator) -> Clip:
        label = self.targets[index]
        rows = rng.choice(self.members[self.neutral], self.frames)
        if label != self.neutral:
            length = int(rng.integers(1, self.frames * 3 // 4 + 1))
            start = int(rng.integers(0, self.frames - length + 1))
            rows[start : start + length] = rng.choice(self.members[label], length)
        views = rng.integers(len(self.features), size=self.frames)
        seen = self.features[torch.from_numpy(views), torch.from_numpy(rows)].float()
        return Clip(seen, _INTERVAL * torch.arange(self.frames), label)


class Videos:
    """Clips of video files.

    Args:
        clips: Their cached features; any view of a clip may be seen.
        repeats: How often each clip is seen in an epoch.
        repeats_of: The same for the clips of some classes.
        doubt: Share of the times in which the label is one of the classes that occur, drawn at random.
    """

    def __init__(
        self,
        clips: FeatureDataset,
        repeats: int = 1,
        repeats_of: Mapping[int, int] | None = None,
        doubt: float = 0.0,
    ) -> None:
        self.clips, self.doubt = clips, doubt
        self.classes = sorted(set(clips.targets))
        often = [(repeats_of or {}).get(target, repeats) for target in clips.targets]
        self.rows = [row for row, times in enumerate(often) for _ in range(times)]
        self.targets: list[int] = [clips.targets[row] for row in self.rows]

    def clip(self, index: int, rng: np.random.Generator) -> Clip:
        place = self.clips.indices[self.rows[index]]
        features = self.clips.features
        view = int(rng.integers(len(features.features))) if self.clips.training else 0
        mask = features.frame_mask[view, place]
        seen, seconds = features.features[view, place][mask].float(), features.timestamps[view, place][mask]
        label = int(rng.choice(self.classes)) if rng.random() < self.doubt else self.targets[index]
        return Clip(seen, seconds, label)


class MixedClips(Dataset):
    """Clips of several sources, padded to the same number of frames.

    What is seen follows from (seed, epoch, index) alone.

    Args:
        sources: Where the clips come from.
        seed: Decides all that is drawn.
        frames: Frames of a clip.
    """

    def __init__(self, sources: Sequence[ClipSource], seed: int = 0, frames: int = 16) -> None:
        self.sources, self.seed, self.frames, self.epoch = sources, seed, frames, 0
        self.targets = [target for source in sources for target in source.targets]
        self.places = [(number, row) for number, source in enumerate(sources) for row in range(len(source.targets))]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, row = self.places[index]
        rng = np.random.default_rng(derived_seed(self.seed, self.epoch, index))
        clip = self.sources[number].clip(row, rng)
        count = len(clip.features)
        features, timestamps = torch.zeros(self.frames, clip.features.shape[-1]), torch.zeros(self.frames)
        features[:count], timestamps[:count] = clip.features, clip.timestamps
        return {
            "frame_features": features,
            "frame_mask": torch.arange(self.frames) < count,
            "timestamps": timestamps,
            "labels": torch.tensor(clip.label),
        }
