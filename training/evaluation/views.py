"""Evaluation with several windows and crops of each clip, whose logits are averaged."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2 import functional as tvF

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import at_temperature
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError
from tgdfer.training.files import printable
from tgdfer.training.measure import ClipPrediction
from tgdfer.training.processes import batch_loader, gather_batches, own_batches, process_state

logger = logging.getLogger(__name__)

# One crop is that of training. Five are the four corners and the centre, and ten are these and their mirror images.
CROPS = (1, 5, 10)
# Side of a crop as a share of the shorter side of the frame, as 224 pixels of 256.
CROP_SIDE = 0.875


@dataclass(frozen=True)
class EvaluationViews:
    """The windows and crops of each clip. The logits of all of them are averaged.

    Attributes:
        windows (`int`, *optional*, defaults to 1): Number of windows. With `sampling="segments"`, each window has one
            frame of every segment, and the frames of the windows are evenly spaced in the segment. With "dense", the
            windows are runs of frames, one after the other.
        crops (`int`, *optional*, defaults to 1): Number of crops: 1, 5 (the corners and the centre) or 10 (these and
            their mirror images).
    """

    windows: int = 1
    crops: int = 1

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise UserError(f"windows is {self.windows}, but must be at least 1.")
        if self.crops not in CROPS:
            raise UserError(f"crops is {self.crops}, but must be one of {', '.join(map(str, CROPS))}.")

    @property
    def number(self) -> int:
        """Number of views of each clip."""
        return self.windows * self.crops

    def require_possible(self, video_processor: TGDFERVideoProcessor) -> None:
        """Checks that the video processor samples frames in a way that has windows.

        Raises:
            UserError: If it has not.
        """
        if self.windows > 1 and video_processor.sampling not in ("segments", "dense"):
            raise UserError(
                f"The model samples frames by {video_processor.sampling!r}, which has no windows: evaluate it with one"
                " window."
            )


def window_indices(read: int, num_frames: int, windows: int, sampling: str) -> list[np.ndarray]:
    """Chooses the frames of each window among the frames that were read for all windows.

    Args:
        read (`int`): Number of frames that were read, at most `windows * num_frames`. A short clip has fewer.
        num_frames (`int`): Number of frames of a window.
        windows (`int`): Number of windows.
        sampling (`str`): "segments" or "dense".

    Returns:
        `list[np.ndarray]`: Strictly increasing indices of each window: `num_frames`, or all frames of a clip that does
        not have more.
    """
    if read <= num_frames:
        return [np.arange(read)] * windows
    if sampling == "dense":
        starts = np.linspace(0, read - num_frames, windows).round().astype(int)
        return [start + np.arange(num_frames) for start in starts]
    within = (np.arange(windows) + 0.5) / windows
    return [((np.arange(num_frames) + share) * read / num_frames).astype(int) for share in within]


def crops_of(frames: Tensor, crops: int) -> Sequence[Tensor]:
    """Returns the crops of frames (T, 3, H, W): the frames themselves, or 5 or 10 squares."""
    if crops == 1:
        return [frames]
    side = max(1, round(CROP_SIDE * min(frames.shape[-2:])))
    return tvF.five_crop(frames, [side]) if crops == 5 else tvF.ten_crop(frames, [side])


class _ViewedClips(torch.utils.data.Dataset):
    """The views of clips. An item is a clip; a batch has the views of its clips, one clip after the other."""

    def __init__(
        self, clips: LabelledClips, video_processor: TGDFERVideoProcessor, num_frames: int, views: EvaluationViews
    ) -> None:
        self.clips, self.video_processor = clips, video_processor
        self.num_frames, self.views = num_frames, views

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> list[tuple[Tensor, Tensor | None]]:
        video, count = self.clips.video(index), self.num_frames * self.views.windows
        try:
            frames, seconds = self.video_processor.read_clip(video, count)
        except VideoDecodeError as error:
            # Its middle frames were read before. They stand for all windows.
            logger.warning(
                "%s has no windows, because more frames of it cannot be read: %s",
                printable(self.clips.files[index]),
                error,
            )
            frames, seconds = self.video_processor.read_clip(video, self.num_frames)
        chosen = window_indices(len(frames), self.num_frames, self.views.windows, self.video_processor.sampling)
        return [
            (crop, None if seconds is None else seconds[window])
            for window in chosen
            for crop in crops_of(frames[window], self.views.crops)
        ]

    def collate(self, items: list[list[tuple[Tensor, Tensor | None]]]) -> dict[str, Tensor]:
        """Makes inputs of the network, (B * V, T, ...)."""
        views = list(chain.from_iterable(items))
        # The faces are cropped and the frames are sampled already: all frames of a view are taken as they are.
        return dict(
            self.video_processor(
                [frames for frames, _ in views],
                timestamps=[seconds for _, seconds in views],
                num_frames=self.num_frames,
                sampling="segments",
                face_crop="none",
                return_tensors="pt",
            )
        )


def with_views(
    predictions: Sequence[ClipPrediction],
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    views: EvaluationViews,
    batch_size: int = 16,
    workers: int | None = 0,
    device: torch.device | None = None,
) -> list[ClipPrediction]:
    """Replaces the answers of predictions by those of the mean logits of several views.

    The relevance of the frames remains that of the middle frames, because the frames of the views are different ones.
    Several processes share the clips. Every process must call this function, and each one returns all predictions.

    Args:
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip from its middle frames.
        model (`TGDFERForVideoClassification`): The model.
        video_processor (`TGDFERVideoProcessor`): Its video processor.
        clips (`LabelledClips`): The clips.
        views (`EvaluationViews`): The views.
        batch_size (`int`, *optional*, defaults to 16): Views per step.
        workers (`int`, *optional*, defaults to 0): Number of processes that decode clips.
        device (`torch.device`, *optional*): Device of the model. By default Accelerate chooses it.

    Raises:
        UserError: If the video processor samples frames in a way that has no windows.
    """
    model = model.eval().to(device or process_state().device)
    data = _ViewedClips(clips, video_processor, model.config.num_frames, views)
    batches = own_batches(len(data), max(1, batch_size // views.number))
    loader: Any = batch_loader(data, batches, workers)
    title = f"Evaluating {views.number} views of each clip"
    hidden = not process_state().is_main_process
    found = []
    for batch in track(loader, title, total=len(batches), console=get_console(), disable=hidden):
        logits = torch.cat([_logits(model, batch, start, batch_size) for start in _starts(batch, batch_size)])
        found.append(logits.unflatten(0, (-1, views.number)).mean(1))
    logits = torch.cat(gather_batches(found))
    names = model.config.class_names
    scores, best = at_temperature(logits, model.config).softmax(-1).max(-1)
    return [
        replace(prediction, label=names[index], score=score, logits=values)
        for prediction, index, score, values in zip(
            predictions, best.tolist(), scores.tolist(), logits.tolist(), strict=True
        )
    ]


def _starts(batch: dict[str, Tensor], batch_size: int) -> range:
    return range(0, len(batch["pixel_values_videos"]), batch_size)


@torch.inference_mode()
def _logits(model: TGDFERForVideoClassification, batch: dict[str, Tensor], start: int, batch_size: int) -> Tensor:
    """Returns the logits (B, K) of some views of a batch, on the CPU."""
    part = {name: value[start : start + batch_size].to(model.device) for name, value in batch.items()}
    return model(**part).logits.float().cpu()
