"""Data sets of video clips for benchmarks, with their ground truth and their frame features."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training import rendered_faces
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.loading import load_clips, require_readable
from tgdfer.training.errors import UserError
from tgdfer.training.features import FrameFeatures, Views, frame_activations, frame_features
from tgdfer.training.files import read_json, source_hash, write_text
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import RenderedFaces, write_dataset

# Lowest intensity at which a frame counts as showing the emotion, as in frame AP.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Settings:
    """Settings of a benchmark. Together with the clips and the weights they determine the figures.

    Attributes:
        model (`str`, *optional*, defaults to `"clip-tiny-faces"`): CLIP model to start from, as in
            `TrainingConfig.model`.
        descriptions (`str`, *optional*): YAML file of descriptions for labels without built-in descriptions.
        faces (`RenderedFaces`, *optional*): Settings of the renderer.
        clips (`int`, *optional*, defaults to `60`): Number of rendered training clips per label. Each clip shows a
            different person.
        test_clips (`int`, *optional*, defaults to `40`): Number of rendered test clips per label. Each clip shows a
            different person.
        render_seed (`int`, *optional*, defaults to `0`): Random seed of the rendered clips.
        num_frames (`int`, *optional*, defaults to `16`): Number of evenly spaced frames per clip.
        views (`int`, *optional*, defaults to `4`): Number of views of each training clip for rows on frozen features.
            The first view is not augmented.
        lora_views (`int`, *optional*, defaults to `3`): Number of views for rows that train LoRA adapters. Their cache
            is fifty times as large.
        seeds (`tuple[int, ...]`, *optional*, defaults to `(0, 1, 2)`): Random seeds of rows on frozen features. Rows
            with LoRA use the first one.
        epochs (`int`, *optional*, defaults to `40`): Maximum number of epochs of a head on frozen features.
        lora_epochs (`int`, *optional*, defaults to `8`): Maximum number of epochs of a row with LoRA.
    """

    model: str = "clip-tiny-faces"
    descriptions: str | None = None
    faces: RenderedFaces = field(default_factory=RenderedFaces)
    clips: int = 60
    test_clips: int = 40
    render_seed: int = 0
    num_frames: int = 16
    views: int = 4
    lora_views: int = 3
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 40
    lora_epochs: int = 8


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of N test clips. It is used only for measuring.

    Attributes:
        classes (`list[str]`): Names of the K classes.
        labels (`list[str]`): Label of each clip.
        people (`list[str]`): Name of the person in each clip.
        intensity (`list[list[float]]`): Intensity (0 to 1) of the sampled frames of each clip.
    """

    classes: list[str]
    labels: list[str]
    people: list[str]
    intensity: list[list[float]]


