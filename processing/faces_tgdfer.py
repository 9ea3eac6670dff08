"""Faces: cut out of the sampled frames of a clip upright, steady and of one size.

`detectors_tgdfer.py` finds the faces of a frame, `tracks_tgdfer.py` joins them to people.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .detectors_tgdfer import DETECTORS, VIEWS, find_faces, find_in_all, load_detector, useful_views
from .shots_tgdfer import CutFinder
from .tracks_tgdfer import FacePath, Person, follow, join_people, lasting, path_of
from .video_file_tgdfer import VideoDecodeError
from .video_reading_tgdfer import ASSUMED_FPS

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

FACE_CROPS = ("none", "largest", "center", "all")
NO_FACE = ("skip", "error", "full_frame")

# The comment in a video file of crops, followed by their size: they are not cut again.
CUT_MARK = "face crop of tgdfer"
# Where both eyes, the nose and the corners of the mouth lie in an aligned face of 112 by 112 pixels (InsightFace).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# A face is aligned already if its landmarks are no further from their places than this share of the picture.
ALIGNED = 0.06
# Pictures that are searched together, a few at a time: so many, or fewer where they are so many bytes.
BATCH, BATCH_BYTES = 16, 2**27


class NoFaceError(VideoDecodeError):
    """A clip without the face that was asked for."""


@dataclass(frozen=True)
class FaceSettings:
    """What is cut out of a clip, and how.

    Attributes:
        crop: "largest" or "center" (one face a clip) or "all" (a clip for each).
        detector: "yunet", "mtcnn", or "auto": YuNet if its model can be had, else MTCNN.
        model: path of YuNet's model; None takes it from the Hub.
        size: height and width of the crops in pixels.
        margin: how much more than the face of the template is seen around it, as a share.
        every: faces are looked for in every n-th frame, and their places between are interpolated.
        no_face: frames without the face are left out ("skip"), given whole ("full_frame"), or an error ("error").
    """

    crop: str = "largest"
    detector: str = "auto"
    model: str | None = None
    size: int = 224
    margin: float = 0.2
    every: int = 1
    no_face: str = "skip"

    def __post_init__(self):
        for name, value, known in (
            ("face_crop", self.crop, FACE_CROPS),
            ("face_detector", self.detector, DETECTORS),
            ("no_face", self.no_face, NO_FACE),
        ):
            if value not in known:
                raise ValueError(f'{name} is one of {", ".join(known)}, not "{value}".')
        if self.size < 8 or self.every < 1 or not -0.5 < self.margin < 4:
            raise ValueError(
                f"A face crop needs face_size >= 8, face_every >= 1 and -0.5 < face_margin < 4, not {self.size}, "
                f"{self.every} and {self.margin}."
            )


@dataclass
class FaceClip:
    """One face of a clip.

    Attributes:
        frames: (T, 3, S, S) uint8, T of the frames of the clip.
        seconds: (T,) of these frames, None where unknown.
        indices: (T,) which of the frames of the clip they are.
        boxes: (T, 4) left, top, right and bottom of the face in pixels of the video; NaN where there is none.
        found: (T,) whether the face was seen there, or shortly before and after.
        person: number of the person in the clip, from 1, in the order of appearance; None for a clip without a face.
        missing: (N,) seconds of the sampled frames without the face, whether they are left out or given whole; their
            numbers where the times are unknown.
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    indices: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    person: int | None
    missing: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def uncut(cls, frames: torch.Tensor, seconds: torch.Tensor | None) -> "FaceClip":
        """A clip that is taken as it is, in which no face was looked for."""
        count = len(frames)
        return cls(frames, seconds, np.arange(count), np.full((count, 4), np.nan), np.zeros(count, bool), None)


def crop_faces(
    frames: torch.Tensor, seconds: torch.Tensor | None, settings: FaceSettings, name: str = "The clip"
) -> list[FaceClip]:
    """Cuts the faces out of a clip.

    Args:
        frames: (T, 3, H, W) uint8 RGB.
        seconds: (T,) of the frames; where unknown, they are taken to be `ASSUMED_FPS` a second.
        settings: what to cut out.
        name: of the video, for messages.

    Returns:
        One face, or several for "all", those that fill most of the clip first. Frames that are crops of an aligned
        face already come back as they are.

    Raises:
        NoFaceError: by `no_face`.
        VideoDecodeError: OpenCV or the model of the detector is missing.
    """
    times = np.arange(len(frames)) / ASSUMED_FPS if seconds is None else seconds.double().numpy()
    indices = np.arange(len(frames))
    located = locate_faces(zip(indices.tolist(), times.tolist(), frames, strict=True), settings)
    if is_aligned(located, settings):
        return [FaceClip.uncut(frames, seconds)]
    # A clip has one face, whatever its shots.
    paths = located.paths if settings.crop == "all" else located.paths[:1]
    require_faces(paths, indices, settings, name)
    clips = [cut_face(frames, indices, path, settings) for path in paths] or [
        cut_face(frames, indices, None, settings)
    ]
    if seconds is not None:
        for clip in clips:
            clip.seconds = seconds[clip.indices]
            clip.missing = times[clip.missing.astype(np.int64)]
    return clips


