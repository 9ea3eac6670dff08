"""Data sets of rendered faces on disk, in the layout that `datasets.load_dataset` reads."""

import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, EMOTIONS, INDEX, check_labels
from tgdfer.training.rendered_faces.courses import check_long
from tgdfer.training.rendered_faces.parameters import RenderedFaces, check_parameters
from tgdfer.training.rendered_faces.people import RESTING
from tgdfer.training.rendered_faces.rendered_clip import (
    RenderedClip,
    sample_clip,
    sample_long_clip,
    sample_person,
    seed_of,
)
from tgdfer.training.video_writing import write_video

Progress = Callable[[int, int], None]

# The card of the data set, with its licence, which models that are trained on it record.
CARD = """---
license: apache-2.0
pretty_name: Rendered faces
tags:
- rendered-faces
---

# Rendered faces

These clips were rendered by `tgdfer.training.rendered_faces`. They show no real people.
"""


def write_dataset(
    folder: str | Path,
    faces: RenderedFaces | None = None,
    clips: Mapping[str, int] | None = None,
    people: Mapping[str, int] | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    labels: Sequence[str] = EMOTIONS,
) -> Path:
    """Renders a data set: `folder/split/label/0000.mp4`, `folder/split/metadata.jsonl` and `folder/README.md`.

    A row of the metadata has

    - `file_name`, `label` and `person`;
    - `intensity` of each frame (0 to 1, relative to the apex of the clip; 0 in neutral clips);
    - `action_units`: the movement of each action unit in each frame (0 to 1);
    - `resting_face`: offset of each action unit, to which the movements are added;
    - `segments` in which the emotion reaches half of its apex: `label`, and `start` and `end` in seconds;
    - `lookalike`: the movement that resembles an emotion, or "".

    The same arguments give the same data set with any number of workers. The data set is written to a temporary folder
    next to `folder`, which is renamed when it is complete.

    Args:
        folder (`str` or `Path`): Folder to write. It must be empty or not exist.
        faces (`RenderedFaces`, *optional*): Parameters of the generator.
        clips (`Mapping[str, int]`, *optional*): Clips per label in each split. By default 60 in "train" and 20 in
            "test".
        people (`Mapping[str, int]`, *optional*): People in each split. By default one for every six clips of a label,
            and at least four.
        seed (`int`, *optional*, defaults to 0): Seed of all random numbers.
        workers (`int`, *optional*, defaults to 1): Number of processes that render. A script with more than one needs
            `if __name__ == "__main__"`.
        progress (`Progress`, *optional*): Called after each clip with the number of finished clips and the number of
            all clips.
        labels (`Sequence[str]`, *optional*, defaults to `EMOTIONS`): Labels to render. "contempt" is only rendered if
            it is named.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder is not empty, a split has no clips or no people, a label is unknown, or a parameter
            is outside its range.
    """
    clips = dict(clips or {"train": 60, "test": 20})
    check_labels(tuple(labels))
    jobs = [
        _Job(faces or RenderedFaces(), seed, split, i, i % count, (label,))
        for split, count, number in _splits(clips, people)
        for i in range(number)
        for label in labels
    ]
    return _write(Path(folder), jobs, workers, progress)


def write_long_videos(
    folder: str | Path,
    seconds: float,
    faces: RenderedFaces | None = None,
    videos: Mapping[str, int] | None = None,
    people: Mapping[str, int] | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    labels: Sequence[str] = EMOTIONS,
) -> Path:
    """Renders videos of several emotions each: `folder/split/0000.mp4`, `folder/split/metadata.jsonl` and a README.

    The metadata is that of `write_dataset`, but `label` is None. The face is neutral outside the `segments`, and
    `intensity` reaches 1 in each of them. Frames are encoded one by one and are not kept in memory.

    Args:
        folder (`str` or `Path`): Folder to write. It must be empty or not exist.
        seconds (`float`): Duration of a video in seconds.
        faces (`RenderedFaces`, *optional*): Parameters of the generator. Unrelated movements and speech are as
            frequent as in clips of `faces.frames` frames.
        videos (`Mapping[str, int]`, *optional*): Videos in each split. By default 4 in "train" and 2 in "test".
        people (`Mapping[str, int]`, *optional*): People in each split. By default one for every six videos, and at
            least four.
        seed (`int`, *optional*, defaults to 0): Seed of all random numbers.
        workers (`int`, *optional*, defaults to 1): Number of processes that render.
        progress (`Progress`, *optional*): Called after each video with the number of finished videos and the number of
            all videos.
        labels (`Sequence[str]`, *optional*, defaults to `EMOTIONS`): Labels to render. "contempt" is only rendered if
            it is named.

    Returns:
        The folder.

    Raises:
        ValueError: As in `write_dataset`, or if a video is too short for an emotion.
    """
    videos = dict(videos or {"train": 4, "test": 2})
    check_long(seconds, labels)
    jobs = [
        _Job(faces or RenderedFaces(), seed, split, i, i % count, tuple(labels), seconds)
        for split, count, number in _splits(videos, people)
        for i in range(number)
    ]
    return _write(Path(folder), jobs, workers, progress)


