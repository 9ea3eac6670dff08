"""Photographs of faces beside the rendered ones: grey, aligned, with a label where somebody gave one."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from datasets import Dataset, Image, load_dataset

from recipes.clip_tiny_faces.captions import FACTS
from recipes.clip_tiny_faces.ferplus import CLASSES
from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import ACTION_UNITS, EMOTIONS, PROTOTYPES

SIZE = 112
# What the face of anybody does at any time: lips part, jaws drop in speech, lids close.
_USUAL = frozenset({"AU25", "AU26", "AU43", "AU45"})


@dataclass(frozen=True)
class Photographs:
    """N photographs.

    Attributes:
        images: uint8 (N, 112, 112), grey.
        labels: int64 (N,), index into `EMOTIONS`; -1 where nobody gave a label.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of pictures and labels."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()


def load_photographs(
    path: str | Path, hidden: Sequence[str] = ("test",), clips: str | Path | None = None
) -> Photographs:
    """Read a parquet file with columns `image` and `label`, and perhaps `split` and `person`.

    Labels of the splits in `hidden` are dropped, the pictures are kept: nobody's label is learned who is to be
    measured later. The same holds for the people in clips that are measured later.

    Args:
        path: The file; faces fill the picture and the eyes lie level, as in rendered ones.
        hidden: Splits of which no label is taken.
        clips: Folder with `train/metadata.jsonl` and `test/metadata.jsonl`, each row with `person`. Of the people in
            either split no label is taken, and of those in `test` no picture.

    Raises:
        UserError: If the file cannot be read, lacks a column, or has a label that is no emotion.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is not a file: name a parquet file with the columns image and label.")
    try:
        rows = load_dataset("parquet", data_files=str(path), split="train").cast_column("image", Image(mode="L"))
    except Exception as error:  # damaged files make the libraries that read them raise anything
        raise UserError(f"{path} cannot be read as a parquet file with an image column ({error}).") from error
    if "label" not in rows.column_names:
        raise UserError(f"{path} has no column 'label'; it has {', '.join(rows.column_names)}.")
    if clips is not None and "person" not in rows.column_names:
        raise UserError(f"{path} has no column 'person', by which people in {clips} are left out; add it.")
    given, splits, people = (_words(rows, name) for name in ("label", "split", "person"))
    in_train, in_test = (_people(Path(clips) / split) if clips else set() for split in ("train", "test"))
    kept = [row for row, person in enumerate(people) if person not in in_test]
    secret = [splits[row] in hidden or people[row] in in_train for row in kept]
    labels = np.array([-1 if s else _index(given[row], path) for row, s in zip(kept, secret, strict=True)])
    if (labels < 0).all():
        raise UserError(f"{path} has no label outside of the splits {', '.join(hidden)}: there is nothing to learn.")
    try:
        images = [_grey(row["image"]) for row in rows.select(kept)]
    except Exception as error:  # so do damaged pictures
        raise UserError(f"{path} cannot be read as a parquet file with an image column ({error}).") from error
    return Photographs(np.stack(images), labels)


def _grey(image: Any) -> np.ndarray:
    return cv2.resize(np.asarray(image), (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _people(folder: Path) -> set[str]:
    """The people in the clips of one split."""
    file = folder / "metadata.jsonl"
    if not file.is_file():
        raise UserError(f"{folder} holds no metadata.jsonl: name a folder of clips with the splits train and test.")
    people = {json.loads(line).get("person") for line in file.read_text("utf-8").splitlines()}
    if None in people:
        raise UserError(f"{file} does not say in every row which person is seen; add the column person.")
    return people


def _words(rows: Dataset, name: str) -> list[str | None]:
    """A column of names, of which the file may keep the numbers; no names where there is no column."""
    if name not in rows.column_names:
        return [None] * len(rows)
    names = getattr(rows.features[name], "names", None)
    return [names[value] if names and value is not None and value >= 0 else value for value in rows[name]]


def _index(label: str | None, path: str | Path) -> int:
    if not label:
        return -1
    name = canonical_label(label)
    if name not in EMOTIONS:
        raise UserError(f"{path} has the label {label!r}, but must have one of: {', '.join(EMOTIONS)}, or none.")
    return EMOTIONS.index(name)


@lru_cache
def facts_of_photograph(label: int) -> tuple[np.ndarray, np.ndarray]:
    """What is true of a photograph of which the label alone is known, and what might be.

    Args:
        label: Index into `CLASSES`, -1 for none.

    Returns:
        Two vectors (F,) bool over `FACTS`: surely true, and true or in doubt. In doubt are person, scene, and the
        action units that come with the emotion; those that come with other emotions alone are absent.
    """
    name = CLASSES[label] if label >= 0 else None
    possible = set(ACTION_UNITS)
    if name and name in PROTOTYPES:
        possible = {unit for variant in PROTOTYPES[name] for unit in variant} | _USUAL
    surely = np.array([fact == name for fact in FACTS])
    maybe = np.array(
        [
            fact == name if name and fact in CLASSES else fact in possible if fact in ACTION_UNITS else True
            for fact in FACTS
        ]
    )
    return surely, maybe


def with_signs(label: int, rng: np.random.Generator) -> np.ndarray:
    """Facts (F,) bool that a caption may name of a photograph: its emotion, and the signs of one of its variants.

    Args:
        label: Index into `CLASSES`.
        rng: Chooses the variant.
    """
    surely = facts_of_photograph(label)[0]
    name = CLASSES[label]
    if name not in PROTOTYPES:
        return surely
    signs = set(rng.choice(np.array(PROTOTYPES[name], dtype=object)))
    return surely | np.array([fact in signs for fact in FACTS])
