"""Twelve rendered test faces, and the words that a model finds on them. No real face may be shown in a report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.trained_model import TrainedModel
from tgdfer.training.config import ModelConfig
from tgdfer.training.files import write_text
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS, FacePainter, RenderedFaces, sample_clip, sample_person

FACES = 12
_SEED = 0


def rendered_test_faces(number: int = FACES) -> list[tuple[str, np.ndarray]]:
    """Apex frames of people of the test split, one of each, with their labels; uint8 RGB (112, 112, 3)."""
    faces, found = RenderedFaces(), []
    for index in range(number):
        label, person = EMOTIONS[index % len(EMOTIONS)], sample_person(_SEED, "test", index, RenderedFaces.resting)
        clip = sample_clip(label, person, faces, np.random.default_rng([_SEED, index]))
        frame = int(clip.course.intensity.argmax()) if label != "neutral" else len(clip) // 2
        painter = FacePainter(person, clip.setting, faces)
        found.append((label, painter.draw(clip.course.action_units[frame], clip.course.poses[frame], frame=frame)))
    return found


def words_file(work: Path) -> Path:
    """Where `write_words` keeps what was found."""
    return work / "words.json"


def write_words(work: Path, trained: TrainedModel | None, settings: Settings) -> None:
    """Writes what the model finds on the rendered faces: for each the label, the answer, and the words that fit.

    Args:
        work: folder of the benchmark.
        trained: a trained TG-DFER; without it the CLIP of the settings answers by its descriptions.
        settings: settings of the benchmark.
    """
    options = ModelConfig(model=settings.model, frozen_features=True)
    model, processor = start_model(options, sorted(EMOTIONS)) if trained is None else trained.network
    labels, pictures = zip(*rendered_test_faces(), strict=True)
    batch = processor.video_processor(
        [picture[None] for picture in pictures], num_frames=1, face_crop="none", return_tensors="pt"
    )
    with torch.inference_mode():
        output = model(pixel_values_videos=batch["pixel_values_videos"], frame_mask=batch["frame_mask"])
    names = [name for _, name in sorted(model.config.id2label.items())]
    said = processor.post_process_explanation(output, None, batch["frame_mask"], names, config=model.config)
    found: dict[str, Any] = {"model": "the CLIP by descriptions" if trained is None else trained.title}
    found["faces"] = [
        {"label": label, "predicted": one.label, "score": one.score, "words": one.named}
        for label, one in zip(labels, said, strict=True)
    ]
    work.mkdir(parents=True, exist_ok=True)
    write_text(words_file(work), json.dumps(found, indent=1) + "\n")
