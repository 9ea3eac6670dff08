"""Writes the folder of weights: model, tokenizer, image processor, and a card with the measured figures."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from tgdfer.training.clip_tiny_faces.evaluate import action_unit_retrieval, rendered_apexes, zero_shot_recalls
from tgdfer.training.clip_tiny_faces.train import IMAGE_MEAN, IMAGE_STD, Recipe

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
seen. No photograph of anybody, and no label of one, was used.

## Recipe

`python -m tgdfer.training.clip_tiny_faces train --pairs {pairs} --images {images} --seed {seed}`

{pairs} pairs of picture and caption, contrastive in both directions; captions that are also true of another picture of
the batch are positives there, doubtful ones are left out. Heads that read action units and facts from the pooled
picture help in training and are thrown away. The first pictures are easy (frontal, in one place), the later ones vary
fully. Muon at {muon:g} for the matrices of both towers, AdamW at {rate:g} for the rest, batch {batch}, {precision}.
Rendering and training took {minutes:.0f} minutes on two CPU cores that other work shared.

## Figures

On rendered people whom the training did not see, in percent. The captions of the training use words like those of
the class descriptions, but not their sentences. `python -m tgdfer.training.clip_tiny_faces evaluate` measures again.

| one apex frame a clip, classified by descriptions | |
| --- | --- |
| UAR, seven emotions | {uar:.1f} |
{recalls}

The words for an action unit find the pictures that have it with a mean average precision of {retrieval:.3f}.

## Limits

It has seen drawings. On photographs it is far weaker, and it has not been measured for fairness between groups of
people. What a face shows is an expression, not what somebody feels; do not use it to judge people.
"""


def save_weights(
    folder: Path, model: CLIPModel, tokenizer: CLIPTokenizer, recipe: Recipe, seconds: float
) -> dict[str, float]:
    """Measure the model and write it, replacing what was in the folder when everything is there.

    Args:
        folder: Where to.
        model: In float32.
        tokenizer: Its tokenizer.
        recipe: How it was trained.
        seconds: How long that took.

    Returns:
        The figures: `uar`, a fraction, and `retrieval`, a mean average precision.
    """
    processor = CLIPImageProcessor(
        size={"shortest_edge": 112},
        crop_size={"height": 112, "width": 112},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )
    recalls = zero_shot_recalls(model, tokenizer, processor, *rendered_apexes())
    uar = float(np.mean(list(recalls.values())))
    retrieval = float(np.mean(list(action_unit_retrieval(model, tokenizer, processor).values())))
    card = CARD.format(
        parameters=model.num_parameters() / 1e6,
        images=recipe.images,
        people=recipe.people,
        pairs=recipe.pairs,
        seed=recipe.seed,
        rate=recipe.rate,
        muon=recipe.muon_rate,
        batch=recipe.batch,
        precision="bfloat16 with weights in float32" if recipe.bfloat16 else "float32",
        minutes=seconds / 60,
        uar=100 * uar,
        recalls="\n".join(f"| recall of {name} | {100 * recall:.1f} |" for name, recall in recalls.items()),
        retrieval=retrieval,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".weights-", dir=folder.parent))
    try:
        for part in (model, tokenizer, processor):
            part.save_pretrained(draft)
        (draft / "README.md").write_text(card, "utf-8")
        draft.chmod(0o755)
        for file in draft.iterdir():
            file.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {"uar": uar, "retrieval": retrieval}
