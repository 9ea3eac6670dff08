"""Rendered videos for the search, with the action units of every frame, and their indexes."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.progress import track
from safetensors.numpy import load_file, save_file

from benchmarks.harness.benchmark_dataset import render_if_needed
from tgdfer import processing
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import FaceIndex
from tgdfer.training.files import source_hash
from tgdfer.training.rendered_faces import ACTION_UNITS, write_long_videos

# An action unit is visible from this intensity (0 to 1). The captions of `clip-tiny-faces` use the same limit.
VISIBLE = 0.35


@dataclass(frozen=True)
class Videos:
    """Number and length of the rendered videos.

    Attributes:
        seconds (`float`, *optional*, defaults to `60.0`): Length of each video in seconds.
        videos (`int`, *optional*, defaults to `16`): Number of videos, each of another person.
        seed (`int`, *optional*, defaults to `2`): Random seed. No other data set has people of this seed, and nothing
            was chosen with these videos.
    """

    seconds: float = 60.0
    videos: int = 16
    seed: int = 2


@dataclass(frozen=True)
class IndexedVideo:
    """A video that can be searched, with its ground truth.

    Attributes:
        path (`Path`): The video.
        index (`FaceIndex`): The index of its N frames.
        units (`np.ndarray` of shape `(N, A)`): Intensities of the action units in these frames.
    """

    path: Path
    index: FaceIndex
    units: np.ndarray


def render(work: Path, settings: Videos) -> Path:
    """Renders the videos, unless they exist and neither the renderer nor the settings have changed.

    Returns:
        `Path`: Folder of the videos and of their `metadata.jsonl`.
    """
    numbers = {"test": settings.videos}

    def write(folder: Path, workers: int, progress: Callable[[int, int], None]) -> None:
        write_long_videos(
            folder,
            settings.seconds,
            videos=numbers,
            people=numbers,
            seed=settings.seed,
            workers=workers,
            progress=progress,
        )

    return render_if_needed(work / "find", asdict(settings), write, "Rendering videos") / "test"


def index_videos(search: EmotionSearchPipeline, folder: Path, weights: str, work: Path) -> list[IndexedVideo]:
    """Indexes the videos of a folder with the defaults of the pipeline. The indexes are kept on disk.

    Args:
        search (`EmotionSearchPipeline`): The pipeline.
        folder (`Path`): Folder of the videos and of their `metadata.jsonl`.
        weights (`str`): Hash of the weights of the model.
        work (`Path`): Folder of the indexes.
    """
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    key = hashlib.sha256(json.dumps([lines, weights, source_hash(processing)]).encode()).hexdigest()[:16]
    found = []
    for line in track(lines, "Indexing videos", console=get_console(), transient=True):
        row = json.loads(line)
        path = folder / row["file_name"]
        cached = work / "find_indexes" / f"{key}-{path.stem}.safetensors"
        if not cached.is_file():
            _write(cached, search.index(str(path)).to_tensors())
        index = FaceIndex.from_tensors(load_file(cached))
        found.append(IndexedVideo(path, index, units_of(row)[index.frames]))
    return found


def people_of(videos: Sequence[IndexedVideo]) -> np.ndarray:
    """Returns the index of the person in each frame of all videos. Each video shows another person."""
    return np.repeat(np.arange(len(videos)), [len(video.index) for video in videos])


def units_of(row: dict[str, Any]) -> np.ndarray:
    """Returns the intensities (T, A) of the action units in all frames of a video, from its row of the metadata."""
    return np.stack([row["action_units"][name] for name in ACTION_UNITS], axis=1)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(arrays, temporary)
    os.replace(temporary, path)
