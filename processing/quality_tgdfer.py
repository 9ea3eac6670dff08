"""Warnings about a face that is hard to read: small, turned away, dark or covered for most of the time."""

import numpy as np

from .tracks_tgdfer import FacePath

# A face is hard to read if it is narrower than this, in pixels of the video ...
LEAST_WIDTH = 32
# ... if its nose lies further from the middle between the eyes than this share of their distance ...
MOST_TURNED = 0.6
# ... if the mean brightness of its crop, 0 to 255, is below this ...
LEAST_BRIGHTNESS = 30
# ... or if the detector is less sure than this that it is one.
LEAST_SCORE = 0.7
# A warning is given if that is so in more than this share of the frames.
MOSTLY = 0.5


def face_warnings(path: FacePath, brightness: np.ndarray) -> list[str]:
    """Sentences about what makes a face hard to read in most of its frames.

    Args:
        path: where the face is.
        brightness: (N,) mean brightness of its crops, 0 to 255.
    """
    widths = path.boxes[:, 2] - path.boxes[:, 0]
    reasons = (
        ("small", f"less than {LEAST_WIDTH} pixels wide", widths < LEAST_WIDTH),
        ("turned away", "seen from the side", turn(path.points) > MOST_TURNED),
        ("dark", f"with a brightness below {LEAST_BRIGHTNESS} of 255", brightness < LEAST_BRIGHTNESS),
        ("partly covered", "not clearly a face to the detector", path.scores < LEAST_SCORE),
    )
    return [
        f"The face is {what}: {how} in {where.mean():.0%} of its frames."
        for what, how, where in reasons
        if len(where) and where.mean() > MOSTLY
    ]


def turn(points: np.ndarray) -> np.ndarray:
    """How far faces with landmarks (N, 5, 2) are turned to a side: 0 in front; about 0.5 at 30 degrees.

    It is the distance of the nose from the middle between the eyes, along the line through the eyes, in shares of the
    distance of the eyes.
    """
    left, right, nose = points[:, 0], points[:, 1], points[:, 2]
    between = right - left
    length = np.maximum((between**2).sum(-1), 1e-9)
    return np.abs(((nose - (left + right) / 2) * between).sum(-1)) / length
