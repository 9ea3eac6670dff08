"""A stand-in for the environment of `fer`, and a trained model."""

import numpy as np
import pytest
import torch

from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces import fer_environment
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS


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
