"""Writes the folder of weights: model, tokenizer, image processor, and a card with the measured figures."""

import hashlib
from pathlib import Path

import numpy as np

from recipes.clip_tiny_faces.measure import Parts, measure_rendered
from recipes.clip_tiny_faces.train import Ground, Recipe
from recipes.weights_folder import replaced_folder, require_weights_folder
from tgdfer.training.errors import UserError

# Model types of dual encoders, which a new one may replace.
KINDS = ("clip", "vision-text-dual-encoder")

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: zero-shot-image-classification
tags: [clip, facial-expression-recognition]
---

# clip-tiny-faces

A dual encoder of images and texts of {parameters:.1f} million parameters that sees facial expressions. It joins a
small ResNet-D (He et al., 2019) of `timm` with the text tower of a CLIP: a `{model}` with `CLIPTokenizer`
and `CLIPImageProcessor`, all of which `transformers` loads (`pip install transformers timm`). It is the default of
`tgdfer`, so that everything there can be tried without a download. For large data, start from a larger CLIP.

## Data

- {voted} photographs of FER2013 (Goodfellow et al., 2013: found by image search, 48 x 48 pixels, grey) with the votes
  of ten people for each (FER+, Barsoum et al., 2016). The pictures were published for research and have owners of
  their own; whoever uses these weights in a product should know that. None of them is part of this folder.
- {stills} grey, aligned photographs of public figures from the repository muxspace/facial_expressions (Apache-2.0),
  {labelled} of them with one of the seven emotions as a label, the others without any.
- {rendered} pictures of faces that `tgdfer.training.rendered_faces` drew from action units of the Facial Action
  Coding System.

## Recipe

`python -m recipes.clip_tiny_faces train --start FOLDER --pairs {pairs} --seed {seed} --stills FILE --clips FOLDER`

{pairs} pictures seen. The text tower goes on from that of the first version (commit `d97ab1a` of the repository,
SHA-256 {start}), and the vision tower from random weights. Pictures and captions are contrasted in both
directions. Captions that are also true of another picture of the batch are positives there, and doubtful ones are left
out. The cross-entropy of the votes over the class descriptions is balanced by class frequency. A convolutional
network, trained before on the votes, teaches features and votes. Muon (Jordan et al., 2024) at {vision:g} trains the
convolutions and at {text:g} the matrices of the text tower, AdamW at {rate:g} the rest. The batch has {batch}
pictures. Training took {minutes} minutes.

## Figures

`python -m recipes.clip_tiny_faces evaluate` measures again, in percent with 95 % intervals. FER2013 may contain other
pictures of the people in the real clips that `tgdfer` is measured on.

| on rendered people whom the training did not see | |
| --- | --- |
{figures}

Figures on real photographs and clips, beside other methods, stand in `docs/results/real_faces.md` of the repository of
`tgdfer`.

## Limits

How it does by skin colour, age, glasses, beard, pose and light is measured on rendered faces only, for the model
`tgdfer-tiny` that is trained on it. Real photographs carry no such labels. What a face shows is an expression, not
what somebody feels; do not use it to judge people.
"""


def file_hash(file: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        UserError: If there is none.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist: name weights that a recipe has written.")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def save_weights(folder: Path, parts: Parts, recipe: Recipe, seconds: float, ground: Ground) -> None:
    """Measure the model on rendered people and write it, replacing what was in the folder when everything is there.

    Args:
        folder: Where to.
        parts: The model, in float32, with tokenizer and image processor.
        recipe: How it was trained.
        seconds: How long that took.
        ground: What it has seen.

    Raises:
        UserError: If the folder holds something else.
    """
    require_weights_folder(folder, KINDS)
    card = CARD.format(
        parameters=parts.model.num_parameters() / 1e6,
        model=type(parts.model).__name__,
        voted=len(ground.voted),
        stills=len(ground.stills),
        labelled=int(np.sum(ground.stills.labels >= 0)),
        rendered=len(ground.rendered.images),
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
    with replaced_folder(folder) as draft:
        for part in parts:
            part.save_pretrained(draft)
        (draft / "README.md").write_text(card, "utf-8")
