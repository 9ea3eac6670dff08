"""Inspecting the clips of a data set: whether they can be read, their frames, and what they show."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.processing.frame_sampling_tgdfer import Sampling
from tgdfer.processing.video_reading_tgdfer import IMAGE_FORMATS, IMAGE_SUFFIXES, read
from tgdfer.processing.video_source_tgdfer import VideoDecodeError
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data_check.hashes import FRAMES, content_hash, perceptual_hash, thumbnails
from tgdfer.training.face_crops.cut_clip import use_one_thread
from tgdfer.training.face_crops.workers import run_jobs

# Below this number of clips, starting processes takes longer than inspecting the clips in this one.
MIN_PARALLEL = 64


@dataclass(frozen=True)
class ClipJob:
    """A clip to inspect.

    Attributes:
        split (`str`): Name of its split.
        index (`int`): Its index in the split.
        video (`str` or `bytes`): Its path or its bytes.
    """

    split: str
    index: int
    video: str | bytes


@dataclass(frozen=True)
class ClipFacts:
    """What was found out about a clip.

    Attributes:
        split (`str`): Name of its split.
        index (`int`): Its index in the split.
        error (`str`): Why it cannot be read. Empty if it can.
        frames (`int`): Number of its frames.
        content (`str`): Hash of its bytes.
        perceptual (`np.ndarray` of shape `(8, 1)`, *optional*): Perceptual hash.
        thumbnails (`np.ndarray` of shape `(8, 16, 16)`, *optional*): Small pictures of its frames.
    """

    split: str
    index: int
    error: str = ""
    frames: int = 0
    content: str = ""
    perceptual: np.ndarray | None = None
    thumbnails: np.ndarray | None = None


def inspect_clips(splits: dict[str, LabelledClips], workers: int) -> dict[str, list[ClipFacts]]:
    """Inspects all clips.

    Args:
        splits (`dict[str, LabelledClips]`): The clips of each split.
        workers (`int`): Number of processes. A few clips are inspected in this process.

    Returns:
        The facts of each clip, in the order of the clips.
    """
    total = sum(map(len, splits.values()))
    found: dict[str, dict[int, ClipFacts]] = {split: {} for split in splits}
    columns = (TextColumn("Reading clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=get_console(), transient=True) as bar:
        task = bar.add_task("", total=total)
        jobs = _Jobs(splits)
        for facts in run_jobs(inspect_clip, jobs, workers if total >= MIN_PARALLEL else 1, _crashed, use_one_thread):
            found[facts.split][facts.index] = facts
            bar.advance(task)
    return {split: [facts[index] for index in sorted(facts)] for split, facts in found.items()}


def inspect_clip(job: ClipJob) -> ClipFacts:
    """Inspects a clip. Frames that are spread evenly over the clip are decoded."""
    try:
        _require_whole_frames(job.video)
        clip = read(job.video, _evenly)
        frames = clip.frames
        pixels = frames.numpy() if frames.shape[1] == 3 else frames[:, :1].expand(-1, 3, -1, -1).numpy()
        if pixels.dtype != np.uint8:
            pixels = np.clip(pixels * (255 if clip.is_unit_range else 1), 0, 255).astype(np.uint8)
        total = int(clip.metadata.total_num_frames)
        found = (content_hash(job.video), perceptual_hash(pixels), thumbnails(pixels))
        return ClipFacts(job.split, job.index, "", total, *found)
    except VideoDecodeError as error:
        return ClipFacts(job.split, job.index, str(error))
    except OSError as error:
        return ClipFacts(job.split, job.index, f"It cannot be read ({error.strerror or error}).")


class _Jobs(Sequence[ClipJob]):
    """The jobs of all clips. Embedded videos are read only when their turn comes."""

    def __init__(self, splits: dict[str, LabelledClips]) -> None:
        self.splits = splits
        self.places = [(split, index) for split, clips in splits.items() for index in range(len(clips))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        split, index = self.places[place]
        return ClipJob(split, index, self.splits[split].video(index))

    def __iter__(self) -> Iterator[ClipJob]:
        return (self[place] for place in range(len(self)))


def _require_whole_frames(video: str | bytes) -> None:
    """Reads the header of every frame of a folder, because only some frames are decoded.

    Raises:
        VideoDecodeError: If a frame is damaged.
    """
    if isinstance(video, bytes) or not os.path.isdir(video):
        return
    for entry in os.scandir(video):
        path = Path(entry)
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name[0] == ".":
            continue
        try:
            with Image.open(path, formats=IMAGE_FORMATS):
                pass
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoDecodeError(f"The frame {path} is damaged or not an image; replace or delete it.") from error


def _evenly(seconds: Any, total: int, duration: Any) -> np.ndarray:
    return Sampling("segments", FRAMES).indices(total, seconds, duration)


def _crashed(job: ClipJob) -> ClipFacts:
    return ClipFacts(job.split, job.index, "It crashes the decoder; convert it to MP4.")
