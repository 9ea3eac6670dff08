"""Detection of cuts in the sampled frames of a video."""

from collections import deque
from collections.abc import Sequence

import numpy as np

try:
    import cv2
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector
except ImportError:
    AdaptiveDetector = None

# Height and width to which images are resized before they are compared. Cuts change the whole image, so small images
# are sufficient.
_HEIGHT, _WIDTH = 48, 84
# Number of frames before and after a frame with which its change is compared.
_AROUND = 2
# Minimum change of an image at a cut (0 to 255, mean over hue, saturation and brightness), and its minimum ratio to
# the changes of the frames around it. The change is the default of PySceneDetect. The ratio is lower than the default
# because sampled frames are further apart and therefore differ more.
MIN_CHANGE, MIN_RATIO = 27.0, 2.0


class CutFinder:
    """Finds cuts in a stream of frames with the adaptive detector of PySceneDetect.

    A single frame that differs from similar frames around it is a flash and not a shot. Without PySceneDetect no cuts
    are found.
    """

    def __init__(self) -> None:
        self._detector = None
        if AdaptiveDetector is not None:
            self._detector = AdaptiveDetector(
                adaptive_threshold=MIN_RATIO, min_scene_len=1, window_width=_AROUND, min_content_val=MIN_CHANGE
            )
        self._count = 0
        self._last: np.ndarray | None = None
        # The last frames. When the end of a flash is detected, the frame before the flash is at index 0, and the frame
        # after it is at index 2.
        self._recent: deque[np.ndarray] = deque(maxlen=_AROUND + 3)
        self._cuts: list[int] = []

    def add(self, picture: np.ndarray) -> None:
        """Processes the next frame, (H, W, 3) uint8 RGB."""
        if self._detector is None:
            return
        small = cv2.resize(picture, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1].copy()
        # Frames are compared with those around them, so the first frame and the last frame are repeated.
        for _ in range(1 if self._last is not None else 1 + _AROUND):
            self._feed(small)
        self._last = small

    def cuts(self) -> Sequence[int]:
        """Returns the first frame of each new shot, counted in the order of `add`. Call it once after all frames."""
        if self._last is not None:
            for _ in range(_AROUND):
                self._feed(self._last)
        return self._cuts

    def _feed(self, small: np.ndarray) -> None:
        assert self._detector is not None
        self._recent.append(small)
        for code in self._detector.process_frame(FrameTimecode(self._count, fps=25.0), small):
            cut = code.frame_num - _AROUND
            if self._cuts and self._cuts[-1] == cut - 1 and self._is_flash():
                self._cuts.pop()
            else:
                self._cuts.append(cut)
        self._count += 1

    def _is_flash(self) -> bool:
        """Whether the frames before and after a shot of one frame are similar."""
        before, after = (cv2.cvtColor(self._recent[place], cv2.COLOR_BGR2HSV).astype(np.float32) for place in (0, 2))
        return bool(np.abs(before - after).mean() < MIN_CHANGE)
