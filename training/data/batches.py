"""Batches of clips: sampled, augmented and stacked, in an order that follows from the seed."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError, nearest


class SampledClips(torch.utils.data.Dataset):
    """Frames of labelled clips, sampled and batched by the video processor.

    In training the frames are a random one of each segment, augmented; both follow from (seed, epoch, index) alone, so
    that a run can be resumed and workers do not matter. In evaluation they are the middle frames.
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
        # In shared memory: processes that read clips live on from one epoch to the next.
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
        """Batches clips.

        Returns:
            `pixel_values_videos` (B, T, 3, S, S), `frame_mask` (B, T), `timestamps` (B, T), `labels` (B,); in
            evaluation also the `intensity` and the `activity` (B, T) of the sampled frames, NaN where unknown.
        """
        batch = self.video_processor(
            [item["video"] for item in items],
            timestamps=[item["timestamps"] for item in items],
            num_frames=self.num_frames,
            return_metadata=True,
            return_tensors="pt",
        )
        metadata = batch.pop("video_metadata")
        batch.pop("faces", None)  # Where they were cut out: nothing that a model takes.
        batch = dict(batch, labels=torch.tensor([self.targets[item["index"]] for item in items]))
        if not self.training:
            truths = {"intensity": self.clips.intensity, "activity": self.clips.activity}
            for name, of_clips in truths.items():
                batch[name] = torch.full(batch["frame_mask"].shape, torch.nan)
                for row, item, clip in zip(batch[name], items, metadata, strict=True):
                    truth = of_clips[item["index"]] if of_clips else None
                    if truth:
                        # Lists that miss a frame or two are stretched over the clip.
                        indices = [i * len(truth) // clip.total_num_frames for i in clip.frames_indices]
                        row[: len(indices)] = torch.tensor(truth)[indices]
        return batch


class EpochSampler(torch.utils.data.Sampler[int]):
    """A new order of the clips in every epoch, which follows from (seed, epoch) alone.

    Args:
        targets: class of each clip.
        seed: decides the orders.
        balanced: draw every class equally often, with replacement, instead of every clip once.
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
    """A seed that follows from all the numbers, without patterns between neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def augmentation(options: dict[str, Any]) -> Augmentation:
    """How training clips are changed, by fields of `Augmentation`.

    Raises:
        UserError: a field is unknown, or its value cannot be used.
    """
    known = {field.name for field in fields(Augmentation)}
    for name in options:
        if name not in known:
            raise UserError(f"augmentation has the unknown field {name!r}{nearest(name, known)}")
    try:
        return Augmentation(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"augmentation cannot be {options!r}: {error}") from error
