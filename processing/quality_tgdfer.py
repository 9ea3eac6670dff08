"""Warnings about a face that is hard to read for most of the time: small, turned away, dark or hard to make out."""

import numpy as np

from .tracks_tgdfer import FacePath

# Where a model is right less often by five points and more, on photographs (docs/results/face_limits.md): a face that
# is narrower than this, in pixels of the video ...
LEAST_WIDTH = 18
# ... whose nose lies further from the middle between the eyes than this share of their distance ...
MOST_TURNED = 0.3
# ... or whose crop has a lower mean brightness, 0 to 255.
LEAST_BRIGHTNESS = 25
# A detector that is less sure than this has hardly found a face. It does not tell well whether a face is covered.
LEAST_SCORE = 0.8
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
        ("hard to make out", "the detector is hardly sure of it", path.scores < LEAST_SCORE),
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
