"""Recordings: a video of any length, read for prediction person by person, of which little is in memory at a time."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .faces_tgdfer import (
    FaceSettings,
    Located,
    NoFaceError,
    cut_face,
    is_aligned,
    locate_faces,
    look_for_faces,
    require_faces,
)
from .tracks_tgdfer import FacePath
from .video_file_tgdfer import Each, VideoDecodeError, VideoFile
from .video_reading_tgdfer import ASSUMED_FPS, sample_indices, stream

# Frames of one person that are given to the model together.
CHUNK = 16
# The sampled frames of a video are kept if they have no more bytes than this, so that they are not decoded again.
_KEPT_BYTES = 2**27
# A video with more sampled frames is looked at in a few first: whether it has a face, and of which sizes.
_LOOK_FIRST, _GLIMPSES = 64, 48
# Of a shorter one, so many of its frames.
_FEW = 8
# Faces are looked for in frames that are about so many seconds apart, and are on the straight way between.
_LOOK_EVERY = 0.25


@dataclass
class Chunk:
    """Some frames of one person, or of a video that is taken as it is.

    Attributes:
        person: place of the person in `Recording.paths`; 0 for a video that is taken as it is.
        places: (N,) which of the sampled frames of the video they are.
        frames: (N, 3, S, S) uint8 RGB crops; (N, 3, H, W) for a video that is taken as it is.
        boxes: (N, 4) left, top, right and bottom in pixels of the video; NaN where the face is not found.
    """

    person: int
    places: np.ndarray
    frames: torch.Tensor
    boxes: np.ndarray


@dataclass
class Recording:
    """A video whose people have been found.

    Attributes:
        seconds: (N,) times of the sampled frames.
        indices: (N,) their numbers in the video.
        duration: seconds to the end of the last frame.
        size: width and height in pixels.
        detector: name of the face detector; None where the video is taken as it is.
        cuts: places among the sampled frames with which a new shot begins.
        paths: where each person is; [None] for a video that is taken as it is, or in which nobody is found.
        timed: whether the times are those of the video, and not assumed.
        chunks: reads the frames, those of all people in turn; to be gone through once.
    """

    seconds: np.ndarray
    indices: np.ndarray
    duration: float
    size: tuple[int, int]
    detector: str | None
    cuts: list[int]
    paths: list[FacePath | None]
    timed: bool
    chunks: Iterable[Chunk] = field(repr=False)

    @property
    def edges(self) -> np.ndarray:
        """Seconds (N + 1,) between which each sampled frame stands for its moment: half the way to those beside it."""
        between = (self.seconds[1:] + self.seconds[:-1]) / 2
        return np.concatenate([[0.0], between, [max(self.duration, float(self.seconds[-1]))]])


@dataclass
class _Plan:
    """Which frames of a video are sampled: one of each part of `interval` seconds, and `least` at least.

    Attributes:
        interval: seconds.
        least: number of frames, where the video has as many.
        indices: (N,) the sampled frames, once the video is known.
        seconds: (N,) their times.
        duration: seconds to the end of the last frame.
        timed: whether the times are those of the video.
    """

    interval: float
    least: int
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    duration: float = 0.0
    timed: bool = True

    def __call__(self, seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        """Chooses the frames, as a `Sampler`."""
        self.timed = seconds is not None
        times = np.arange(total) / ASSUMED_FPS if seconds is None else seconds
        length = total / ASSUMED_FPS if duration is None else duration
        count = max(self.least, math.ceil(length / self.interval - 1e-6))
        self.indices = sample_indices(total, count, times, length)
        self.seconds, self.duration = times[self.indices], length
        return self.indices

    def steps_within(self, seconds: float) -> int:
        """How many sampled frames fit into so many seconds, one at least."""
        return max(1, int(seconds * len(self.seconds) / max(self.duration, 1e-9) + 1e-6))


class RecordingReader:
    """Reads one video in up to three passes: a look at a few frames, the search for faces, and the cutting out.

    Args:
        source: the opened video.
        settings: which faces are cut out; None takes the video as it is.
        interval: seconds from one sampled frame to the next.
        least: frames that are sampled at least, where the video has as many.
        as_bytes: makes RGB pictures of uint8 of what is decoded.
        each: is done to each picture of a video that is taken as it is.
        name: of the video, for messages.
        progress: is called with the share of the work that is done.
    """

    def __init__(
        self,
        source: Any,
        settings: FaceSettings | None,
        interval: float,
        least: int,
        as_bytes: Callable[[torch.Tensor], torch.Tensor],
        each: Each | None,
        name: str,
        progress: Callable[[float], None],
    ):
        self.source, self.settings, self.as_bytes, self.each = source, settings, as_bytes, each
        self.name, self.progress = name, progress
        self.plan = _Plan(interval, least)
        self.kept: list[tuple[int, torch.Tensor]] | None = []
        self.decoded = 0

    def read(self) -> Recording:
        """Finds the people.

        Raises:
            VideoDecodeError: nothing can be read; `NoFaceError`, one of them, where there is no face, by `no_face`.
        """
        if self.settings is None:
            return self._as_it_is()
        views = self._views()
        if not self.decoded:
            raise self._undecodable()
        if not views and self.settings.no_face != "full_frame":
            raise NoFaceError(
                f'{self.name} has no face in any of the frames that were looked at; set face_crop="none" to take the '
                "pictures as they are."
            )
        steps = max(self.plan.steps_within(_LOOK_EVERY), self.settings.every)
        self.settings = replace(self.settings, every=steps)
        located = locate_faces(self._sampled(), self.settings, views or ("usual",))
        if is_aligned(located, self.settings):
            return self._as_it_is(located)
        require_faces(located.paths, located.indices, self.settings, self.name)
        paths: list[FacePath | None] = [*located.paths] or [None]
        return self._recording(located, self.settings.detector, paths, self._crops(located, paths))

    def _recording(
        self, located: Located | None, detector: str | None, paths: list[FacePath | None], chunks: Iterable[Chunk]
    ) -> Recording:
        plan = self.plan
        places = np.isin(plan.indices, located.indices) if located else slice(None)
        size, cuts = (located.size, located.cuts) if located else ((0, 0), [])
        return Recording(
            plan.seconds[places],
            plan.indices[places],
            plan.duration,
            size,
            detector,
            cuts,
            paths,
            plan.timed,
            chunks,
        )

    def _undecodable(self) -> VideoDecodeError:
        return VideoDecodeError(f"Not one frame of {self.name} can be decoded; encode it again.")

    # Passes

    def _views(self) -> tuple[str, ...]:
        """The views in which faces are found in a few frames, spread over the video."""
        assert self.settings is not None
        few: list[torch.Tensor] = []
        # Short videos of usual size are decoded once: their frames are kept.
        for place, (number, frame) in enumerate(self._decoded(self._unless_long)):
            if self.kept is None:
                break
            self.kept.append((number, frame))
            if (place + 1) * frame.nbytes > _KEPT_BYTES:
                self.kept = None
        if self.kept is not None and self.kept:
            places = np.unique(np.linspace(0, len(self.kept) - 1, _FEW).astype(int))
            few = [self.kept[place][1] for place in places.tolist()]
            return look_for_faces(few, self.settings)
        self.kept = None
        return look_for_faces((frame for _, frame in self._decoded(self._glimpses)), self.settings)

    def _unless_long(self, seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        """All sampled frames of a short video, one of a long one."""
        indices = self.plan(seconds, total, duration)
        if len(indices) <= _LOOK_FIRST:
            return indices
        self.kept = None
        return indices[:1]

    def _glimpses(self, seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        """A few frames that are spread over the video; key frames, where there are some, because they cost least."""
        indices = self.plan(seconds, total, duration)
        chosen = np.unique(np.linspace(0, len(indices) - 1, _GLIMPSES).astype(int))
        glimpses = indices[chosen]
        keys = self.source.key_frames() if isinstance(self.source, VideoFile) else np.zeros(0, np.int64)
        if len(keys):
            nearest = keys[np.abs(keys[None] - glimpses[:, None]).argmin(1)]
            # Where key frames are rare, the frames between them are looked at, too.
            near = np.abs(nearest - glimpses) <= total / _GLIMPSES
            glimpses = np.unique(np.where(near, nearest, glimpses))
        return glimpses

    def _sampled(self) -> Iterator[tuple[int, float, torch.Tensor]]:
        """Number, seconds and picture of each sampled frame, for the search."""
        keep: list[tuple[int, torch.Tensor]] | None = None if self.kept is not None else []
        frames = self.kept if self.kept is not None else self._decoded(self.plan)
        for number, frame in frames:
            place = int(np.searchsorted(self.plan.indices, number))
            self.progress(0.5 * place / len(self.plan.indices))
            if keep is not None and len(self.plan.indices) * frame.nbytes <= _KEPT_BYTES:
                keep.append((number, frame))
            else:
                keep = None
            yield number, float(self.plan.seconds[place]), frame
        # They need not be decoded again for the crops.
        self.kept = self.kept if self.kept is not None else keep

    def _decoded(self, sampler: Any) -> Iterator[tuple[int, torch.Tensor]]:
        for number, _, frame in stream(self.source, sampler):
            self.decoded += 1
            yield number, self.as_bytes(frame)

    # Chunks

    def _crops(self, located: Located, paths: list[FacePath | None]) -> Iterator[Chunk]:
        """The faces of all people, cut out frame by frame."""
        assert self.settings is not None
        settings = self.settings
        if settings.crop == "all" and located.paths:
            settings = replace(settings, no_face="skip")
        waiting: list[list[tuple[int, torch.Tensor, np.ndarray]]] = [[] for _ in paths]
        # Of many people, most are not in a frame.
        there = [frozenset() if path is None else frozenset(path.indices.tolist()) for path in paths]
        frames = self.kept if self.kept is not None else self._decoded(self.plan)
        self.kept = None
        for number, frame in frames:
            place = int(np.searchsorted(located.indices, number))
            self.progress(0.5 + 0.5 * place / len(located.indices))
            for person, path in enumerate(paths):
                if settings.no_face == "skip" and number not in there[person]:
                    continue
                face = cut_face(frame[None], np.array([number]), path, settings)
                if not len(face.frames):
                    continue
                waiting[person].append((place, face.frames[0], face.boxes[0]))
                if len(waiting[person]) == CHUNK:
                    yield _chunk(person, waiting[person])
                    waiting[person] = []
        for person, rows in enumerate(waiting):
            if rows:
                yield _chunk(person, rows)
        self.progress(1.0)

    def _as_it_is(self, located: Located | None = None) -> Recording:
        """The video without cutting out faces: because none are wanted, or because it is a crop of one already."""
        pictures = self._pictures(located is not None)
        first = next(pictures, None)
        if first is None:
            raise self._undecodable()
        recording = self._recording(located, None, [None], self._whole(first, pictures))
        if located is None:
            recording.size = self.original_size
        return recording

    def _pictures(self, kept: bool) -> Iterator[tuple[int, torch.Tensor]]:
        self.original_size = (0, 0)

        def reduce(picture: torch.Tensor) -> torch.Tensor:
            self.original_size = (picture.shape[-1], picture.shape[-2])
            return self.each(picture) if self.each else picture

        if kept and self.kept is not None:
            yield from ((number, reduce(frame)) for number, frame in self.kept)
            return
        for number, _, frame in stream(self.source, self.plan, reduce):
            # Arrays are not reduced.
            if self.original_size == (0, 0):
                self.original_size = (frame.shape[-1], frame.shape[-2])
            yield number, self.as_bytes(frame)

    def _whole(self, first: tuple[int, torch.Tensor], others: Iterator[tuple[int, torch.Tensor]]) -> Iterator[Chunk]:
        rows: list[tuple[int, torch.Tensor, np.ndarray]] = []
        nowhere = np.full(4, np.nan)
        for number, frame in (one for part in ((first,), others) for one in part):
            place = int(np.searchsorted(self.plan.indices, number))
            self.progress(place / len(self.plan.indices))
            rows.append((place, frame, nowhere))
            if len(rows) == CHUNK:
                yield _chunk(0, rows)
                rows = []
        if rows:
            yield _chunk(0, rows)
        self.progress(1.0)


def _chunk(person: int, rows: list[tuple[int, torch.Tensor, np.ndarray]]) -> Chunk:
    places, frames, boxes = zip(*rows, strict=True)
    return Chunk(person, np.array(places), torch.stack(frames), np.stack(boxes))
