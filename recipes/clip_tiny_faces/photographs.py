"""Grey, aligned photographs of faces, some of which have a label."""

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
# Action units that occur with any emotion: lips part and jaws drop in speech, and lids close.
_USUAL = frozenset({"AU25", "AU26", "AU43", "AU45"})


@dataclass(frozen=True)
class Photographs:
    """N photographs.

    Attributes:
        images (`np.ndarray` of shape `(N, 112, 112)`): Grey pictures, uint8.
        labels (`np.ndarray` of shape `(N,)`): Index in `EMOTIONS`, or -1 without a label, int64.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pictures and the labels."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()


def load_photographs(
    path: str | Path, hidden: Sequence[str] = ("test",), clips: str | Path | None = None
) -> Photographs:
    """Reads a parquet file with the columns `image` and `label`, and optionally `split` and `person`.

    The labels of the splits in `hidden` are removed, and their pictures are kept. Labels of people who are measured
    later are therefore not used in training. The same applies to the people in the given clips.

    Args:
        path (`str | Path`): Path of the file. Faces must fill the picture with level eyes, like rendered faces.
        hidden (`Sequence[str]`, *optional*, defaults to `("test",)`): Splits whose labels are removed.
        clips (`str | Path`, *optional*): Folder with `train/metadata.jsonl` and `test/metadata.jsonl`, which give the
            `person` of each clip. Labels of these people are removed. Pictures of the people in `test` are removed as
            well.

    Raises:
        UserError: If the file cannot be read, lacks a column, or contains an unknown label.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is not a file: give a parquet file with the columns image and label.")
    try:
        rows = load_dataset("parquet", data_files=str(path), split="train").cast_column("image", Image(mode="L"))
    except Exception as error:  # For damaged files, the libraries raise errors of many types.
        raise UserError(f"{path} cannot be read as a parquet file with an image column ({error}).") from error
    if "label" not in rows.column_names:
        raise UserError(f"{path} has no column 'label'; it has {', '.join(rows.column_names)}.")
    if clips is not None and "person" not in rows.column_names:
        raise UserError(f"{path} has no column 'person', which is needed to exclude the people in {clips}; add it.")
    given, splits, people = (_column(rows, name) for name in ("label", "split", "person"))
    in_train, in_test = (_people(Path(clips) / split) if clips else set() for split in ("train", "test"))
    kept = [row for row, person in enumerate(people) if person not in in_test]
    without_label = [splits[row] in hidden or people[row] in in_train for row in kept]
    labels = np.array(
        [-1 if no else _label_index(given[row], path) for row, no in zip(kept, without_label, strict=True)]
    )
    if (labels < 0).all():
        raise UserError(f"{path} has no usable label outside the splits {', '.join(hidden)}: add labelled pictures.")
    try:
        images = [_grey(row["image"]) for row in rows.select(kept)]
    except Exception as error:  # The same applies to damaged pictures.
        raise UserError(f"{path} cannot be read as a parquet file with an image column ({error}).") from error
    return Photographs(np.stack(images), labels)


def _grey(image: Any) -> np.ndarray:
    return cv2.resize(np.asarray(image), (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _people(folder: Path) -> set[str]:
    """Returns the people in the clips of one split."""
    file = folder / "metadata.jsonl"
    if not file.is_file():
        raise UserError(f"{folder} has no metadata.jsonl: give a folder of clips with the splits train and test.")
    people = {json.loads(line).get("person") for line in file.read_text("utf-8").splitlines()}
    if None in people:
        raise UserError(f"{file} does not say which person is in every clip; add the column person.")
    return people


def _column(rows: Dataset, name: str) -> list[str | None]:
    """Returns a column of names, which the file may store as class numbers. Without the column, all names are None."""
    if name not in rows.column_names:
        return [None] * len(rows)
    names = getattr(rows.features[name], "names", None)
    return [names[value] if names and value is not None and value >= 0 else value for value in rows[name]]


def _label_index(label: str | None, path: str | Path) -> int:
    if not label:
        return -1
    name = canonical_label(label)
    if name not in EMOTIONS:
        raise UserError(
            f"{path} contains the label {label!r}, but labels must be empty or one of: {', '.join(EMOTIONS)}."
        )
    return EMOTIONS.index(name)


@lru_cache
def facts_of_photograph(label: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the facts about a photograph that are true, and those that may be true, given only its label.

    Args:
        label (`int`): Index in `CLASSES`, or -1 without a label.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Two boolean vectors (F,) over `FACTS`: facts that are certainly true, and
        facts that are true or doubtful. Doubtful are facts about person and scene, and the action units of the
        emotion. Action units that occur only with other emotions are false.
    """
    name = CLASSES[label] if label >= 0 else None
    units = set(ACTION_UNITS)
    if name and name in PROTOTYPES:
        units = {unit for variant in PROTOTYPES[name] for unit in variant} | _USUAL
    certain = np.array([fact == name for fact in FACTS])
    possible = np.array(
        [
            fact == name if name and fact in CLASSES else fact in units if fact in ACTION_UNITS else True
            for fact in FACTS
        ]
    )
    return certain, possible


def facts_with_action_units(label: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the facts (F,) that a caption of a photograph may mention.

    These are its emotion, and the action units of a random variant of the emotion.

    Args:
        label (`int`): Index in `CLASSES`.
        rng (`np.random.Generator`): Random generator.
    """
    certain = facts_of_photograph(label)[0]
    name = CLASSES[label]
    if name not in PROTOTYPES:
        return certain
    units = set(rng.choice(np.array(PROTOTYPES[name], dtype=object)))
    return certain | np.array([fact in units for fact in FACTS])
