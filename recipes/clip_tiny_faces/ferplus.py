"""Selects and crops the photographs of FER2013 with the votes of FER+."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tgdfer.processing.detectors_tgdfer import Detector, find_faces, load_detector
from tgdfer.processing.faces_tgdfer import FaceSettings, align
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import EMOTIONS

SIZE, PLAIN_SIZE = 112, 48
# Emotions with votes in FER+. Rendered faces do not show the last one.
CLASSES = (*EMOTIONS, "contempt")
SPLITS = ("train", "validation", "test")
# The order of the column `votes`.
_VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "no face")
_COLUMNS = ("image", "votes", "label", "split", "near")
# Size in pixels to which photographs are enlarged for YuNet, which does not find faces of 48 pixels.
_LARGE = 192
# Version of the cached file. It changes whenever the same source would give other pictures or votes.
_VERSION = "1"


@dataclass(frozen=True)
class VotedFaces:
    """N photographs of one split.

    Attributes:
        plain (`np.ndarray` of shape `(N, 48, 48)`): Published grey pictures, uint8.
        aligned (`np.ndarray` of shape `(N, 112, 112)`): Grey face crops, uint8, with the settings of prediction. If no
            face was found, the full picture.
        found (`np.ndarray` of shape `(N,)`): Whether a face was found.
        votes (`np.ndarray` of shape `(N, 8)`): Shares of the votes for `CLASSES`, float32. Each row sums to one.
        labels (`np.ndarray` of shape `(N,)`): Index in `CLASSES` of the class with more than half of all votes, or -1,
            int64.
    """

    plain: np.ndarray
    aligned: np.ndarray
    found: np.ndarray
    votes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pictures and the votes."""
        return hashlib.sha256(self.plain.tobytes() + self.found.tobytes() + self.votes.tobytes()).hexdigest()

    def majority_indices(self) -> np.ndarray:
        """Returns the indices (M,) of the photographs with a clear majority for one of the seven emotions."""
        return np.flatnonzero((self.labels >= 0) & (self.labels < len(EMOTIONS)))


def prepare_ferplus(
    source: str | Path,
    cache: str | Path,
    face_model: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Crops all photographs, and stores them with their votes in one file.

    Photographs are excluded if "not a face" has the most votes, or if no emotion has votes. In the training and
    validation splits, photographs are also excluded if the column `near` names a similar picture of the test split or
    of the real clips.

    Args:
        source (`str | Path`): Parquet file with the columns image, votes, label, split and near.
        cache (`str | Path`): `.safetensors` file to write. Nothing is done if it was made from the same source.
        face_model (`str | Path`, *optional*): Path of the YuNet model. None loads it from the Hub.
        progress (`Callable`, *optional*): Called with the number of finished photographs and their total number.

    Raises:
        UserError: If the source cannot be read or lacks a column.
        VideoDecodeError: If YuNet cannot be loaded.
    """
    source, cache = Path(source), Path(cache)
    digest = _digest(source)
    if cache.is_file() and _source_of(cache) == (digest, _VERSION):
        return
    try:
        table = pq.read_table(source, columns=list(_COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{source} cannot be read as a parquet file with {', '.join(_COLUMNS)} ({error}).") from error
    votes, used = _select_rows(table.select(["votes", "split", "near"]).to_pylist())
    detector = load_detector("yunet", str(face_model) if face_model else None)[1]
    plain, aligned, found = [], [], []
    images = table["image"]
    for done, row in enumerate(used, 1):
        picture = cv2.imdecode(np.frombuffer(images[int(row)]["bytes"].as_py(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise UserError(f"{source}: the image in row {row} cannot be read; download the file again.")
        picture = cv2.resize(picture, (PLAIN_SIZE, PLAIN_SIZE), interpolation=cv2.INTER_AREA)
        crop = crop_face(picture, detector)
        plain.append(picture)
        found.append(crop is not None)
        aligned.append(enlarge(picture, SIZE) if crop is None else crop)
        if progress:
            progress(done, len(used))
    names = [CLASSES.index(name) if name in CLASSES else -1 for name in table["label"].to_pylist()]
    splits = [SPLITS.index(name) for name in table["split"].to_pylist()]
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_suffix(".part")
    columns = {
        "plain": np.stack(plain),
        "aligned": np.stack(aligned),
        "found": np.array(found),
        "votes": votes[used],
        "labels": np.array(names, np.int64)[used],
        "splits": np.array(splits, np.uint8)[used],
    }
    save_file(columns, draft, metadata={"source": digest, "version": _VERSION})
    os.replace(draft, cache)


def load_ferplus(cache: str | Path, split: str) -> VotedFaces:
    """Loads one split ("train", "validation" or "test") of a file that `prepare_ferplus` has written.

    Raises:
        UserError: If there is no such file.
    """
    if _source_of(Path(cache))[1] != _VERSION:
        raise UserError(f"{cache} contains no prepared photographs: run `prepare` first.")
    with safe_open(cache, "numpy") as file:
        rows = np.flatnonzero(file.get_tensor("splits") == SPLITS.index(split))
        return VotedFaces(*(file.get_tensor(name)[rows] for name in VotedFaces.__dataclass_fields__))


def crop_face(picture: np.ndarray, detector: Detector) -> np.ndarray | None:
    """Crops the largest face of a grey picture (H, W) with the settings of prediction.

    Small pictures are enlarged first. As in prediction, a border is added if no face is found without it.

    Returns:
        `np.ndarray | None`: The crop (112, 112), or None if no face is found.
    """
    scale = max(1.0, _LARGE / max(picture.shape))
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    large = cv2.cvtColor(large, cv2.COLOR_GRAY2RGB)
    faces = find_faces(detector, large)
    if not len(faces):
        return None
    face = faces[(faces[:, 2] * faces[:, 3]).argmax()]
    crop = align(large, face[4:14].reshape(5, 2), SIZE, FaceSettings.margin)
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)


def read_face(file: Path, detector: Detector) -> np.ndarray:
    """Reads the grey face crop (112, 112) of a picture file.

    Raises:
        UserError: If the file cannot be read, or no face is found.
    """
    picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise UserError(f"{file} cannot be read as a picture.")
    crop = crop_face(picture, detector)
    if crop is None:
        raise UserError(f"YuNet finds no face in {file}; use another picture.")
    return crop


def enlarge(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes a picture to (size, size) with cubic interpolation."""
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)


def _select_rows(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shares of the votes (N, 8) of all rows, and the indices of the rows that are used."""
    counts = np.array([row["votes"] for row in rows], np.float32).reshape(-1, len(_VOTED))
    emotions = counts[:, [_VOTED.index(name) for name in CLASSES]]
    no_face = counts[:, _VOTED.index("no face")]
    known = (emotions.sum(1) > 0) & (no_face < emotions.max(1))
    near = np.array([bool(row["near"]) and row["split"] != "test" for row in rows])
    return emotions / emotions.sum(1, keepdims=True).clip(min=1), np.flatnonzero(known & ~near)


def _digest(source: Path) -> str:
    if not source.is_file():
        raise UserError(f"{source} is not a file: give the parquet file of the photographs.")
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source_of(cache: Path) -> tuple[str | None, str | None]:
    """Returns the hash of the source and the version of a prepared file. Both are None for any other file."""
    try:
        with safe_open(cache, "numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None, None
    return metadata.get("source"), metadata.get("version")
