"""Cuts of a video: where a new shot begins, found in the frames that are sampled anyway."""

from collections import deque
from collections.abc import Sequence

import numpy as np

try:
    import cv2
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector
except ImportError:
    AdaptiveDetector = None

# Height and width of the pictures that are compared. Cuts change the whole picture, so small ones suffice.
_HEIGHT, _WIDTH = 48, 84
# How many frames before and after a frame its change is compared with.
_AROUND = 2
# A cut changes a picture by at least this much (0 to 255, mean over hue, saturation and brightness) and this many
# times as much as the frames around it change. The change is the default of PySceneDetect for cuts; the ratio is lower
# than its default, because sampled frames are further apart and differ more from one another than all frames do.
LEAST_CHANGE, LEAST_RATIO = 27.0, 2.0


class CutFinder:
    """Finds cuts in frames that come one by one, by the adaptive detector of PySceneDetect.

    A frame that is unlike those around it, which are like each other, is a flash and no shot. Without PySceneDetect
    it finds none.
    """

    def __init__(self) -> None:
        self._detector = None
        if AdaptiveDetector is not None:
            self._detector = AdaptiveDetector(
                adaptive_threshold=LEAST_RATIO, min_scene_len=1, window_width=_AROUND, min_content_val=LEAST_CHANGE
            )
        self._count = 0
        self._last: np.ndarray | None = None
        # From the frame before a flash to the one that is looked at when its end is found.
        self._recent: deque[np.ndarray] = deque(maxlen=_AROUND + 3)
        self._cuts: list[int] = []

    def add(self, picture: np.ndarray) -> None:
        """Takes the next frame, (H, W, 3) uint8 RGB."""
        if self._detector is None:
            return
        small = cv2.resize(picture, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1].copy()
        # A cut is told by the frames around it. The first frame is repeated before it, and the last after it.
        for _ in range(1 if self._last is not None else 1 + _AROUND):
            self._feed(small)
        self._last = small

    def cuts(self) -> Sequence[int]:
        """The numbers of the frames, in the order of `add`, with which a new shot begins; to be called at the end."""
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
        """Whether the frames before and after the one that was found to be a shot of its own are alike."""
        before, after = (cv2.cvtColor(self._recent[place], cv2.COLOR_BGR2HSV).astype(np.float32) for place in (0, 2))
        return bool(np.abs(before - after).mean() < LEAST_CHANGE)
