"""Reading of videos of any length for prediction, with only a few frames in memory at a time."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .faces_tgdfer import (
    FaceSettings,
    Located,
    crop_face,
    is_aligned,
    locate_faces,
    look_for_faces,
    no_face_error,
    require_faces,
)
from .frame_sampling_tgdfer import close_gaps, sample_indices
from .tracks_tgdfer import FacePath
from .video_file_tgdfer import FrameTransform, VideoFile
from .video_reading_tgdfer import ASSUMED_FPS, stream
from .video_source_tgdfer import undecodable_error

# Number of frames of one person in a chunk.
CHUNK = 16
# Maximum size in bytes of the sampled frames that are kept in memory, so that they need not be decoded twice.
_KEPT_BYTES = 2**27
# A video with more sampled frames than `_LONG_VIDEO` is first checked for faces in `_PREVIEW_FRAMES` frames.
_LONG_VIDEO, _PREVIEW_FRAMES = 64, 48
# Number of frames that are checked first in a shorter video.
_SHORT_PREVIEW_FRAMES = 8
# Seconds between the frames in which faces are detected. Faces are interpolated in between.
_DETECTION_INTERVAL = 0.25


@dataclass
class Chunk:
    """Frames of one person, or of a video that is not cropped.

    Attributes:
        person (`int`): Index of the person in `Recording.paths`. 0 if the video is not cropped.
        places (`np.ndarray` of shape `(N,)`): Positions among the sampled frames of the video.
        frames (`torch.Tensor` of shape `(N, 3, S, S)` or `(N, 3, H, W)`): RGB crops, or whole frames if the video is
            not cropped, uint8.
        boxes (`np.ndarray` of shape `(N, 4)`): Left, top, right and bottom in pixels of the video. NaN if the face was
            not found.
    """

    person: int
    places: np.ndarray
    frames: torch.Tensor
    boxes: np.ndarray


@dataclass
class Recording:
    """A video and the people in it.

    Attributes:
        seconds (`np.ndarray` of shape `(N,)`): Times of the sampled frames.
        indices (`np.ndarray` of shape `(N,)`): Frame numbers in the video.
        start (`float`): Time of the first frame of the video, in seconds. It is above 0 if the sound begins earlier.
        duration (`float`): Time of the end of the last frame, in seconds.
        size (`tuple[int, int]`): Width and height in pixels.
        detector (`str`, *optional*): Name of the face detector. None if the video is not cropped.
        cuts (`list[int]`): Positions among the sampled frames at which a new shot begins.
        paths (`list[FacePath | None]`): Path of each person. It is `[None]` if the video is not cropped or nobody is
            found.
        timed (`bool`): Whether the video has timestamps. Otherwise a rate of `ASSUMED_FPS` is assumed.
        whole_frames (`bool`): Whether whole frames are used where the face of a person is missing.
        chunks (`Iterable[Chunk]`): The frames of all people. It reads them when it is iterated, which works only once.
    """

    seconds: np.ndarray
    indices: np.ndarray
    start: float
    duration: float
    size: tuple[int, int]
    detector: str | None
    cuts: list[int]
    paths: list[FacePath | None]
    timed: bool
    whole_frames: bool
    chunks: Iterable[Chunk] = field(repr=False)

    @property
    def edges(self) -> np.ndarray:
        """Limits (N + 1,) in seconds between the sampled frames, halfway between adjacent frames."""
        between = (self.seconds[1:] + self.seconds[:-1]) / 2
        return np.concatenate([[self.start], between, [max(self.duration, float(self.seconds[-1]))]])

    def most_frames(self, person: int) -> int:
        """Returns the maximum number of frames of a person, given by the index in `paths`."""
        path = self.paths[person]
        return len(self.seconds) if path is None or self.whole_frames else len(path.indices)

    def own_shots(self, places: np.ndarray) -> np.ndarray:
        """Returns the positions of all sampled frames in the shots that contain the sampled frames `places`."""
        shots = np.searchsorted(self.cuts, np.arange(len(self.seconds)), side="right")
        return np.flatnonzero(np.isin(shots, shots[places]))


@dataclass
class _Plan:
    """A `Sampler` that takes one frame per `interval` seconds, and at least `minimum` frames.

    Attributes:
        interval (`float`): Seconds between two sampled frames.
        minimum (`int`): Minimum number of frames, if the video has that many.
        indices (`np.ndarray` of shape `(N,)`): Sampled frames, once the video is known.
        seconds (`np.ndarray` of shape `(N,)`): Times of these frames.
        start (`float`): Time of the first frame of the video, in seconds.
        duration (`float`): Time of the end of the last frame, in seconds.
        duration_without_gaps (`float`): Duration without the gaps of `find_gaps`, in which there are no frames.
        timed (`bool`): Whether the video has timestamps.
    """

    interval: float
    minimum: int
    indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    start: float = 0.0
    duration: float = 0.0
    duration_without_gaps: float = 0.0
    timed: bool = True

    def __call__(self, seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        """Selects the frames, as a `Sampler`."""
        self.timed = seconds is not None
        times = np.arange(total) / ASSUMED_FPS if seconds is None else seconds
        length = total / ASSUMED_FPS if duration is None else duration
        self.duration_without_gaps = close_gaps(times, length)[1]
        count = max(self.minimum, math.ceil(self.duration_without_gaps / self.interval - 1e-6))
        self.indices = sample_indices(total, count, times, length)
        self.seconds, self.start = times[self.indices], float(times[0])
        self.duration = self.start + length
        return self.indices

    def steps_within(self, seconds: float) -> int:
        """Returns how many sampled frames fall into a number of seconds, at least one."""
        return max(1, int(seconds * len(self.seconds) / max(self.duration_without_gaps, 1e-9) + 1e-6))


class RecordingReader:
    """Reads one video: a preview of a few frames, then a pass that detects faces, and a pass that crops them.

    Frames that are kept in memory are not decoded again. A short video is therefore decoded only once.

    Args:
        source (`Any`): The opened video.
        settings (`FaceSettings`, *optional*): Settings of the crops. None does not crop.
        interval (`float`): Seconds between two sampled frames.
        minimum (`int`): Minimum number of sampled frames, if the video has that many.
        as_bytes (`Callable`): Converts decoded images to RGB in uint8.
        transform (`FrameTransform`, *optional*): Applied to each image of a video that is not cropped.
        name (`str`): Name of the video for messages.
        progress (`Callable[[float], None]`): Called with the fraction of the work that is done.
    """

    def __init__(
        self,
        source: Any,
        settings: FaceSettings | None,
        interval: float,
        minimum: int,
        as_bytes: Callable[[torch.Tensor], torch.Tensor],
        transform: FrameTransform | None,
        name: str,
        progress: Callable[[float], None],
    ):
        self.source, self.settings, self.as_bytes, self.transform = source, settings, as_bytes, transform
        self.name, self.progress = name, progress
        self.plan = _Plan(interval, minimum)
        self.kept: list[tuple[int, torch.Tensor]] | None = []
        self.decoded = 0

    def read(self) -> Recording:
        """Finds the people and tracks them through the video.

        Returns:
            `Recording`: The people, and an iterator over their frames.

        Raises:
            VideoDecodeError: If no frame can be read, or `NoFaceError` if there is no face, depending on `no_face`.
        """
        if self.settings is None:
            return self._uncropped()
        views = self._views()
        if not self.decoded:
            raise undecodable_error(self.name)
        if not views and self.settings.no_face != "full_frame":
            raise no_face_error(self.name, "any of the frames that were searched")
        steps = max(self.plan.steps_within(_DETECTION_INTERVAL), self.settings.every)
        self.settings = replace(self.settings, every=steps)
        located = locate_faces(self._sampled(), self.settings, views or ("usual",))
        if is_aligned(located, self.settings):
            return self._uncropped(located)
        require_faces(located.paths, located.indices, self.settings, self.name)
        paths: list[FacePath | None] = [*located.paths] or [None]
        settings = self.settings
        if settings.crop == "all" and located.paths:  # A whole frame would belong to nobody.
            settings = replace(settings, no_face="skip")
        return self._recording(located, settings, paths, self._crops(located, paths, settings))

    def _recording(
        self,
        located: Located | None,
        settings: FaceSettings | None,
        paths: list[FacePath | None],
        chunks: Iterable[Chunk],
    ) -> Recording:
        plan = self.plan
        places = np.isin(plan.indices, located.indices) if located else slice(None)
        size, cuts = (located.size, located.cuts) if located else ((0, 0), [])
        return Recording(
            plan.seconds[places],
            plan.indices[places],
            plan.start,
            plan.duration,
            size,
            None if settings is None else settings.detector,
            cuts,
            paths,
            plan.timed,
            settings is not None and settings.no_face != "skip",
            chunks,
        )

    # Passes

    def _views(self) -> tuple[str, ...]:
        """Selects the views that find faces in a few frames, spread over the video."""
        assert self.settings is not None
        # The frames of short videos are kept, unless they are very large, so that they are decoded only once.
        for place, (number, frame) in enumerate(self._decoded(self._unless_long)):
            if self.kept is None:
                break
            self.kept.append((number, frame))
            if (place + 1) * frame.nbytes > _KEPT_BYTES:
                self.kept = None
        if self.kept is not None and self.kept:
            places = np.unique(np.linspace(0, len(self.kept) - 1, _SHORT_PREVIEW_FRAMES).astype(int))
            preview = [self.kept[place][1] for place in places.tolist()]
            return look_for_faces(preview, self.settings)
        self.kept = None
        return look_for_faces((frame for _, frame in self._decoded(self._sample_preview)), self.settings)

    def _unless_long(self, seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        """Selects all sampled frames of a short video, and one frame of a long video, which gets a preview later."""
        indices = self.plan(seconds, total, duration)
        if len(indices) <= _LONG_VIDEO:
            return indices
        self.kept = None
        return indices[:1]

    def _sample_preview(self, seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        """Selects a few frames, spread over the video. Key frames are preferred because they are decoded fastest."""
        indices = self.plan(seconds, total, duration)
        chosen = np.unique(np.linspace(0, len(indices) - 1, _PREVIEW_FRAMES).astype(int))
        preview = indices[chosen]
        keys = self.source.key_frames() if isinstance(self.source, VideoFile) else np.zeros(0, np.int64)
        if len(keys):
            nearest = keys[np.abs(keys[None] - preview[:, None]).argmin(1)]
            # If key frames are rare, frames between them are used as well.
            is_near = np.abs(nearest - preview) <= total / _PREVIEW_FRAMES
            preview = np.unique(np.where(is_near, nearest, preview))
        return preview

    def _sampled(self) -> Iterator[tuple[int, float, torch.Tensor]]:
        """Yields the number, the time in seconds and the image of each sampled frame for the detection."""
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
        # The kept frames are not decoded again for the crops.
        self.kept = self.kept if self.kept is not None else keep

    def _decoded(self, sampler: Any) -> Iterator[tuple[int, torch.Tensor]]:
        for number, _, frame in stream(self.source, sampler):
            self.decoded += 1
            yield number, self.as_bytes(frame)

    # Chunks

    def _crops(self, located: Located, paths: list[FacePath | None], settings: FaceSettings) -> Iterator[Chunk]:
        """Crops the faces of all people, frame by frame."""
        waiting: list[list[tuple[int, torch.Tensor, np.ndarray]]] = [[] for _ in paths]
        # With many people, most of them are not visible in a given frame.
        frames_of = [frozenset() if path is None else frozenset(path.indices.tolist()) for path in paths]
        followed = _followed(located, paths)
        frames = self.kept if self.kept is not None else self._decoded(self.plan)
        self.kept = None
        for number, frame in frames:
            place = int(np.searchsorted(located.indices, number))
            shot = int(np.searchsorted(located.cuts, place, side="right"))
            self.progress(0.5 + 0.5 * place / len(located.indices))
            for person, path in enumerate(paths):
                whole = settings.no_face != "skip" and followed[shot] == person
                if not whole and number not in frames_of[person]:
                    continue
                face = crop_face(frame[None], np.array([number]), path, settings)
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

    def _uncropped(self, located: Located | None = None) -> Recording:
        """Reads the video without cropping, if `face_crop` is "none" or the video already is a crop of a face."""
        pictures = self._pictures(located is not None)
        first = next(pictures, None)
        if first is None:
            raise undecodable_error(self.name)
        recording = self._recording(located, None, [None], self._whole_frames(located, first, pictures))
        if located is None:
            recording.size = self.original_size
        return recording

    def _pictures(self, kept: bool) -> Iterator[tuple[int, torch.Tensor]]:
        self.original_size = (0, 0)

        def reduce(picture: torch.Tensor) -> torch.Tensor:
            self.original_size = (picture.shape[-1], picture.shape[-2])
            return self.transform(picture) if self.transform else picture

        if kept and self.kept is not None:
            yield from ((number, reduce(frame)) for number, frame in self.kept)
            return
        for number, _, frame in stream(self.source, self.plan, reduce):
            # `reduce` is not applied to some arrays.
            if self.original_size == (0, 0):
                self.original_size = (frame.shape[-1], frame.shape[-2])
            yield number, self.as_bytes(frame)

    def _whole_frames(
        self, located: Located | None, first: tuple[int, torch.Tensor], others: Iterator[tuple[int, torch.Tensor]]
    ) -> Iterator[Chunk]:
        # Detection has left out the frames that cannot be decoded.
        indices = self.plan.indices if located is None else located.indices
        rows: list[tuple[int, torch.Tensor, np.ndarray]] = []
        no_box = np.full(4, np.nan)
        for number, frame in itertools.chain((first,), others):
            place = int(np.searchsorted(indices, number))
            self.progress(place / len(indices))
            rows.append((place, frame, no_box))
            if len(rows) == CHUNK:
                yield _chunk(0, rows)
                rows = []
        if rows:
            yield _chunk(0, rows)
        self.progress(1.0)


def _followed(located: Located, paths: list[FacePath | None]) -> list[int]:
    """Returns the index of the person who gets the whole frames of each shot, where no face is found.

    This is the person who is followed in the shot. In a shot without a face, it is the first person.
    """
    followed = [0] * (len(located.cuts) + 1)
    for person, path in reversed(list(enumerate(paths))):
        if path is not None:
            places = np.searchsorted(located.indices, path.indices)
            for shot in np.unique(np.searchsorted(located.cuts, places, side="right")).tolist():
                followed[shot] = person
    return followed


def _chunk(person: int, rows: list[tuple[int, torch.Tensor, np.ndarray]]) -> Chunk:
    places, frames, boxes = zip(*rows, strict=True)
    return Chunk(person, np.array(places), torch.stack(frames), np.stack(boxes))
