"""Training data sets of clips: sampling, augmenting and batching frames, and the order of the clips."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, hard_labels
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_reading_tgdfer import is_frame_files
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError, did_you_mean

# Clips that are tried in place of one that cannot be read.
_SUBSTITUTES = 10


class ClipDataset(torch.utils.data.Dataset):
    """Labelled clips whose frames are sampled and batched by the video processor.

    In training, one random frame of each segment is sampled, and the frames are augmented. Both depend only on the
    seed, the epoch, the contents of the clip, and how often it was drawn before in this epoch (see `EpochSampler`). So
    they are the same after resuming, with any number of workers, and in other folds. In evaluation, the middle frames
    of the segments are sampled.

    Args:
        clips (`LabelledClips`): The clips.
        classes (`Sequence[str]`): Names of the classes, in the order of the model.
        video_processor (`Any`): Video processor that samples and normalises the frames.
        num_frames (`int`): Number of frames of a clip.
        training (`bool`, *optional*, defaults to `False`): Whether frames are random and augmented.
        seed (`int`, *optional*, defaults to 0): Seed of sampling and augmentation.
        augment (`Augmentation`, *optional*): The augmentation. By default `Augmentation()`.
        unreadable (`Tensor` of shape `(N,)`, *optional*): Marks, as returned by `no_marks`, of the clips that could
            not be read so far. Another clip takes the place of such a clip, so that batches keep their size. In
            training, this is a clip of the same class. In evaluation, the caller has to leave out the marked clips.
            By default a clip that cannot be read is an error.

    Raises:
        UserError: If the video processor crops all faces.
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
        unreadable: Tensor | None = None,
    ) -> None:
        if video_processor.face_crop == "all":
            raise UserError('A clip has one label, so only one face of it is used: set face_crop to "largest".')
        self.clips = clips
        self.unreadable = unreadable
        self.augment = augment or Augmentation()
        self.video_processor = video_processor
        self.num_frames = num_frames
        self.training = training
        self.seed = seed
        # The epoch is in shared memory, because worker processes persist across epochs.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.targets, self.soft_targets = clip_targets(clips, classes)
        self._numbers: dict[int, int] = {}  # A number for each clip that was read, which depends on its contents.

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not self.training:
            return {"index": index, "video": self.clips.video(index), "timestamps": None}
        repetition, index = divmod(index, len(self))
        if self.unreadable is None:
            return self._read_augmented(index, repetition)
        error = None
        for candidate in self._candidates(index, self.unreadable):
            try:
                return self._read_augmented(candidate, repetition)
            except VideoDecodeError as raised:
                self.unreadable[candidate] = True
                error = error or raised
        assert error is not None
        raise error

    def _read_augmented(self, index: int, repetition: int) -> dict[str, Any]:
        if index not in self._numbers:
            self._numbers[index] = int(self.clips.fingerprint_of(index)[:8], 16)
        # The number of a clip has 32 bits.
        seed = derived_seed(self.seed, self.epoch, self._numbers[index] + (repetition << 32))
        generator = torch.Generator().manual_seed(seed)
        frames, timestamps = self.video_processor.read_clip(self.clips.video(index), self.num_frames, generator)
        return {"index": index, "video": self.augment(frames, seed), "timestamps": timestamps}

    def _candidates(self, index: int, unreadable: Tensor) -> Iterator[int]:
        """Yields a clip and those of the same class that follow it, without clips known to be unreadable.

        The others are searched only if the clip cannot be read, because this takes time that grows with the data set.
        """
        if not unreadable[index]:
            yield index
        same = [other for other, target in enumerate(self.targets) if target == self.targets[index]]
        at = same.index(index)
        usable = (other for other in [*same[at + 1 :], *same[:at]] if not unreadable[other])
        yield from islice(usable, _SUBSTITUTES)
        if unreadable[index]:
            yield index

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Makes a batch of clips.

        Returns:
            `pixel_values_videos` (B, T, 3, S, S), `frame_mask` (B, T), `timestamps` (B, T), and `labels` (B,), which
            are (B, K) for several labels and for votes. Clips that cannot be read have negative labels in
            evaluation. In evaluation also `intensity` and `activity` (B, T) of the sampled frames, NaN if unknown.
        """
        indices = [item["index"] for item in items]
        try:
            batch = self._process(items)
        except VideoDecodeError:
            if self.unreadable is None:
                raise
            items = self._without_unreadable(items, self.unreadable)
            batch = self._process(items)
        metadata = batch.pop("video_metadata")
        batch.pop("faces", None)  # The positions of the face crops are not an input of the model.
        batch = dict(batch, labels=self._labels(indices))
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

    def _process(self, items: list[dict[str, Any]]) -> Any:
        # A list of files of pictures would be one clip, with a frame in each file.
        videos = [[item["video"]] if is_frame_files([item["video"]]) else item["video"] for item in items]
        return self.video_processor(
            videos,
            timestamps=[item["timestamps"] for item in items],
            num_frames=self.num_frames,
            # In training, the frames were sampled when they were read.
            sampling="segments" if self.training else None,
            return_metadata=True,
            return_tensors="pt",
        )

    def _without_unreadable(self, items: list[dict[str, Any]], unreadable: Tensor) -> list[dict[str, Any]]:
        """Marks the items that cannot be read, and replaces them by one that can."""

        def can_read(item: dict[str, Any]) -> bool:
            try:
                self.video_processor.read_clip(item["video"], self.num_frames)
            except VideoDecodeError:
                unreadable[item["index"]] = True
            return not unreadable[item["index"]]

        readable = [item for item in items if can_read(item)]
        others = (self[index] for index in range(len(self)) if not unreadable[index])
        substitute = readable[0] if readable else next((item for item in others if can_read(item)), None)
        if substitute is None:
            return items  # Reading them raises the error.
        return [substitute if unreadable[item["index"]] else item for item in items]

    def _labels(self, indices: list[int]) -> Tensor:
        if self.soft_targets is not None:
            labels = self.soft_targets[indices]
        else:
            labels = torch.tensor([self.targets[index] for index in indices])
        if self.training or self.unreadable is None:
            return labels
        return labels.masked_fill(self.unreadable[indices].view(-1, *[1] * (labels.ndim - 1)), IGNORED)


def no_marks(clips: LabelledClips) -> Tensor:
    """Returns marks (N,) of no clip, in memory that worker processes share."""
    return torch.zeros(len(clips), dtype=torch.bool).share_memory_()


def with_hard_labels(batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Yields batches with class indices (B,) as labels, without the clips that have none.

    The label of a clip with votes is the class with most votes.
    """
    for batch in batches:
        labels = hard_labels(batch["labels"])
        kept = labels != IGNORED
        if kept.any():
            yield {name: values[kept] for name, values in batch.items()} | {"labels": labels[kept]}