@dataclass
class BenchmarkDataset:
    """Video clips with ground truth for every frame, and the frozen CLIP model that computes their features.

    The training split and the test split show different people.

    Attributes:
        name (`str`): Name of the folder of results.
        title (`str`): Name in reports.
        folder (`Path`): Folder of the clips, in a layout that `load_clips` reads.
        settings (`Settings`): Settings of the benchmark.
    """

    name: str
    title: str
    folder: Path
    settings: Settings

    @cached_property
    def train(self) -> LabelledClips:
        """Training clips."""
        return self._load("train")

    @cached_property
    def test(self) -> LabelledClips:
        """Test clips.

        Raises:
            UserError: If a person or a video is in both splits, or a label is not a training label.
        """
        clips = self._load("test")
        require_known(clips, self.train.classes, "test")
        if shared := set(clips.people or []) & set(self.train.people or []):
            raise UserError(
                f"{len(shared)} people are in both train and test of {self.folder}, for example {min(shared)!r}. The"
                " test would measure faces seen in training; split the clips by person."
            )
        return clips

    def require_complete(self) -> None:
        """Reads both splits, so that errors in them are found before any training starts."""
        _ = self.train, self.test

    def _load(self, split: str) -> LabelledClips:
        clips = load_clips(str(self.folder), split)
        for name, known in (("person", clips.people), ("intensity", clips.intensity)):
            if known is None or not all(known):
                raise UserError(
                    f"{self.folder}/{split} does not give the {name} of every clip, which the benchmark needs: add"
                    f" {name!r} to its metadata.jsonl."
                )
        require_readable(clips)
        return clips

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.train.classes

    @property
    def people(self) -> list[str]:
        """Name of the person in each training clip."""
        return self.train.people or []

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model with a frozen CLIP, and its processor."""
        labels = sorted(set(load_clips(str(self.folder), "train").labels))
        return start_model(self.config(frozen_features=True).model, labels)

    def config(self, **options: Any) -> TrainingConfig:
        """Returns the configuration of a training run of TG-DFER on these clips.

        Args:
            **options: Fields of `TrainingConfig`, in place of the defaults and of the settings of the benchmark.
        """
        settings = self.settings
        shared = {"model": settings.model, "descriptions": settings.descriptions, "num_frames": settings.num_frames}
        return TrainingConfig.from_options(dataset=str(self.folder), **shared | options)

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """Returns frame features of the frozen CLIP.

        Args:
            split (`str`): "train" or "test". Training clips have `Settings.views` views, of which the first is not
                augmented. Test clips have one view.
            seed (`int`, *optional*, defaults to `0`): Random seed of the augmented views.
        """
        model, processor = self.network
        clips, views = (self.train, self.settings.views) if split == "train" else (self.test, 1)
        return frame_features(model, processor.video_processor, clips, Views(views, seed))

    def activations(self, split: str, block: int, seed: int = 0) -> FrameFeatures:
        """Returns the inputs of a vision block of the frozen CLIP.

        Args:
            split (`str`): "train" or "test". Training clips have `Settings.lora_views` views, test clips have one.
            block (`int`): Index of the block.
            seed (`int`, *optional*, defaults to `0`): Random seed of the augmented views.
        """
        model, processor = self.network
        clips, views = (self.train, self.settings.lora_views) if split == "train" else (self.test, 1)
        return frame_activations(model, processor.video_processor, clips, block, Views(views, seed))

    @cached_property
    def truth(self) -> GroundTruth:
        """Ground truth of the test clips."""
        intensity = [sampled(values, self.settings.num_frames) for values in self.test.intensity or [] if values]
        return GroundTruth(self.classes, self.test.labels, self.test.people or [], intensity)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the video files and of their labels, people and intensities."""
        digest = hashlib.sha256()
        for clips in (self.train, self.test):
            rows = zip(clips.files, clips.labels, clips.people or [], clips.intensity or [], strict=True)
            for index, metadata in enumerate(rows):
                video = clips.video(index)
                digest.update(json.dumps(metadata).encode())
                digest.update(hashlib.sha256(Path(video).read_bytes() if isinstance(video, str) else video).digest())
        return digest.hexdigest()

    @property
    def identity(self) -> str:
        """Hash of clips, weights, descriptions and number of frames. Rows with the same identity can be compared."""
        parts = [self.fingerprint, self.weights, self.settings.num_frames]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @cached_property
    def weights(self) -> str:
        """Hash of the CLIP weights and of the descriptions of the classes."""
        return weights_hash(*self.network)


