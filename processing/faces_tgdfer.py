"""Face crops: upright, steady crops of one size from the sampled frames of a video.

`detectors_tgdfer.py` finds the faces in a frame, and `tracks_tgdfer.py` joins them into people.
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

# Comment that marks a video file as face crops, followed by the crop size. Such files are not cropped again.
CROP_MARK = "face crop of tgdfer"
# Positions of the eyes, the nose and the corners of the mouth in an aligned face of 112 by 112 pixels (InsightFace).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# A face is already aligned if the distance of its landmarks from the template is below this fraction of the image
# size.
ALIGNED = 0.06
# Maximum number of images that are searched together, and their maximum size in bytes.
BATCH, BATCH_BYTES = 16, 2**27


class NoFaceError(VideoDecodeError):
    """Raised if a video does not contain the requested face."""


@dataclass(frozen=True)
class FaceSettings:
    """Settings for cropping faces.

    Attributes:
        crop (`str`): "largest" or "center" crops one face per video, and "all" crops each face separately.
        detector (`str`): "yunet", "mtcnn", or "auto", which selects YuNet if its model is available.
        model (`str`, *optional*): Path of the model of YuNet. None loads it from the Hub.
        size (`int`): Height and width of the crops in pixels.
        margin (`float`): Margin around the face of the template, as a fraction of its size.
        every (`int`): Faces are detected in every n-th frame, and interpolated in between.
        no_face (`str`): Frames without the face are left out ("skip"), used as a whole ("full_frame"), or raise an
            error ("error").
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
                raise ValueError(f'{name} must be one of {", ".join(known)}, not "{value}".')
        if self.size < 8 or self.every < 1 or not -0.5 < self.margin < 4:
            raise ValueError(
                f"A face crop needs face_size >= 8, face_every >= 1 and -0.5 < face_margin < 4, not {self.size}, "
                f"{self.every} and {self.margin}."
            )