def clip_targets(clips: LabelledClips, classes: Sequence[str]) -> tuple[list[int], Tensor | None]:
    """Returns the class of each clip, and the soft labels (N, K) if there are several labels, or votes.

    Several labels have no single class. The rarest label of a clip stands for them, so that balanced sampling shows
    rare labels more often.
    """
    if clips.soft is None:
        ids = {label: index for index, label in enumerate(classes)}
        return [ids[label] for label in clips.labels], None
    values = clips.soft.ordered(classes)
    if clips.soft.kind == "votes":
        return values.argmax(1).tolist(), torch.from_numpy(values)
    counts = np.where(values > 0, values.sum(0), np.inf)
    return counts.argmin(1).tolist(), torch.from_numpy(values)


class EpochSampler(torch.utils.data.Sampler[int]):
    """A random order of the clips in every epoch. It depends on (seed, epoch) only.

    A balanced order has some clips several times. Each draw has another value: `index + n * len(targets)` stands for
    the n-th repetition of a clip, so that data sets can show other frames of it.

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
            drawn = torch.multinomial(weights, len(self), replacement=True, generator=generator).tolist()
            return self._distinct(drawn)
        return iter(torch.randperm(len(self), generator=generator).tolist())

    def _distinct(self, drawn: list[int]) -> Iterator[int]:
        """Yields the indices, and a number of its own for each repetition."""
        before: Counter[int] = Counter()
        for index in drawn:
            yield index + before[index] * len(self)
            before[index] += 1


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