def weights_hash(model: TGDFERForVideoClassification, processor: TGDFERProcessor) -> str:
    """Returns a hash of the CLIP weights of a model and of the descriptions of its classes."""
    digest = hashlib.sha256(json.dumps(processor.descriptions, sort_keys=True).encode())
    for name, weight in sorted(model.tgdfer.clip.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sampled(intensity: list[float], num_frames: int) -> list[float]:
    """Returns the intensity (0 to 1) of the frames that are sampled for the view without augmentation."""
    return [float(intensity[index]) for index in sample_indices(len(intensity), num_frames)]


def frames_with_emotion(features: FrameFeatures, clips: Any) -> torch.Tensor:
    """Masks the sampled frames that show the label.

    These are the frames with an intensity of at least `THRESHOLD`, and all frames of neutral clips. If no sampled
    frame reaches the threshold, the frame with the highest intensity is kept. Only the oracle uses this mask.

    Args:
        features (`FrameFeatures`): V views of N clips of T frames. The first view is not augmented.
        clips (`Any`): The same clips, with their `labels` and the `intensity` of their frames.

    Returns:
        `torch.Tensor`: Boolean mask (V, N, T).
    """
    masks = features.frame_mask.clone()
    for index, (label, intensity) in enumerate(zip(clips.labels, clips.intensity or [], strict=True)):
        if label == "neutral":
            continue
        count = int(features.frame_mask[0, index].sum())
        seconds = features.timestamps[:, index, :count].double().numpy()
        first_view = sample_indices(len(intensity or []), count)
        # Frames are evenly spaced in time. The indices of the first view are known and give the frame rate.
        frame_rate = first_view[-1] / seconds[0, -1] if first_view[-1] else 1.0
        frames = np.clip(np.rint(seconds * frame_rate).astype(int), 0, len(intensity or []) - 1)
        sampled_intensity = np.asarray(intensity)[frames]
        highest = sampled_intensity == sampled_intensity.max(1, keepdims=True)
        masks[:, index, :count] = torch.from_numpy((sampled_intensity >= THRESHOLD) | highest)
    return masks


def rendered_dataset(settings: Settings, work: Path) -> BenchmarkDataset:
    """Returns the data set of rendered faces. The clips are rendered if they do not exist yet.

    Args:
        settings (`Settings`): Settings of the benchmark.
        work (`Path`): Folder in which the clips are kept, in a sub-folder "rendered".

    Raises:
        UserError: If the clips cannot be rendered, or the folder holds other files.
    """
    numbers = {"train": settings.clips, "test": settings.test_clips}
    metadata = {"faces": asdict(settings.faces), "clips": numbers, "people": numbers, "seed": settings.render_seed}

    def render(folder: Path, workers: int, progress: Callable[[int, int], None]) -> None:
        workers = workers if settings.clips > 8 else 1
        write_dataset(
            folder, settings.faces, numbers, numbers, seed=settings.render_seed, workers=workers, progress=progress
        )

    folder = render_if_needed(work / "rendered", metadata, render, "Rendering clips")
    return BenchmarkDataset("rendered", "rendered faces", folder, settings)


def render_if_needed(
    folder: Path,
    metadata: Mapping[str, Any],
    render: Callable[[Path, int, Callable[[int, int], None]], None],
    description: str,
) -> Path:
    """Renders videos into a folder, unless the same videos were already rendered by the same renderer.

    Args:
        folder (`Path`): Folder of the videos. The metadata is stored beside it, in a JSON file of the same name.
        metadata (`Mapping[str, Any]`): Settings that determine the videos, apart from the code of the renderer.
        render (`Callable`): `render(folder, workers, progress)` writes the videos and calls `progress(done, total)`.
        description (`str`): Text of the progress bar.

    Returns:
        `Path`: The folder.

    Raises:
        UserError: If the videos cannot be rendered, or the folder holds other files.
    """
    metadata_file = folder.with_suffix(".json")
    metadata = json.loads(json.dumps({**metadata, "generator": source_hash(rendered_faces)}))
    if folder.is_dir() and any(folder.iterdir()):
        if not metadata_file.is_file():
            raise UserError(f"{folder} holds files that this benchmark did not render: choose another --work folder.")
        if read_json(metadata_file) == metadata:
            return folder
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_text(metadata_file, json.dumps(metadata, indent=2) + "\n")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=get_console(), transient=True) as bar:
        task = bar.add_task(description, total=None)
        try:
            render(
                folder,
                min(os.cpu_count() or 1, 8),
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        except ValueError as error:
            raise UserError(f"The videos cannot be rendered: {error}") from error
    return folder


def real_dataset(settings: Settings, folder: Path) -> BenchmarkDataset:
    """Returns the data set of real clips in a folder.

    Args:
        settings (`Settings`): Settings of the benchmark.
        folder (`Path`): Folder with the splits `train` and `test`. Their metadata must give `person` and `intensity`.

    Raises:
        UserError: If the folder does not exist, or has a validation split.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder: give a folder with train and test clips to --real, or omit the option."
        )
    if (folder / "validation").is_dir():
        raise UserError(
            f"{folder} has a validation split, which only TG-DFER would use: give a folder with only train and test."
        )
    return BenchmarkDataset("real", "real faces", folder, settings)
