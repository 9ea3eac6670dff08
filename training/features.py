"""Frame features of a frozen CLIP, computed once and kept on disk: an epoch on them is a matter of seconds."""

import hashlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather
from rich import get_console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

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
    video_source_tgdfer,
)
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.cache import cache_folder, cache_limit, kind_folder, mark_used, trim_cache
from tgdfer.training.data import augmentation
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.batches import SampledClips, derived_seed
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.processes import all_have, loader_of, process_state, rounds

logger = logging.getLogger(__name__)


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
    accelerator: Accelerator | None = None,
) -> FrameFeatures:
    """Frame features of clips, read from the cache on disk where they are there already.

    The cache is that of `training/cache.py`, with a file for each view; `tgdfer cache` lists and clears it. A file
    that is damaged or cannot be written gives a warning. Several processes share the clips, and each of them returns
    all features; every process calls this function.

    Args:
        model: its CLIP computes the features, on its device.
        video_processor: samples and normalises the frames.
        clips: the clips.
        views: how they are looked at; by default once.
        accelerator: whose mixed precision the CLIP computes in; by default that of the model.
    """
    cached = _CachedViews("features", model, video_processor, clips, views or Views(), accelerator)
    return cached.read(model.get_frame_features)


def frame_activations(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    block: int,
    views: Views | None = None,
    accelerator: Accelerator | None = None,
) -> FrameFeatures:
    """Cached inputs of vision block `block`, so that training the blocks from there on need not run the earlier ones.

    Args:
        model: as in `frame_features`.
        video_processor: as in `frame_features`.
        clips: the clips.
        block: index of the first block that is not run, as `blocks_of` counts them.
        views: as in `frame_features`.
        accelerator: as in `frame_features`.

    Returns:
        `features` are (V, N, T, ...): of a ViT (P, C), P tokens of width C per frame, the class token first; of a
        convolutional tower (C, H, W).
    """
    tower = model.tgdfer.clip.vision_model
    first = blocks_of(tower)[block][1]

    def encode(pixels: Tensor, mask: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        with first.register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
            tower(pixel_values=pixels.flatten(0, 1))
        states = inputs[0].unflatten(0, mask.shape)
        return states.masked_fill(~mask.bool().view(*mask.shape, *[1] * (states.ndim - 2)), 0.0)

    cached = _CachedViews("activations", model, video_processor, clips, views or Views(), accelerator, block)
    return cached.read(encode)


class _CachedViews:
    """What a CLIP makes of clips, with a file of the cache for each view.

    Args:
        kind: "features" or "activations".
        model: as in `frame_features`.
        video_processor: as in `frame_features`.
        clips: the clips.
        views: how they are looked at.
        accelerator: as in `frame_features`.
        block: of the activations.
    """

    def __init__(
        self,
        kind: str,
        model: TGDFERForVideoClassification,
        video_processor: TGDFERVideoProcessor,
        clips: LabelledClips,
        views: Views,
        accelerator: Accelerator | None = None,
        block: int | None = None,
    ) -> None:
        self.kind, self.model, self.video_processor, self.clips, self.views = (
            kind,
            model,
            video_processor,
            clips,
            views,
        )
        self.accelerator, self.num_frames = accelerator, model.config.num_frames
        self.names = _file_names(model, video_processor, clips, views, accelerator, block)

    def read(self, encode: Callable[[Tensor, Tensor], Tensor]) -> FrameFeatures:
        """All views: those in the cache from there, and the others from `encode(pixels, mask)`."""
        cache_limit()  # A limit that is no size is reported before anything is computed.
        every: dict[str, Tensor] = {}
        for view in range(self.views.number):
            found = self._load(view)
            # One process alone cannot compute its share: either all of them read a view, or all compute it.
            if not all_have(found is not None):
                found = self._compute(view, encode)
                if process_state().is_local_main_process:
                    self._save(view, found)
                process_state().wait_for_everyone()
            assert found is not None
            for name, values in found.items():
                if view == 0:
                    every[name] = values.new_empty(self.views.number, *values.shape)
                every[name][view] = values
        return FrameFeatures(**every)

    def _path(self, view: int) -> Path:
        return kind_folder(self.kind) / self.names[view]

    def _load(self, view: int) -> dict[str, Tensor] | None:
        """A view from its file; None if there is none that can be read."""
        try:
            path = self._path(view)
            if not path.is_file():
                return None
            found = load_file(path)
            shapes = {name: tuple(values.shape[:2]) for name, values in found.items()}
            if shapes != dict.fromkeys(_TENSORS, (len(self.clips), self.num_frames)):
                raise ValueError("it holds something else")
        except (OSError, ValueError, SafetensorError) as error:
            if process_state().is_local_main_process:
                logger.warning("Cached features cannot be read (%s): they are computed again.", error)
            return None
        with suppress(OSError):  # The cache of somebody else may be read, but not changed.
            mark_used(path)
        return found

    def _save(self, view: int, values: dict[str, Tensor]) -> None:
        """Writes a view to its file, whole or not at all."""
        try:
            path = self._path(view)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                save_file(values, temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            trim_cache()
        except (OSError, ValueError, SafetensorError) as error:
            logger.warning(
                "Features cannot be kept in %s (%s): the next run computes them again, unless TGDFER_CACHE names a"
                " folder that can be written to and has space.",
                cache_folder(),
                error,
            )

    def _compute(self, view: int, encode: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Encodes a view of every clip; each process encodes a batch of every round."""
        views, state, device = self.views, process_state(), next(self.model.parameters()).device
        data = SampledClips(
            self.clips, self.clips.classes, self.video_processor, self.num_frames, view > 0, views.seed, views.augment
        )
        data.set_epoch(view)
        turns = rounds(len(data), views.batch_size)
        # In the last round some processes have no batch of their own: they encode the first one, which is not kept.
        own = [turn[state.process_index] if state.process_index < len(turn) else turn[0] for turn in turns]
        batches = track(
            loader_of(data, own, views.workers),
            f"Frame features, view {view + 1} of {views.number}",
            total=len(own),
            console=get_console(),
            disable=not state.is_main_process,
        )
        self.model.eval()
        every: dict[str, Tensor] = {}
        for turn, batch in zip(turns, batches, strict=True):
            mask = batch["frame_mask"].to(device)
            with torch.inference_mode(), self.accelerator.autocast() if self.accelerator else nullcontext():
                features = encode(batch["pixel_values_videos"].to(device), mask)
            found = {"features": features.half(), "frame_mask": mask, "timestamps": batch["timestamps"].to(device)}
            for name, values in found.items():
                if name not in every:
                    every[name] = torch.zeros(len(data), *values.shape[1:], dtype=values.dtype)
                for rows, theirs in zip(turn, _of_each_process(values, views.batch_size), strict=False):
                    every[name][rows] = theirs[: len(rows)].to("cpu", values.dtype)
        return every


# What a file of the cache holds.
_TENSORS = ("features", "frame_mask", "timestamps")


def _of_each_process(values: Tensor, batch_size: int) -> list[Tensor]:
    """What each process has for this round, padded to `batch_size` rows, as processes exchange only equal sizes."""
    if process_state().num_processes == 1:
        return [values]
    padded = values.new_zeros(batch_size, *values.shape[1:], dtype=torch.uint8 if values.dtype == torch.bool else None)
    padded[: len(values)] = values
    return list(gather(padded).split(batch_size))


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
    video_source_tgdfer,
)


def _file_names(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: Views,
    accelerator: Accelerator | None = None,
    block: int | None = None,
) -> list[str]:
    """The file of each view; its name changes with everything that its features depend on."""
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
        "mixed_precision": accelerator.mixed_precision if accelerator else "no",
        "block": block,
    }
    names = []
    for view in range(views.number):
        # The first view is the same whatever the seed and the augmentation.
        drawn = {"view": view, "seed": views.seed, "augmentation": asdict(views.augment)} if view else {}
        of_view = digest.copy()
        of_view.update(json.dumps(facts | drawn, sort_keys=True, default=str).encode())
        names.append(f"{of_view.hexdigest()[:32]}.safetensors")
    return names
