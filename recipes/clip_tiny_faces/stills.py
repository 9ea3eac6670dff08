"""Single pictures of rendered faces with all that is known about them, drawn into memory or a file."""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from recipes.clip_tiny_faces.captions import FACTS, facts_of
from tgdfer.training import rendered_faces
from tgdfer.training.files import source_hash
from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    FacePainter,
    RenderedFaces,
    Setting,
    sample_course,
    sample_person,
)

# Pictures a job draws; each job has a seed of its own, so that the number of workers changes nothing.
_JOB = 250
# Action units that say something of an emotion, unlike those of speech and blinks.
_TELLING = [i for i, name in enumerate(ACTION_UNITS) if name not in ("AU25", "AU26", "AU43", "AU45")]


@dataclass(frozen=True)
class Stills:
    """N pictures.

    Attributes:
        images: uint8 (N, size, size, 3) RGB.
        surely: bool (N, F), the facts that are true.
        maybe: bool (N, F), the facts that are true or in doubt.
        action_units: float32 (N, A).
        labels: int64 (N,) index into `EMOTIONS`, -1 where there is none or a picture does not tell.
    """

    images: np.ndarray
    surely: np.ndarray
    maybe: np.ndarray
    action_units: np.ndarray
    labels: np.ndarray


def draw_still(rng: np.random.Generator, faces: RenderedFaces, split: str, people: int, seed: int) -> tuple:
    """Draw one picture: image, facts, possible facts, action units, label; emotions and intensities are balanced."""
    person = sample_person(seed, split, int(rng.integers(people)))
    setting = Setting.sample(rng, faces)
    label = None if rng.uniform() < 0.25 else str(rng.choice(EMOTIONS))
    # A moment of a clip, most often one in which the emotion is there.
    apex = float(rng.uniform(0.3, 1))
    course = sample_course(label or "neutral", replace(faces, strength=(apex, apex)), rng)
    strong = np.flatnonzero(course.intensity[1:] >= 0.5) + 1
    moment = int(rng.choice(strong) if len(strong) and rng.uniform() < 0.9 else rng.integers(1, len(course.poses)))
    units, strength = course.action_units[moment].copy(), apex * float(course.intensity[moment])
    if label is None:
        units[:] = 0
        for unit in rng.choice(len(ACTION_UNITS), rng.integers(1, 5), replace=False):
            units[unit] = rng.uniform(0.3, 1)
    elif strength < 0.1 and units[_TELLING].max() > 0.35:
        # What looks like an emotion and is none, which a single picture does not tell.
        label = None
    before, pose = course.poses[moment - 1 : moment + 1]
    image = FacePainter(person, setting, faces).draw(units, pose, before=before)
    # What is seen is the movement on top of the resting face.
    shown = person.shown(units)
    surely, maybe = facts_of(person, setting, pose, shown, label, strength)
    if label not in (None, "neutral") and strength < 0.3:
        label = "neutral" if strength < 0.1 else None
    return image, surely, maybe, shown.astype(np.float32), EMOTIONS.index(label) if label else -1


def _eased(faces: RenderedFaces, share: float) -> RenderedFaces:
    """The same faces, with only a share of what head and camera do: at 0 all look into the camera at one place."""
    low, high = faces.scale
    middle, reach = (low + high) / 2, share * (high - low) / 2
    return replace(
        faces,
        turn=share * faces.turn,
        nod=share * faces.nod,
        tilt=share * faces.tilt,
        shift=share * faces.shift,
        shake=share * faces.shake,
        occlusion=share * faces.occlusion,
        scale=(middle - reach, middle + reach),
        shutter=(share * faces.shutter[0], share * faces.shutter[1]),
        noise=(share * faces.noise[0], share * faces.noise[1]),
    )


def _draw_job(job: int, count: int, seed: int, split: str, people: int, ramp: int = 0) -> tuple:
    rng = np.random.default_rng([seed, 7, job])
    faces = _eased(RenderedFaces(), min(1.0, job * _JOB / ramp) if ramp else 1.0)
    return tuple(
        np.stack(column)
        for column in zip(*(draw_still(rng, faces, split, people, seed) for _ in range(count)), strict=True)
    )


def render_stills(
    count: int,
    people: int,
    seed: int,
    split: str = "clip-tiny-faces",
    ramp: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Stills:
    """Render pictures into memory.

    Args:
        count: Pictures.
        people: People they show; they are those of `sample_person(seed, split, ...)`.
        seed: Decides everything that is drawn.
        split: Name of the split.
        ramp: So many pictures grow from easy (all faces frontal, in one place) to as varied as the rest.
        workers: Processes.
        progress: Called with (pictures done, pictures in all).
    """
    counts = [min(_JOB, count - start) for start in range(0, count, _JOB)]
    arguments = range(len(counts)), counts, repeat(seed), repeat(split), repeat(people), repeat(ramp)
    parts = []
    pool = None
    if workers > 1:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,))
    try:
        for part in (pool.map if pool else map)(_draw_job, *arguments):
            parts.append(part)
            if progress:
                progress(sum(len(p[0]) for p in parts), count)
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    return Stills(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def cached_stills(folder: Path, count: int, people: int, seed: int, ramp: int, **options) -> Stills:
    """The pictures of `render_stills`, kept in a folder; drawn anew where they were drawn with other arguments."""
    key = json.dumps([count, people, seed, ramp, FACTS, source_hash(rendered_faces)])
    names = list(Stills.__dataclass_fields__)
    done = folder / "stills.json"
    if not done.is_file() or done.read_text("utf-8") != key:
        folder.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        stills = render_stills(count, people, seed, ramp=ramp, **options)
        for name in names:
            np.save(folder / f"{name}.npy", getattr(stills, name))
        draft = folder / "stills.json.part"
        draft.write_text(key, "utf-8")
        os.replace(draft, done)
    return Stills(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))
