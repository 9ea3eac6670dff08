"""Writes the folder of weights: model, tokenizer, image processor, and a card with the measured figures."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from recipes.clip_tiny_faces.augmentation import IMAGE_MEAN, IMAGE_STD
from recipes.clip_tiny_faces.evaluate import (
    action_unit_retrieval,
    file_apexes,
    linear_probe,
    rendered_apexes,
    zero_shot_recalls,
)
from recipes.clip_tiny_faces.photographs import Photographs
from recipes.clip_tiny_faces.train import Recipe
from tgdfer.training.errors import UserError

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: zero-shot-image-classification
tags: [clip, facial-expression-recognition, synthetic-data]
---

# clip-tiny-faces

A CLIP of {parameters:.1f} million parameters that sees facial expressions: `CLIPModel`, `CLIPTokenizer` and
`CLIPImageProcessor` of `transformers`, nothing else is needed. It is the default of `tgdfer`, so that everything there
can be tried without a download; for photographs, start from a larger CLIP.

## Data

{images} pictures of {people} people, all drawn by `tgdfer.training.rendered_faces` from action units of the Facial
Action Coding System, with captions that say in varied words which action units, emotion, person, pose and light are
seen. {photographs}

## Recipe

{commands}

{pairs} pictures seen, each with a caption, contrastive in both directions; captions that are also true of another
picture of the batch are positives there, doubtful ones are left out. Heads that read action units and facts from the
pooled picture help in training and are thrown away. The first pictures are easy (frontal, in one place), the later
ones vary fully. Captions of classes are told apart as if all emotions were equally frequent. The vision tower
sees {patches:.0f} % of the patches, and all of them in the last fifth of the steps.
Muon at {muon:g} for the matrices of both towers, AdamW at {rate:g} for the rest, batch {batch}.{teacher}{stages}
Training took {minutes} minutes on two CPU cores, rendering not counted.

## Figures

On rendered people whom the training did not see, in percent. The captions of the training are made of phrases of which
some stand in the class descriptions too. `python -m recipes.clip_tiny_faces evaluate` measures again.

| one apex frame a clip, classified by descriptions | |
| --- | --- |
| UAR, seven emotions | {uar} |
{recalls}

The words for an action unit find the pictures that have it with a mean average precision of {retrieval}.
{real}
## Limits

It has seen drawings, and grey photographs of a few thousand public figures. It has not been measured for fairness
between groups of people. What a face shows is an expression, not what somebody feels; do not use it to judge people.
For real work start from a larger CLIP.
"""

WITHOUT_PHOTOGRAPHS = "No photograph of anybody, and no label of one, was used."
PHOTOGRAPHS = """And {count} grey, aligned photographs of public figures from the repository
muxspace/facial_expressions (Apache-2.0), {labelled} of them with one of the seven emotions as a label, the others
without any. Nobody's label was used who is in the clips of photographs below."""
TEACHER = """
A convolutional net, trained before on the labelled photographs and the rendered pictures, teaches the tower what it
makes of every photograph and of every place in a picture; it is thrown away as well."""
STAGES = """
A training that goes on from the weights of another one draws pictures of other people and takes half of both rates."""
# What is kept of every training that the weights have been through, for the card of those that go on from them.
HISTORY = "training.json"
REAL = """
On clips of photographs, apex frames of people of whom the training knew no label: UAR over {classes} emotions
{uar:.1f} zero-shot by descriptions ({recalls}), {probe:.1f} with a linear probe ({probe_train:.1f} on the people
that the probe was fitted on). `python -m recipes.clip_tiny_faces evaluate TEST --probe TRAIN`.
"""


