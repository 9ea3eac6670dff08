"""Training data sets of clips: sampling, augmenting and batching frames, and the order of the clips."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError, did_you_mean


class ClipDataset(torch.utils.data.Dataset):
    """Labelled clips whose frames are sampled and batched by the video processor.

    In training, one random frame of each segment is sampled, and the frames are augmented. Both depend on (seed,
    epoch, index) only. So they are the same after resuming and with any number of workers. In evaluation, the middle
    frames of the segments are sampled.

    Args:
        clips (`LabelledClips`): The clips.
        classes (`Sequence[str]`): Names of the classes, in the order of the model.
        video_processor (`Any`): Video processor that samples and normalises the frames.
        num_frames (`int`): Number of frames of a clip.
        training (`bool`, *optional*, defaults to `False`): Whether frames are random and augmented.
        seed (`int`, *optional*, defaults to 0): Seed of sampling and augmentation.
        augment (`Augmentation`, *optional*): The augmentation. By default `Augmentation()`.
    """

    def __init__(
        self,
        clips: LabelledClips,
        classes: Sequence[str],
        video_processor: Any,
        num_frames: int,
        training: bool = False,
        seed: int = 0,
        augment: Augmentation | None = None,
    ) -> None:
        self.clips = clips
        self.augment = augment or Augmentation()
        self.video_processor = video_processor
        self.num_frames = num_frames
        self.training = training
        self.seed = seed
        # The epoch is in shared memory, because worker processes persist across epochs.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        ids = {label: index for index, label in enumerate(classes)}
        self.targets = [ids[label] for label in clips.labels]

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {"index": index, "video": self.clips.video(index), "timestamps": None}
        if self.training:
            seed = derived_seed(self.seed, self.epoch, index)
            generator = torch.Generator().manual_seed(seed)
            frames, item["timestamps"] = self.video_processor.read_clip(item["video"], self.num_frames, generator)
            item["video"] = self.augment(frames, seed)
        return item

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Makes a batch of clips.

        Returns:
            `pixel_values_videos` (B, T, 3, S, S), `frame_mask` (B, T), `timestamps` (B, T) and `labels` (B,). In
            evaluation also `intensity` and `activity` (B, T) of the sampled frames, NaN if unknown.
        """
        batch = self.video_processor(
            [item["video"] for item in items],
            timestamps=[item["timestamps"] for item in items],
            num_frames=self.num_frames,
            return_metadata=True,
            return_tensors="pt",
        )
        metadata = batch.pop("video_metadata")
        batch.pop("faces", None)  # The positions of the face crops are not an input of the model.
        batch = dict(batch, labels=torch.tensor([self.targets[item["index"]] for item in items]))
        if not self.training:
            ground_truth = {"intensity": self.clips.intensity, "activity": self.clips.activity}
            for name, clip_values in ground_truth.items():
                batch[name] = torch.full(batch["frame_mask"].shape, torch.nan)
                for target, item, clip in zip(batch[name], items, metadata, strict=True):
                    values = clip_values[item["index"]] if clip_values else None
                    if values:
                        # If there are slightly fewer values than frames, they are stretched over the clip.
                        indices = [i * len(values) // clip.total_num_frames for i in clip.frames_indices]
                        target[: len(indices)] = torch.tensor(values)[indices]
        return batch


class EpochSampler(torch.utils.data.Sampler[int]):
    """A random order of the clips in every epoch. It depends on (seed, epoch) only.

    Args:
        targets (`Sequence[int]`): Class of each clip.
        seed (`int`): Seed of the order.
        balanced (`bool`, *optional*, defaults to `False`): Whether to sample every class equally often, with
            replacement, instead of every clip once.
    """

    def __init__(self, targets: Sequence[int], seed: int, balanced: bool = False) -> None:
        self.targets = torch.tensor(targets)
        self.seed = seed
        self.balanced = balanced
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self):
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        if self.balanced:
            weights = 1.0 / torch.bincount(self.targets)[self.targets]
            return iter(torch.multinomial(weights, len(self), replacement=True, generator=generator).tolist())
        return iter(torch.randperm(len(self), generator=generator).tolist())


def derived_seed(*numbers: int) -> int:
    """Returns a seed that is a hash of the numbers, so that similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def augmentation(options: dict[str, Any]) -> Augmentation:
    """Creates an `Augmentation` from its fields.

    Raises:
        UserError: If a field is unknown or its value is not valid.
    """
    known = {field.name for field in fields(Augmentation)}
    for name in options:
        if name not in known:
            raise UserError(f"augmentation has the unknown field {name!r}{did_you_mean(name, known)}")
    try:
        return Augmentation(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"augmentation cannot be {options!r}: {error}") from error
