"""What `tgdfer-tiny` is trained, validated and tested on, as the frozen dual encoder sees it."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes.clip_tiny_faces.augmentation import augment_photographs, normalise, tint
from recipes.clip_tiny_faces.ferplus import CLASSES, VotedFaces, load_ferplus, prepare_ferplus
from recipes.clip_tiny_faces.towers import bfloat16_is_fast
from recipes.clip_tiny_faces.train_teacher import draw_crops
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training import rendered_faces
from tgdfer.training.config import ModelConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.splits import hold_out
from tgdfer.training.features import FeatureDataset, FrameFeatures, Views, frame_features
from tgdfer.training.files import source_hash
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces, write_dataset

# Of the photographs that people voted on, those count whose votes are mostly for one of the seven emotions.
_LEAST_VOTES = 0.5
# Rendered clips of each label, each of another person; with this seed they are those that the benchmarks measure on.
_RENDERED, _RENDER_SEED = {"train": 60, "test": 40}, 0


@dataclass(frozen=True)
class Sources:
    """Files that the material is made of.

    Attributes:
        ferplus: Parquet file of FER2013 with the votes of FER+.
        clips: Folder of real clips with the splits train and test.
        work: Folder of everything that is computed.
        clip: Name or folder of the dual encoder.
        face_model: File of the face detector YuNet; None takes it from the Hub.
    """

    ferplus: Path
    clips: Path
    work: Path
    clip: str = "clip-tiny-faces"
    face_model: Path | None = None


@dataclass(frozen=True)
class Stills:
    """Photographs of one split.

    Attributes:
        features: (V, N, D) float16, V views; the first is not augmented.
        votes: (N, K) shares of the votes for the classes of the model.
        labels: (N,) index of the class with a clear majority; -1 where there is none.
    """

    features: Tensor
    votes: np.ndarray
    labels: np.ndarray

    def clear(self) -> "Stills":
        """The photographs with a clear majority, as it is, in their first view."""
        rows = np.flatnonzero(self.labels >= 0)
        return Stills(self.features[:1, rows], np.eye(self.votes.shape[1])[self.labels[rows]], self.labels[rows])


class Material:
    """Everything that is seen, computed when it is first asked for and kept on disk.

    Args:
        sources: The files.
        views: Views of each training picture; the first is not augmented.
        seed: Decides the augmented views, and who is held out.
    """

    def __init__(self, sources: Sources, views: int = 3, seed: int = 0) -> None:
        self.sources, self.views, self.seed = sources, views, seed
        self.classes = sorted(EMOTIONS)

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model on the dual encoder, and its processor. Neither is changed."""
        return self.new_network()

    def new_network(
        self, options: Mapping[str, Any] | None = None
    ) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """A new model to train, and its processor, which takes clips as they are: all of them are aligned faces.

        Args:
            options: Fields of `TGDFERConfig` that differ from its defaults.
        """
        start = ModelConfig(model=self.sources.clip, frozen_features=True, model_options=dict(options or {}))
        model, processor = start_model(start, self.classes)
        # Convolutions take less time in this layout.
        model.tgdfer.clip.vision_model.to(memory_format=torch.channels_last)
        return model, processor

    def photographs(self, split: str) -> Stills:
        """Photographs of one split of FER+."""
        cache = self.sources.work / "ferplus.safetensors"
        prepare_ferplus(self.sources.ferplus, cache, self.sources.face_model, _say("Cropping photographs"))
        faces = load_ferplus(cache, split)
        votes = faces.votes[:, [CLASSES.index(name) for name in self.classes]]
        kept = np.flatnonzero(votes.sum(1) >= _LEAST_VOTES)
        named = [self.classes.index(CLASSES[i]) if 0 <= i < len(EMOTIONS) else -1 for i in faces.labels[kept]]
        views = self.views if split == "train" else 1
        features = torch.stack([self._embedded(faces, split, view)[kept] for view in range(views)])
        return Stills(features, votes[kept] / votes[kept].sum(1, keepdims=True), np.array(named))

    def _embedded(self, faces: VotedFaces, split: str, view: int) -> Tensor:
        """One view of photographs, (N, D) float16: aligned as they are, or cropped, lit and coloured anew."""
        facts = [faces.fingerprint, self.network[0].config.clip_sha256, split, view, self.seed if view else None]
        path = self.sources.work / "features" / f"{_digest(facts)}.safetensors"
        if not path.is_file():
            model = self.network[0]
            # It takes a third of the time, and the features are kept in half precision anyway.
            fast = bfloat16_is_fast(model.device)
            parts = []
            chunks = range(0, len(faces), 128)
            for start in track(chunks, f"Photographs of {split}, view {view + 1}", console=get_console()):
                rows = np.arange(start, min(start + 128, len(faces)))
                rng = np.random.default_rng([self.seed, view, start])
                generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
                if view:
                    pixels = tint(augment_photographs(draw_crops(faces, rows, 0.8, rng), generator), generator)
                else:
                    pixels = torch.from_numpy(faces.aligned[rows])[:, None].float().div(255).expand(-1, 3, -1, -1)
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
                    parts.append(model.get_frame_features(normalise(pixels)[:, None])[:, 0].half())
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"features": torch.cat(parts).contiguous()}, path)
        return load_file(path)["features"]

    def real_clips(self, split: str) -> LabelledClips:
        """Clips of real faces."""
        return load_clips(str(self.sources.clips), split)

    def rendered_clips(self, split: str) -> LabelledClips:
        """Clips of rendered faces, which are rendered if they are not there."""
        name = _digest([_RENDERED, _RENDER_SEED, source_hash(rendered_faces)])[:12]
        folder = self.sources.work / f"rendered-{name}"
        if not folder.is_dir():
            say = _say("Rendering clips")
            workers = os.cpu_count() or 1
            write_dataset(folder, RenderedFaces(), _RENDERED, _RENDERED, _RENDER_SEED, workers=workers, progress=say)
        return load_clips(str(folder), split)

    def frame_features(self, clips: LabelledClips, views: int) -> FrameFeatures:
        """Features of video clips."""
        model, processor = self.network
        return frame_features(model, processor.video_processor, clips, Views(views, self.seed))

    def videos(self, clips: LabelledClips, rows: Sequence[int], training: bool) -> FeatureDataset:
        """Some of the clips, in several views for training. Those that are held out share its cache."""
        targets = [self.classes.index(clips.labels[row]) for row in rows]
        return FeatureDataset(self.frame_features(clips, self.views), list(rows), targets, training, self.seed)

    def held_out(self, clips: LabelledClips, fold: int) -> tuple[list[int], list[int]]:
        """Training clips to learn from, and those of the people of one fifth, who are held out."""
        return hold_out(clips, 5, fold, self.seed)


def _say(description: str) -> Callable[[int, int], None]:
    """Prints how far a long computation is, every tenth of it."""

    def say(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0 or done == total:
            get_console().print(f"{description}: {done} of {total}")

    return say


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