@dataclass
class FaceClip:
    """Crops of one face in a video.

    Attributes:
        frames (`torch.Tensor` of shape `(T, 3, S, S)`): Crops, uint8.
        seconds (`torch.Tensor` of shape `(T,)`, *optional*): Times of the frames. None if they are unknown.
        indices (`np.ndarray` of shape `(T,)`): Positions of the frames among the sampled frames of the video.
        boxes (`np.ndarray` of shape `(T, 4)`): Left, top, right and bottom of the face in pixels of the video. NaN if
            there is no face.
        found (`np.ndarray` of shape `(T,)`): True where the position of the face is known, because it was detected or
            interpolated. False where a whole frame is used.
        person (`int`, *optional*): Number of the person in the video, from 1, in order of appearance. None if the
            video has no face.
        missing (`np.ndarray` of shape `(N,)`): Times in seconds of the sampled frames without the face, whether they
            are left out or used as a whole. Frame indices if times are unknown.
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    indices: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    person: int | None
    missing: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def uncropped(cls, frames: torch.Tensor, seconds: torch.Tensor | None) -> "FaceClip":
        """Returns whole frames (T, 3, H, W) as if they were crops, without positions of a face."""
        count = len(frames)
        return cls(frames, seconds, np.arange(count), np.full((count, 4), np.nan), np.zeros(count, bool), None)


def crop_faces(
    frames: torch.Tensor, seconds: torch.Tensor | None, settings: FaceSettings, name: str = "The video"
) -> list[FaceClip]:
    """Crops the faces in a video.

    Args:
        frames (`torch.Tensor` of shape `(T, 3, H, W)`): RGB frames, uint8.
        seconds (`torch.Tensor` of shape `(T,)`, *optional*): Times of the frames. Without them a rate of `ASSUMED_FPS`
            is assumed.
        settings (`FaceSettings`): Settings of the crops.
        name (`str`, *optional*, defaults to `"The video"`): Name of the video for messages.

    Returns:
        `list[FaceClip]`: One face, or several for "all", most prominent first. Frames that already are crops of an
        aligned face are returned unchanged.

    Raises:
        NoFaceError: If a face is missing and `no_face` does not allow that.
        VideoDecodeError: If OpenCV or the model of the detector is missing.
    """
    times = np.arange(len(frames)) / ASSUMED_FPS if seconds is None else seconds.double().numpy()
    indices = np.arange(len(frames))
    located = locate_faces(zip(indices.tolist(), times.tolist(), frames, strict=True), settings)
    if is_aligned(located, settings):
        return [FaceClip.uncropped(frames, seconds)]
    # Only one face is used, even if the video has several shots.
    paths = located.paths if settings.crop == "all" else located.paths[:1]
    require_faces(paths, indices, settings, name)
    clips = [crop_face(frames, indices, path, settings) for path in paths] or [
        crop_face(frames, indices, None, settings)
    ]
    if seconds is not None:
        for clip in clips:
            clip.seconds = seconds[clip.indices]
            clip.missing = times[clip.missing.astype(np.int64)]
    return clips


@dataclass
class Located:
    """Positions of the faces in the N sampled frames of a video.

    Attributes:
        paths (`list[FacePath]`): Paths of all people, or of the largest or most central one in each shot, depending on
            the settings. The most prominent person comes first.
        indices (`np.ndarray` of shape `(N,)`): Frame numbers in the video.
        seconds (`np.ndarray` of shape `(N,)`): Times of the frames.
        cuts (`list[int]`): Positions in `indices` at which a new shot begins.
        size (`tuple[int, int]`): Width and height of the frames in pixels.
    """

    paths: list[FacePath]
    indices: np.ndarray
    seconds: np.ndarray
    cuts: list[int]
    size: tuple[int, int]


def locate_faces(
    frames: Iterable[tuple[int, float, torch.Tensor]], settings: FaceSettings, views: Iterable[str] = VIEWS
) -> Located:
    """Detects faces in a stream of frames, and tracks people through them. Only few frames are kept in memory.

    Args:
        frames (`Iterable[tuple[int, float, torch.Tensor]]`): Number in the video, time in seconds and image (3, H, W)
            of each sampled frame, in order.
        settings (`FaceSettings`): Settings of the detection.
        views (`Iterable[str]`, *optional*, defaults to `VIEWS`): Views of `find_faces` to search.

    Returns:
        `Located`: The positions of the faces.

    Raises:
        VideoDecodeError: If OpenCV or the model of the detector is missing.
    """
    result = _search(frames, settings, views)
    cuts = result.cuts_among_searched()
    tracks = follow(result.faces, result.seconds[result.searched], cuts=cuts)
    if settings.crop == "all":
        tracks = lasting(tracks, result.seconds[result.searched], cuts)
    for track in tracks:
        track.frames = [result.searched[index] for index in track.frames]
    people = join_people(tracks, result.cuts)
    people.sort(key=functools.partial(_prominence, crop=settings.crop, size=result.size), reverse=True)
    if settings.crop != "all":
        first_of_shot = {person.shot: person for person in reversed(people)}
        people = [person for person in people if person is first_of_shot[person.shot]]
    paths = [path_of(person, result.indices, result.seconds, result.cuts, result.searched) for person in people]
    return Located(paths, result.indices, result.seconds, result.cuts, result.size)


def is_aligned(located: Located, settings: FaceSettings) -> bool:
    """Whether the frames already are crops of one face as `align` creates them.

    This is the case if they are square, show one person in at least half of the frames, and the median distance of the
    landmarks from the template is small.
    """
    width, height = located.size
    if len(located.paths) != 1 or width != height or 2 * len(located.paths[0].indices) < len(located.indices):
        return False
    target = aligned_landmarks(width, settings.margin)
    distances = np.linalg.norm(located.paths[0].points - target, axis=-1).mean(-1)
    return bool(np.median(distances) < ALIGNED * width)


def look_for_faces(pictures: Iterable[torch.Tensor], settings: FaceSettings) -> tuple[str, ...]:
    """Selects the views that find faces in a few images (3, H, W) of a video.

    Returns:
        `tuple[str, ...]`: The views, or an empty tuple if there is no face.

    Raises:
        VideoDecodeError: If OpenCV or the model of the detector is missing.
    """
    detector = load_detector(settings.detector, settings.model)[1]
    arrays = (picture.permute(1, 2, 0).contiguous().numpy() for picture in pictures)
    return useful_views(detector, arrays, settings.crop != "largest")


@dataclass
class _SearchResult:
    """Detections in the N sampled frames of a video.

    Attributes:
        indices (`np.ndarray` of shape `(N,)`): Frame numbers in the video.
        seconds (`np.ndarray` of shape `(N,)`): Times of the frames.
        searched (`list[int]`): Positions in `indices` of the frames that were searched for faces.
        faces (`list[np.ndarray]`): Faces (F, 15) in each of these.
        cuts (`list[int]`): Positions in `indices` at which a new shot begins.
        size (`tuple[int, int]`): Width and height of the frames in pixels.
    """

    indices: np.ndarray
    seconds: np.ndarray
    searched: list[int]
    faces: list[np.ndarray]
    cuts: list[int]
    size: tuple[int, int]

    def cuts_among_searched(self) -> list[int]:
        """Returns the cuts as positions in `searched`."""
        return sorted({int(np.searchsorted(self.searched, cut)) for cut in self.cuts})


def _search(
    frames: Iterable[tuple[int, float, torch.Tensor]], settings: FaceSettings, views: Iterable[str]
) -> _SearchResult:
    """Detects faces in every `settings.every`-th frame and the last one, and cuts in all frames."""
    detector = load_detector(settings.detector, settings.model)[1]
    # If only the largest face is wanted, small faces beside it need not be searched for.
    detect = functools.partial(find_faces, detector, of_all_sizes=settings.crop != "largest", views=tuple(views))
    numbers: list[int] = []
    seconds: list[float] = []
    searched: list[int] = []
    faces: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    picture = np.zeros((1, 1, 3), np.uint8)
    cut_finder = CutFinder()

    for place, (number, second, frame) in enumerate(frames):
        numbers.append(number)
        seconds.append(second)
        picture = frame.permute(1, 2, 0).contiguous().numpy()
        cut_finder.add(picture)
        if place % settings.every == 0:
            searched.append(place)
            waiting.append(picture)
        if len(waiting) == BATCH or len(waiting) * picture.nbytes >= BATCH_BYTES:
            faces += find_in_all(detect, waiting)
            waiting = []
    if searched and searched[-1] != len(numbers) - 1:
        searched.append(len(numbers) - 1)
        waiting.append(picture)
    faces += find_in_all(detect, waiting)
    size = (picture.shape[1], picture.shape[0])
    indices = np.array(numbers, dtype=np.int64)
    return _SearchResult(indices, np.array(seconds), searched, faces, list(cut_finder.cuts()), size)


def _prominence(person: Person, crop: str, size: tuple[int, int]) -> float:
    """Sums the area of a face over its frames. With "center", sums its proximity to the centre of the frame."""
    if crop == "center":
        middles = (person.faces[:, :2] + person.faces[:, 2:4] / 2) / np.array(size) - 0.5
        return float((1 - np.linalg.norm(middles, axis=1)).sum())
    return float((person.faces[:, 2] * person.faces[:, 3]).sum())


def no_face_error(name: str, frames: str) -> NoFaceError:
    """Creates the error for a video without a face.

    Args:
        name (`str`): Name of the video.
        frames (`str`): The frames that were searched, such as "any of 16 sampled frames".
    """
    return NoFaceError(f'{name} has no face in {frames}; set no_face="full_frame" to use whole frames.')


def require_faces(paths: Sequence[FacePath], indices: np.ndarray, settings: FaceSettings, name: str) -> None:
    """Checks that the sampled frames `indices` of a video have the faces that `no_face` requires.

    Raises:
        NoFaceError: If a required face is missing.
    """
    has_face = frames_with_a_face(paths, indices)
    if not has_face.any() and settings.no_face != "full_frame":
        raise no_face_error(name, f"any of {len(indices)} sampled frames")
    if not has_face.all() and settings.no_face == "error":
        raise NoFaceError(
            f"{name} has no face in {(~has_face).sum()} of {len(indices)} sampled frames; set no_face to "
            '"skip" to leave them out, or to "full_frame" to use whole frames.'
        )


def frames_with_a_face(paths: Sequence[FacePath], indices: np.ndarray) -> np.ndarray:
    """Returns a mask (T,) of the sampled frames `indices` (T,) of a video that are on a path."""
    return np.isin(indices, np.concatenate([np.zeros(0, np.int64), *(path.indices for path in paths)]))


def crop_face(frames: torch.Tensor, indices: np.ndarray, path: FacePath | None, settings: FaceSettings) -> FaceClip:
    """Crops one face. Frames without the face are left out or resized as a whole, depending on `no_face`.

    Args:
        frames (`torch.Tensor` of shape `(T, 3, H, W)`): RGB frames, uint8.
        indices (`np.ndarray` of shape `(T,)`): Frame numbers in the video.
        path (`FacePath`, *optional*): Positions of the face. None if there is no face.
        settings (`FaceSettings`): Settings of the crops.

    Returns:
        `FaceClip`: The crops, without `seconds`. `missing` contains positions in `indices`. There are no crops if no
        frame has the face and such frames are left out.
    """
    numbers = np.zeros(0, np.int64) if path is None else path.indices
    has_face = np.isin(indices, numbers)
    kept = np.arange(len(indices)) if settings.no_face == "full_frame" else np.flatnonzero(has_face)
    boxes = np.full((len(kept), 4), np.nan)
    crops = []
    for row, place in enumerate(kept):
        picture = frames[place].permute(1, 2, 0).contiguous().numpy()
        if path is not None and has_face[place]:
            step = int(np.searchsorted(numbers, indices[place]))
            boxes[row] = path.boxes[step]
            crops.append(align(picture, path.points[step], settings.size, settings.margin))
        else:
            crops.append(_center_square(picture, settings.size))
    stacked = np.stack(crops) if crops else np.zeros((0, settings.size, settings.size, 3), np.uint8)
    return FaceClip(
        torch.from_numpy(stacked.transpose(0, 3, 1, 2).copy()),
        None,
        kept,
        boxes,
        has_face[kept],
        path.person if path is not None and has_face.any() else None,
        np.flatnonzero(~has_face).astype(np.float64),
    )


# Crops


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Computes the similarity transform (2, 3) that maps points (N, 2) to a target (N, 2), by least squares."""
    # In complex numbers this is w = a z + b, where a is the rotation and scale.
    z, w = points @ [1, 1j], target @ [1, 1j]
    a = np.vdot(z - z.mean(), w - w.mean()) / max(np.vdot(z - z.mean(), z - z.mean()).real, 1e-9)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned_landmarks(size: int, margin: float) -> np.ndarray:
    """Returns the landmarks (5, 2) of an aligned face in pixels."""
    return ((TEMPLATE - 56) / (1 + margin) + 56) * size / 112


def align(picture: np.ndarray, points: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Crops a face with landmarks (5, 2) from an image (H, W, 3), and turns it upright: (size, size, 3)."""
    target = aligned_landmarks(size, margin)
    scale = float(np.linalg.norm(similarity(points, target)[0, :2]))
    # Warping interpolates between only four source pixels, so a large image is reduced first to avoid aliasing.
    if 0 < scale < 0.5:
        shrink = max(2 * scale, 8 / min(picture.shape[:2]))
        if shrink < 1:
            picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            points = (points + 0.5) * shrink - 0.5
    return cv2.warpAffine(
        picture, similarity(points, target), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _center_square(picture: np.ndarray, size: int) -> np.ndarray:
    """Crops the central square of an image (H, W, 3) and resizes it to (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
