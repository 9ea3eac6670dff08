"""Writes the folder of `tgdfer-tiny`: calibrated model, processor, figures and card."""

import copy
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import get_console
from torch.utils.data import ConcatDataset, DataLoader

from recipes.tgdfer_tiny.material import Material
from recipes.tgdfer_tiny.search_reference import Faces, write_reference
from recipes.tgdfer_tiny.train import Recipe, Trained, figures, validation_clips
from recipes.tgdfer_tiny.training_clips import MixedSources, Photographs
from recipes.training_data import CLIPS_OF_PUBLIC_FIGURES, RENDERED_CLIPS, counted
from recipes.weights_folder import new_weights
from tgdfer.model_card.card import build_card
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.calibration import Calibration, calibrate
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.files import read_json, write_text
from tgdfer.training.measure import measure_model, predict_clips
from tgdfer.training.models import load_trained
from tgdfer.training.rendered_faces import RenderedFaces, write_dataset
from tgdfer.training.saved_weights import weights_sha256

NAME = "tgdfer-tiny"
# Labels of the clips that the page of the model on the Hub offers to try.
EXAMPLES = ("happiness", "sadness", "surprise")
# Names of the sources on the card, with their terms and citations.
SOURCES = {
    "photographs": {
        "name": "FER2013 with the votes of FER+, photographs as clips of one frame",
        "terms": "The pictures come from image search and were published for research. Their rights belong to their"
        " owners, which matters if these weights are used in a product. The votes are under the MIT licence",
        "citation": "Goodfellow et al., 2013, arXiv 1307.0414; Barsoum et al., 2016, arXiv 1608.01041",
    },
    "bags of photographs": {
        "name": "the same photographs in bags of sixteen, where some show the emotion and the others are neutral"
    },
    "real clips": {
        "name": "clips made of photographs of public figures from the repository muxspace/facial_expressions",
        "terms": "Apache-2.0",
    },
    "rendered clips": {
        "name": "clips of moving faces rendered by tgdfer",
        "terms": "Apache-2.0",
    },
}
LIMITS = (
    "Only seven photographs of the test split show disgust, and fifty show fear. The accuracy on these classes is"
    " hardly known.",
    "The real clips are made of photographs that are cross-faded, and their labels are noisy.",
    "FER2013 may contain other pictures of the people in the real test clips.",
    "On rendered faces that differ only in skin colour, age lines, glasses, beard, head pose or light, no group has a"
    " significantly lower UAR than its reference group (docs/results/fairness.md in the repository). Real photographs"
    " have no labels of these attributes, so fairness for real people is not known.",
)


def save_model(out: Path, material: Material, recipe: Recipe, trained: Trained, command: str) -> dict[str, Any]:
    """Calibrates a model, measures it on the test splits, and writes it. The folder is replaced.

    Args:
        out (`Path`): Folder to write.
        material (`Material`): Data for training, calibration and testing.
        recipe (`Recipe`): Parameters of the training.
        trained (`Trained`): The trained model.
        command (`str`): Command line that reproduces the model.

    Returns:
        `dict[str, Any]`: The figures, with the contents of `metrics.json`.
    """
    with new_weights(out) as draft:
        training_clips = (material.real_clips("train"), material.rendered_clips("train"))
        trained.model.config.training_data = [
            *(trained.model.config.training_data or []),  # That of the dual encoder.
            *clip_data(*(len(material.held_out(clips, recipe.fold)[0]) for clips in training_clips)),
        ]
        trained.model.save_pretrained(draft, merge_lora=True)
        # Saving changes the settings of a processor, which are part of the key of cached features.
        processor = copy.deepcopy(material.network[1])
        # The training clips are aligned faces, but videos of users are not.
        processor.video_processor.face_crop = "largest"
        processor.save_pretrained(draft)
        remove_code(draft)
        calibration = calibrated(draft, list(validation_clips(material, recipe).values()))
        faces = Faces(material.sources.ferplus, material.sources.face_model)
        write_reference(draft, faces, get_console().print)
        facts = training_facts(recipe, trained, calibration, command)
        measured = [
            {"weights_sha256": weights_sha256(draft), **figures} for figures in test_figures(material, recipe, draft)
        ]
        metrics = {**measured[0], "also_measured": measured[1:], "training": facts}
        write_text(draft / "training.json", json.dumps(facts, indent=2) + "\n")
        write_text(draft / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        write_figures(draft, measured)
        write_examples(draft)
        write_text(draft / "README.md", str(build_card(draft, NAME)))
    return metrics


def clip_data(real: int, rendered: int) -> list[dict[str, Any]]:
    """Returns the training data that the dual encoder had not seen, for the config: real clips and rendered clips."""
    return [counted(CLIPS_OF_PUBLIC_FIGURES, real), counted(RENDERED_CLIPS, rendered)]


def write_figures(folder: Path, measured: Sequence[dict[str, Any]]) -> None:
    """Draws the confusion matrix of each data set to the folder `figures`, for the card."""
    (folder / "figures").mkdir(exist_ok=True)
    for metrics in measured:
        name = re.sub(r"\W+", "_", metrics["dataset"]).strip("_")
        path = folder / "figures" / f"confusion_matrix_{name}.png"
        plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], path)


