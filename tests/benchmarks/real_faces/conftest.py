"""Made-up photographs, and a stand-in for the environment of `fer`."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces import cropped_photographs, fer_environment
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS


def picture(label: str, seed: int) -> bytes:
    """A grey square whose brightness tells the label, with noise."""
    noise = np.random.default_rng(seed).normal(0, 4, (48, 48))
    grey = np.clip(20 + 35 * EMOTIONS.index(label) + noise, 0, 255).astype(np.uint8)
    return cv2.imencode(".png", grey)[1].tobytes()


@pytest.fixture
def photographs_file(tmp_path):
    """Six photographs of each emotion in every split, and some that do not count."""
    rows = [
        {"image": {"bytes": picture(label, 100 * part + n), "path": ""}, "label": label, "split": split, "near": ""}
        for part, split in enumerate(("train", "validation", "test"))
        for n in range(6)
        for label in EMOTIONS
    ]
    extra = {"image": {"bytes": picture("anger", 0), "path": ""}, "label": "anger", "split": "train", "near": ""}
    rows += [
        extra | {"label": "contempt"},
        extra | {"label": ""},
        extra | {"near": "test"},
        extra | {"near": "realclips"},
        extra | {"near": "test", "split": "validation"},
    ]
    path = tmp_path / "photographs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def no_detector(monkeypatch):
    """Finds no faces, and counts the photographs that it was given."""
    seen = []

    def nothing(name, model):
        return lambda picture: seen.append(picture.shape) or np.zeros((0, 15))

    monkeypatch.setattr("tgdfer.processing.detectors_tgdfer._detector", nothing)
    return seen


@pytest.fixture
def photographs(photographs_file, clip_folder, tmp_path, no_detector, monkeypatch) -> PhotographDataset:
    """The photographs as a data set, in files of at most 16 crops."""
    monkeypatch.setattr(cropped_photographs, "_PART", 16)
    return PhotographDataset(photographs_file, Settings(model=str(clip_folder)), tmp_path / "work")


class FakeFer:
    """Says that dark pictures are anger and all others happiness."""

    def probabilities(self, pictures):
        scores = np.full((len(pictures), 7), 0.05, np.float32)
        for row, one in zip(scores, pictures, strict=True):
            row[fer_environment.CLASSES.index("anger" if one.mean() < 40 else "happiness")] = 0.7
        return scores


@pytest.fixture
def fer():
    return FakeFer()


@pytest.fixture
def trained(clip_folder, tmp_path) -> TrainedModel:
    """An untrained model of the seven emotions, saved as a trained and calibrated one is, which cuts faces out."""
    torch.manual_seed(3)
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), sorted(EMOTIONS))
    model.config.temperature, model.config.unsure_below = 0.2, 0.3
    processor.video_processor.face_crop, processor.video_processor.sampling = "largest", "dense"
    folder = tmp_path / "models" / "calibrated"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return TrainedModel(str(folder))
