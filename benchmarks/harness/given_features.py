"""Frame features of another net from a file, as a ground to measure heads on."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness.ground import Ground, Settings, Truth
from tgdfer.training.errors import UserError
from tgdfer.training.features import FrameFeatures

# What a file of features says; the frames of a clip are evenly spaced.
_FIELDS = ("frame_features", "label", "split", "person", "intensity")
_INTERVAL = 0.125


@dataclass(frozen=True)
class Clips:
    """What is known of N clips of which the frames have been seen already.

    Attributes:
        labels: of each clip.
        people: who is seen in it.
        intensity: of its frames, for measuring alone.
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
class FeatureGround:
    """Frames as another net has seen them, without videos or texts: it measures heads alone.

    It stands in for a `benchmark.Ground` wherever frames are looked at by features alone.

    Args:
        path: `.npz` with `frame_features` (N, T, D), `label` (N,), `split` (N,) of "train" and "test", `person` (N,)
            and `intensity` (N, T).
        settings: of the benchmark.

    Raises:
        UserError: if it cannot be read, or lacks an array.
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
            raise UserError(f"{self.path} lacks the array {missing[0]!r}; it must hold {', '.join(_FIELDS)}.")

    @cached_property
    def train(self) -> Clips:
        return self._clips("train")

    @cached_property
    def test(self) -> Clips:
        return self._clips("test")

    def _clips(self, split: str) -> Clips:
        taken = self.arrays["split"] == split
        labels, people = ([str(value) for value in self.arrays[name][taken]] for name in ("label", "person"))
        return Clips(labels, people, self.arrays["intensity"][taken].astype(float).tolist())

    @property
    def classes(self) -> list[str]:
        return self.train.classes

    @property
    def people(self) -> list[str]:
        """Who is seen in each training clip."""
        return self.train.people

    @property
    def width(self) -> int:
        """D of the features."""
        return self.arrays["frame_features"].shape[-1]

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """The features, in a single view."""
        features = torch.from_numpy(self.arrays["frame_features"][self.arrays["split"] == split])[None]
        mask = torch.ones(features.shape[:3], dtype=torch.bool)
        seconds = (torch.arange(features.shape[2]) * _INTERVAL).expand(mask.shape).contiguous()
        return FrameFeatures(features, mask, seconds)

    @cached_property
    def truth(self) -> Truth:
        """Of the test clips."""
        return Truth(self.classes, self.test.labels, self.test.people, self.test.intensity)

    @cached_property
    def identity(self) -> str:
        """Hash of all that is known: rows of one identity may be compared."""
        digest = hashlib.sha256()
        for name, values in sorted(self.arrays.items()):
            digest.update(json.dumps([name, str(values.dtype), values.shape]).encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


AnyGround = Ground | FeatureGround