@dataclass
class Located:
    """Who is where in the N sampled frames of a video.

    Attributes:
        paths: of the people that were asked for, those that fill most of the video first: of all, or of the largest or
            most central one in each shot.
        indices: (N,) numbers of the frames in the video.
        seconds: (N,) their times.
        cuts: places among these frames at which a new shot begins.
        size: width and height of the pictures.
    """

    paths: list[FacePath]
    indices: np.ndarray
    seconds: np.ndarray
    cuts: list[int]
    size: tuple[int, int]


def locate_faces(
    frames: Iterable[tuple[int, float, torch.Tensor]], settings: FaceSettings, views: Iterable[str] = VIEWS
) -> Located:
    """Looks for faces in frames as they come, of which a few are kept at a time, and follows people through them.

    Args:
        frames: number in the video, seconds and picture (3, H, W) of each sampled frame, in order.
        settings: what to look for.
        views: in which of the views of `find_faces` faces are looked for.

    Raises:
        VideoDecodeError: OpenCV or the model of the detector is missing.
    """
    seen = _search(frames, settings, views)
    cuts = seen.cuts_among_looked()
    tracks = follow(seen.faces, seen.seconds[seen.looked], cuts=cuts)
    if settings.crop == "all":
        tracks = lasting(tracks, seen.seconds[seen.looked], cuts)
    for track in tracks:
        track.frames = [seen.looked[index] for index in track.frames]
    people = join_people(tracks, seen.cuts)
    people.sort(key=functools.partial(_prominence, crop=settings.crop, size=seen.size), reverse=True)
    if settings.crop != "all":
        first_of_shot = {person.shot: person for person in reversed(people)}
        people = [person for person in people if person is first_of_shot[person.shot]]
    paths = [path_of(person, seen.indices, seen.seconds, seen.cuts, seen.looked) for person in people]
    return Located(paths, seen.indices, seen.seconds, seen.cuts, seen.size)


def is_aligned(located: Located, settings: FaceSettings) -> bool:
    """Whether the frames are crops of one face already, which lies where `align` would bring it.

    The pictures are squares with one person, whose landmarks are where they belong in half of the frames and more.
    """
    width, height = located.size
    if len(located.paths) != 1 or width != height or 2 * len(located.paths[0].indices) < len(located.indices):
        return False
    aim = aligned_landmarks(width, settings.margin)
    apart = np.linalg.norm(located.paths[0].points - aim, axis=-1).mean(-1)
    return bool(np.median(apart) < ALIGNED * width)


def look_for_faces(pictures: Iterable[torch.Tensor], settings: FaceSettings) -> tuple[str, ...]:
    """The views in which faces are found in a few pictures (3, H, W) of a video; none if there is no face in them.

    Raises:
        VideoDecodeError: OpenCV or the model of the detector is missing.
    """
    detector = load_detector(settings.detector, settings.model)[1]
    arrays = (picture.permute(1, 2, 0).contiguous().numpy() for picture in pictures)
    return useful_views(detector, arrays, settings.crop != "largest")


@dataclass
class _Search:
    """What was found in the N sampled frames of a video.

    Attributes:
        indices: (N,) numbers of the frames in the video.
        seconds: (N,) their times.
        looked: which of them were looked at, by their places.
        faces: of each of these, its faces (F, 15).
        cuts: places at which a new shot begins.
        size: width and height of the pictures.
    """

    indices: np.ndarray
    seconds: np.ndarray
    looked: list[int]
    faces: list[np.ndarray]
    cuts: list[int]
    size: tuple[int, int]

    def cuts_among_looked(self) -> list[int]:
        """The cuts as places among the frames that were looked at."""
        return sorted({int(np.searchsorted(self.looked, cut)) for cut in self.cuts})


def _search(
    frames: Iterable[tuple[int, float, torch.Tensor]], settings: FaceSettings, views: Iterable[str]
) -> _Search:
    """Looks for faces in every `settings.every`-th frame and the last, a few at a time, and for cuts in all frames."""
    detector = load_detector(settings.detector, settings.model)[1]
    # The largest face is found as it is; of several, or in the middle, one may be small beside another.
    look = functools.partial(find_faces, detector, of_all_sizes=settings.crop != "largest", views=tuple(views))
    numbers: list[int] = []
    seconds: list[float] = []
    looked: list[int] = []
    found: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    picture = np.zeros((1, 1, 3), np.uint8)
    cut_finder = CutFinder()

    for place, (number, second, frame) in enumerate(frames):
        numbers.append(number)
        seconds.append(second)
        picture = frame.permute(1, 2, 0).contiguous().numpy()
        cut_finder.add(picture)
        if place % settings.every == 0:
            looked.append(place)
            waiting.append(picture)
        if len(waiting) == BATCH or len(waiting) * picture.nbytes >= BATCH_BYTES:
            found += find_in_all(look, waiting)
            waiting = []
    if looked and looked[-1] != len(numbers) - 1:
        looked.append(len(numbers) - 1)
        waiting.append(picture)
    found += find_in_all(look, waiting)
    size = (picture.shape[1], picture.shape[0])
    return _Search(np.array(numbers, dtype=np.int64), np.array(seconds), looked, found, list(cut_finder.cuts()), size)


