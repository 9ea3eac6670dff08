"""Predictions and named descriptions for twelve rendered test faces, because a report may not show real faces."""

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
    """Renders one frame at the apex of the expression for each of several people of the test split.

    Returns:
        `list[tuple[str, np.ndarray]]`: For each person, the label and the picture, uint8 RGB (112, 112, 3).
    """
    faces, pictures = RenderedFaces(), []
    for index in range(number):
        label, person = EMOTIONS[index % len(EMOTIONS)], sample_person(_SEED, "test", index, RenderedFaces.resting)
        clip = sample_clip(label, person, faces, np.random.default_rng([_SEED, index]))
        frame = int(clip.course.intensity.argmax()) if label != "neutral" else len(clip) // 2
        painter = FacePainter(person, clip.setting, faces)
        pictures.append((label, painter.draw(clip.course.action_units[frame], clip.course.poses[frame], frame=frame)))
    return pictures


def descriptions_file(work: Path) -> Path:
    """Returns the path of the file that `write_descriptions` writes."""
    return work / "words.json"


def write_descriptions(work: Path, trained: TrainedModel | None, settings: Settings) -> None:
    """Predicts the rendered faces, and writes the label, the prediction and the named descriptions of each.

    Args:
        work (`Path`): Folder of the benchmark.
        trained (`TrainedModel`, *optional*): A trained TG-DFER model. None uses the CLIP of the settings with its
            descriptions.
        settings (`Settings`): Settings of the benchmark.
    """
    options = ModelConfig(model=settings.model, frozen_features=True)
    model, processor = start_model(options, sorted(EMOTIONS)) if trained is None else trained.network
    labels, pictures = zip(*rendered_test_faces(), strict=True)
    batch = processor.video_processor(
        [picture[None] for picture in pictures], num_frames=1, face_crop="none", return_tensors="pt"
    )
    with torch.inference_mode():
        output = model(pixel_values_videos=batch["pixel_values_videos"], frame_mask=batch["frame_mask"])
    names = model.config.class_names
    explanations = processor.post_process_explanation(output, None, batch["frame_mask"], names, config=model.config)
    results: dict[str, Any] = {"model": "the CLIP by descriptions" if trained is None else trained.title}
    results["faces"] = [
        {"label": label, "predicted": explanation.label, "score": explanation.score, "words": explanation.named}
        for label, explanation in zip(labels, explanations, strict=True)
    ]
    work.mkdir(parents=True, exist_ok=True)
    write_text(descriptions_file(work), json.dumps(results, indent=1) + "\n")
