"""What `clip-tiny-faces` sees unasked: emotions by their descriptions, action units by their words."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.training.clip_tiny_faces.captions import FACE
from tgdfer.training.clip_tiny_faces.stills import render_stills
from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    FacePainter,
    RenderedFaces,
    sample_clip,
    sample_person,
)

CONTEXT = "a photo of a face:"


@torch.inference_mode()
def embed_images(model: CLIPModel, processor: CLIPImageProcessor, images: Sequence[np.ndarray]) -> Tensor:
    """Normalised embeddings (N, D) of pictures, uint8 RGB (H, W, 3) each."""
    parts = []
    for start in range(0, len(images), 64):
        pixels = processor(list(images[start : start + 64]), return_tensors="pt").pixel_values
        parts.append(model.get_image_features(pixel_values=pixels).pooler_output)
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


@torch.inference_mode()
def embed_texts(model: CLIPModel, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Normalised embeddings (N, D) of texts."""
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
    return torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)


def zero_shot(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    processor: CLIPImageProcessor,
    images: Sequence[np.ndarray],
    descriptions: Mapping[str, Sequence[str]],
) -> list[str]:
    """Label of each picture (N,): the class whose descriptions are on average the closest."""
    prompts = [[f"{CONTEXT} {text}" for text in texts] for texts in descriptions.values()]
    classes = torch.stack([embed_texts(model, tokenizer, texts).mean(0) for texts in prompts])
    classes = torch.nn.functional.normalize(classes, dim=-1)
    best = (embed_images(model, processor, images) @ classes.T).argmax(1)
    return [list(descriptions)[i] for i in best]


def recalls(labels: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Recall of each class that occurs, by name; their mean is the UAR."""
    pairs = list(zip(labels, predicted, strict=True))
    return {name: float(np.mean([p == name for label, p in pairs if label == name])) for name in sorted(set(labels))}


def rendered_apexes(clips: int = 80, seed: int = 0, split: str = "held-out") -> tuple[list[np.ndarray], list[str]]:
    """One apex frame of each of `clips` clips a label, of people whom no training has seen, and their labels."""
    faces, images, labels = RenderedFaces(), [], []
    for number in range(clips):
        person = sample_person(seed, split, number)
        for i, label in enumerate(EMOTIONS):
            clip = sample_clip(label, person, faces, np.random.default_rng([seed, 11, number, i]))
            t = int(clip.course.intensity.argmax()) if label != "neutral" else len(clip) // 2
            painter = FacePainter(person, clip.setting, faces)
            images.append(painter.draw(clip.course.action_units[t], clip.course.poses[t], grain=t))
            labels.append(label)
    return images, labels


def file_apexes(folder: Path) -> tuple[list[np.ndarray], list[str]]:
    """One apex frame of each clip in a folder with `metadata.jsonl`; of a clip without intensity, its middle frame.

    Raises:
        FileNotFoundError: If there is no `metadata.jsonl`.
    """
    images, labels = [], []
    for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        intensity = np.array(row["intensity"])
        # The middle one of the frames of highest intensity.
        highest = np.flatnonzero(intensity >= intensity.max() - 1e-6)
        wanted = int(highest[len(highest) // 2])
        with av.open(str(folder / row["file_name"])) as container:
            frames = [frame for t, frame in enumerate(container.decode(video=0)) if t == wanted]
        images.append(frames[0].to_ndarray(format="rgb24"))
        labels.append(canonical_label(row["label"]))
    return images, labels


def action_unit_retrieval(
    model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor, count: int = 1500, seed: int = 1
) -> dict[str, float]:
    """Average precision with which the words for an action unit find the pictures that have it (0.35 and more)."""
    from sklearn.metrics import average_precision_score

    stills = render_stills(count, people=200, seed=seed, split="held-out")
    images = embed_images(model, processor, list(stills.images))
    scores = {}
    for i, name in enumerate(ACTION_UNITS):
        # The jaw drops behind parted lips only, so no phrase is its own.
        phrases = [texts for needs, texts in FACE.items() if needs[0] == name and len(needs) < 3]
        phrases = phrases or [texts for needs, texts in FACE.items() if needs[-1] == name]
        words = [text for texts in phrases for text in texts]
        text = embed_texts(model, tokenizer, [f"{CONTEXT} {word}" for word in words]).mean(0)
        scores[name] = float(average_precision_score(stills.action_units[:, i] >= 0.35, (images @ text).numpy()))
    return scores


def zero_shot_recalls(
    model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor, images: list, labels: list[str]
) -> dict[str, float]:
    """Recall by class of zero-shot classification with the built-in descriptions of the classes that occur."""
    descriptions = built_in_descriptions(sorted(set(labels)))
    return recalls(labels, zero_shot(model, tokenizer, processor, images, descriptions))
