"""Where the frames come from: a camera of this machine, or a video file that is played in real time.

The camera of the page is no source. The page sends its frames to the server.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tgdfer.processing.video_reading_tgdfer import ASSUMED_FPS, open_video, stream
from tgdfer.training.errors import UserError

# Size in pixels that a camera is asked for. It may choose another one.
CAMERA_SIZE = (640, 480)
# Frames without an answer after which a camera counts as gone, and seconds between two attempts.
_ATTEMPTS, _PAUSE = 10, 0.1

# A time in seconds since the epoch, and a frame (H, W, 3), RGB, uint8.
Frame = tuple[float, np.ndarray]


def open_camera(number: int) -> Iterator[Frame]:
    """Opens a camera of this machine.

    Args:
        number (`int`): Number of the camera, from 0.

    Returns:
        `Iterator[Frame]`: The time in seconds since the epoch and the frame (H, W, 3), uint8 RGB. It ends when the
        camera disappears.

    Raises:
        UserError: If there is no such camera, or another program uses it.
    """
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentence below says what is wrong
    try:
        # Other backends would take the number for something else.
        backends = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION}
        camera = cv2.VideoCapture(number, backends.get(sys.platform, cv2.CAP_ANY))
    finally:
        cv2.utils.logging.setLogLevel(level)
    for name, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), CAMERA_SIZE, strict=True):
        camera.set(name, value)
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not one that has waited
    if not camera.isOpened() or not camera.read()[0]:
        camera.release()
        raise UserError(
            f"There is no camera {number} on this machine, or another program uses it; connect a camera, give another"
            " number, or leave out --camera to use the camera of the browser."
        )
    return _camera_frames(camera)


def _camera_frames(camera: "cv2.VideoCapture") -> Iterator[Frame]:
    """Yields the frames of a camera until it has given none several times in a row."""
    failed = 0
    try:
        while failed < _ATTEMPTS:
            is_read, picture = camera.read()
            if not is_read:
                failed += 1
                time.sleep(_PAUSE)
                continue
            failed = 0
            yield time.time(), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    finally:
        camera.release()


def open_file(path: Path) -> Iterator[Frame]:
    """Opens a video file, which is played in real time. Frames that come too late are left out.

    Args:
        path (`Path`): The file.

    Returns:
        `Iterator[Frame]`: As for `open_camera`. It ends with the file.

    Raises:
        VideoDecodeError: If the file cannot be read.
    """
    frames = _played(path)
    _, first = next(frames)  # so that a file that cannot be read is found now
    return _from_now(first, frames)


def _from_now(first: np.ndarray, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yields a frame that was read earlier with the time at which it is wanted, and the frames after it."""
    yield time.time(), first
    del first  # no frame is kept after it was shown
    yield from frames


def _played(path: Path) -> Iterator[Frame]:
    times = np.zeros(0)

    def all_frames(seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        nonlocal times
        times = np.arange(total) / ASSUMED_FPS if seconds is None else seconds
        return np.arange(total)

    begin: float | None = None
    for number, _, picture in stream(open_video(path), all_frames):
        second = float(times[number])
        if begin is not None:
            time.sleep(max(0.0, begin + second - time.time()))
        # A frame whose successor is due already is not shown.
        if begin is None or number + 1 == len(times) or time.time() - begin <= times[number + 1]:
            yield time.time(), picture[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        # The clock starts when the second frame is asked for, and not when the file is opened.
        begin = time.time() - second if begin is None else begin
