"""Data of `tgdfer-tiny` for training, validation and testing, as features of the frozen dual encoder."""

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
from tgdfer.training.files import atomic_write, source_hash
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces, write_dataset

# A photograph is used if at least this share of its votes is for the seven emotions.
_LEAST_VOTES = 0.5
# Number of rendered clips per label, each of a different person, and their seed. The benchmarks use the same clips.
_RENDERED, _RENDER_SEED = {"train": 60, "test": 40}, 0


@dataclass(frozen=True)
class Sources:
    """Source files of the data.

    Attributes:
        ferplus (`Path`): Parquet file of FER2013 with the votes of FER+.
        clips (`Path`): Folder of real clips with the splits train and test.
        work (`Path`): Folder of all computed files.
        clip (`str`, *optional*, defaults to `"clip-tiny-faces"`): Name or folder of the dual encoder.
        face_model (`Path`, *optional*): File of the YuNet model. None loads it from the Hub.
    """

    ferplus: Path
    clips: Path
    work: Path
    clip: str = "clip-tiny-faces"
    face_model: Path | None = None


@dataclass(frozen=True)
class PhotographFeatures:
    """Features and votes of the photographs of one split.

    Attributes:
        features (`torch.Tensor` of shape `(V, N, D)`): Float16 features of V views. The first view is not augmented.
        votes (`np.ndarray` of shape `(N, K)`): Shares of the votes for the classes of the model.
        labels (`np.ndarray` of shape `(N,)`): Index of the class with a clear majority, or -1.
    """

    features: Tensor
    votes: np.ndarray
    labels: np.ndarray

    def with_majority(self) -> "PhotographFeatures":
        """Returns the photographs with a clear majority, in their first view, with the majority as the only vote."""
        rows = np.flatnonzero(self.labels >= 0)
        return PhotographFeatures(
            self.features[:1, rows], np.eye(self.votes.shape[1])[self.labels[rows]], self.labels[rows]
        )


class Material:
    """Data of the recipe. Features are computed on first use and cached on disk.

    Args:
        sources (`Sources`): Source files.
        views (`int`, *optional*, defaults to `3`): Number of views of each training picture. The first view is not
            augmented.
        seed (`int`, *optional*, defaults to `0`): Random seed of the augmented views and of the held-out people.
    """

    def __init__(self, sources: Sources, views: int = 3, seed: int = 0) -> None:
        self.sources, self.views, self.seed = sources, views, seed
        self.classes = sorted(EMOTIONS)

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Untrained TG-DFER model with the dual encoder, and its processor. Neither is changed."""
        return self.new_network()

    def new_network(
        self, options: Mapping[str, Any] | None = None
    ) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """Returns a new model for training, and its processor.

        The processor does not crop clips, because all of them are aligned faces.

        Args:
            options (`Mapping[str, Any]`, *optional*): Fields of `TGDFERConfig` that differ from the defaults.
        """
        start = ModelConfig(model=self.sources.clip, frozen_features=True, model_options=dict(options or {}))
        model, processor = start_model(start, self.classes)
        # Convolutions are faster in this memory format.
        model.tgdfer.clip.vision_model.to(memory_format=torch.channels_last)
        return model, processor

    def photographs(self, split: str) -> PhotographFeatures:
        """Returns the photographs of one split of FER+."""
        cache = self.sources.work / "ferplus.safetensors"
        prepare_ferplus(self.sources.ferplus, cache, self.sources.face_model, _progress("Cropping photographs"))
        faces = load_ferplus(cache, split)
        votes = faces.votes[:, [CLASSES.index(name) for name in self.classes]]
        kept = np.flatnonzero(votes.sum(1) >= _LEAST_VOTES)
        labels = [self.classes.index(CLASSES[i]) if 0 <= i < len(EMOTIONS) else -1 for i in faces.labels[kept]]
        views = self.views if split == "train" else 1
        features = torch.stack([self._view_features(faces, split, view)[kept] for view in range(views)])
        return PhotographFeatures(features, votes[kept] / votes[kept].sum(1, keepdims=True), np.array(labels))

    def _view_features(self, faces: VotedFaces, split: str, view: int) -> Tensor:
        """Returns the features of one view of photographs, (N, D) float16.

        View 0 has the aligned photographs. The other views have augmented framing, light and colour.
        """
        key = [faces.fingerprint, self.network[0].config.clip_sha256, split, view, self.seed if view else None]
        path = self.sources.work / "features" / f"{_digest(key)}.safetensors"
        if not path.is_file():
            model = self.network[0]
            # bfloat16 takes a third of the time, and the features are stored in half precision anyway.
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
            with atomic_write(path) as temporary:
                save_file({"features": torch.cat(parts).contiguous()}, temporary)
        return load_file(path)["features"]

    def real_clips(self, split: str) -> LabelledClips:
        """Returns the clips of real faces of a split."""
        return load_clips(str(self.sources.clips), split)

    def rendered_clips(self, split: str) -> LabelledClips:
        """Returns the clips of rendered faces of a split. They are rendered if they do not exist."""
        name = _digest([_RENDERED, _RENDER_SEED, source_hash(rendered_faces)])[:12]
        folder = self.sources.work / f"rendered-{name}"
        if not folder.is_dir():
            progress, workers = _progress("Rendering clips"), os.cpu_count() or 1
            write_dataset(
                folder, RenderedFaces(), _RENDERED, _RENDERED, _RENDER_SEED, workers=workers, progress=progress
            )
        return load_clips(str(folder), split)

    def frame_features(self, clips: LabelledClips, views: int) -> FrameFeatures:
        """Returns features of video clips in several views. The first view is not augmented."""
        model, processor = self.network
        return frame_features(model, processor.video_processor, clips, Views(views, self.seed))

    def videos(self, clips: LabelledClips, rows: Sequence[int], training: bool) -> FeatureDataset:
        """Returns some of the clips as a data set, in several views if `training` is True.

        Training clips and held-out clips share the cached features.
        """
        targets = [self.classes.index(clips.labels[row]) for row in rows]
        return FeatureDataset(self.frame_features(clips, self.views), list(rows), targets, training, self.seed)

    def held_out(self, clips: LabelledClips, fold: int) -> tuple[list[int], list[int]]:
        """Returns the indices of the clips for training, and of the held-out clips of a fifth of the people."""
        return hold_out(clips, 5, fold, self.seed)


def _progress(description: str) -> Callable[[int, int], None]:
    """Returns a function that prints the progress of a long computation in steps of a tenth."""

    def show(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0 or done == total:
            get_console().print(f"{description}: {done} of {total}")

    return show


def _digest(key: object) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
