"""Writes the folder of `tgdfer-tiny`: model and processor, calibrated, with the figures and the card."""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, DataLoader

from recipes.tgdfer_tiny.material import Material
from recipes.tgdfer_tiny.train import Recipe, Trained, figures, validation_clips
from recipes.tgdfer_tiny.training_clips import MixedClips, Photographs
from recipes.weights_folder import replaced_folder
from tgdfer.model_card.card import build_card
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.calibration import Calibration, calibrate
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.evaluate import weights_sha256
from tgdfer.training.files import read_json, write_text
from tgdfer.training.measure import measure_model, predict_clips
from tgdfer.training.models import load_trained

NAME = "tgdfer-tiny"
# Names of the sources on the card, with their terms and what to cite.
SOURCES = {
    "photographs": {
        "name": "FER2013 with the votes of FER+, photographs as clips of one frame",
        "terms": "The pictures were found by image search, published for research, and have owners of their own;"
        " whoever uses these weights in a product should know that. The votes are under the MIT licence",
        "citation": "Goodfellow et al., 2013, arXiv 1307.0414; Barsoum et al., 2016, arXiv 1608.01041",
    },
    "bags of photographs": {
        "name": "the same photographs in bags of sixteen, of which some show the emotion and the others are neutral"
    },
    "real clips": {
        "name": "clips made of photographs of public figures from the repository muxspace/facial_expressions",
        "terms": "Apache-2.0",
    },
    "rendered clips": {
        "name": "clips of rendered faces that move, by `tgdfer.training.rendered_faces`",
        "terms": "Apache-2.0",
    },
}
LIMITS = (
    "Only seven photographs of the test split show disgust and fifty show fear; what it does there is hardly known.",
    "The real clips are made of photographs that dissolve into one another, and their labels are noisy.",
    "FER2013 may contain other pictures of the people in the real test clips.",
    "On rendered faces that differ only in skin colour, age lines, glasses, beard, head pose or light, no group is"
    " read worse than its reference by more than chance (docs/results/fairness.md in the repository). Real photographs"
    " carry no such labels, so nothing is known of real people.",
)


def save_model(out: Path, material: Material, recipe: Recipe, trained: Trained, command: str) -> dict[str, Any]:
    """Calibrate a model, measure it on the test splits, and write it, replacing what was in the folder.

    Args:
        out: Where to.
        material: What it was trained on, and is calibrated and measured on.
        recipe: How it was trained.
        trained: The model.
        command: The command line that does the same.

    Returns:
        What was measured, as `metrics.json` has it.
    """
    with replaced_folder(out) as draft:
        trained.model.save_pretrained(draft, merge_lora=True)
        # Saving notes things in a processor, by whose settings features are cached.
        processor = copy.deepcopy(material.network[1])
        # The clips above are aligned faces; a recording of anybody is not.
        processor.video_processor.face_crop = "largest"
        processor.save_pretrained(draft)
        remove_code(draft)
        calibration = calibrated(draft, list(validation_clips(material, recipe).values()))
        facts = training_facts(recipe, trained, calibration, command)
        measured = [
            {"weights_sha256": weights_sha256(draft), **figures} for figures in test_figures(material, recipe, draft)
        ]
        metrics = {**measured[0], "also_measured": measured[1:], "training": facts}
        write_text(draft / "training.json", json.dumps(facts, indent=2) + "\n")
        write_text(draft / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        write_text(draft / "README.md", str(build_card(draft, NAME)))
    return metrics


def calibrated(folder: Path, held_out: Sequence[MixedClips]) -> Calibration:
    """Calibrate the model in a folder on clips of several sources, each of which counts alike.

    There are many more photographs than clips, and on these alone a temperature would be chosen that makes the model
    too sure of clips.
    """
    most = max(map(len, held_out))
    alike: ConcatDataset = ConcatDataset([data for data in held_out for _ in range(round(most / len(data)))])
    calibration = calibrate(folder, DataLoader(alike, 64), "cpu")
    return replace(calibration, num_clips=sum(map(len, held_out)))


def remove_code(folder: Path) -> None:
    """Takes away the code that travels with a saved model: the model in the package is read by the package itself."""
    for file in folder.glob("*.py"):
        file.unlink()
    for file in folder.glob("*config.json"):
        write_text(file, json.dumps(_without_code(read_json(file)), indent=2, sort_keys=True) + "\n")


def _without_code(value: Any) -> Any:
    """Plain data without what names code."""
    if isinstance(value, dict):
        named = ("auto_map", "custom_pipelines")
        return {key: _without_code(inner) for key, inner in value.items() if key not in named}
    return value


def training_facts(recipe: Recipe, trained: Trained, calibration: Calibration, command: str) -> dict[str, Any]:
    """What `training.json` and the card say of the training."""
    trainable = sum(parameter.numel() for parameter in trained.model.parameters() if parameter.requires_grad)
    return {
        "sources": [{**SOURCES[name], "num_clips": count} for name, count in trained.clips.items()],
        "num_clips": sum(trained.clips.values()),
        "validation": "photographs of the validation split, and clips of a fifth of the people",
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "base_model": "clip-tiny-faces",
        "trainable_parameters": trainable,
        "seconds": round(trained.seconds, 1),
        "command": command,
        "license": "apache-2.0",
        "limits": list(LIMITS),
        "calibration": calibration.facts,
    }


def test_figures(material: Material, recipe: Recipe, folder: Path) -> Iterator[dict[str, Any]]:
    """Figures of the model in a folder on each of the test splits."""
    model, processor = load_trained(folder)
    processor.video_processor.face_crop = "none"  # the clips are aligned faces
    stills = material.photographs("test").clear()
    data = MixedClips([Photographs(stills.features, stills.votes)], recipe.seed)
    about = {"dataset": "FER2013 with the votes of FER+", "split": "test", "num_clips": len(data), "num_people": None}
    yield about | figures(model, data)
    splits = {"realclips": material.real_clips("test"), "rendered faces": material.rendered_clips("test")}
    for name, clips in splits.items():
        yield {"dataset": name, "split": "test", **_clip_figures(model, processor.video_processor, clips)}


def _clip_figures(model: TGDFERForVideoClassification, video_processor: Any, clips: LabelledClips) -> dict[str, Any]:
    predictions = list(predict_clips(model, video_processor, clips))
    people: Sequence[str] = clips.people or []
    return {
        "num_clips": len(clips),
        "num_people": len(set(people)) or None,
        **measure_model(clips.labels, predictions, model.config),
    }
