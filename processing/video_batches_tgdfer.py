"""Batches of videos: the forms in which a caller gives several videos, and their padded frames."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from transformers.video_utils import VideoMetadata, is_valid_video

from .video_file_tgdfer import VideoDecodeError
from .video_reading_tgdfer import Clip, is_frame_files


def video_name(video: Any) -> str:
    """Returns the name of a video for messages."""
    if isinstance(video, dict):
        video = video.get("path")
    return os.fspath(video) if isinstance(video, str | os.PathLike) else str(getattr(video, "name", "The video"))


def list_videos(videos: Any) -> list[Any]:
    """Lists the videos of a batch. Nested lists are flattened, and a single video becomes a batch of one."""
    if getattr(videos, "ndim", 0) == 5:
        return list(videos)
    if not isinstance(videos, list | tuple) or is_valid_video(videos) or is_frame_files(videos):
        return [videos]
    if not videos:
        raise VideoDecodeError("An empty list contains no video; pass at least one.")
    return [video for item in videos for video in list_videos(item)]


def list_metadata(metadata: Any) -> Any:
    """Lists the metadata of each video, or returns None. `transformers` also passes nested lists."""
    if isinstance(metadata, dict | VideoMetadata):
        return [metadata]
    if metadata and isinstance(metadata[0], list):
        return [item for items in metadata for item in items]
    return metadata


def per_video(name: str, values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """Returns one value for each of `count` videos, which is None if the argument `name` was not given."""
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"Received {count} videos but {len(values)} entries in `{name}`; pass one for each video.")
    return values


def stack_videos(videos: list[torch.Tensor], clips: list[Clip], minimum: int) -> dict[str, torch.Tensor]:
    """Batches videos (T_i, C, H, W), padded with their last frame to the longest one, and at least to `minimum`."""
    if len({video.shape[1:] for video in videos}) > 1:
        raise ValueError("The videos of a batch differ in size; enable `do_resize` and `do_center_crop`.")
    lengths = torch.tensor([len(video) for video in videos], device=videos[0].device)
    longest = max(int(lengths.max()), minimum)

    def stack(tensors: list[torch.Tensor]) -> torch.Tensor:
        steps = torch.arange(longest, device=lengths.device)
        padded = [t if len(t) == longest else t[steps.clamp(max=len(t) - 1)] for t in tensors]
        return torch.stack(padded) if len(padded) > 1 else padded[0][None]

    batch = {
        "pixel_values_videos": stack(videos),
        "frame_mask": torch.arange(longest, device=lengths.device) < lengths[:, None],
    }
    if any(clip.seconds is not None for clip in clips):
        unknown = torch.tensor(torch.nan)
        seconds = [unknown.expand(len(clip.frames)) if clip.seconds is None else clip.seconds for clip in clips]
        batch["timestamps"] = stack([times.to(lengths.device) for times in seconds])
    return batch
