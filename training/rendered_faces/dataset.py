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
from tgdfer.training.rendered_faces.rendered_clip import Clip, sample_clip, sample_long_clip, sample_person, seed_of
from tgdfer.training.video_writing import write_video

Progress = Callable[[int, int], None]


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
    """Render a data set: `folder/split/label/0000.mp4` and `folder/split/metadata.jsonl`.

    A row of the metadata holds

    - `file_name`, `label`, `person`;
    - for every frame `intensity` (0..1, of the clip's own apex; 0 throughout where the label is neutral) and
      `action_units` (name to movements 0..1);
    - `resting_face` (name to offset), to which the movements are added;
    - `segments` in which the emotion is at half of its apex or more: `label`, and `start` and `end` in seconds;
    - `lookalike`: what happens beside that only its course in time tells from an emotion, or "".

    The same arguments give the same data set, whatever the number of workers. Everything is written beside `folder`
    first and put in place when it is complete.

    Args:
        folder: Where to; must not exist yet, or be empty.
        faces: Parameters of the generator.
        clips: Clips per label and split, by default 60 for "train" and 20 for "test".
        people: People per split, by default one for every six clips of a label, at least four.
        seed: Decides everything that is drawn.
        workers: Processes that render; with more than one, a script needs the `if __name__ == "__main__"` of all
            programs that start processes.
        progress: Called with (clips done, clips in all) after every clip.
        labels: The emotions; "contempt" comes on request only.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder holds something already, a split has no clips or no people, a label is unknown, or
            the parameters cannot be drawn.
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
    """Render videos of several emotions each: `folder/split/0000.mp4` and `folder/split/metadata.jsonl`.

    The rows are those of `write_dataset`, with a `label` of None; the face is neutral outside of the `segments`, and
    `intensity` reaches 1 in every one of them. Frames are encoded as they are drawn and never kept.

    Args:
        folder: Where to; must not exist yet, or be empty.
        seconds: Length of a video.
        faces: Parameters of the generator; `frames` says how often a face moves and speaks without a reason.
        videos: Videos per split, by default 4 for "train" and 2 for "test".
        people: People per split, by default one for every six videos, at least four.
        seed: Decides everything that is drawn.
        workers: Processes that render.
        progress: Called with (videos done, videos in all) after every video.
        labels: The emotions; "contempt" comes on request only.

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
    """Name, people and clips of every split."""
    for split, number in clips.items():
        count = (people or {}).get(split, max(4, number // 6))
        if number < 1 or count < 1:
            raise ValueError(f"split {split!r} needs at least one clip and one person: {number} and {count} given.")
        yield split, count, number


@dataclass(frozen=True)
class _Job:
    """A clip to write: of one label, or a long one of several."""

    faces: RenderedFaces
    seed: int
    split: str
    number: int
    person: int
    labels: tuple[str, ...]
    seconds: float = 0.0

    def clip(self) -> Clip:
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
        """Draw and encode the clip into `folder/split`; returns its row of the metadata."""
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
    """Render all jobs into a folder beside `folder`, which takes its place when it is complete."""
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
        draft.chmod(0o755)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _render(jobs: Sequence[_Job], folder: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Rows of the metadata, in the order of the jobs."""
    folders = [folder] * len(jobs)
    if workers <= 1:
        yield from map(_Job.render, jobs, folders)
        return
    # Not forked: OpenCV's and torch's threads do not survive a fork, and a child that waits for them waits for ever.
    context = multiprocessing.get_context("spawn")
    # A few clips at a time, as they are short; long ones go out one by one, lest a worker ends up with all of them.
    together = 1 if jobs[0].seconds else 4
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_Job.render, jobs, folders, chunksize=together)
