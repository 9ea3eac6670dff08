"""Zero-shot evaluation of `clip-tiny-faces`: emotions by their descriptions, and action units by their phrases."""

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
from tgdfer.processing.descriptions import canonical_label
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
    """Returns normalised embeddings (N, D) of uint8 pictures, each RGB (H, W, 3) or grey (H, W)."""
    parts = []
    for start in range(0, len(images), 128):
        chunk = [image if image.ndim == 3 else np.stack([image] * 3, -1) for image in images[start : start + 128]]
        pixels = processor(chunk, return_tensors="pt").pixel_values.to(model.device)
        parts.append(model.get_image_features(pixel_values=pixels).pooler_output.cpu())
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


@torch.inference_mode()
def embed_texts(model: DualEncoder, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Returns normalised embeddings (N, D) of texts."""
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt").to(model.device)
    return torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output.cpu(), dim=-1)


def embed_classes(model: DualEncoder, tokenizer: CLIPTokenizer, descriptions: Mapping[str, Sequence[str]]) -> Tensor:
    """Returns normalised embeddings (K, D) of classes, each the mean over its descriptions."""
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
    """Predicts the label of each picture: the class whose mean description embedding is closest."""
    classes = embed_classes(model, tokenizer, descriptions)
    best = (embed_images(model, processor, images) @ classes.T).argmax(1)
    return [list(descriptions)[i] for i in best]


def recalls(labels: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Returns the recall of each class that occurs, by name. Their mean is the UAR."""
    pairs = list(zip(labels, predicted, strict=True))
    return {name: float(np.mean([p == name for label, p in pairs if label == name])) for name in sorted(set(labels))}


def rendered_apexes(clips: int = 80, seed: int = 0, split: str = "held-out") -> tuple[list[np.ndarray], list[str]]:
    """Renders an apex frame of clips of people who are not in any training data.

    Args:
        clips (`int`, *optional*, defaults to `80`): Number of clips per label.
        seed (`int`, *optional*, defaults to `0`): Random seed of the clips.
        split (`str`, *optional*, defaults to `"held-out"`): Name of the split.

    Returns:
        `tuple[list[np.ndarray], list[str]]`: The frames, uint8 RGB, and their labels.
    """
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


def file_apexes(folder: Path, max_frames: int = 12) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Reads the apex frames of clips. These are the frames of full intensity, and all frames of neutral clips.

    Args:
        folder (`Path`): Folder of one split, with `metadata.jsonl`.
        max_frames (`int`, *optional*, defaults to `12`): Maximum number of frames per clip, evenly spaced among the
            apex frames.

    Returns:
        `tuple[list[np.ndarray], list[str], list[str]]`: The frames, uint8 RGB, and the label and the person of each. A
        clip without `person` counts as a different person.

    Raises:
        UserError: If there is no `metadata.jsonl`, or a column is missing.
    """
    images, labels, people = [], [], []
    for row in require_apexes(folder):
        intensity = np.array(row["intensity"])
        full = np.flatnonzero(intensity >= intensity.max() - 1e-3)
        count = min(max_frames, len(full))
        selected = set(full[np.linspace(0, len(full) - 1, count).round().astype(int)].tolist())
        with av.open(str(folder / row["file_name"])) as container:
            frames = [
                frame.to_ndarray(format="rgb24") for t, frame in enumerate(container.decode(video=0)) if t in selected
            ]
        images += frames
        labels += [canonical_label(row["label"])] * len(frames)
        people += [row.get("person") or row["file_name"]] * len(frames)
    return images, labels, people


def require_apexes(folder: Path) -> list[dict]:
    """Reads the rows of `metadata.jsonl`, each with `file_name`, `label` and `intensity`.

    Raises:
        UserError: If there is no such file, or a row lacks one of these fields.
    """
    if not (folder / "metadata.jsonl").is_file():
        raise UserError(f"{folder} contains no metadata.jsonl: give the folder of one split.")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(rows, 1):
        for name in ("file_name", "label", "intensity"):
            if not row.get(name):
                raise UserError(f"{folder}/metadata.jsonl has no {name} in row {number}: add it.")
    return rows


def linear_probe(model: DualEncoder, processor: CLIPImageProcessor, train: Path, test: Path) -> dict[str, float]:
    """Measures the UAR of a linear classifier on the embeddings of apex frames.

    Its penalty is selected by cross-validation over people.

    Args:
        model (`DualEncoder`): The dual encoder.
        processor (`CLIPImageProcessor`): Its image processor.
        train (`Path`): Folder of the training split.
        test (`Path`): Folder of the test split.

    Returns:
        `dict[str, float]`: UAR on `test`, on `train` (the people on which the classifier was fitted), and on
        `validation` (mean over the folds of the training split).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train_images, labels, people = file_apexes(train)
    features = embed_images(model, processor, train_images).numpy()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)),
        {"logisticregression__C": np.logspace(-4, 0, 5)},
        scoring="balanced_accuracy",
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
    )
    search.fit(features, labels, groups=people)
    test_images, test_labels, _ = file_apexes(test)
    predicted = search.predict(embed_images(model, processor, test_images).numpy())
    return {
        "test": float(balanced_accuracy_score(test_labels, predicted)),
        "train": float(balanced_accuracy_score(labels, search.predict(features))),
        "validation": float(search.best_score_),
    }


def action_unit_retrieval(
    model: DualEncoder, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor, count: int = 1500, seed: int = 1
) -> dict[str, float]:
    """Returns the average precision with which the phrases for each action unit retrieve the pictures that show it.

    An action unit is shown if its intensity is at least 0.35.
    """
    from sklearn.metrics import average_precision_score

    stills = render_stills(count, people=200, seed=seed, split="held-out")
    images = embed_images(model, processor, list(stills.images))
    scores = {}
    present = {required: {fact for fact in required if not fact.startswith("no ")} for required in FACE}
    for i, name in enumerate(ACTION_UNITS):
        # A dropped jaw always parts the lips, so no phrase requires it alone.
        units = {name} if {name} in present.values() else {name, "AU25"}
        phrases = [text for required, texts in FACE.items() if present[required] == units for text in texts]
        text = embed_texts(model, tokenizer, [f"{CONTEXT} {phrase}" for phrase in phrases]).mean(0)
        scores[name] = float(average_precision_score(stills.action_units[:, i] >= 0.35, (images @ text).numpy()))
    return scores
