"""Data set of frame features from a file, for measuring heads without videos."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, GroundTruth, Settings
from tgdfer.training.errors import UserError
from tgdfer.training.features import FrameFeatures

# Arrays in a file of features.
_FIELDS = ("frame_features", "label", "split", "person", "intensity")
# Assumed time between frames, in seconds.
_INTERVAL = 0.125


@dataclass(frozen=True)
class ClipTable:
    """Labels, people and intensities of N clips without their videos.

    Attributes:
        labels (`list[str]`): Label of each clip.
        people (`list[str]`): Name of the person in each clip.
        intensity (`list[list[float]]`): Intensity (0 to 1) of the frames of each clip. It is used only for measuring.
    """

    labels: list[str]
    people: list[str]
    intensity: list[list[float]]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> list[str]:
        return sorted(set(self.labels))


@dataclass
class FeatureDataset:
    """Frame features of another network, without videos and texts.

    It replaces a `BenchmarkDataset` for rows that need only frame features.

    Args:
        path (`Path`): `.npz` file with the arrays `frame_features` (N, T, D), `label` (N,), `split` (N,) ("train" or
            "test"), `person` (N,) and `intensity` (N, T).
        settings (`Settings`): Settings of the benchmark.

    Raises:
        UserError: If the file cannot be read, or lacks an array.
    """

    path: Path
    settings: Settings
    name: str = "features"
    title: str = "given features"
    arrays: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                self.arrays = {name: file[name] for name in _FIELDS if name in file}
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path} cannot be read as an .npz file ({error}).") from error
        if missing := [name for name in _FIELDS if name not in self.arrays]:
            raise UserError(f"{self.path} lacks the array {missing[0]!r}; it must contain {', '.join(_FIELDS)}.")

    @cached_property
    def train(self) -> ClipTable:
        return self._clips("train")

    @cached_property
    def test(self) -> ClipTable:
        return self._clips("test")

    def require_complete(self) -> None:
        """Does nothing, because the constructor has already read and checked the file."""

    def _clips(self, split: str) -> ClipTable:
        in_split = self.arrays["split"] == split
        labels, people = ([str(value) for value in self.arrays[name][in_split]] for name in ("label", "person"))
        return ClipTable(labels, people, self.arrays["intensity"][in_split].astype(float).tolist())

    @property
    def classes(self) -> list[str]:
        return self.train.classes

    @property
    def people(self) -> list[str]:
        """Name of the person in each training clip."""
        return self.train.people

    @property
    def width(self) -> int:
        """Width D of the features."""
        return self.arrays["frame_features"].shape[-1]

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """Returns the features of a split in one view. The seed is ignored."""
        features = torch.from_numpy(self.arrays["frame_features"][self.arrays["split"] == split])[None]
        mask = torch.ones(features.shape[:3], dtype=torch.bool)
        seconds = (torch.arange(features.shape[2]) * _INTERVAL).expand(mask.shape).contiguous()
        return FrameFeatures(features, mask, seconds)

    @cached_property
    def truth(self) -> GroundTruth:
        """Ground truth of the test clips."""
        return GroundTruth(self.classes, self.test.labels, self.test.people, self.test.intensity)

    @cached_property
    def identity(self) -> str:
        """Hash of all arrays. Rows with the same identity can be compared."""
        digest = hashlib.sha256()
        for name, values in sorted(self.arrays.items()):
            digest.update(json.dumps([name, str(values.dtype), values.shape]).encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


AnyDataset = BenchmarkDataset | FeatureDataset