def _splits(clips: Mapping[str, int], people: Mapping[str, int] | None) -> Iterator[tuple[str, int, int]]:
    """Yields name, number of people and number of clips of each split."""
    for split, number in clips.items():
        count = (people or {}).get(split, max(4, number // 6))
        if number < 1 or count < 1:
            raise ValueError(f"split {split!r} needs at least one clip and one person: {number} and {count} given.")
        yield split, count, number


@dataclass(frozen=True)
class _Job:
    """A clip to write: a clip of one label, or a long video of several."""

    faces: RenderedFaces
    seed: int
    split: str
    number: int
    person: int
    labels: tuple[str, ...]
    seconds: float = 0.0

    def clip(self) -> RenderedClip:
        """Draws the clip from its seed."""
        person = sample_person(self.seed, self.split, self.person, self.faces.resting)
        key = [self.seed, seed_of(self.split), self.number]
        if self.seconds:
            rng = np.random.default_rng([*key, round(1000 * self.seconds)])
            return sample_long_clip(self.seconds, self.labels, person, self.faces, rng)
        label = self.labels[0]
        return sample_clip(label, person, self.faces, np.random.default_rng([*key, seed_of(label)]))

    @property
    def file_name(self) -> str:
        name = f"{self.number:04d}.mp4"
        return name if self.seconds else f"{self.labels[0]}/{name}"

    def render(self, folder: Path) -> dict[str, Any]:
        """Draws and encodes the clip into `folder/split`, and returns its row of the metadata."""
        clip = self.clip()
        path = folder / self.split / self.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, clip.draw(), self.faces.fps, clip.setting.crf)
        course, units = clip.course, clip.course.action_units.round(3)
        return {
            "file_name": self.file_name,
            "label": course.label or None,
            "person": f"{self.split}-{self.person:04d}",
            "intensity": course.intensity.round(3).tolist(),
            "action_units": {name: units[:, i].tolist() for i, name in enumerate(ACTION_UNITS)},
            "resting_face": {name: round(float(clip.person.resting[INDEX[name]]), 3) for name in RESTING},
            "segments": [
                {"label": s.label, "start": round(s.start, 3), "end": round(s.end, 3)} for s in course.segments
            ],
            "lookalike": course.lookalike,
        }


def _write(folder: Path, jobs: Sequence[_Job], workers: int, progress: Progress | None) -> Path:
    """Renders all jobs into a temporary folder, which is renamed to `folder` when it is complete."""
    check_parameters(jobs[0].faces)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: name another folder or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        rows: dict[str, list[dict[str, Any]]] = {}
        for done, (job, row) in enumerate(zip(jobs, _render(jobs, draft, workers), strict=True), start=1):
            rows.setdefault(job.split, []).append(row)
            if progress:
                progress(done, len(jobs))
        for split, split_rows in rows.items():
            split_rows.sort(key=lambda row: row["file_name"])
            lines = (json.dumps(row) + "\n" for row in split_rows)
            (draft / split / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
        (draft / "README.md").write_text(CARD, encoding="utf-8")
        draft.chmod(0o755)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _render(jobs: Sequence[_Job], folder: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Renders all jobs, and yields the rows of the metadata in the order of the jobs."""
    folders = [folder] * len(jobs)
    if workers <= 1:
        yield from map(_Job.render, jobs, folders)
        return
    # A forked process would wait forever for the threads of OpenCV and torch, which a fork does not copy.
    context = multiprocessing.get_context("spawn")
    # Short clips are submitted in groups. Long videos are submitted one by one, to balance the load.
    chunk_size = 1 if jobs[0].seconds else 4
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_Job.render, jobs, folders, chunksize=chunk_size)
