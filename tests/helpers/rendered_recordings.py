"""Recordings of rendered people whose truth is known: who is where, when a new shot begins, and who shows what.

Faces are drawn once for each expression and strength, and then moved over a larger picture, so that seconds of video
take a fraction of a second to make.
"""

import functools
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tgdfer.training.rendered_faces import (
    PROTOTYPES,
    FacePainter,
    RenderedFaces,
    Setting,
    action_unit_vector,
    sample_person,
)

HEIGHT, WIDTH, FPS = 240, 320, 10
# Seconds from rest to the apex of an expression, and steps in which it is drawn.
ONSET, STEPS = 0.4, 4
SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Actor:
    """Somebody in a shot.

    Attributes:
        number: who it is; the same number looks the same in every shot.
        size: height and width in pixels of the picture of head and shoulders.
        start: (x, y) of its middle at the start of the shot, as shares of the picture.
        end: at the end of it; None for the same place.
        shows: expressions as (label, first second, last second) of the shot; the face is neutral between them.
        there: seconds of the shot from which and to which the person is there.
    """

    number: int
    size: int = 120
    start: tuple[float, float] = (0.5, 0.5)
    end: tuple[float, float] | None = None
    shows: tuple[tuple[str, float, float], ...] = ()
    there: tuple[float, float] = (0.0, 1e9)


@dataclass(frozen=True)
class Shot:
    """A stretch of a recording without a cut: its length, who is in it, and the number of its room."""

    seconds: float
    actors: tuple[Actor, ...] = ()
    room: int = 0


RECORDINGS: dict[str, tuple[Shot, ...]] = {
    "alone": (Shot(3.0, (Actor(0, shows=(("happiness", 0.0, 3.0),)),)),),
    "two expressions": (Shot(6.0, (Actor(0, shows=(("happiness", 0.0, 2.8), ("surprise", 3.2, 6.0))),)),),
    "several": (
        Shot(3.0, (Actor(0, 130, (0.25, 0.5)), Actor(1, 100, (0.62, 0.6)), Actor(2, 64, (0.87, 0.3))), room=1),
    ),
    "moving": (Shot(4.0, (Actor(1, 90, (0.2, 0.4), (0.8, 0.6)),), room=2),),
    "two shots": (Shot(2.5, (Actor(0),), room=3), Shot(3.5, (Actor(1),), room=4)),
    "nobody": (Shot(2.0, room=5), Shot(2.0, room=6)),
    "comes and goes": (Shot(6.0, (Actor(0, 120, (0.28, 0.5)), Actor(1, 110, (0.75, 0.5), there=(2.0, 4.0))), room=7),),
}


@dataclass(frozen=True)
class RenderedRecording:
    """A file and its truth.

    Attributes:
        path: of the file, with sound if there are two streams in it.
        shots: what it shows.
        cuts: seconds at which a new shot begins.
        seconds: length.
        people: number of people, somebody after a cut counted again.
    """

    path: Path
    shots: tuple[Shot, ...]

    @property
    def cuts(self) -> list[float]:
        return np.cumsum([shot.seconds for shot in self.shots])[:-1].tolist()

    @property
    def seconds(self) -> float:
        return sum(shot.seconds for shot in self.shots)

    @property
    def people(self) -> int:
        return sum(len(shot.actors) for shot in self.shots)


def write_recording(
    path: Path, shots: tuple[Shot, ...], sound: bool = True, hole: tuple[float, float] = (0.0, 0.0)
) -> RenderedRecording:
    """Writes a recording of shots.

    Args:
        path: of the file.
        shots: what it shows.
        sound: whether there is a tone.
        hole: seconds after which the time stamps leave some out, and how many.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p")
        video.options = {"crf": "16", "preset": "veryfast", "g": "10"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
        for number, picture in enumerate(pictures(shots)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number + round(hole[1] * FPS * (number >= hole[0] * FPS)), Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for frame in _tone(sum(shot.seconds for shot in shots)):
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return RenderedRecording(path, shots)


def pictures(shots: tuple[Shot, ...]):
    """The frames (240, 320, 3) of shots, `FPS` a second."""
    rng = np.random.default_rng(0)
    for shot in shots:
        room = _room(shot.room)
        for number in range(round(shot.seconds * FPS)):
            picture = room.copy()
            for actor in shot.actors:
                if actor.there[0] <= number / FPS < actor.there[1]:
                    _paste(picture, actor, number / FPS, shot.seconds)
            noisy = picture + rng.normal(0, 2, picture.shape[:2])[..., None]
            yield np.clip(noisy, 0, 255).astype(np.uint8)


def _paste(picture: np.ndarray, actor: Actor, second: float, seconds: float) -> None:
    """Lays an actor over a picture, at the place and with the expression of a second of the shot."""
    label, strength = "neutral", 0.0
    for name, first, last in actor.shows:
        if first <= second < last:
            label = name
            strength = min(1.0, (second - first + 1 / FPS) / ONSET, (last - second) / ONSET)
    face, mask = _figure(actor.number, label, round(strength * STEPS), actor.size)
    share = second / seconds
    x, y = (a + share * (b - a) for a, b in zip(actor.start, actor.end or actor.start, strict=True))
    left, top = round(x * WIDTH - actor.size / 2), round(y * HEIGHT - actor.size / 2)
    y0, y1, x0, x1 = max(0, top), min(HEIGHT, top + actor.size), max(0, left), min(WIDTH, left + actor.size)
    inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    under = picture[y0:y1, x0:x1]
    picture[y0:y1, x0:x1] = (under + mask[inside] * (face[inside].astype(np.float32) - under)).astype(np.uint8)


@functools.cache
def _figure(number: int, label: str, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Head and shoulders (size, size, 3) at a strength of `step` of `STEPS`, and how opaque they are."""
    units = action_unit_vector(PROTOTYPES[label][1 if label == "happiness" else 0]) * step / STEPS
    drawn = _painter(number).draw(units)
    distance = np.minimum.reduce([np.arange(size) + 1, np.arange(size)[::-1] + 1]) / (0.08 * size)
    mask = np.minimum(1.0, np.minimum.outer(distance, distance))[..., None].astype(np.float32)
    method = cv2.INTER_AREA if size < 112 else cv2.INTER_LINEAR
    return cv2.resize(drawn, (size, size), interpolation=method), mask


@functools.cache
def _painter(number: int) -> FacePainter:
    """The painter of a person in even light."""
    faces = RenderedFaces(supersampling=2)
    setting = Setting.sample(np.random.default_rng(number), faces)
    even = replace(setting, brightness=1.0, noise=0.0, blur=0.0, occluder=None, light_contrast=0.3)
    return FacePainter(sample_person(7, "test", number, resting=0.0), even, faces)


@functools.cache
def _room(number: int) -> np.ndarray:
    """A background (240, 320, 3): soft patches, light in even rooms and dark in odd ones."""
    rng = np.random.default_rng(100 + number)
    tone = rng.uniform(130, 180, 3) if number % 2 == 0 else rng.uniform(20, 60, 3)
    coarse = np.clip(tone + rng.normal(0, 15, (6, 8, 3)), 0, 255).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def _tone(seconds: float):
    """Frames of sound: a tone of 440 Hz."""
    wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        yield frame
