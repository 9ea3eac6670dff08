"""Recognising the same video again: exactly, by its bytes, and after it was encoded again, by a perceptual hash.

The perceptual hash is that of pHash (Zauner, 2010): the signs of the low frequencies of a discrete cosine transform,
relative to their median. It is computed here instead of by the package ImageHash, because OpenCV already has the
transform, the hash is a few lines, and ImageHash would add two dependencies and still compare only single pictures.
"""

import hashlib
import os
from collections.abc import Sequence

import cv2
import numpy as np

# Frames of a clip that are compared.
FRAMES = 8
# Side of the picture that is transformed, and of the square of low frequencies.
_SIDE, _FREQUENCIES = 32, 8
_WORDS = _FREQUENCIES**2 // 64
# Frames whose brightness varies less, 0 to 255, have no content to compare.
_MIN_DEVIATION = 4.0
# Share of the bits in which two videos may differ, averaged over their frames. `docs/guides/data_sets.md` says how the
# value was chosen.
MAX_DISTANCE = 0.15
# Correlation of the thumbnails of two videos that are the same. Among millions of pairs, some hashes are similar by
# chance.
MIN_LIKENESS = 0.98
_THUMBNAIL = 16
# Pairs of clips that are compared at once. A pair takes about 20 bytes.
_PAIRS = 2**21


def content_hash(video: str | bytes) -> str:
    """Returns a hash of the bytes of a video, or of all frames of a folder in the order of their names."""
    digest = hashlib.sha256()
    if isinstance(video, bytes):
        digest.update(video)
    elif os.path.isdir(video):
        for name in sorted(os.listdir(video)):
            with open(os.path.join(video, name), "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    else:
        with open(video, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return digest.hexdigest()


def perceptual_hash(frames: np.ndarray) -> np.ndarray | None:
    """Returns the perceptual hash of a clip.

    Args:
        frames (`np.ndarray` of shape `(T, 3, H, W)`): RGB frames, uint8, spread evenly over the clip.

    Returns:
        `np.ndarray` of shape `(8, 1)`, *optional*: uint64. The last frame is repeated if T is lower. None if a frame
        has no content, such as a black one.
    """
    rows = []
    for frame in frames[:FRAMES]:
        grey = cv2.cvtColor(np.ascontiguousarray(frame.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        if small.std() < _MIN_DEVIATION:
            return None
        low = cv2.dct(small)[:_FREQUENCIES, :_FREQUENCIES].ravel()
        # The first value is the mean brightness, which says nothing about the content.
        bits = low > np.median(low[1:])
        rows.append(np.packbits(bits).view(np.uint64))
    rows += [rows[-1]] * (FRAMES - len(rows))
    return np.stack(rows)


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Returns small grey pictures of the frames of a clip.

    Args:
        frames (`np.ndarray` of shape `(T, 3, H, W)`): RGB frames, uint8, spread evenly over the clip.

    Returns:
        `np.ndarray` of shape `(8, 16, 16)`: uint8. The last frame is repeated if T is lower.
    """
    rows = []
    for frame in frames[:FRAMES]:
        grey = cv2.cvtColor(np.ascontiguousarray(frame.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
        rows.append(cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA))
    return np.stack(rows + [rows[-1]] * (FRAMES - len(rows)))


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the correlation of the brightness of two clips, -1 to 1, averaged over their frames."""
    one, two = (clip.reshape(FRAMES, -1).astype(float) for clip in (first, second))
    one, two = (clip - clip.mean(1, keepdims=True) for clip in (one, two))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(np.mean((one * two).sum(1) / np.maximum(norms, 1e-9)))


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the share of different bits of hashes (..., 8, 1): 0 for the same picture, about 0.5 for others."""
    return np.bitwise_count(first ^ second).sum((-2, -1)) / (64 * _WORDS * FRAMES)


def similar_pairs(
    first: Sequence[np.ndarray | None], second: Sequence[np.ndarray | None], max_distance: float = MAX_DISTANCE
) -> list[tuple[int, int, float]]:
    """Finds clips of one set that are the same video as a clip of another set.

    Args:
        first (`Sequence[np.ndarray | None]` of N arrays of shape `(8, 1)`): Hashes of a set of clips.
        second (`Sequence[np.ndarray | None]` of M arrays of shape `(8, 1)`): Hashes of another set.
        max_distance (`float`, *optional*, defaults to `MAX_DISTANCE`): Distance of two hashes of the same video.

    Returns:
        Index in the first set, index in the second set and distance of each pair.
    """
    one, two = ([index for index, value in enumerate(values) if value is not None] for values in (first, second))
    if not one or not two:
        return []
    left, right = np.stack([first[i] for i in one]), np.stack([second[j] for j in two])  # type: ignore[misc]
    found = []
    rows = max(1, _PAIRS // len(right))
    middle = FRAMES // 2
    for start in range(0, len(left), rows):
        block = left[start : start + rows]
        # The middle frame rules out nearly all pairs. A video has a distance up to twice the mean in one frame.
        bits = sum(
            np.bitwise_count(block[:, None, middle, word] ^ right[None, :, middle, word]).astype(np.int16)
            for word in range(_WORDS)
        )
        for row, column in np.argwhere(bits <= 2 * max_distance * 64 * _WORDS):
            value = float(distance(block[row], right[column]))
            if value <= max_distance:
                found.append((one[start + row], two[column], value))
    return found
