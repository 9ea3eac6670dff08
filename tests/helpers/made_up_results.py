"""Made-up frames, data sets and rows for tests of the benchmarks."""

import time

import torch

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, GroundTruth, Settings
from benchmarks.harness.row import Row
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.features import FrameFeatures

LABELS = ["happiness", "neutral", "sadness"]
FAR = time.monotonic() + 1e6  # an end that no test reaches


def bags(frames: torch.Tensor, mask: torch.Tensor | None = None) -> FrameFeatures:
    """Cached frames (V, N, T, D) of made-up clips."""
    mask = torch.ones(frames.shape[:3], dtype=torch.bool) if mask is None else mask
    return FrameFeatures(frames, mask, torch.zeros(mask.shape))


def separable(clips=40, classes=2, frames=8) -> tuple[FrameFeatures, torch.Tensor]:
    """Noise in two views, but for two frames of each clip, which point to its class."""
    targets = torch.arange(clips) % classes
    noise = torch.randn(2, clips, frames, 12)
    noise[:, torch.arange(clips), 3, targets] += 8
    noise[:, torch.arange(clips), 4, targets] += 8
    return bags(noise), targets


def pixels(dataset: BenchmarkDataset) -> dict[str, torch.Tensor]:
    data = ClipDataset(dataset.test, dataset.classes, dataset.network[1].video_processor, 4)
    return data.collate([data[index] for index in range(len(data))])


class FakeDataset:
    """What the runner needs of a data set."""

    name, title = "fake", "fake clips"
    fingerprint, identity = "clips", "clips and weights"
    settings = Settings(num_frames=2)
    truth = GroundTruth(LABELS, LABELS, ["a", "b", "a"], [[1.0, 0.0]] * 3)
    classes = LABELS

    def __init__(self, **changes):
        known = {"people": ["a", "b", "a"], "labels": LABELS, "classes": LABELS}
        self.train = self.test = type("Three", (), {**known, "__len__": lambda _: 3})()
        self.people = self.train.people
        self.__dict__.update(changes)

    def require_complete(self) -> None:
        pass


def row(ran: list[str], name="row", parts=("seed 0", "seed 1"), fails_at=None, **config) -> Row:
    """A row that notes which parts have run."""

    def run(part, earlier, folder):
        if part == fails_at:
            raise KeyboardInterrupt
        ran.append(part)
        folder.mkdir(parents=True)
        return {"predicted": LABELS, "scores": [[1.0, 0.0]] * 3, "before": len(earlier)}

    return Row(name, name, parts, run, config)
