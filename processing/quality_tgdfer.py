"""Warnings about faces that are small, turned away, covered, dark or unclear in most of their frames."""

import numpy as np
import torch
from torch.nn import functional as F

from .faces_tgdfer import aligned_landmarks
from .tracks_tgdfer import FacePath

# Beyond the following limits the accuracy on photographs is lower by about five percentage points or more
# (docs/results/face_limits.md).
# Minimum width of a face in pixels of the video.
MIN_WIDTH = 18
# Maximum distance of the nose from the midpoint between the eyes, as a fraction of the distance between the eyes.
MAX_TURN = 0.3
# Minimum mean brightness of a crop, 0 to 255.
MIN_BRIGHTNESS = 25
# Minimum detail of the mouth, as a fraction of that of the eyes. One percent of uncovered mouths is below it.
MIN_MOUTH_DETAIL = 0.4
# Minimum score of a reliable detection.
MIN_SCORE = 0.8
# Size in pixels to which crops are reduced before their detail is measured, so that noise and texture are ignored.
_DETAIL_SIZE = 56
# A warning is given if a limit is exceeded in more than this fraction of the frames.
MOSTLY = 0.5


def face_warnings(path: FacePath, quality: np.ndarray) -> list[str]:
    """Returns warnings about the conditions that make a face hard to classify in most of its frames.

    Args:
        path (`FacePath`): Positions of the face in N frames.
        quality (`np.ndarray` of shape `(N, 2)`): Output of `quality_of` for its crops.

    Returns:
        `list[str]`: One sentence for each condition.
    """
    brightness, mouth_detail = quality.T
    widths = path.boxes[:, 2] - path.boxes[:, 0]
    reasons = (
        ("small", f"less than {MIN_WIDTH} pixels wide", widths < MIN_WIDTH),
        ("turned away", "seen from the side", turn(path.points) > MAX_TURN),
        ("covered", "the mouth is hidden", mouth_detail < MIN_MOUTH_DETAIL),
        ("dark", f"the brightness is below {MIN_BRIGHTNESS} of 255", brightness < MIN_BRIGHTNESS),
        ("hard to make out", "the detector is not confident", path.scores < MIN_SCORE),
    )
    return [
        f"The face is {what}: {how} in {where.mean():.0%} of its frames."
        for what, how, where in reasons
        if len(where) and where.mean() > MOSTLY
    ]


def turn(points: np.ndarray) -> np.ndarray:
    """Measures how far faces are turned to a side: 0 for a frontal face, and about 0.5 at 30 degrees.

    The measure is the distance of the nose from the midpoint between the eyes, along the line through the eyes, as a
    fraction of the distance between the eyes.

    Args:
        points (`np.ndarray` of shape `(N, 5, 2)`): Landmarks of the faces.

    Returns:
        `np.ndarray` of shape `(N,)`: The measure for each face.
    """
    left, right, nose = points[:, 0], points[:, 1], points[:, 2]
    between = right - left
    length = np.maximum((between**2).sum(-1), 1e-9)
    return np.abs(((nose - (left + right) / 2) * between).sum(-1)) / length


def quality_of(crops: torch.Tensor, margin: float) -> np.ndarray:
    """Measures the brightness and the visibility of the mouth in aligned faces.

    The detail of a mouth or an eye is the mean difference in brightness between vertically adjacent pixels, because
    lids, brows and lips are horizontal edges. A mask, a scarf or a hand over the mouth has few such edges, unless it
    is patterned.

    Args:
        crops (`torch.Tensor` of shape `(N, 3, S, S)`): Aligned faces, 0 to 255.
        margin (`float`): Margin of the crops. See `FaceSettings`.

    Returns:
        `np.ndarray` of shape `(N, 2)`: Mean brightness, 0 to 255, and the detail of the mouth as a fraction of that of
        the eyes.
    """
    grey = crops.float().mean(1)
    small = F.interpolate(grey[:, None], size=(_DETAIL_SIZE, _DETAIL_SIZE), mode="area")[:, 0]
    edges = small.diff(dim=1).abs()
    left, right, _, *corners = aligned_landmarks(_DETAIL_SIZE, margin)
    unit = right[0] - left[0]

    def detail(centre: np.ndarray, width: float, height: float) -> torch.Tensor:
        (first, top), (last, bottom) = (
            np.clip(np.round(centre + side * unit * np.array([width, height])), 0, _DETAIL_SIZE).astype(int)
            for side in (-1, 1)
        )
        return edges[:, top:bottom, first:last].mean((1, 2))

    eyes = (detail(left, 0.35, 0.22) + detail(right, 0.35, 0.22)) / 2
    mouth = detail(np.mean(corners, axis=0), 0.55, 0.35)
    # The constant 0.5 is the rounding error of 8-bit images.
    return torch.stack([grey.mean((1, 2)), (mouth + 0.5) / (eyes + 0.5)], dim=1).numpy()
