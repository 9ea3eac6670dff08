"""Clips of rendered faces, and data sets of them in the layout that `datasets.load_dataset` reads."""

import json
import multiprocessing
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, INDEX
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.emotions import Course, check_long, sample_course, sample_long_course
from tgdfer.training.rendered_faces.parameters import RESTING, Identity, RenderedFaces, Setting
from tgdfer.training.rendered_faces.prototypes import EMOTIONS, check_labels

Progress = Callable[[int, int], None]

# Seconds within which an occluder of a long clip comes and goes.
_PASSING = 5.0


@dataclass(frozen=True)
class Clip:
    """A clip before it is drawn."""

    person: Identity
    setting: Setting
    course: Course
    faces: RenderedFaces

    def __len__(self) -> int:
        return len(self.course.intensity)

    def draw(self) -> Iterator[np.ndarray]:
        """Draw the frames one by one, uint8 RGB (size, size, 3)."""
        painter, before = FacePainter(self.person, self.setting, self.faces), None
        course = self.course
        for t, (units, pose, side) in enumerate(zip(course.action_units, course.poses, course.side, strict=True)):
            yield painter.draw(units, pose, frame=t, before=before, side=float(side))
            before = pose


def sample_person(seed: int, split: str, number: int, resting: float = RenderedFaces.resting) -> Identity:
    """The `number`-th person of a split; splits never share people, however many of them there are."""
    return Identity.sample(np.random.default_rng([seed, _code(split), number]), resting)


def sample_clip(label: str, person: Identity, faces: RenderedFaces, rng: np.random.Generator) -> Clip:
    """Draw setting and course of a clip."""
    course = sample_course(label, faces, rng)
    setting = Setting.sample(rng, faces, len(course.intensity) / faces.fps)
    return Clip(person, setting, course, faces)


def sample_long_clip(
    seconds: float, labels: Sequence[str], person: Identity, faces: RenderedFaces, rng: np.random.Generator
) -> Clip:
    """Draw setting and course of a clip of several emotions; see `sample_long_course`."""
    course = sample_long_course(seconds, labels, faces, rng)
    setting = Setting.sample(rng, faces, min(seconds, _PASSING))
    if hidden := setting.occluder:
        late = float(rng.uniform(0, max(0.0, seconds - _PASSING)))
        hidden = replace(hidden, begin=hidden.begin + late, end=hidden.end + late)
        setting = replace(setting, occluder=hidden)
    return Clip(person, setting, course, faces)


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


def _code(name: str) -> int:
    """A number for a name, the same everywhere: seeds are made of numbers."""
    return zlib.crc32(name.encode())


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
        key = [self.seed, _code(self.split), self.number]
        if self.seconds:
            rng = np.random.default_rng([*key, round(1000 * self.seconds)])
            return sample_long_clip(self.seconds, self.labels, person, self.faces, rng)
        label = self.labels[0]
        return sample_clip(label, person, self.faces, np.random.default_rng([*key, _code(label)]))

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
    _check_faces(jobs[0].faces)
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


def _check_faces(faces: RenderedFaces) -> None:
    """Make sure that clips can be drawn with these parameters.

    Raises:
        ValueError: If they cannot.
    """
    for name in ("frames", "share", "onset", "offset", "strength", "scale"):
        low, high = getattr(faces, name)
        if not 0 < low <= high:
            raise ValueError(f"{name} is ({low}, {high}), but must be a range (lowest, highest) above 0.")
    if faces.share[1] >= 1:
        raise ValueError(f"share reaches {faces.share[1]}, but a clip must have neutral frames too: stay below 1.")
    if faces.frames[0] < 8:
        raise ValueError(f"frames begins at {faces.frames[0]}, but a clip needs at least 8 to show an emotion.")
    if faces.size < 32 or faces.size % 2:
        raise ValueError(f"size is {faces.size}, but must be an even number of pixels, at least 32.")


def write_video(path: str | Path, frames: Iterator[np.ndarray], fps: int, crf: int = 18) -> None:
    """Encode RGB frames (height, width, 3) as H.264; the same frames give the same bytes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), pix_fmt="yuv420p")
        # x264's macroblock tree makes other bytes of the same frames from run to run.
        stream.options = {"crf": str(crf), "preset": "veryfast", "x264-params": "mbtree=0"}
        # One thread: processes work side by side, and the bytes do not depend on timing.
        stream.codec_context.thread_count = 1
        for i, frame in enumerate(frames):
            if i == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
