"""Frame features of a frozen CLIP, computed once and kept on disk: an epoch on them is a matter of seconds."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing import (
    detectors_tgdfer,
    faces_tgdfer,
    shots_tgdfer,
    tracks_tgdfer,
    video_file_tgdfer,
    video_processing_tgdfer,
    video_reading_tgdfer,
)
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.cache import cache_folder, mark_used, trim_cache
from tgdfer.training.data import augmentation
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.batches import SampledClips, derived_seed
from tgdfer.training.data.clips import LabelledClips


@dataclass(frozen=True)
class FrameFeatures:
    """What CLIP sees in N clips, each looked at V times. The first view is plain, the others are augmented.

    Attributes:
        features: (V, N, T, ...) float16; (V, N, T, D) as `get_frame_features` gives them.
        frame_mask: (V, N, T) bool.
        timestamps: (V, N, T) float32, seconds.
    """

    features: Tensor
    frame_mask: Tensor
    timestamps: Tensor


@dataclass(frozen=True)
class Views:
    """How often clips are looked at, and how they are read.

    Attributes:
        number: views of each clip. The first one has the middle frames, the others have random frames, augmented.
        seed: decides the augmented views.
        augment: changes the augmented views.
        batch_size: clips per step.
        workers: processes that decode clips.
    """

    number: int = 1
    seed: int = 0
    augment: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 16
    workers: int = 0


def frame_features(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: Views | None = None,
) -> FrameFeatures:
    """Frame features of clips, read from the cache on disk where they are there already.

    The cache is that of `training/cache.py`; `tgdfer cache` lists and clears it.

    Args:
        model: its CLIP computes the features, on its device.
        video_processor: samples and normalises the frames.
        clips: the clips.
        views: how they are looked at; by default once.
    """
    views = views or Views()
    path = _cache_path("features", model, video_processor, clips, views)
    return _cached(path, model.get_frame_features, model, video_processor, clips, views)


def frame_activations(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    block: int,
    views: Views | None = None,
) -> FrameFeatures:
    """Cached inputs of vision block `block`, so that training the blocks from there on need not run the earlier ones.

    Args:
        model: as in `frame_features`.
        video_processor: as in `frame_features`.
        clips: the clips.
        block: index of the first block that is not run, as `blocks_of` counts them.
        views: as in `frame_features`.

    Returns:
        `features` are (V, N, T, ...): of a ViT (P, C), P tokens of width C per frame, the class token first; of a
        convolutional tower (C, H, W).
    """
    views = views or Views()
    tower = model.tgdfer.clip.vision_model
    first = blocks_of(tower)[block][1]

    def encode(pixels: Tensor, mask: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        with first.register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
            tower(pixel_values=pixels.flatten(0, 1))
        states = inputs[0].unflatten(0, mask.shape)
        return states.masked_fill(~mask.bool().view(*mask.shape, *[1] * (states.ndim - 2)), 0.0)

    path = _cache_path("activations", model, video_processor, clips, views, block)
    return _cached(path, encode, model, video_processor, clips, views)


def _cached(path: Path, encode: Callable[[Tensor, Tensor], Tensor], *source: Any) -> FrameFeatures:
    """Features from a file of the cache, computed first if it is not there."""
    if path.is_file():
        mark_used(path)
    else:
        _compute(path, encode, *source)
        trim_cache()
    return FrameFeatures(**load_file(path))


def _compute(
    path: Path,
    encode: Callable[[Tensor, Tensor], Tensor],
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: Views,
) -> None:
    """Encodes every view of every clip and writes the result to `path`."""
    num_frames = model.config.num_frames
    size = (views.number, len(clips), num_frames)
    result = {
        "frame_mask": torch.zeros(size, dtype=torch.bool),
        "timestamps": torch.zeros(size),
    }
    model.eval()
    device = next(model.parameters()).device
    for view in range(views.number):
        data = SampledClips(clips, clips.classes, video_processor, num_frames, view > 0, views.seed, views.augment)
        data.set_epoch(view)
        loader = DataLoader(data, views.batch_size, num_workers=views.workers, collate_fn=data.collate)
        start = 0
        for batch in track(loader, f"Frame features, view {view + 1} of {views.number}", console=get_console()):
            mask = batch["frame_mask"]
            with torch.inference_mode():
                features = encode(batch["pixel_values_videos"].to(device), mask.to(device))
            if "features" not in result:
                result["features"] = torch.zeros(*size, *features.shape[2:], dtype=torch.float16)
            where = (view, slice(start, start + len(mask)), slice(mask.shape[1]))
            result["features"][where] = features.to("cpu", torch.float16)
            result["frame_mask"][where] = mask
            result["timestamps"][where] = batch["timestamps"]
            start += len(mask)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(result, temporary)
    os.replace(temporary, path)


class FeatureClips(Dataset):
    """Cached clips for training. Which view and which frames are seen follows from (seed, epoch, index) alone.

    Args:
        features: of all clips.
        indices: the clips that take part.
        targets: class of each clip that takes part.
        training: whether any view may be seen; otherwise it is the first one, whole.
        seed: decides views and frames.
        frames: number of frames that are seen in training, in their order; all of them where None.
    """

    def __init__(
        self,
        features: FrameFeatures,
        indices: Sequence[int],
        targets: Sequence[int],
        training: bool,
        seed: int,
        frames: int | None = None,
    ) -> None:
        self.features = features
        self.indices = indices
        self.targets = targets
        self.training = training
        self.seed = seed
        self.frames = frames
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        views = len(self.features.features)
        view = derived_seed(self.seed, self.epoch, index) % views if self.training else 0
        where = (view, self.indices[index])
        mask = self.features.frame_mask[where]
        chosen = self._choose(mask, index)
        return {
            "frame_features": self.features.features[where][chosen].float(),
            "frame_mask": mask[chosen],
            "timestamps": self.features.timestamps[where][chosen],
            "labels": torch.tensor(self.targets[index]),
        }

    def _choose(self, mask: Tensor, index: int) -> Tensor | slice:
        """Random frames in their order; masked ones only where a clip has too few others."""
        if not self.training or self.frames is None or self.frames >= len(mask):
            return slice(None)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch, index, 1))
        chance = torch.rand(mask.shape, generator=generator).masked_fill(~mask, 2.0)
        return chance.argsort()[: self.frames].sort().values


# The code that decides which pixels CLIP sees, beside the settings of the video processor.
_SOURCES = (
    augmentation,
    detectors_tgdfer,
    faces_tgdfer,
    shots_tgdfer,
    tracks_tgdfer,
    video_file_tgdfer,
    video_processing_tgdfer,
    video_reading_tgdfer,
)


def _cache_path(
    kind: str,
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: Views,
    block: int | None = None,
) -> Path:
    """The cached file; its name changes with everything that the features depend on."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.tgdfer.clip.state_dict().items()):
        if name.startswith("vis"):  # the vision model and its projection
            digest.update(name.encode())
            digest.update(weight.cpu().reshape(-1).view(torch.uint8).numpy().data)
    for module in _SOURCES:
        digest.update(inspect.getsource(module).encode())
    facts = {
        "tgdfer": version("tgdfer"),
        "clip": model.config.clip_config.vision_config.to_dict(),
        "video_processor": video_processor.to_dict(),
        "num_frames": model.config.num_frames,
        "clips": clips.fingerprint(),
        "views": views.number,
        "seed": views.seed if views.number > 1 else None,
        "augmentation": asdict(views.augment) if views.number > 1 else None,
        "block": block,
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return cache_folder() / kind / f"{digest.hexdigest()[:32]}.safetensors"
