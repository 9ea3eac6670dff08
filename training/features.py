"""Frame features of a frozen CLIP, computed once and kept on disk: an epoch on them is a matter of seconds."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing import video_file_tgdfer, video_processing_tgdfer, video_reading_tgdfer
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data import augmentation
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.clips import Clips, LabelledClips, derived_seed


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


def frame_features(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 0,
    augment: Augmentation | None = None,
) -> FrameFeatures:
    """Frame features of clips, from the cache on disk where they are there already.

    The cache is `$TGDFER_CACHE`, by default `~/.cache/tgdfer`; deleting it is safe at any time.

    Args:
        model: its CLIP computes the features, on its device.
        video_processor: samples and normalises the frames.
        clips: the clips.
        views: how often each clip is looked at: once plainly, then with other frames and augmented.
        seed: decides the augmented views.
        batch_size: clips a step.
        workers: processes that decode.
        augment: changes the augmented views.
    """
    path = _path("features", model, video_processor, clips, views, seed, augment)
    shape = (model.config.clip_config.projection_dim,)
    looking = (views, seed, batch_size, workers, augment)
    return _cached(path, shape, model.get_frame_features, model, video_processor, clips, *looking)


def frame_activations(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    block: int,
    views: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 0,
    augment: Augmentation | None = None,
) -> FrameFeatures:
    """What enters a block of the frozen vision tower, so that training the blocks from there on need not run the rest.

    Args:
        model: as in `frame_features`.
        video_processor: as in `frame_features`.
        clips: the clips.
        block: the first block that is not run, counted from 0.
        views: as in `frame_features`.
        seed: as in `frame_features`.
        batch_size: clips a step.
        workers: processes that decode.
        augment: changes the augmented views.

    Returns:
        `features` are (V, N, T, P, C): P tokens of width C a frame, the class token first.
    """
    tower, sizes = model.tgdfer.clip.vision_model, model.config.clip_config.vision_config

    def see(pixels: Tensor, mask: Tensor) -> Tensor:
        states = tower(pixels.flatten(0, 1), output_hidden_states=True).hidden_states
        return states[block].unflatten(0, mask.shape).masked_fill(~mask.bool()[..., None, None], 0.0)

    path = _path("activations", model, video_processor, clips, views, seed, augment, block)
    shape = ((sizes.image_size // sizes.patch_size) ** 2 + 1, sizes.hidden_size)
    looking = (views, seed, batch_size, workers, augment)
    return _cached(path, shape, see, model, video_processor, clips, *looking)


def _cached(
    path: Path,
    shape: tuple[int, ...],
    see: Callable[[Tensor, Tensor], Tensor],
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: int,
    seed: int,
    batch_size: int,
    workers: int,
    augment: Augmentation | None,
) -> FrameFeatures:
    """What `see` makes of pixels and mask, `shape` a frame, of every view of every clip; kept at `path`."""
    if path.is_file():
        return FrameFeatures(**load_file(path))
    num_frames = model.config.num_frames
    size = (views, len(clips), num_frames)
    kept = {
        "features": torch.zeros(*size, *shape, dtype=torch.float16),
        "frame_mask": torch.zeros(size, dtype=torch.bool),
        "timestamps": torch.zeros(size),
    }
    model.eval()
    device = next(model.parameters()).device
    for view in range(views):
        data = Clips(clips, clips.classes, video_processor, num_frames, view > 0, seed, augment)
        data.set_epoch(view)
        loader = torch.utils.data.DataLoader(data, batch_size, num_workers=workers, collate_fn=data.collate)
        start = 0
        for batch in track(loader, f"Frame features, view {view + 1} of {views}", console=get_console()):
            mask = batch["frame_mask"]
            with torch.inference_mode():
                features = see(batch["pixel_values_videos"].to(device), mask.to(device))
            where = (view, slice(start, start + len(mask)), slice(mask.shape[1]))
            kept["features"][where] = features.to("cpu", torch.float16)
            kept["frame_mask"][where] = mask
            kept["timestamps"][where] = batch["timestamps"]
            start += len(mask)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(kept, temporary)
    os.replace(temporary, path)
    return FrameFeatures(**kept)


class FeatureClips(torch.utils.data.Dataset):
    """Cached clips for training; which view of a clip is seen follows from (seed, epoch, index) alone.

    Args:
        features: of all clips.
        indices: the clips that take part.
        targets: class of each clip that takes part.
        training: any view, else the plain one.
        seed: decides the views.
    """

    def __init__(
        self, features: FrameFeatures, indices: Sequence[int], targets: Sequence[int], training: bool, seed: int
    ) -> None:
        self.features = features
        self.indices = indices
        self.targets = targets
        self.training = training
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        views = len(self.features.features)
        view = derived_seed(self.seed, self.epoch, index) % views if self.training else 0
        where = (view, self.indices[index])
        return {
            "frame_features": self.features.features[where].float(),
            "frame_mask": self.features.frame_mask[where],
            "timestamps": self.features.timestamps[where],
            "labels": torch.tensor(self.targets[index]),
        }


# What decides the frames that CLIP is shown, beside the settings of the video processor.
_SOURCES = (augmentation, video_file_tgdfer, video_processing_tgdfer, video_reading_tgdfer)


def cache_folder() -> Path:
    """Where things are kept that can be computed again."""
    return Path(os.environ.get("TGDFER_CACHE") or Path.home() / ".cache" / "tgdfer")


def _path(kind: str, *depends_on: Any) -> Path:
    """The cached file of what depends on the arguments of `_key`."""
    return cache_folder() / kind / f"{_key(*depends_on)}.safetensors"


def _key(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: int,
    seed: int,
    augment: Augmentation | None = None,
    block: int | None = None,
) -> str:
    """Name of the cached file: changes with everything that the features depend on."""
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
        "views": views,
        "seed": seed if views > 1 else None,
        "augmentation": asdict(augment or Augmentation()) if views > 1 else None,
        "block": block,
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]
