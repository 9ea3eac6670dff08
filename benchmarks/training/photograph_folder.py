"""Cropped photographs in a folder that `tgdfer train` reads, and this folder as a data set of a benchmark."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.loading import load_clips

# Photographs of each split. All test photographs are used.
NUMBERS = {"train": 6000, "validation": 2000}
_SPLITS = ("train", "validation", "test")


@dataclass
class PhotographFolder(BenchmarkDataset):
    """A folder of photographs. Each one is a clip of one frame, and counts as a different person."""

    def _load(self, split: str) -> LabelledClips:
        clips = load_clips(str(self.folder), split)
        return replace(clips, people=[f"{split} {file}" for file in clips.files], intensity=[[1.0]] * len(clips))


def photograph_folder(
    photographs: PhotographDataset, settings: Settings, folder: Path, numbers: Mapping[str, int] = NUMBERS
) -> PhotographFolder:
    """Returns the data set of cropped photographs. Its files are written if they do not exist yet.

    The photographs of a split are drawn at random, so the classes stay as frequent as they are.

    Args:
        photographs (`PhotographDataset`): The photographs.
        settings (`Settings`): Settings of the benchmark.
        folder (`Path`): Folder of the files `SPLIT/LABEL/ROW.png`.
        numbers (`Mapping[str, int]`, *optional*): Highest number of photographs of a split. By default `NUMBERS`.
    """
    if not folder.is_dir():
        unfinished = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        for split in _SPLITS:
            _write_split(photographs, split, unfinished, numbers.get(split))
        unfinished.rename(folder)
    return PhotographFolder("photographs", "photographs", folder, replace(settings, num_frames=1))


def _write_split(photographs: PhotographDataset, split: str, folder: Path, number: int | None) -> None:
    labels, rows = photographs.labels[split], photographs.rows[split]
    kept = set(np.random.default_rng(0).permutation(len(rows))[:number].tolist())
    index = 0
    for part in photographs.crops(split):
        for crop in part.crops:
            if index in kept:
                path = folder / split / labels[index] / f"{rows[index]}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(crop)
            index += 1
