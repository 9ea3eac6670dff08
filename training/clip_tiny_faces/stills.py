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

from tgdfer.training.clip_tiny_faces.captions import FACTS, facts_of
from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    FacePainter,
    RenderedFaces,
    Setting,
    apex,
    sample_course,
    sample_person,
)

# Pictures a job draws; each job has a seed of its own, so that the number of workers changes nothing.
_JOB = 250


@dataclass(frozen=True)
class Stills:
    """N pictures.

    Attributes:
        images: uint8 (N, size, size, 3) RGB.
        surely: bool (N, F), the facts that are true.
        maybe: bool (N, F), the facts that are true or in doubt.
        action_units: float32 (N, A).
        labels: int64 (N,) index into `EMOTIONS`, -1 where action units were drawn without an emotion.
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
    pose = sample_course("neutral", faces, rng).poses[0]
    kind = rng.uniform()
    label = None if kind < 0.25 else EMOTIONS[rng.integers(len(EMOTIONS))]
    units, strength = np.zeros(len(ACTION_UNITS)), 0.0
    if label is None:
        for unit in rng.choice(len(ACTION_UNITS), rng.integers(1, 5), replace=False):
            units[unit] = rng.uniform(0.3, 1)
    elif label != "neutral":
        strength = float(rng.uniform(0.25, 1))
        units = apex(label, rng) * strength
    # Movement that means nothing comes with every emotion, as in the clips.
    course = sample_course("neutral", faces, rng)
    units = np.maximum(units, course.action_units[rng.integers(len(course.action_units))] * (label is not None))
    image = FacePainter(person, setting, faces).draw(units, pose)
    surely, maybe = facts_of(person, setting, pose, units, label, strength)
    return image, surely, maybe, units.astype(np.float32), -1 if label is None else EMOTIONS.index(label)


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
        scale=(middle - reach, middle + reach),
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
    key = json.dumps([count, people, seed, ramp, FACTS, list(ACTION_UNITS)])
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
