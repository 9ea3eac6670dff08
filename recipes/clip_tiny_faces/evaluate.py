"""What `clip-tiny-faces` sees unasked: emotions by their descriptions, action units by their words."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTokenizer

from recipes.clip_tiny_faces.captions import FACE
from recipes.clip_tiny_faces.stills import render_stills
from recipes.clip_tiny_faces.towers import DualEncoder
from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.training.errors import UserError
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
def embed_images(model: DualEncoder, processor: CLIPImageProcessor, images: Sequence[np.ndarray]) -> Tensor:
    """Normalised embeddings (N, D) of pictures, uint8, RGB (H, W, 3) or grey (H, W) each."""
    parts = []
    for start in range(0, len(images), 128):
        chunk = [image if image.ndim == 3 else np.stack([image] * 3, -1) for image in images[start : start + 128]]
        pixels = processor(chunk, return_tensors="pt").pixel_values
        parts.append(model.get_image_features(pixel_values=pixels).pooler_output)
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


@torch.inference_mode()
def embed_texts(model: DualEncoder, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Normalised embeddings (N, D) of texts."""
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
    return torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)


def embed_classes(model: DualEncoder, tokenizer: CLIPTokenizer, descriptions: Mapping[str, Sequence[str]]) -> Tensor:
    """Normalised embeddings (K, D) of classes, each the mean over its descriptions."""
    prompts = [[f"{CONTEXT} {text}" for text in texts] for texts in descriptions.values()]
    classes = torch.stack([embed_texts(model, tokenizer, texts).mean(0) for texts in prompts])
    return torch.nn.functional.normalize(classes, dim=-1)


def zero_shot(
    model: DualEncoder,
    tokenizer: CLIPTokenizer,
    processor: CLIPImageProcessor,
    images: Sequence[np.ndarray],
    descriptions: Mapping[str, Sequence[str]],
) -> list[str]:
    """Label of each picture (N,): the class whose descriptions are on average the closest."""
    classes = embed_classes(model, tokenizer, descriptions)
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
            images.append(painter.draw(clip.course.action_units[t], clip.course.poses[t], frame=t))
            labels.append(label)
    return images, labels


def file_apexes(folder: Path, most: int = 12) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Apex frames of the clips in a folder with `metadata.jsonl`: those of full intensity, and all of a neutral clip.

    Args:
        folder: One split.
        most: Frames of a clip at most, evenly spaced among those that count.

    Returns:
        Frames, uint8 RGB, and the label and the person of each; a clip without `person` is somebody of its own.

    Raises:
        UserError: If there is no `metadata.jsonl`, or it does not say what is needed.
    """
    images, labels, people = [], [], []
    for row in require_apexes(folder):
        intensity = np.array(row["intensity"])
        full = np.flatnonzero(intensity >= intensity.max() - 1e-3)
        wanted = set(full[np.linspace(0, len(full) - 1, min(most, len(full))).round().astype(int)].tolist())
        with av.open(str(folder / row["file_name"])) as container:
            frames = [
                frame.to_ndarray(format="rgb24") for t, frame in enumerate(container.decode(video=0)) if t in wanted
            ]
        images += frames
        labels += [canonical_label(row["label"])] * len(frames)
        people += [row.get("person") or row["file_name"]] * len(frames)
    return images, labels, people


def require_apexes(folder: Path) -> list[dict]:
    """The rows of `metadata.jsonl`, each with `file_name`, `label` and `intensity`.

    Raises:
        UserError: If there is no such file, or a row lacks one of these.
    """
    if not (folder / "metadata.jsonl").is_file():
        raise UserError(f"{folder} holds no metadata.jsonl: name the folder of one split.")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(rows, 1):
        for name in ("file_name", "label", "intensity"):
            if not row.get(name):
                raise UserError(f"{folder}/metadata.jsonl says no {name} in row {number}: add it.")
    return rows


def linear_probe(model: DualEncoder, processor: CLIPImageProcessor, train: Path, test: Path) -> dict[str, float]:
    """UAR of a linear classifier on the embeddings of apex frames, its penalty chosen by cross-validation over people.

    Args:
        model: Whose embeddings.
        processor: Its image processor.
        train: Folder of the split to fit on.
        test: Folder of the split to measure on.

    Returns:
        `test`, `train` (on the people that it was fitted on) and `validation` (mean over the folds of train).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, labels, people = file_apexes(train)
    features = embed_images(model, processor, seen).numpy()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)),
        {"logisticregression__C": np.logspace(-4, 0, 5)},
        scoring="balanced_accuracy",
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
    )
    search.fit(features, labels, groups=people)
    unseen, truth, _ = file_apexes(test)
    predicted = search.predict(embed_images(model, processor, unseen).numpy())
    return {
        "test": float(balanced_accuracy_score(truth, predicted)),
        "train": float(balanced_accuracy_score(labels, search.predict(features))),
        "validation": float(search.best_score_),
    }


def action_unit_retrieval(
    model: DualEncoder, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor, count: int = 1500, seed: int = 1
) -> dict[str, float]:
    """Average precision with which the words for an action unit find the pictures that have it (0.35 and more)."""
    from sklearn.metrics import average_precision_score

    stills = render_stills(count, people=200, seed=seed, split="held-out")
    images = embed_images(model, processor, list(stills.images))
    scores = {}
    present = {needs: {fact for fact in needs if not fact.startswith("no ")} for needs in FACE}
    for i, name in enumerate(ACTION_UNITS):
        # The jaw drops behind parted lips only, so no phrase is its own.
        alone = {name} if {name} in present.values() else {name, "AU25"}
        words = [text for needs, texts in FACE.items() if present[needs] == alone for text in texts]
        text = embed_texts(model, tokenizer, [f"{CONTEXT} {word}" for word in words]).mean(0)
        scores[name] = float(average_precision_score(stills.action_units[:, i] >= 0.35, (images @ text).numpy()))
    return scores


def zero_shot_recalls(
    model: DualEncoder, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor, images: list, labels: list[str]
) -> dict[str, float]:
    """Recall by class of zero-shot classification with the built-in descriptions of the classes that occur."""
    descriptions = built_in_descriptions(sorted(set(labels)))
    return recalls(labels, zero_shot(model, tokenizer, processor, images, descriptions))