def _prominence(person: Person, crop: str, size: tuple[int, int]) -> float:
    """Area of a face, or its nearness to the middle, summed over the frames in which it is."""
    if crop == "center":
        middles = (person.faces[:, :2] + person.faces[:, 2:4] / 2) / np.array(size) - 0.5
        return float((1 - np.linalg.norm(middles, axis=1)).sum())
    return float((person.faces[:, 2] * person.faces[:, 3]).sum())


def require_faces(paths: Sequence[FacePath], indices: np.ndarray, settings: FaceSettings, name: str) -> None:
    """Makes sure that there is a face where `no_face` demands one, in the sampled frames `indices` of a video.

    Raises:
        NoFaceError: if not.
    """
    seen = frames_with_a_face(paths, indices)
    if not seen.any() and settings.no_face != "full_frame":
        raise NoFaceError(
            f'{name} has no face in any of {len(indices)} sampled frames; set no_face="full_frame" to use them whole.'
        )
    if not seen.all() and settings.no_face == "error":
        raise NoFaceError(
            f"{name} has no face in {(~seen).sum()} of {len(indices)} sampled frames; set no_face to "
            '"skip" or "full_frame".'
        )


def frames_with_a_face(paths: Sequence[FacePath], indices: np.ndarray) -> np.ndarray:
    """Which of the sampled frames `indices` (T,) of a video lie on a path: mask (T,)."""
    return np.isin(indices, np.concatenate([np.zeros(0, np.int64), *(path.indices for path in paths)]))


def cut_face(frames: torch.Tensor, indices: np.ndarray, path: FacePath | None, settings: FaceSettings) -> FaceClip:
    """Cuts one face out of frames, and does what `no_face` says where it is not.

    Args:
        frames: (T, 3, H, W) uint8 RGB.
        indices: (T,) their numbers in the video.
        path: where the face is; None if there is none.
        settings: what is cut out.

    Returns:
        A clip without `seconds`, whose `missing` are places; without frames where the face is in none and they are
        skipped.
    """
    numbers = np.zeros(0, np.int64) if path is None else path.indices
    there = np.isin(indices, numbers)
    kept = np.arange(len(indices)) if settings.no_face == "full_frame" else np.flatnonzero(there)
    boxes = np.full((len(kept), 4), np.nan)
    crops = []
    for row, place in enumerate(kept):
        picture = frames[place].permute(1, 2, 0).contiguous().numpy()
        if path is not None and there[place]:
            step = int(np.searchsorted(numbers, indices[place]))
            boxes[row] = path.boxes[step]
            crops.append(align(picture, path.points[step], settings.size, settings.margin))
        else:
            crops.append(_whole(picture, settings.size))
    stacked = np.stack(crops) if crops else np.zeros((0, settings.size, settings.size, 3), np.uint8)
    return FaceClip(
        torch.from_numpy(stacked.transpose(0, 3, 1, 2).copy()),
        None,
        kept,
        boxes,
        there[kept],
        path.person if path is not None and there.any() else None,
        np.flatnonzero(~there).astype(np.float64),
    )


# Crops


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scale and shift (2, 3) that bring points (N, 2) closest to a target (N, 2), in least squares."""
    # In complex numbers w = a z + b, where a turns and scales.
    z, w = points @ [1, 1j], target @ [1, 1j]
    a = np.vdot(z - z.mean(), w - w.mean()) / max(np.vdot(z - z.mean(), z - z.mean()).real, 1e-9)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned_landmarks(size: int, margin: float) -> np.ndarray:
    """Where the landmarks (5, 2) of an aligned face lie, in pixels."""
    return ((TEMPLATE - 56) / (1 + margin) + 56) * size / 112


def align(picture: np.ndarray, points: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Cuts a face with landmarks (5, 2) out of a picture (H, W, 3), upright: (size, size, 3)."""
    target = aligned_landmarks(size, margin)
    scale = float(np.linalg.norm(similarity(points, target)[0, :2]))
    # Warping takes four pixels of the source for one: before a large face is shrunk, the picture is.
    if 0 < scale < 0.5:
        shrink = max(2 * scale, 8 / min(picture.shape[:2]))
        if shrink < 1:
            picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            points = (points + 0.5) * shrink - 0.5
    return cv2.warpAffine(
        picture, similarity(points, target), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _whole(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture (H, W, 3), as (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
