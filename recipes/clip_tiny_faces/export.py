"""Writes the folder of weights: model, tokenizer, image processor, and a card with figures."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from recipes.clip_tiny_faces.measure import Parts, measure_rendered
from recipes.clip_tiny_faces.train import Recipe, TrainingData
from recipes.training_data import FERPLUS, PUBLIC_FIGURES, RENDERED_PICTURES, counted, write_training_data
from recipes.weights_folder import new_weights, require_weights_folder
from tgdfer.training.errors import UserError

# Model types of dual encoders. A folder with a model of these types may be replaced.
KINDS = ("clip", "vision-text-dual-encoder")

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: zero-shot-image-classification
tags: [clip, facial-expression-recognition]
---

# clip-tiny-faces

This is a dual encoder of images and texts for facial expressions with {parameters:.1f} million parameters. It combines
a small ResNet-D (He et al., 2019) from `timm` with the text tower of a CLIP. It is a `{model}` with `CLIPTokenizer`
and `CLIPImageProcessor`, and can be loaded with `transformers` (`pip install transformers timm`). It is the default
model of `tgdfer`, so that the package can be tried without a download. For large data sets, start from a larger CLIP.

## Data

- {voted} photographs of FER2013 (Goodfellow et al., 2013; from image search, 48 x 48 pixels, grey) with the votes of
  ten people each (FER+, Barsoum et al., 2016). The photographs were published for research. Their rights belong to
  their owners, which matters if these weights are used in a product. This folder does not contain any of them.
- {stills} grey, aligned photographs of public figures from the repository muxspace/facial_expressions (Apache-2.0).
  {labelled} of them have one of the seven emotions as a label.
- {rendered} pictures of faces that `tgdfer.training.rendered_faces` rendered from action units of the Facial Action
  Coding System.

## Recipe

`python -m recipes.clip_tiny_faces train --start FOLDER --pairs {pairs} --seed {seed} --stills FILE --clips FOLDER`

The model is trained on {pairs} pictures. The text tower starts from that of the first version (commit `d97ab1a` of the
repository, SHA-256 {start}), and the vision tower from random weights. The contrastive loss between pictures and
captions is used in both directions. Captions that are also true of another picture of the batch are positives for it,
and doubtful ones are excluded. The cross-entropy between votes and class descriptions is balanced by class frequency.
Features and votes are also distilled from a convolutional network that was trained on the votes. Muon (Jordan et al.,
2024) trains the convolutions at {vision:g} and the matrices of the text tower at {text:g}. AdamW trains the other
parameters at {rate:g}. The batch has {batch} pictures. Training took {minutes} minutes.

## Figures

`python -m recipes.clip_tiny_faces evaluate` measures these figures, in percent with 95% intervals. FER2013 may contain
other pictures of the people in the real clips on which `tgdfer` is measured.

| on rendered people who are not in the training data | |
| --- | --- |
{figures}

`docs/results/real_faces.md` in the repository of `tgdfer` gives the figures on real photographs and clips, and
compares them with other methods.

## Limits

The influence of skin colour, age, glasses, beard, pose and light is measured only on rendered faces, and only for
`tgdfer-tiny`, which is trained with this model. Real photographs have no labels of these attributes. A face shows an
expression, and not necessarily what a person feels. Do not use the model to judge people.
"""


def file_hash(file: Path) -> str:
    """Returns the SHA-256 of a file of weights.

    Raises:
        UserError: If the file does not exist.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist: give weights that a recipe has written.")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def save_weights(folder: Path, parts: Parts, recipe: Recipe, seconds: float, data: TrainingData) -> None:
    """Measures the model on rendered people, and writes it. The folder is replaced when all files are written.

    Args:
        folder (`Path`): Folder to write.
        parts (`Parts`): The model in float32, with tokenizer and image processor.
        recipe (`Recipe`): Parameters of the training.
        seconds (`float`): Duration of the training in seconds.
        data (`TrainingData`): Training data.

    Raises:
        UserError: If the folder contains other files.
    """
    require_weights_folder(folder, KINDS)
    card = CARD.format(
        parameters=parts.model.num_parameters() / 1e6,
        model=type(parts.model).__name__,
        voted=len(data.voted),
        stills=len(data.stills),
        labelled=int(np.sum(data.stills.labels >= 0)),
        rendered=len(data.rendered.images),
        pairs=recipe.pairs,
        start=recipe.start[:12],
        seed=recipe.seed,
        vision=recipe.vision_rate,
        text=recipe.text_rate,
        rate=recipe.rate,
        batch=recipe.batch,
        minutes=round(seconds / 60),
        figures="\n".join(f"| {name} | {figure} |" for name, figure in measure_rendered(parts)),
    )
    with new_weights(folder) as draft:
        for part in parts:
            part.save_pretrained(draft)
        write_training_data(draft, training_data(len(data.voted), len(data.stills), len(data.rendered.images)))
        (draft / "README.md").write_text(card, "utf-8")


def training_data(voted: int, stills: int, rendered: int) -> list[dict[str, Any]]:
    """Returns the training data for the config: photographs with votes, stills of public figures, rendered pictures.

    Models that start from these weights copy the entries to their own configs.
    """
    return [counted(FERPLUS, voted), counted(PUBLIC_FIGURES, stills), counted(RENDERED_PICTURES, rendered)]