def require_weights_folder(folder: Path) -> None:
    """Refuses a folder that would be replaced by weights, and holds something else.

    Raises:
        UserError: If it does.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = folder / "config.json"
    if not config.is_file() or json.loads(config.read_text("utf-8")).get("model_type") != "clip":
        raise UserError(f"{folder} holds something else than weights of a CLIP: name another folder with --out.")


def save_weights(
    folder: Path,
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    recipe: Recipe,
    seconds: float,
    photographs: Photographs | None = None,
    real: Path | None = None,
    start: Path | None = None,
) -> dict[str, float]:
    """Measure the model and write it, replacing what was in the folder when everything is there.

    Args:
        folder: Where to.
        model: In float32.
        tokenizer: Its tokenizer.
        recipe: How it was trained.
        seconds: How long that took.
        photographs: What it has seen beside the rendered pictures.
        real: Folder of clips of photographs, with `train` and `test`, to measure on as well.
        start: Folder of the weights that the training went on from.

    Returns:
        The figures as fractions: `uar` and `retrieval`, and with `real` also `real_uar` and `probe`.

    Raises:
        UserError: If the folder holds something else.
    """
    require_weights_folder(folder)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 112},
        crop_size={"height": 112, "width": 112},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )
    trainings = [*history(start), _remembered(recipe, seconds, photographs)]
    figures, measured = _measure(model, tokenizer, processor, real)
    card = CARD.format(parameters=model.num_parameters() / 1e6, **_told(recipe, trainings), **measured)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".weights-", dir=folder.parent))
    try:
        for part in (model, tokenizer, processor):
            part.save_pretrained(draft)
        (draft / "README.md").write_text(card, "utf-8")
        (draft / HISTORY).write_text(json.dumps(trainings, indent=2) + "\n", "utf-8")
        draft.chmod(0o755)
        for file in draft.iterdir():
            file.chmod(0o644)
        stale = draft.with_name(f"{draft.name}.old")
        if folder.exists():
            os.replace(folder, stale)
        os.replace(draft, folder)
        shutil.rmtree(stale, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return figures


def _measure(
    model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor, real: Path | None
) -> tuple[dict[str, float], dict[str, str]]:
    """The figures as fractions, and what the card says of them."""
    recalls = zero_shot_recalls(model, tokenizer, processor, *rendered_apexes())
    figures = {
        "uar": float(np.mean(list(recalls.values()))),
        "retrieval": float(np.mean(list(action_unit_retrieval(model, tokenizer, processor).values()))),
    }
    section = ""
    if real:
        images, labels, _ = file_apexes(real / "test")
        seen = zero_shot_recalls(model, tokenizer, processor, images, labels)
        probe = linear_probe(model, processor, real / "train", real / "test")
        figures |= {"real_uar": float(np.mean(list(seen.values()))), "probe": probe["test"]}
        section = REAL.format(
            classes=len(seen),
            uar=100 * figures["real_uar"],
            recalls=", ".join(f"{name} {100 * recall:.0f}" for name, recall in seen.items()),
            probe=100 * probe["test"],
            probe_train=100 * probe["train"],
        )
    return figures, {
        "uar": f"{100 * figures['uar']:.1f}",
        "retrieval": f"{figures['retrieval']:.3f}",
        "recalls": "\n".join(f"| recall of {name} | {100 * recall:.1f} |" for name, recall in recalls.items()),
        "real": section,
    }


def history(folder: Path | None) -> list[dict[str, Any]]:
    """The trainings that weights in a folder have been through, the first one first.

    Raises:
        UserError: If the folder does not say.
    """
    if folder is None:
        return []
    try:
        return json.loads((folder / HISTORY).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} does not say how its weights were trained ({HISTORY}: {error}).") from error


def _remembered(recipe: Recipe, seconds: float, photographs: Photographs | None) -> dict[str, Any]:
    kept = {name: getattr(recipe, name) for name in ("pairs", "images", "people", "seed")}
    seen = {"photographs": 0, "labelled": 0}
    if photographs:
        seen = {"photographs": len(photographs), "labelled": int((photographs.labels >= 0).sum())}
    return kept | seen | {"minutes": round(seconds / 60)}


def _told(recipe: Recipe, trainings: list[dict[str, Any]]) -> dict[str, Any]:
    """What the card says of data and recipe."""
    last, seen, teacher = trainings[-1], WITHOUT_PHOTOGRAPHS, ""
    if last["photographs"]:
        seen, teacher = PHOTOGRAPHS.format(count=last["photographs"], labelled=last["labelled"]), TEACHER
    commands = []
    for number, training in enumerate(trainings):
        flags = " --photographs FILE" if training["photographs"] else ""
        flags += " --start WEIGHTS" if number else ""
        commands.append(
            "`python -m recipes.clip_tiny_faces train"
            f" --pairs {training['pairs']} --images {training['images']} --seed {training['seed']}{flags}`"
        )
    return {
        "images": sum(training["images"] for training in trainings),
        "people": sum(training["people"] for training in trainings),
        "pairs": sum(training["pairs"] for training in trainings),
        "minutes": sum(training["minutes"] for training in trainings),
        "commands": ", then\n".join(commands),
        "patches": 100 * recipe.patches,
        "rate": recipe.rate,
        "muon": recipe.muon_rate,
        "batch": recipe.batch,
        "photographs": seen,
        "teacher": teacher,
        "stages": STAGES if len(trainings) > 1 else "",
    }
