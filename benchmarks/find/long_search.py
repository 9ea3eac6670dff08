"""The time of a search in many hours of video, and the size of the indexes."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import FaceIndex

PHRASES = ("raised brows", "eyes closed", "a broad smile")
_REPEATS = 5


@dataclass(frozen=True)
class SearchTime:
    """Time of a search in indexes on disk: reading them, encoding the phrases, scores and moments.

    Attributes:
        hours (`float`): Duration of the videos.
        frames (`int`): Number of frames in the indexes.
        megabytes (`float`): Size of the indexes of an hour on disk, in units of 10^6 bytes.
        seconds (`float`): Shortest time of several searches.
        slowest (`float`): Longest time of them.
        cpu_seconds (`float`): Shortest processor time of them, summed over all cores.
        threads (`int`): Number of threads of PyTorch.
    """

    hours: float
    frames: int
    megabytes: float
    seconds: float
    slowest: float
    cpu_seconds: float
    threads: int


def measure_time(search: EmotionSearchPipeline, indexes: Sequence[FaceIndex], hours: float, work: Path) -> SearchTime:
    """Writes indexes of recordings of at most one hour, made by repeating short ones, and searches in them.

    Args:
        search (`EmotionSearchPipeline`): The pipeline.
        indexes (`Sequence[FaceIndex]`): Indexes of short videos.
        hours (`float`): Total duration.
        work (`Path`): Folder for the indexes, which are deleted at the end.
    """
    folder = work / "find_long"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        recording = joined(indexes, min(hours, 1.0) * 3600)
        paths = [folder / f"{number}.safetensors" for number in range(max(1, round(hours)))]
        for path in paths:
            save_file(recording.to_tensors(), path)
        wall, cpu = [], []
        for _ in range(_REPEATS):
            start, used = time.perf_counter(), time.process_time()
            search([FaceIndex.from_tensors(load_file(path)) for path in paths], phrases=list(PHRASES))
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
        megabytes = paths[0].stat().st_size / 1e6 / (recording.duration / 3600)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    total = recording.duration * len(paths) / 3600
    frames = len(recording) * len(paths)
    return SearchTime(total, frames, megabytes, min(wall), max(wall), min(cpu), torch.get_num_threads())


def joined(indexes: Sequence[FaceIndex], seconds: float) -> FaceIndex:
    """Returns the index of a recording that shows short videos one after the other, until it is long enough.

    Each of them shows another person.
    """
    parts: list[FaceIndex] = []
    length = 0.0
    while length < seconds:
        index, later = indexes[len(parts) % len(indexes)], np.float32(length)
        people = np.full(len(index), len(parts) + 1, np.int32)
        parts.append(replace(index, spans=index.spans + later, seconds=index.seconds + later, people=people))
        length += index.duration
    names = ("embeddings", "spans", "seconds", "frames", "people", "boxes")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return FaceIndex(**arrays, duration=length)
