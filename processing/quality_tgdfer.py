"""Warnings about a face that is hard to read for most of the time: small, turned away, covered, dark or unclear."""

import numpy as np
import torch
from torch.nn import functional as F

from .faces_tgdfer import aligned_landmarks
from .tracks_tgdfer import FacePath

# Where a model is right less often by five points and more, on photographs (docs/results/face_limits.md): a face that
# is narrower than this, in pixels of the video ...
LEAST_WIDTH = 18
# ... whose nose lies further from the middle between the eyes than this share of their distance ...
MOST_TURNED = 0.3
# ... or whose crop has a lower mean brightness, 0 to 255 ...
LEAST_BRIGHTNESS = 25
# ... or whose mouth has less detail than this, in shares of that of the eyes, as one percent of uncovered mouths has.
LEAST_MOUTH_DETAIL = 0.4
# A detector that is less sure than this has hardly found a face.
LEAST_SCORE = 0.8
# Side in pixels to which crops are shrunk before their detail is measured, so that noise and texture do not count.
_DETAIL_SIZE = 56
# A warning is given if that is so in more than this share of the frames.
MOSTLY = 0.5


def face_warnings(path: FacePath, quality: np.ndarray) -> list[str]:
    """Sentences about what makes a face hard to read in most of its frames.

    Args:
        path: where the face is.
        quality: (N, 2) of its crops, by `quality_of`.
    """
    brightness, mouth_detail = quality.T
    widths = path.boxes[:, 2] - path.boxes[:, 0]
    reasons = (
        ("small", f"less than {LEAST_WIDTH} pixels wide", widths < LEAST_WIDTH),
        ("turned away", "seen from the side", turn(path.points) > MOST_TURNED),
        ("covered", "the mouth is hidden", mouth_detail < LEAST_MOUTH_DETAIL),
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


def quality_of(crops: torch.Tensor, margin: float) -> np.ndarray:
    """Measures the light and the mouths of aligned faces.

    The detail of a mouth or an eye is the mean difference of brightness between pixels above each other: lids, brows
    and lips are horizontal edges. A mask, a scarf or a hand over the mouth has few of them, unless it has a pattern.

    Args:
        crops: (N, 3, S, S) aligned faces, 0 to 255.
        margin: of the crops; see `FaceSettings`.

    Returns:
        (N, 2): mean brightness, 0 to 255; and the detail of the mouth, in shares of that of the eyes.
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
    # Half a level of brightness is the rounding of a picture.
    return torch.stack([grey.mean((1, 2)), (mouth + 0.5) / (eyes + 0.5)], dim=1).numpy()