def write_examples(folder: Path) -> None:
    """Renders three clips to the folder `examples`, which the page of the model on the Hub offers to try.

    Their people are in no training data, because the people of each split are drawn from its name.
    """
    (folder / "examples").mkdir(exist_ok=True)
    faces = RenderedFaces(size=224, frames=(50, 60), occlusion=0.0, crf=(28, 28))
    with tempfile.TemporaryDirectory() as work:
        clips = write_dataset(Path(work, "clips"), faces, {"examples": 1}, labels=EXAMPLES)
        for label in EXAMPLES:
            shutil.copy(clips / "examples" / label / "0000.mp4", folder / "examples" / f"{label}.mp4")


def calibrated(folder: Path, held_out: Sequence[MixedSources]) -> Calibration:
    """Calibrates the model in a folder on clips of several sources, with equal weight for each source.

    There are many more photographs than clips. Without equal weights, the model would be overconfident on clips.
    """
    largest = max(map(len, held_out))
    balanced: ConcatDataset = ConcatDataset([data for data in held_out for _ in range(round(largest / len(data)))])
    calibration = calibrate(folder, DataLoader(balanced, 64), "cpu")
    return replace(calibration, num_clips=sum(map(len, held_out)))


def remove_code(folder: Path) -> None:
    """Removes the code that is saved with a model, because the model in the package uses the code of the package."""
    for file in folder.glob("*.py"):
        file.unlink()
    for file in folder.glob("*config.json"):
        write_text(file, json.dumps(_without_code(read_json(file)), indent=2, sort_keys=True) + "\n")


def _without_code(value: Any) -> Any:
    """Removes references to code from nested dictionaries."""
    if isinstance(value, dict):
        removed = ("auto_map", "custom_pipelines")
        return {key: _without_code(item) for key, item in value.items() if key not in removed}
    return value


def training_facts(recipe: Recipe, trained: Trained, calibration: Calibration, command: str) -> dict[str, Any]:
    """Returns the contents of `training.json`, which the card shows."""
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
        **trained.environment,
        "calibration": calibration.facts,
    }


def test_figures(material: Material, recipe: Recipe, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the figures of the model in a folder on each test split."""
    model, processor = load_trained(folder)
    processor.video_processor.face_crop = "none"  # The clips are aligned faces.
    stills = material.photographs("test").with_majority()
    data = MixedSources([Photographs(stills.features, stills.votes)], recipe.seed)
    dataset = "FER2013 with the votes of FER+"
    description = {"dataset": dataset, "split": "test", "num_clips": len(data), "num_people": None}
    yield description | figures(model, data)
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
