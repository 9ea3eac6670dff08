"""The photographs of FER2013 with the votes of FER+: which are used, and how they are cropped."""

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
# The emotions that people vote for in FER+; the last one is in no rendered face.
CLASSES = (*EMOTIONS, "contempt")
SPLITS = ("train", "validation", "test")
# The order of the column `votes`.
_VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "no face")
_COLUMNS = ("image", "votes", "label", "split", "near")
# YuNet finds faces of some 100 pixels, and the photographs have 48: they are enlarged four times.
_LARGE = 192
# Changes whenever the same file would give other pictures or votes.
_VERSION = "1"


@dataclass(frozen=True)
class VotedFaces:
    """N photographs of one split.

    Attributes:
        plain: uint8 (N, 48, 48), grey, as published.
        aligned: uint8 (N, 112, 112), grey, cut as prediction cuts faces; the whole picture where no face was found.
        found: bool (N,), a face was found.
        votes: float32 (N, 8), shares of the votes for `CLASSES`; each row sums to one.
        labels: int64 (N,), index into `CLASSES` of the class with more than half of all votes; -1 where there is none.
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
        """Hash of pictures and votes."""
        return hashlib.sha256(self.plain.tobytes() + self.found.tobytes() + self.votes.tobytes()).hexdigest()

    def clear(self) -> np.ndarray:
        """Indices (M,) of the photographs with a clear majority for one of the seven emotions."""
        return np.flatnonzero((self.labels >= 0) & (self.labels < len(EMOTIONS)))


def prepare_ferplus(
    source: str | Path,
    cache: str | Path,
    face_model: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Crop all photographs once and keep them, with their votes, in one file.

    Photographs are left out where `not_a_face` has the most votes or no emotion has any. Training and validation also
    leave out those whose column `near` names a picture of the test split or of the real clips.

    Args:
        source: Parquet file with the columns image, votes, label, split and near.
        cache: File to write, a `.safetensors`; it is kept where it was made from the same source.
        face_model: Path of YuNet's model; None takes it from the Hub.
        progress: Called with (photographs done, photographs in all).

    Raises:
        UserError: If the source cannot be read or lacks a column.
        VideoDecodeError: If YuNet is missing.
    """
    source, cache = Path(source), Path(cache)
    digest = _digest(source)
    if cache.is_file() and _source_of(cache) == (digest, _VERSION):
        return
    try:
        table = pq.read_table(source, columns=list(_COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{source} cannot be read as a parquet file with {', '.join(_COLUMNS)} ({error}).") from error
    votes, used = _used(table.select(["votes", "split", "near"]).to_pylist())
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
    """One split, "train", "validation" or "test", of a file that `prepare_ferplus` has written.

    Raises:
        UserError: If there is no such file.
    """
    if _source_of(Path(cache))[1] != _VERSION:
        raise UserError(f"{cache} holds no prepared photographs: run `prepare` first.")
    with safe_open(cache, "numpy") as file:
        rows = np.flatnonzero(file.get_tensor("splits") == SPLITS.index(split))
        return VotedFaces(*(file.get_tensor(name)[rows] for name in VotedFaces.__dataclass_fields__))


def crop_face(picture: np.ndarray, detector: Detector) -> np.ndarray | None:
    """Cut the largest face out of a grey picture (H, W) as prediction does: (112, 112), or None without a face.

    A small picture is enlarged. As in prediction, it gets a border where no face is found without one.
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
    """The face (112, 112) in a picture file, grey.

    Raises:
        UserError: If the file cannot be read or shows no face.
    """
    picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise UserError(f"{file} cannot be read as a picture.")
    crop = crop_face(picture, detector)
    if crop is None:
        raise UserError(f"{file} shows no face that YuNet finds; name another picture.")
    return crop


def enlarge(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture as (size, size), in cubic interpolation."""
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)


def _used(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the votes (N, 8) of all rows, and the indices of the rows that are used."""
    counts = np.array([row["votes"] for row in rows], np.float32).reshape(-1, len(_VOTED))
    emotions = counts[:, [_VOTED.index(name) for name in CLASSES]]
    no_face = counts[:, _VOTED.index("no face")]
    known = (emotions.sum(1) > 0) & (no_face < emotions.max(1))
    near = np.array([bool(row["near"]) and row["split"] != "test" for row in rows])
    return emotions / emotions.sum(1, keepdims=True).clip(min=1), np.flatnonzero(known & ~near)


def _digest(source: Path) -> str:
    if not source.is_file():
        raise UserError(f"{source} is not a file: name the parquet file of the photographs.")
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source_of(cache: Path) -> tuple[str | None, str | None]:
    """Hash of the source, and version, of a prepared file; nothing for any other file."""
    try:
        with safe_open(cache, "numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None, None
    return metadata.get("source"), metadata.get("version")
