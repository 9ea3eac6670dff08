"""Clips of rendered faces, and data sets of them in the layout that `datasets.load_dataset` reads."""

import json
import multiprocessing
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.emotions import EMOTIONS, Course, apex, sample_course
from tgdfer.training.rendered_faces.parameters import Identity, RenderedFaces, Setting


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
        painter = FacePainter(self.person, self.setting, self.faces)
        for t, (units, pose) in enumerate(zip(self.course.action_units, self.course.poses, strict=True)):
            yield painter.draw(units, pose, frame=t)


def sample_person(seed: int, split: str, number: int) -> Identity:
    """The `number`-th person of a split; splits never share people, however many of them there are."""
    return Identity.sample(np.random.default_rng([seed, zlib.crc32(split.encode()), number]))


def sample_clip(label: str, person: Identity, faces: RenderedFaces, rng: np.random.Generator) -> Clip:
    """Draw setting and course of a clip."""
    return Clip(person, Setting.sample(rng, faces), sample_course(label, faces, rng), faces)


def write_dataset(
    folder: str | Path,
    faces: RenderedFaces | None = None,
    clips: Mapping[str, int] | None = None,
    people: Mapping[str, int] | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a data set: `folder/split/label/0000.mp4` and `folder/split/metadata.jsonl`.

    A row of the metadata holds `file_name`, `label`, `person`, and for every frame `intensity` (0..1, of the clip's
    own apex; 0 throughout where the label is neutral) and `action_units` (name to intensities 0..1). The same
    arguments give the same data set, whatever the number of workers. Everything is written beside `folder` first and
    put in place when it is complete.

    Args:
        folder: Where to; must not exist yet, or be empty.
        faces: Parameters of the generator.
        clips: Clips per label and split, by default 60 for "train" and 20 for "test".
        people: People per split, by default one for every six clips of a label, at least four.
        seed: Decides everything that is drawn.
        workers: Processes that render; with more than one, a script needs the `if __name__ == "__main__"` of all
            programs that start processes.
        progress: Called with (clips done, clips in all) after every clip.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder holds something already, or a split has no clips or no people.
    """
    folder, faces = Path(folder), faces or RenderedFaces()
    clips = dict(clips or {"train": 60, "test": 20})
    people = {split: max(4, n // 6) for split, n in clips.items()} | dict(people or {})
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: name another folder or remove it.")
    for split, count in clips.items():
        if count < 1 or people[split] < 1:
            raise ValueError(
                f"split {split!r} needs at least one clip and one person: {count} and {people[split]} given."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        jobs = [
            _Job(draft, faces, seed, split, label, i, i % people[split])
            for split, count in clips.items()
            for i in range(count)
            for label in EMOTIONS
        ]
        rows: dict[str, list[dict]] = {split: [] for split in clips}
        for done, (job, row) in enumerate(zip(jobs, _run(jobs, workers), strict=True), start=1):
            rows[job.split].append(row)
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


@dataclass(frozen=True)
class _Job:
    folder: Path
    faces: RenderedFaces
    seed: int
    split: str
    label: str
    number: int
    person: int


def _run(jobs: list[_Job], workers: int) -> Iterator[dict]:
    if workers <= 1:
        yield from map(_render, jobs)
        return
    # Not forked: OpenCV's and torch's threads do not survive a fork, and a child that waits for them waits for ever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_render, jobs, chunksize=4)


def _render(job: _Job) -> dict:
    """Draw and encode one clip; returns its row of the metadata."""
    key = [job.seed, zlib.crc32(job.split.encode()), EMOTIONS.index(job.label), job.number]
    person = sample_person(job.seed, job.split, job.person)
    clip = sample_clip(job.label, person, job.faces, np.random.default_rng(key))
    path = job.folder / job.split / job.label / f"{job.number:04d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, clip.draw(), job.faces.fps, job.faces.crf)
    units = clip.course.action_units.round(3)
    return {
        "file_name": f"{job.label}/{path.name}",
        "label": job.label,
        "person": f"{job.split}-{job.person:04d}",
        "intensity": clip.course.intensity.round(3).tolist(),
        "action_units": {name: units[:, i].tolist() for i, name in enumerate(ACTION_UNITS)},
    }


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


def contact_sheet(
    faces: RenderedFaces | None = None, people: int = 8, seed: int = 0, split: str = "test"
) -> np.ndarray:
    """Apex frames, uint8 RGB: a row for each person, a column for each emotion in the order of `EMOTIONS`."""
    faces = faces or RenderedFaces()
    rows = []
    for number in range(people):
        person = sample_person(seed, split, number)
        row = []
        for i, label in enumerate(EMOTIONS):
            rng = np.random.default_rng([seed, number, i])
            clip = sample_clip(label, person, faces, rng)
            painter = FacePainter(person, clip.setting, faces)
            row.append(painter.draw(apex(label, rng), clip.course.poses[0]))
        rows.append(np.hstack(row))
    return np.vstack(rows)
