"""Segments of `TGDFERForTemporalLocalization`, trained on short clips with their labels or with true segments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.fitting import Recipe
from benchmarks.harness.heads import FROZEN_CLIP
from benchmarks.harness.row import targets_of
from tgdfer.modeling_tgdfer.localization_tgdfer import TGDFERForTemporalLocalization
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import FaceIndex
from tgdfer.processing.segments_tgdfer import Presence, find_moments
from tgdfer.training.data.batches import derived_seed
from tgdfer.training.features import FeatureDataset, FrameFeatures
from tgdfer.training.models import start_model
from tgdfer.training.optimisation.loop import TrainingLoop, start_accelerator

# For each of several videos, its segments.
Segments = list[list[dict[str, Any]]]

# Names of the methods in the report.
WEAK = "dilated head, trained with the labels of clips"
WITH_SEGMENTS = "dilated head, trained with true segments"

# Nothing was chosen with the long videos. The rate is that of the network in `tgdfer train`.
RECIPE = Recipe(rate=5e-4, epochs=20, batch_size=16)
NO_EMOTION = "neutral"


def localized_segments(
    dataset: BenchmarkDataset, files: Sequence[Path], seeds: Sequence[int]
) -> dict[str, list[Segments]]:
    """Trains the dilated head in both ways, and finds the segments of videos.

    Args:
        dataset (`BenchmarkDataset`): Rendered clips to train on, with their segments in the metadata.
        files (`Sequence[Path]`): Long videos.
        seeds (`Sequence[int]`): Random seeds of the trainings.

    Returns:
        `dict[str, list[Segments]]`: For each method, by its name, and each seed the segments of each video. Their
        confidence is the mean probability of their label.
    """
    network, processor = dataset.network
    pipeline = EmotionSearchPipeline(model=network, processor=processor)
    shown = track(files, "Encoding videos", console=get_console(), transient=True)
    indexes = [pipeline.index(str(file)) for file in shown]
    found: dict[str, list[Segments]] = {WEAK: [], WITH_SEGMENTS: []}
    for name, segments in found.items():
        for seed in seeds:
            model = train_localizer(dataset, name == WITH_SEGMENTS, seed)
            segments.append([segments_of(model, index) for index in indexes])
    return found


class LocalizationClips(FeatureDataset):
    """Cached features of clips, with the label of each frame.

    Args:
        features (`FrameFeatures`): V views of N clips.
        targets (`Tensor` of shape `(N,)`): Class of each clip.
        frame_labels (`Tensor` of shape `(V, N, T)`): Class of each frame.
        seed (`int`): Seed of the choice of views.
    """

    def __init__(self, features: FrameFeatures, targets: Tensor, frame_labels: Tensor, seed: int) -> None:
        super().__init__(features, range(len(targets)), targets.tolist(), True, seed)
        self.frame_labels = frame_labels

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        view = derived_seed(self.seed, self.epoch, index) % len(self.frame_labels)  # as in `FeatureDataset`
        return super().__getitem__(index) | {"labels": self.frame_labels[view, index]}


def train_localizer(dataset: BenchmarkDataset, with_segments: bool, seed: int) -> TGDFERForTemporalLocalization:
    """Trains the dilated head and the temporal network on the frozen features of the training clips.

    Args:
        dataset (`BenchmarkDataset`): Rendered clips.
        with_segments (`bool`): Whether the head is trained with the true segments instead of the labels of the clips.
        seed (`int`): Random seed of the training.
    """
    torch.manual_seed(seed)
    # The context of the texts is not trained, as in the rows of the ablation.
    classifier, _ = start_model(dataset.config(frozen_features=True, model_options=FROZEN_CLIP).model, dataset.classes)
    model = TGDFERForTemporalLocalization.from_classifier(classifier)
    features, targets = dataset.features("train", seed), targets_of(dataset)
    data: FeatureDataset = FeatureDataset(features, range(len(targets)), targets.tolist(), True, seed)
    if with_segments:
        data = LocalizationClips(features, targets, labels_of_frames(dataset, features), seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "lr": RECIPE.rate},
        {"params": [p for p in trained if p.ndim <= 1], "lr": RECIPE.rate, "weight_decay": 0.0},
    ]
    loop = TrainingLoop(model, data, groups, RECIPE.options(), start_accelerator("no"), seed)
    for epoch in range(RECIPE.epochs):
        loop.train_epoch(epoch)
    return model.eval().cpu()


def labels_of_frames(dataset: BenchmarkDataset, features: FrameFeatures) -> Tensor:
    """Returns the class of each frame: the label of its segment, or neutral outside the segments.

    Args:
        dataset (`BenchmarkDataset`): Rendered clips, with the class "neutral".
        features (`FrameFeatures`): V views of the N training clips.

    Returns:
        `Tensor` of shape `(V, N, T)`: Class indices.
    """
    lines = (dataset.folder / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    segments = {f"train/{row['file_name']}": row["segments"] for row in map(json.loads, lines)}
    labels = torch.full(features.frame_mask.shape, dataset.classes.index(NO_EMOTION))
    for clip, file in enumerate(dataset.train.files):
        for segment in segments[file]:
            seconds = features.timestamps[:, clip]
            inside = (seconds >= segment["start"]) & (seconds <= segment["end"])
            labels[:, clip][inside] = dataset.classes.index(segment["label"])
    return labels


@torch.no_grad()
def segments_of(model: TGDFERForTemporalLocalization, index: FaceIndex) -> list[dict[str, Any]]:
    """Finds the segments of a video, as the pipeline does for a model that is never unsure.

    Args:
        model (`TGDFERForTemporalLocalization`): The model.
        index (`FaceIndex`): The frames of the video, of one person.
    """
    frames = torch.from_numpy(index.embeddings).float().unsqueeze(0)
    seconds = torch.from_numpy(index.seconds).unsqueeze(0)
    scores = model(frame_features=frames, timestamps=seconds).frame_logits[0].softmax(-1).numpy()
    names = model.config.class_names
    edges = np.append(index.spans[:, 0], index.spans[-1, 1]).astype(float)
    presence = Presence(np.arange(len(index)), edges, seconds=index.seconds.astype(float))
    return [segment | {"confidence": segment["score"]} for segment in find_moments(scores, names, presence)]
