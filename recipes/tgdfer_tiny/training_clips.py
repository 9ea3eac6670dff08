"""Training clips of `tgdfer-tiny` as frame features: photographs, bags of photographs, and videos."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tgdfer.training.data.batches import derived_seed
from tgdfer.training.features import FeatureDataset

# A photograph is used in bags if at least this share of its votes is for one class.
_MIN_VOTES = 0.6
# Time between the photographs of a bag, in seconds.
_INTERVAL = 0.25


class ClipFeatures(NamedTuple):
    """Features of the T frames of a clip.

    Attributes:
        features (`torch.Tensor` of shape `(T, D)`): Float32 features of the frames.
        timestamps (`torch.Tensor` of shape `(T,)`): Times in seconds, float32.
        label (`int`): Class index of the clip.
    """

    features: Tensor
    timestamps: Tensor
    label: int


class ClipSource(Protocol):
    """Interface of a source of clips.

    Attributes:
        targets (`list[int]`): Class index of each clip.
    """

    targets: list[int]

    def clip(self, index: int, rng: np.random.Generator) -> ClipFeatures:
        """Returns the clip at `index`, or a random clip of the source."""
        ...


class Photographs:
    """Photographs as clips of one frame. The label of a photograph is drawn from its votes.

    Args:
        features (`torch.Tensor` of shape `(V, N, D)`): Float16 features of V views of N photographs. A random view is
            used.
        votes (`np.ndarray` of shape `(N, K)`): Shares of the votes. Rows sum to one.
        count (`int`, *optional*): Number of randomly drawn photographs per epoch. None uses each photograph once.
        balance (`float`, *optional*, defaults to `0.0`): Photographs are drawn with the frequency of their class to
            the power of `-balance`.
    """

    def __init__(self, features: Tensor, votes: np.ndarray, count: int | None = None, balance: float = 0.0) -> None:
        self.features, self.votes, self.is_random = features, votes, count is not None
        classes = votes.argmax(1)
        frequency = np.bincount(classes, minlength=votes.shape[1])[classes].astype(float)
        self.cumulative_weights = (frequency**-balance).cumsum()
        self.targets: list[int] = np.resize(classes, len(classes) if count is None else count).tolist()

    def clip(self, index: int, rng: np.random.Generator) -> ClipFeatures:
        row = index
        if self.is_random:
            row = int(np.searchsorted(self.cumulative_weights, rng.random() * self.cumulative_weights[-1]))
        label = int((self.votes[row].cumsum() < rng.random()).sum())
        view = int(rng.integers(len(self.features)))
        return ClipFeatures(
            self.features[view, row].float()[None], torch.zeros(1), min(label, self.votes.shape[1] - 1)
        )


class PhotographBags:
    """Bags of photographs in which some show an emotion and the others are neutral, like frames of a clip.

    The photographs of a bag are drawn again in every epoch. Those that show the emotion are consecutive.

    Args:
        features (`torch.Tensor` of shape `(V, N, D)`): Float16 features of V views of N photographs.
        votes (`np.ndarray` of shape `(N, K)`): Shares of the votes.
        neutral (`int`): Index of the neutral class. Its bags contain only neutral photographs.
        count (`int`): Number of bags, equally many for each class.
        frames (`int`, *optional*, defaults to `16`): Number of photographs per bag.
    """

    def __init__(self, features: Tensor, votes: np.ndarray, neutral: int, count: int, frames: int = 16) -> None:
        self.features, self.neutral, self.frames = features, neutral, frames
        self.members = [np.flatnonzero(class_votes >= _MIN_VOTES) for class_votes in votes.T]
        self.targets: list[int] = [number % len(self.members) for number in range(count)]

    def clip(self, index: int, rng: np.random.Generator) -> ClipFeatures:
        label = self.targets[index]
        rows = rng.choice(self.members[self.neutral], self.frames)
        if label != self.neutral:
            length = int(rng.integers(1, self.frames * 3 // 4 + 1))
            start = int(rng.integers(0, self.frames - length + 1))
            rows[start : start + length] = rng.choice(self.members[label], length)
        views = rng.integers(len(self.features), size=self.frames)
        features = self.features[torch.from_numpy(views), torch.from_numpy(rows)].float()
        return ClipFeatures(features, _INTERVAL * torch.arange(self.frames), label)


class VideoClips:
    """Clips of video files.

    Args:
        clips (`FeatureDataset`): Cached features of the clips. A random view of a clip is used in training.
        repeats (`int`, *optional*, defaults to `1`): Number of times that each clip is used per epoch.
        class_repeats (`Mapping[int, int]`, *optional*): The same for the clips of some classes, by class index.
        label_noise (`float`, *optional*, defaults to `0.0`): Probability with which the label is replaced by a random
            class among those that occur.
    """

    def __init__(
        self,
        clips: FeatureDataset,
        repeats: int = 1,
        class_repeats: Mapping[int, int] | None = None,
        label_noise: float = 0.0,
    ) -> None:
        self.clips, self.label_noise = clips, label_noise
        self.classes = sorted(set(clips.targets))
        counts = [(class_repeats or {}).get(target, repeats) for target in clips.targets]
        self.rows = [row for row, count in enumerate(counts) for _ in range(count)]
        self.targets: list[int] = [clips.targets[row] for row in self.rows]

    def clip(self, index: int, rng: np.random.Generator) -> ClipFeatures:
        clip = self.clips.indices[self.rows[index]]
        features = self.clips.features
        view = int(rng.integers(len(features.features))) if self.clips.training else 0
        mask = features.frame_mask[view, clip]
        frames, seconds = features.features[view, clip][mask].float(), features.timestamps[view, clip][mask]
        label = int(rng.choice(self.classes)) if rng.random() < self.label_noise else self.targets[index]
        return ClipFeatures(frames, seconds, label)


class MixedSources(Dataset):
    """Clips of several sources, padded to the same number of frames.

    The item at an index depends only on the seed, the epoch and the index.

    Args:
        sources (`Sequence[ClipSource]`): Sources of the clips.
        seed (`int`, *optional*, defaults to `0`): Random seed.
        frames (`int`, *optional*, defaults to `16`): Number of frames per clip.
    """

    def __init__(self, sources: Sequence[ClipSource], seed: int = 0, frames: int = 16) -> None:
        self.sources, self.seed, self.frames, self.epoch = sources, seed, frames, 0
        self.targets = [target for source in sources for target in source.targets]
        self.locations = [(number, row) for number, source in enumerate(sources) for row in range(len(source.targets))]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, row = self.locations[index]
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
