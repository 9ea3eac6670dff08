"""Frame features of a frozen CLIP. They are computed once and cached on disk, so that epochs take only seconds."""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

import torch
from accelerate import Accelerator
from accelerate.utils import gather
from rich import get_console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from tgdfer import processing
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.processing.video_source_tgdfer import VideoDecodeError
from tgdfer.training.cache import cache_limit
from tgdfer.training.data import augmentation
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.batches import ClipDataset, derived_seed
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.feature_cache import CachedView
from tgdfer.training.files import source_hash
from tgdfer.training.processes import batch_loader, batch_rounds, gather_batches, process_state


@dataclass(frozen=True)
class FrameFeatures:
    """CLIP features of the frames of N clips, in V views. The first view is not augmented, all others are.

    Attributes:
        features (`Tensor` of shape `(V, N, T, ...)`): float16. (V, N, T, D) if they are the output of
            `get_frame_features`.
        frame_mask (`Tensor` of shape `(V, N, T)`): bool.
        timestamps (`Tensor` of shape `(V, N, T)`): float32, in seconds.
    """

    features: Tensor
    frame_mask: Tensor
    timestamps: Tensor


@dataclass(frozen=True)
class Views:
    """The number of views of each clip, and how they are made.

    Attributes:
        number (`int`, *optional*, defaults to 1): Views of each clip. The first one has the middle frames of the
            segments. The others have random frames, which are augmented.
        seed (`int`, *optional*, defaults to 0): Seed of the augmented views.
        augment (`Augmentation`, *optional*, defaults to `Augmentation()`): Augmentation of these views.
        batch_size (`int`, *optional*, defaults to 16): Clips per step.
        workers (`int`, *optional*, defaults to 0): Number of processes that decode clips.
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
    unreadable: Tensor | None = None,
) -> FrameFeatures:
    """Computes the frame features of clips, or reads them from the cache.

    The cache keeps each clip in each view (`training/feature_cache.py`), so that only new clips are computed, for
    example those of another fold. `tgdfer cache` lists and clears it. A damaged file, or one that cannot be written,
    causes a warning. Several processes share the clips. Every process must call this function, and each one returns
    all features.

    Args:
        model (`TGDFERForVideoClassification`): Model whose CLIP computes the features, on its device.
        video_processor (`TGDFERVideoProcessor`): Video processor that samples and normalises the frames.
        clips (`LabelledClips`): The clips.
        views (`Views`, *optional*): The views. By default a single one.
        accelerator (`Accelerator`, *optional*): Accelerator with the mixed precision for CLIP. By default CLIP uses
            the number format of the model.
        unreadable (`Tensor` of shape `(N,)`, *optional*): Marks, as in `ClipDataset`, of the clips that cannot be
            read. The mask of their frames is False. By default such a clip is an error.
    """
    cached = _CachedViews("features", model, video_processor, clips, views or Views(), accelerator)
    cached.unreadable = unreadable
    features = cached.read(model.get_frame_features)
    lost = ~features.frame_mask.any(-1).all(0)
    if lost.any() and unreadable is None:
        raise VideoDecodeError(f"{clips.files[int(lost.nonzero()[0])]} cannot be read; replace or remove it.")
    if unreadable is not None:
        unreadable |= lost
    return features


def frame_activations(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    block: int,
    views: Views | None = None,
    accelerator: Accelerator | None = None,
) -> FrameFeatures:
    """Computes the inputs of a vision block, or reads them from the cache.

    With these inputs, the block and the ones after it can be trained without running the blocks before it.

    Args:
        model (`TGDFERForVideoClassification`): As in `frame_features`.
        video_processor (`TGDFERVideoProcessor`): As in `frame_features`.
        clips (`LabelledClips`): The clips.
        block (`int`): Index of the vision block, as counted by `blocks_of`.
        views (`Views`, *optional*): As in `frame_features`.
        accelerator (`Accelerator`, *optional*): As in `frame_features`.

    Returns:
        `features` have shape (V, N, T, P, C) for a ViT, with P tokens of width C per frame and the class token first,
        and (V, N, T, C, H, W) for a convolutional tower.
    """
    tower = model.tgdfer.clip.vision_model
    first = blocks_of(tower)[block][1]

    def encode(pixels: Tensor, mask: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        with first.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0])):
            tower(pixel_values=pixels.flatten(0, 1))
        states = inputs[0].unflatten(0, mask.shape)
        return states.masked_fill(~mask.bool().view(*mask.shape, *[1] * (states.ndim - 2)), 0.0)

    cached = _CachedViews("activations", model, video_processor, clips, views or Views(), accelerator, block)
    return cached.read(encode)


class _CachedViews:
    """Outputs of a frozen CLIP for clips in several views.

    Args:
        kind: "features" or "activations".
        model: As in `frame_features`.
        video_processor: As in `frame_features`.
        clips: The clips.
        views: The views.
        accelerator: As in `frame_features`.
        block: Vision block of the activations.
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
        self.model, self.video_processor, self.clips, self.views = model, video_processor, clips, views
        self.accelerator = accelerator
        main = process_state().is_local_main_process
        hashes = [clips.fingerprint_of(index) for index in range(len(clips))]
        self.cached = [
            CachedView(kind, settings, hashes, model.config.num_frames, main)
            for settings in view_settings(model, video_processor, views, accelerator, block)
        ]
        self.unreadable: Tensor | None = None

    def read(self, encode: Callable[[Tensor, Tensor], Tensor]) -> FrameFeatures:
        """Returns all views. Clips that are not in the cache are computed with `encode(pixels, mask)`."""
        cache_limit()  # An invalid limit raises an error here, before anything is computed.
        tensors: dict[str, Tensor] = {}
        for view in range(self.views.number):
            for name, values in self._read_view(view, encode).items():
                if view == 0:
                    tensors[name] = values.new_empty(self.views.number, *values.shape)
                tensors[name][view] = values
        return FrameFeatures(**tensors)

    def _read_view(self, view: int, encode: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        values, known = self.cached[view].load()
        # Processes on different machines may know different clips. They compute together what one of them lacks.
        known = torch.stack(gather_batches([known])).all(0)
        missing = (~known).nonzero().flatten().tolist()
        if missing:
            computed = self._compute(view, missing, encode)
            if process_state().is_local_main_process:
                # A clip that could not be read is tried again next time, because the reason may have passed.
                readable = computed["frame_mask"].any(-1)
                kept = {name: found[readable] for name, found in computed.items()}
                if readable.any():
                    self.cached[view].save(kept, [missing[row] for row in readable.nonzero().flatten().tolist()])
            for name, found in computed.items():
                if name not in values:
                    values[name] = found.new_zeros(len(self.clips), *found.shape[1:])
                values[name][missing] = found
            process_state().wait_for_everyone()
        return values

    def _compute(self, view: int, indices: list[int], encode: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Encodes a view of some clips. In each round, each process encodes one batch."""
        views, state, device = self.views, process_state(), next(self.model.parameters()).device
        rank = state.process_index
        # All clips, because a clip that cannot be read is replaced by one of them.
        data = ClipDataset(
            self.clips,
            self.clips.classes,
            self.video_processor,
            self.model.config.num_frames,
            view > 0,
            views.seed,
            views.augment,
            self.unreadable,
        )
        data.set_epoch(view)
        rounds = batch_rounds(len(indices), views.batch_size)
        # The last round may have fewer batches than processes. The others encode its first batch, which is discarded.
        own = [batches[rank] if rank < len(batches) else batches[0] for batches in rounds]
        loader = track(
            batch_loader(data, [[indices[place] for place in places] for places in own], views.workers),
            f"Frame features, view {view + 1} of {views.number}",
            total=len(own),
            console=get_console(),
            disable=not state.is_main_process,
        )
        self.model.eval()
        tensors: dict[str, Tensor] = {}
        for round_batches, batch in zip(rounds, loader, strict=True):
            for name, values in self._encode(batch, encode, device).items():
                if name not in tensors:
                    tensors[name] = torch.zeros(len(indices), *values.shape[1:], dtype=values.dtype)
                gathered = _gather_batch(values, views.batch_size)
                for places, batch_values in zip(round_batches, gathered, strict=False):
                    tensors[name][places] = batch_values[: len(places)].to("cpu", values.dtype)
        if self.unreadable is not None:
            self.unreadable |= torch.stack(gather_batches([self.unreadable.clone()])).any(0)
            tensors["frame_mask"][self.unreadable[indices]] = False
        return tensors

    def _encode(
        self, batch: dict[str, Tensor], encode: Callable[[Tensor, Tensor], Tensor], device: torch.device
    ) -> dict[str, Tensor]:
        mask = batch["frame_mask"].to(device)
        with torch.inference_mode(), self.accelerator.autocast() if self.accelerator else nullcontext():
            features = encode(batch["pixel_values_videos"].to(device), mask)
        # Folders of frames have no times. The network replaces NaN by times from its config.
        timestamps = batch.get("timestamps", torch.full(mask.shape, torch.nan)).to(device)
        return {"features": features.half(), "frame_mask": mask, "timestamps": timestamps}


def _gather_batch(values: Tensor, batch_size: int) -> list[Tensor]:
    """Returns the batches of all processes in this round, padded to `batch_size` because sizes must be equal."""
    if process_state().num_processes == 1:
        return [values]
    padded = values.new_zeros(batch_size, *values.shape[1:], dtype=torch.uint8 if values.dtype == torch.bool else None)
    padded[: len(values)] = values
    return list(gather(padded).split(batch_size))


class FeatureDataset(Dataset):
    """Cached frame features as training data. The view and the frames of an item depend on (seed, epoch, index) only.

    In training, the index also says how often the item was drawn before in this epoch: see `EpochSampler`.

    Args:
        features (`FrameFeatures`): Features of all clips.
        indices (`Sequence[int]`): Indices of the clips to use.
        targets (`Sequence[int]`): Class of each of these clips.
        training (`bool`): Whether items are random views. Otherwise they are the complete first view.
        seed (`int`): Seed of the choice of views and frames.
        frames (`int`, *optional*): Number of random frames, in their original order, of an item in training. By
            default all frames.
        soft_targets (`Tensor` of shape `(N, K)`, *optional*): Several labels, or votes, of each of these clips.
    """

    def __init__(
        self,
        features: FrameFeatures,
        indices: Sequence[int],
        targets: Sequence[int],
        training: bool,
        seed: int,
        frames: int | None = None,
        soft_targets: Tensor | None = None,
    ) -> None:
        self.soft_targets = soft_targets
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

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        views, index = len(self.features.features), draw % len(self)
        view = derived_seed(self.seed, self.epoch, draw) % views if self.training else 0
        position = (view, self.indices[index])
        mask = self.features.frame_mask[position]
        chosen = self._choose_frames(mask, draw)
        return {
            "frame_features": self.features.features[position][chosen].float(),
            "frame_mask": mask[chosen],
            "timestamps": self.features.timestamps[position][chosen],
            "labels": torch.tensor(self.targets[index]) if self.soft_targets is None else self.soft_targets[index],
        }

    def _choose_frames(self, mask: Tensor, draw: int) -> Tensor | slice:
        """Chooses random frames in their original order. Masked frames are chosen only if there are too few others."""
        if not self.training or self.frames is None or self.frames >= len(mask):
            return slice(None)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch, draw, 1))
        priority = torch.rand(mask.shape, generator=generator).masked_fill(~mask, 2.0)
        return priority.argsort()[: self.frames].sort().values


def view_settings(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    views: Views,
    accelerator: Accelerator | None = None,
    block: int | None = None,
) -> list[str]:
    """Returns for each view a hash of everything that the features depend on, besides the clips."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.tgdfer.clip.state_dict().items()):
        if name.startswith("vis"):  # The vision model and its projection.
            digest.update(name.encode())
            digest.update(weight.cpu().reshape(-1).view(torch.uint8).numpy().data)
    # Besides the settings of the video processor, this code determines the input pixels of CLIP.
    digest.update((source_hash(processing) + inspect.getsource(augmentation)).encode())
    facts = {
        "tgdfer": version("tgdfer"),
        "clip": model.config.clip_config.vision_config.to_dict(),
        "video_processor": video_processor.to_dict(),
        "num_frames": model.config.num_frames,
        "mixed_precision": accelerator.mixed_precision if accelerator else "no",
        "block": block,
    }
    hashes = []
    for view in range(views.number):
        # The first view does not depend on the seed and the augmentation.
        random = {"view": view, "seed": views.seed, "augmentation": asdict(views.augment)} if view else {}
        view_digest = digest.copy()
        view_digest.update(json.dumps(facts | random, sort_keys=True, default=str).encode())
        hashes.append(view_digest.hexdigest()[:32])
    return hashes
