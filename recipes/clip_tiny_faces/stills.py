"""Single pictures of rendered faces with the facts about them, in memory or cached on disk."""

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

# Number of pictures per job. Each job has its own seed, so the result does not depend on the number of workers.
_JOB = 250
# Action units that indicate an emotion, unlike those of speech and blinks.
_EMOTIONAL_UNITS = [i for i, name in enumerate(ACTION_UNITS) if name not in ("AU25", "AU26", "AU43", "AU45")]


@dataclass(frozen=True)
class Stills:
    """N rendered pictures.

    Attributes:
        images (`np.ndarray` of shape `(N, S, S, 3)`): RGB pictures, uint8.
        certain (`np.ndarray` of shape `(N, F)`): Whether each of `FACTS` is certainly true.
        possible (`np.ndarray` of shape `(N, F)`): Whether each of `FACTS` is true or doubtful.
        action_units (`np.ndarray` of shape `(N, A)`): Visible intensities of the action units, float32.
        labels (`np.ndarray` of shape `(N,)`): Index in `EMOTIONS`, or -1 if there is no emotion or it cannot be seen,
            int64.
    """

    images: np.ndarray
    certain: np.ndarray
    possible: np.ndarray
    action_units: np.ndarray
    labels: np.ndarray


def draw_still(rng: np.random.Generator, faces: RenderedFaces, split: str, people: int, seed: int) -> tuple:
    """Renders one picture. Emotions and intensities are balanced.

    Returns:
        `tuple`: Image, certain facts, possible facts, action units and label.
    """
    person = sample_person(seed, split, int(rng.integers(people)))
    setting = Setting.sample(rng, faces)
    label = None if rng.uniform() < 0.25 else str(rng.choice(EMOTIONS))
    # A moment of a clip is drawn, usually one that shows the emotion.
    apex = float(rng.uniform(0.3, 1))
    course = sample_course(label or "neutral", replace(faces, strength=(apex, apex)), rng)
    strong = np.flatnonzero(course.intensity[1:] >= 0.5) + 1
    moment = int(rng.choice(strong) if len(strong) and rng.uniform() < 0.9 else rng.integers(1, len(course.poses)))
    units, strength = course.action_units[moment].copy(), apex * float(course.intensity[moment])
    if label is None:
        units[:] = 0
        for unit in rng.choice(len(ACTION_UNITS), rng.integers(1, 5), replace=False):
            units[unit] = rng.uniform(0.3, 1)
    elif strength < 0.1 and units[_EMOTIONAL_UNITS].max() > 0.35:
        label = None  # The face looks emotional but is neutral, which cannot be seen in a single picture.
    before, pose = course.poses[moment - 1 : moment + 1]
    image = FacePainter(person, setting, faces).draw(units, pose, before=before)
    # The visible intensities include the resting face.
    shown = person.shown(units)
    certain, possible = facts_of(person, setting, pose, shown, label, strength)
    if label not in (None, "neutral") and strength < 0.3:
        label = "neutral" if strength < 0.1 else None
    return image, certain, possible, shown.astype(np.float32), EMOTIONS.index(label) if label else -1


def _reduced_variation(faces: RenderedFaces, share: float) -> RenderedFaces:
    """Returns settings with a share (0 to 1) of the variation of head and camera. At 0, all faces are frontal."""
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
    faces = _reduced_variation(RenderedFaces(), min(1.0, job * _JOB / ramp) if ramp else 1.0)
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
    """Renders pictures into memory.

    Args:
        count (`int`): Number of pictures.
        people (`int`): Number of different people, from `sample_person(seed, split, ...)`.
        seed (`int`): Random seed of the pictures.
        split (`str`, *optional*, defaults to `"clip-tiny-faces"`): Name of the split.
        ramp (`int`, *optional*, defaults to `0`): Number of pictures at the start over which the variation grows from
            frontal, centred faces to full variation.
        workers (`int`, *optional*, defaults to `1`): Number of processes.
        progress (`Callable`, *optional*): Called with the number of finished pictures and their total number.
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
    """Returns the pictures of `render_stills` from a cache folder.

    They are rendered if the cache is empty or has pictures of other arguments.

    Args:
        folder (`Path`): Folder of the cache.
        count (`int`): As in `render_stills`.
        people (`int`): As in `render_stills`.
        seed (`int`): As in `render_stills`.
        ramp (`int`): As in `render_stills`.
        **options: Other arguments of `render_stills`.
    """
    names = list(Stills.__dataclass_fields__)
    key = json.dumps([count, people, seed, ramp, names, FACTS, source_hash(rendered_faces)])
    key_file = folder / "stills.json"
    if not key_file.is_file() or key_file.read_text("utf-8") != key:
        folder.mkdir(parents=True, exist_ok=True)
        key_file.unlink(missing_ok=True)
        stills = render_stills(count, people, seed, ramp=ramp, **options)
        for name in names:
            np.save(folder / f"{name}.npy", getattr(stills, name))
        draft = folder / "stills.json.part"
        draft.write_text(key, "utf-8")
        os.replace(draft, key_file)
    return Stills(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))
