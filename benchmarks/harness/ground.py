"""The clips that rows are trained and tested on, and what CLIP sees of them."""

import hashlib
import json
import os
import shutil
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
from tgdfer.training.files import source_hash, write_text
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import RenderedFaces, write_dataset

# From this intensity on a frame carries the emotion, as in frame AP.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Settings:
    """All that decides the figures, beside the clips and the weights.

    Attributes:
        model: the CLIP to start from, as in `TrainingConfig.model`.
        descriptions: YAML file of descriptions for labels that are not built in.
        faces: generator of the rendered clips.
        clips: rendered training clips of each label, each of another person.
        test_clips: rendered test clips of each label, each of another person.
        render_seed: decides the rendered clips.
        num_frames: frames a clip, evenly spaced.
        views: views of each training clip, of which the first is plain, for rows on frozen features.
        lora_views: the same for rows that adapt CLIP; their cache is fifty times as large.
        seeds: of rows on frozen features; the first is that of the others.
        epochs: the most epochs of a linear layer on frozen features.
        lora_epochs: the most epochs of a row that adapts CLIP.
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
    """What is true of the N test clips, for measuring alone.

    Attributes:
        classes: names of all K classes.
        labels: of each clip.
        people: who is seen in it.
        intensity: of its sampled frames.
    """

    classes: list[str]
    labels: list[str]
    people: list[str]
    intensity: list[list[float]]


@dataclass
class Ground:
    """A data set with train and test people, and a CLIP that looks at it.

    Attributes:
        name: of its folder of results.
        title: for people.
        folder: the data set, as `load_clips` reads it.
        settings: of the benchmark.
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
        """Who is seen in each training clip."""
        return self.train.people or []

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """An untrained TG-DFER model on the frozen CLIP, and its processor."""
        labels = sorted(set(load_clips(str(self.folder), "train").labels))
        return start_model(self.config(frozen_features=True).model, labels)

    def config(self, **options: Any) -> TrainingConfig:
        """Of a run of TG-DFER on this ground."""
        settings = self.settings
        shared = {"model": settings.model, "descriptions": settings.descriptions, "num_frames": settings.num_frames}
        return TrainingConfig.from_options(dataset=str(self.folder), **shared | options)

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """What the frozen CLIP sees: of train in several views, the first of them plain; of test in that alone."""
        model, processor = self.network
        clips, views = (self.train, self.settings.views) if split == "train" else (self.test, 1)
        return frame_features(model, processor.video_processor, clips, Views(views, seed))

    def activations(self, split: str, block: int, seed: int = 0) -> FrameFeatures:
        """What enters a block of the frozen CLIP, in views as `features`."""
        model, processor = self.network
        clips, views = (self.train, self.settings.lora_views) if split == "train" else (self.test, 1)
        return frame_activations(model, processor.video_processor, clips, block, Views(views, seed))

    @cached_property
    def truth(self) -> Truth:
        """Of the test clips."""
        intensity = [sampled(values, self.settings.num_frames) for values in self.test.intensity or [] if values]
        return Truth(self.classes, self.test.labels, self.test.people or [], intensity)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the clips' bytes and of what is known of them."""
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
        """Hash of clips, weights, words and frames: rows of one identity may be compared."""
        facts = [self.fingerprint, self.weights, self.settings.num_frames]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def weights(self) -> str:
        """Hash of the CLIP, and of the words that its classes are described by."""
        model, processor = self.network
        digest = hashlib.sha256(json.dumps(processor.descriptions, sort_keys=True).encode())
        for name, weight in sorted(model.tgdfer.clip.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.cpu().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def sampled(intensity: list[float], num_frames: int) -> list[float]:
    """The intensity (0 to 1) of the frames that are looked at in the plain view."""
    return [float(intensity[index]) for index in sample_indices(len(intensity), num_frames)]


def true_frames(seen: FrameFeatures, clips: Any) -> torch.Tensor:
    """Frames that carry the label: from half of the intensity on, and all of a neutral clip. For the oracle alone.

    A clip whose sampled frames all miss the emotion keeps the one that shows most of it.

    Args:
        seen: V views of N clips at T frames, the first of them plain.
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
        # Frames come at an even pace, which the plain view shows: of the others the times alone are known.
        pace = plain[-1] / seconds[0, -1] if plain[-1] else 1.0
        frames = np.clip(np.rint(seconds * pace).astype(int), 0, len(intensity or []) - 1)
        shown = np.asarray(intensity)[frames]
        masks[:, index, :count] = torch.from_numpy((shown >= THRESHOLD) | (shown == shown.max(1, keepdims=True)))
    return masks


def rendered_ground(settings: Settings, work: Path) -> Ground:
    """Clips of rendered faces, rendered into the work folder unless they are there.

    They are rendered again when the generator or its numbers have changed.

    Raises:
        UserError: if they cannot be rendered, or the folder holds something else.
    """
    folder, note = work / "rendered", work / "rendered.json"
    wanted = {
        "faces": json.loads(json.dumps(asdict(settings.faces))),
        "clips": {"train": settings.clips, "test": settings.test_clips},
        "people": {"train": settings.clips, "test": settings.test_clips},
        "seed": settings.render_seed,
    }
    made = wanted | {"generator": source_hash(rendered_faces)}
    ground = Ground("rendered", "rendered faces", folder, settings)
    if folder.is_dir() and any(folder.iterdir()):
        if not note.is_file():
            raise UserError(f"{folder} holds something that was not rendered for this: name another --work folder.")
        if json.loads(note.read_text(encoding="utf-8")) == made:
            return ground
        shutil.rmtree(folder)
    work.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(made, indent=2) + "\n")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=get_console(), transient=True) as progress:
        task = progress.add_task("Rendering clips", total=None)
        try:
            write_dataset(
                folder,
                settings.faces,
                wanted["clips"],
                wanted["people"],
                seed=settings.render_seed,
                workers=min(os.cpu_count() or 1, 8) if settings.clips > 8 else 1,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        except ValueError as error:
            raise UserError(f"The clips cannot be rendered: {error}") from error
    return ground


def real_ground(settings: Settings, folder: Path) -> Ground:
    """A folder of clips with `train` and `test`, whose metadata say `person` and `intensity`.

    Raises:
        UserError: if there is no such folder, or it has a validation split.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: name one with train and test clips with --real, or leave it out.")
    if (folder / "validation").is_dir():
        raise UserError(
            f"{folder} has a validation split, which TG-DFER alone would use: name one with train and test alone."
        )
    return Ground("real", "real faces", folder, settings)
