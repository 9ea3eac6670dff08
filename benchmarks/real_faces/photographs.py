"""The photographs of FER+ as a data set of clips of one frame, cropped by the processor of the package."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import load_file, save_file

from benchmarks.harness.benchmark_dataset import GroundTruth, Settings, weights_hash
from benchmarks.harness.feature_dataset import ClipTable
from benchmarks.real_faces.cropped_photographs import CropPart, cropped, inputs
from tgdfer import processing
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import ModelConfig
from tgdfer.training.errors import UserError
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS

# The figures of a class with fewer test photographs are not reliable.
ENOUGH = 50
_COLUMNS = ("image", "label", "split", "near")


@dataclass
class PhotographDataset:
    """Photographs with a clear majority vote for one of the seven emotions.

    Each photograph is a clip of one frame, and counts as a different person. The class replaces a `BenchmarkDataset`
    for rows that need only features and ground truth.

    Args:
        path (`Path`): Parquet file with the columns `image`, `label` (empty without a clear majority), `split` and
            `near`. Training and validation photographs with a value in `near` resemble test photographs and are not
            used.
        settings (`Settings`): Settings of the benchmark. Only `model` is used.
        work (`Path`): Folder of the cached features.
        face_model (`Path`, *optional*): Path of the YuNet model. None loads it from the Hub.

    Raises:
        UserError: If the file cannot be read, lacks a column or contains no such photographs.
    """

    path: Path
    settings: Settings
    work: Path
    face_model: Path | None = None
    name: str = "photographs"
    title: str = "photographs of FER+"

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UserError(f"{self.path} is not a file: give another file to --photographs.")
        try:
            table = pyarrow.parquet.read_table(self.path, columns=list(_COLUMNS))
        except (OSError, pyarrow.ArrowInvalid, KeyError) as error:
            raise UserError(
                f"{self.path} cannot be read as a parquet file ({error}): give another file to --photographs."
            ) from error
        if missing := [name for name in _COLUMNS if name not in table.column_names]:
            raise UserError(f"{self.path} lacks the column {missing[0]!r}; it must have {', '.join(_COLUMNS)}.")
        metadata = table.select(["label", "split", "near"]).to_pylist()
        self._images = table["image"]
        self.rows = {split: [i for i, row in enumerate(metadata) if _is_used(row, split)] for split in _SPLITS}
        self.labels = {split: [metadata[i]["label"] for i in rows] for split, rows in self.rows.items()}
        if empty := [split for split, rows in self.rows.items() if not rows]:
            raise UserError(f"{self.path} has no photographs of the seven emotions in the split {empty[0]!r}.")

    def require_complete(self) -> None:
        """Does nothing, because the constructor has already read and checked the file."""

    @property
    def classes(self) -> list[str]:
        return sorted(EMOTIONS)

    @property
    def train(self) -> ClipTable:
        return self._table("train")

    @property
    def test(self) -> ClipTable:
        return self._table("test")

    @property
    def people(self) -> list[str]:
        """Name of the person in each training photograph."""
        return self.train.people

    def _table(self, split: str) -> ClipTable:
        people = [f"photograph {row}" for row in self.rows[split]]
        return ClipTable(self.labels[split], people, [[1.0]] * len(people))

    @property
    def truth(self) -> GroundTruth:
        """Ground truth of the test photographs."""
        return GroundTruth(self.classes, self.test.labels, self.test.people, self.test.intensity)

    def pictures(self, split: str) -> list[np.ndarray]:
        """Returns the photographs of a split as published: grey, uint8 (H, W) each.

        Raises:
            UserError: If a photograph cannot be read.
        """
        pictures = []
        for row in self.rows[split]:
            picture = cv2.imdecode(np.frombuffer(self._images[row]["bytes"].as_py(), np.uint8), cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise UserError(f"{self.path}: the image in row {row} cannot be read; fetch the file again.")
            pictures.append(picture)
        return pictures

    def crops(self, split: str) -> Iterator[CropPart]:
        """Yields the cropped faces of the photographs of a split."""
        return cropped(self.pictures(split), self.work / "crops", self.face_model, f"Photographs of {split}")

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model with a frozen CLIP, and its processor."""
        return start_model(ModelConfig(model=self.settings.model, frozen_features=True), self.classes)

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """Returns cached features of the photographs of a split from the frozen CLIP, in one view."""
        model, processor = self.network
        name = hashlib.sha256(json.dumps([self.identity, split, source_hash(processing)]).encode()).hexdigest()
        path = self.work / "features" / f"{split}-{name[:16]}.safetensors"
        if not path.is_file():
            batches = []
            for part in self.crops(split):
                for batch in inputs(processor.video_processor, part):
                    with torch.inference_mode():
                        batches.append(model.eval().get_frame_features(batch["pixel_values_videos"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            save_file({"features": torch.cat(batches).half()}, temporary)
            os.replace(temporary, path)
        features = load_file(path)["features"][None]
        return FrameFeatures(
            features, torch.ones(features.shape[:3], dtype=torch.bool), torch.zeros(features.shape[:3])
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def weights(self) -> str:
        """Hash of the CLIP weights and of the descriptions of the classes."""
        return weights_hash(*self.network)

    @property
    def identity(self) -> str:
        """Hash of photographs, weights and descriptions. Rows with the same identity can be compared."""
        return hashlib.sha256(json.dumps([self.fingerprint, self.weights]).encode()).hexdigest()


_SPLITS = ("train", "validation", "test")


def _is_used(row: Mapping[str, Any], split: str) -> bool:
    """Returns whether a photograph is used in a split. All test photographs are used, as in published results."""
    return row["split"] == split and row["label"] in EMOTIONS and (split == "test" or not row["near"])


def frequent(labels: Sequence[str], minimum: int = ENOUGH) -> list[str]:
    """Returns the labels that occur at least `minimum` times, sorted by name."""
    return [label for label in sorted(set(labels)) if labels.count(label) >= minimum]
