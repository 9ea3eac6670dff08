"""The clips that rows are trained and tested on, the truth about them, and their features."""

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
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_reading_tgdfer import sample_indices
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

# A frame shows the emotion from this intensity on, as in frame AP.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Settings:
    """Everything that decides the figures beside the clips and the weights.

    Attributes:
        model: CLIP to start from, as in `TrainingConfig.model`.
        descriptions: YAML file of descriptions, for labels that are not built in.
        faces: generator of the rendered clips.
        clips: number of rendered training clips of each label, each of another person.
        test_clips: number of rendered test clips of each label, each of another person.
        render_seed: seed of the rendered clips.
        num_frames: frames per clip, evenly spaced.
        views: views of each training clip for rows on frozen features; the first is not augmented.
        lora_views: views for rows that adapt CLIP, whose cache is fifty times as large.
        seeds: seeds of rows on frozen features; other rows use the first.
        epochs: maximum number of epochs of a head on frozen features.
        lora_epochs: maximum number of epochs of a row that adapts CLIP.
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
class Truth:
    """Truth about N test clips, used only to measure.

    Attributes:
        classes: names of all K classes.
        labels: label of each clip.
        people: person in each clip.
        intensity: intensity of the sampled frames of each clip.
    """

    classes: list[str]
    labels: list[str]
    people: list[str]
    intensity: list[list[float]]


@dataclass
class BenchmarkDataset:
    """Videos with train and test people and the truth about every frame, and the CLIP that computes their features.

    Attributes:
        name: name of its folder of results.
        title: name in reports.
        folder: folder of the clips, as `load_clips` reads it.
        settings: settings of the benchmark.
    """

    name: str
    title: str
    folder: Path
    settings: Settings

    @cached_property
    def train(self) -> LabelledClips:
        return self._load("train")

    @cached_property
    def test(self) -> LabelledClips:
        clips = self._load("test")
        require_known(clips, self.train.classes, "test")
        if shared := set(clips.people or []) & set(self.train.people or []):
            raise UserError(
                f"{len(shared)} people are in train and in test of {self.folder}, {min(shared)!r} the first: the"
                " figures would be of faces that were learnt; split the clips by people."
            )
        return clips

    def require_complete(self) -> None:
        """Reads both splits, so that a mistake in them is found before time is spent on training."""
        _ = self.train, self.test

    def _load(self, split: str) -> LabelledClips:
        clips = load_clips(str(self.folder), split)
        for name, known in (("person", clips.people), ("intensity", clips.intensity)):
            if known is None or not all(known):
                raise UserError(
                    f"{self.folder}/{split} does not say the {name} of every clip, without which nothing can be"
                    f" measured: add {name!r} to its metadata.jsonl."
                )
        require_readable(clips, self.network[1].video_processor)
        return clips

    @property
    def classes(self) -> list[str]:
        return self.train.classes

    @property
    def people(self) -> list[str]:
        """Person in each training clip."""
        return self.train.people or []

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model on the frozen CLIP, and its processor."""
        labels = sorted(set(load_clips(str(self.folder), "train").labels))
        return start_model(self.config(frozen_features=True).model, labels)

    def config(self, **options: Any) -> TrainingConfig:
        """Configuration of a training run of TG-DFER on these clips."""
        settings = self.settings
        shared = {"model": settings.model, "descriptions": settings.descriptions, "num_frames": settings.num_frames}
        return TrainingConfig.from_options(dataset=str(self.folder), **shared | options)

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """Frame features of the frozen CLIP: several views of train, the first not augmented, and one view of test."""
        model, processor = self.network
        clips, views = (self.train, self.settings.views) if split == "train" else (self.test, 1)
        return frame_features(model, processor.video_processor, clips, Views(views, seed))

    def activations(self, split: str, block: int, seed: int = 0) -> FrameFeatures:
        """Inputs of a block of the frozen CLIP, in `lora_views` views of train and one of test."""
        model, processor = self.network
        clips, views = (self.train, self.settings.lora_views) if split == "train" else (self.test, 1)
        return frame_activations(model, processor.video_processor, clips, block, Views(views, seed))

    @cached_property
    def truth(self) -> Truth:
        """Truth about the test clips."""
        intensity = [sampled(values, self.settings.num_frames) for values in self.test.intensity or [] if values]
        return Truth(self.classes, self.test.labels, self.test.people or [], intensity)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the bytes of the clips, and of their labels, people and intensities."""
        digest = hashlib.sha256()
        for clips in (self.train, self.test):
            known = zip(clips.files, clips.labels, clips.people or [], clips.intensity or [], strict=True)
            for index, facts in enumerate(known):
                video = clips.video(index)
                digest.update(json.dumps(facts).encode())
                digest.update(hashlib.sha256(Path(video).read_bytes() if isinstance(video, str) else video).digest())
        return digest.hexdigest()

    @property
    def identity(self) -> str:
        """Hash of clips, weights, descriptions and number of frames. Rows with the same identity can be compared."""
        facts = [self.fingerprint, self.weights, self.settings.num_frames]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def weights(self) -> str:
        """Hash of the CLIP and of the descriptions of the classes."""
        return weights_hash(*self.network)


def weights_hash(model: TGDFERForVideoClassification, processor: TGDFERProcessor) -> str:
    """Hash of the CLIP of a model and of the descriptions of its classes."""
    digest = hashlib.sha256(json.dumps(processor.descriptions, sort_keys=True).encode())
    for name, weight in sorted(model.tgdfer.clip.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sampled(intensity: list[float], num_frames: int) -> list[float]:
    """Intensity (0 to 1) of the frames that the view without augmentation samples."""
    return [float(intensity[index]) for index in sample_indices(len(intensity), num_frames)]


def true_frames(seen: FrameFeatures, clips: Any) -> torch.Tensor:
    """Frames that show the label: those with at least half of the intensity, and all frames of neutral clips.

    Only the oracle uses them. A clip whose sampled frames all miss the emotion keeps the frame that shows most of it.

    Args:
        seen: V views of N clips of T frames; the first is not augmented.
        clips: the same clips, with their `labels` and the `intensity` of their frames.

    Returns:
        (V, N, T) bool.
    """
    masks = seen.frame_mask.clone()
    for index, (label, intensity) in enumerate(zip(clips.labels, clips.intensity or [], strict=True)):
        if label == "neutral":
            continue
        count = int(seen.frame_mask[0, index].sum())
        seconds = seen.timestamps[:, index, :count].double().numpy()
        plain = sample_indices(len(intensity or []), count)
        # Frames are evenly spaced in time. The first view, whose frames are known, tells how many there are a second.
        pace = plain[-1] / seconds[0, -1] if plain[-1] else 1.0
        frames = np.clip(np.rint(seconds * pace).astype(int), 0, len(intensity or []) - 1)
        shown = np.asarray(intensity)[frames]
        masks[:, index, :count] = torch.from_numpy((shown >= THRESHOLD) | (shown == shown.max(1, keepdims=True)))
    return masks


def rendered_dataset(settings: Settings, work: Path) -> BenchmarkDataset:
    """Clips of rendered faces, which are rendered into the work folder if they are not there.

    Raises:
        UserError: if they cannot be rendered, or the folder holds something else.
    """
    numbers = {"train": settings.clips, "test": settings.test_clips}
    about = {"faces": asdict(settings.faces), "clips": numbers, "people": numbers, "seed": settings.render_seed}

    def render(folder: Path, workers: int, progress: Callable[[int, int], None]) -> None:
        workers = workers if settings.clips > 8 else 1
        write_dataset(
            folder, settings.faces, numbers, numbers, seed=settings.render_seed, workers=workers, progress=progress
        )

    folder = rendered_once(work / "rendered", about, render, "Rendering clips")
    return BenchmarkDataset("rendered", "rendered faces", folder, settings)


def rendered_once(
    folder: Path,
    about: Mapping[str, Any],
    render: Callable[[Path, int, Callable[[int, int], None]], None],
    description: str,
) -> Path:
    """Renders videos into a folder, unless the same renderer has rendered the same there before.

    Args:
        folder: folder of the videos. `about` is kept beside it, in a JSON file of the same name.
        about: everything that decides the videos beside the renderer.
        render: `render(folder, workers, progress)` writes the videos and calls `progress(done, total)`.
        description: text of the progress bar.

    Returns:
        The folder.

    Raises:
        UserError: if the videos cannot be rendered, or the folder holds something else.
    """
    note = folder.with_suffix(".json")
    made = json.loads(json.dumps({**about, "generator": source_hash(rendered_faces)}))
    if folder.is_dir() and any(folder.iterdir()):
        if not note.is_file():
            raise UserError(f"{folder} holds something that was not rendered for this: name another --work folder.")
        if read_json(note) == made:
            return folder
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(made, indent=2) + "\n")
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
    """A folder of clips with `train` and `test`, whose metadata give `person` and `intensity`.

    Raises:
        UserError: if there is no such folder, or it has a validation split.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: name one with train and test clips with --real, or leave it out.")
    if (folder / "validation").is_dir():
        raise UserError(
            f"{folder} has a validation split, which TG-DFER alone would use: name one with train and test alone."
        )
    return BenchmarkDataset("real", "real faces", folder, settings)
