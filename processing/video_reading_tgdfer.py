"""Reading of the sampled frames of videos, folders of frames and arrays, with their times in seconds."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
from transformers.video_utils import VideoMetadata, is_valid_video, is_valid_video_frame

from .frame_conversion_tgdfer import on_white
from .video_file_tgdfer import FrameTransform, Sampler, VideoDecodeError, VideoFile
from .video_source_tgdfer import MAX_PIXELS

# Frame rate that is assumed for folders of frames and arrays without timestamps.
ASSUMED_FPS = 25
# Maximum of floating-point values, as a multiple of white.
OVERSHOOT = 1.5
# Number of frames that `stream` reads at a time from arrays, folders and decoders.
_FRAMES_AT_ONCE = 16
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Allowed formats of image files. EPS and other formats for which Pillow starts external programs are excluded.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@dataclass
class Clip:
    """Sampled frames of one video.

    Attributes:
        frames (`torch.Tensor` of shape `(T, C, H, W)`): Frames with 1, 3 or 4 channels, RGB if read from a file. They
            are uint8 or floating point.
        seconds (`torch.Tensor` of shape `(T,)`, *optional*): Times of the frames, float32. The first frame of the
            video is at 0. None if times are unknown.
        metadata (`VideoMetadata`): Metadata of the whole video. `frames_indices` are the indices of the T frames.
        is_unit_range (`bool`): Whether values are in the range 0 to 1, and not 0 to 255. See `in_unit_range`.
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    metadata: VideoMetadata
    is_unit_range: bool = False


def read(video: Any, sampler: Sampler, transform: FrameTransform | None = None, **options: Any) -> Clip:
    """Reads the frames that `sampler` selects.

    Args:
        video (`Any`): A path or URL, bytes or a binary file object of a video; a value of a video column of
            `datasets`, decoded or not (`{"path": ..., "bytes": ...}`); an open PyAV container or torchcodec decoder; a
            folder of frames or a list of their files, in natural order (2 before 10); an array or tensor
            (T, H, W, C) or (T, C, H, W), or a list of T images or arrays (H, W, C); or the output of `open_video`.
        sampler (`Sampler`): Selects the frames.
        transform (`FrameTransform`, *optional*): Applied to each image (3, H, W), or to several images (T, 3, H, W),
            before they are stored, which saves memory. It is applied to files, and to RGB arrays in uint8 or floating
            point. Frames of a decoder and other arrays are returned without it, so the caller has to apply it if its
            effect is needed.
        **options: `url_timeout`, `url_max_bytes`, `url_allow_private` and `backend` of `VideoFile`.

    Returns:
        `Clip`: The frames.

    Raises:
        VideoDecodeError: If no frame can be read.
    """
    file, name = _file(video)
    if file is not None:
        result = _opened(file, name, **options).read(sampler, transform)
        total = len(result.seconds)
        return _clip(
            result.frames, result.seconds, result.duration, result.indices, total, result.backend, result.size
        )
    if (files := _image_files(video)) is not None:
        return _read_images(files, sampler, transform)
    if hasattr(video, "get_frames_at"):
        return _read_decoder(video, sampler)
    return _read_array(video, sampler, transform)


def stream(
    video: Any, sampler: Sampler, transform: FrameTransform | None = None, **options: Any
) -> Iterator[tuple[int, float | None, torch.Tensor]]:
    """Yields the frames that `sampler` selects, with only a few of them in memory. A file is read in a single pass.

    Args:
        video (`Any`): As in `read`.
        sampler (`Sampler`): Selects the frames.
        transform (`FrameTransform`, *optional*): As in `read`.
        **options: As in `read`.

    Yields:
        `tuple[int, float | None, torch.Tensor]`: Index, time in seconds (None if it is unknown) and image (3, H, W) of
        each frame. Frames that cannot be decoded are left out.

    Raises:
        VideoDecodeError: If no frame can be read.
    """
    file, name = _file(video)
    if file is not None:
        yield from _opened(file, name, **options).stream(sampler, transform)
        return
    todo = np.zeros(0, np.int64)

    def choose(seconds: Any, total: int, duration: Any) -> np.ndarray:
        nonlocal todo
        todo = sampler(seconds, total, duration)
        return todo[:_FRAMES_AT_ONCE]

    clip, last = read(video, choose, transform), -1.0
    for start in range(0, len(todo), _FRAMES_AT_ONCE):
        part = todo[start : start + _FRAMES_AT_ONCE]
        clip = read(video, lambda *_, part=part: part, transform) if start else clip
        # A decoder leaves out the repetitions of a frame that is shown for a long time.
        indices = clip.metadata.frames_indices
        assert indices is not None
        times = [None] * len(indices) if clip.seconds is None else clip.seconds.tolist()
        for index, second, frame in zip(indices, times, clip.frames, strict=True):
            if second is None or second > last:
                yield int(index), second, frame
                last = last if second is None else second


def open_video(video: Any, **options: Any) -> Any:
    """Opens a video file as a `VideoFile`, which is downloaded once and can be read several times.

    A single picture becomes a video of one frame. Other videos that are not files are returned unchanged.
    """
    file, name = _file(video)
    if file is not None:
        return _opened(file, name, **options)
    return [video] if is_valid_video_frame(video) else video


def in_unit_range(video: Any) -> bool:
    """Whether the values of a video are floating point, and white is 1 instead of 255.

    Values may be slightly above 1, because resizing with bicubic interpolation exceeds the range.

    Args:
        video (`Any`): As in `read`. Among files, only floating-point images can have this range.

    Returns:
        `bool`: Whether no value is above `OVERSHOOT`. Negative values are not checked.
    """
    if _file(video)[0] is not None or hasattr(video, "get_frames_at"):
        return False
    if (files := _image_files(video)) is not None:
        return _unit_files(files)
    if not is_valid_video(video):
        return False
    # Frames are checked one by one, because the first value above the range is decisive.
    for frame in video.to_dense() if isinstance(video, torch.Tensor) else video:
        values = np.asarray(frame) if isinstance(frame, Image.Image) else frame
        floats = values.is_floating_point() if isinstance(values, torch.Tensor) else values.dtype.kind == "f"
        if not floats or bool((values > OVERSHOOT).any()):
            return False
    return True


def _unit_files(files: list[Path]) -> bool:
    """Implements `in_unit_range` for image files. Errors are ignored here, because `read` raises them."""
    for file in files:
        try:
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                if image.mode != "F":
                    return False
                _refuse_large(image, file)
                if bool((np.asarray(image) > OVERSHOOT).any()):
                    return False
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return True


def is_frame_files(video: Any) -> bool:
    """Whether a video is a list of image files, which are its frames."""
    return (
        isinstance(video, list | tuple)
        and len(video) > 0
        and all(isinstance(file, str | os.PathLike) and Path(file).suffix.lower() in IMAGE_SUFFIXES for file in video)
    )


def _image_files(video: Any) -> list[Path] | None:
    """Returns the files of the frames of a folder or a list, in natural order, and None for other videos."""
    if isinstance(video, str | os.PathLike):
        return frame_files(Path(video))
    return sorted(map(Path, video), key=_natural) if is_frame_files(video) else None


def _file(video: Any) -> tuple[Any, str]:
    """Returns the video file and its name for messages, or (None, "") if the video is not a file."""
    # Decoders of `datasets` refer to their source.
    encoded = getattr(video, "_hf_encoded", None)
    if encoded and (encoded["bytes"] is not None or os.path.isfile(encoded["path"])):
        video = encoded
    if isinstance(video, dict):
        path, data = video.get("path"), video.get("bytes")
        if path is None and data is None:
            raise VideoDecodeError('A video that is a dict needs "path" or "bytes"; add one of them.')
        return (path, "") if data is None else (data, str(path or ""))
    if isinstance(video, str | os.PathLike):
        return (None if os.path.isdir(video) else video), ""
    if isinstance(video, bytes | bytearray | av.container.InputContainer) or hasattr(video, "read"):
        return video, ""
    return None, ""


def _opened(file: Any, name: str, **options: Any) -> VideoFile:
    return file if isinstance(file, VideoFile) else VideoFile(file, name, **options)


# Decoders, arrays and images


def _read_decoder(decoder: Any, sampler: Sampler) -> Clip:
    """Reads from a decoder with the interface of `torchcodec.decoders.VideoDecoder`."""
    total = len(decoder)
    if total == 0:
        raise VideoDecodeError("The decoder returns no frames; open another video.")
    # The exact times of all frames are known only after decoding, so they are estimated for the sampler.
    rate = decoder.metadata.average_fps
    estimated = np.arange(total) / rate if rate else None
    indices = sampler(estimated, total, total / rate if rate else None)
    start = decoder.metadata.begin_stream_seconds or 0.0
    try:
        batch = decoder.get_frames_at(indices.tolist())
        seconds = batch.pts_seconds.cpu() - start
        if rate and (seconds - torch.from_numpy(indices) / rate).abs().max() > 1 / rate:
            # The frame rate varies. Take the frames that are shown at the estimated times.
            batch = decoder.get_frames_played_at((start + (indices + 0.5) / rate).tolist())
            seconds = batch.pts_seconds.cpu() - start
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise VideoDecodeError(f"The decoder cannot read its video ({reason}); open it again.") from error
    frames = batch.data if batch.data.shape[1] in (1, 3, 4) else batch.data.permute(0, 3, 1, 2)
    # Remove repetitions of a frame that is shown for a long time.
    new = torch.cat([torch.ones(1, dtype=torch.bool), seconds.diff() > 0])
    clip = _clip(frames.cpu()[new], None, total / rate if rate else None, indices[new], total, "torchcodec")
    clip.seconds = seconds[new].float()
    return clip


def _read_array(video: Any, sampler: Sampler, transform: FrameTransform | None = None) -> Clip:
    if isinstance(video, list | tuple | np.ndarray | torch.Tensor) and len(video) == 0:
        raise VideoDecodeError("The video has no frames; use one with at least one frame.")
    if not is_valid_video(video):
        raise VideoDecodeError(
            f"A {type(video).__name__} is not a video; use the path, URL, bytes or file object of a video, a folder "
            "of frames or a list of their files, an array (T, H, W, 3) or a list of images."
        )
    indices = sampler(None, len(video), None)
    if isinstance(video, torch.Tensor):
        video = video.to_dense()
    if transform is not None and _is_plain(video):
        # Large images are resized without copying them first. This is fastest with the channels last in memory.
        steps = set(np.diff(indices).tolist()) or {1}
        if len(steps) == 1:
            parts = [video[indices[0] : indices[-1] + 1 : steps.pop()]]
        else:
            parts = [video[index : index + 1] for index in indices]
        channels = [0, 1, 2, 3] if video.shape[1] == 3 else [0, 3, 1, 2]
        pictures = [_pictures(_tensor(part).permute(channels)) for part in parts]
        frames = torch.cat([transform(part) for part in pictures])
        return _clip(frames, None, None, indices, len(video), "array", (pictures[0].shape[2], pictures[0].shape[3]))
    chosen = video[indices] if hasattr(video, "ndim") else [video[index] for index in indices]
    if isinstance(chosen, list):
        chosen = _stack(chosen, video[0])
    frames = _tensor(chosen)
    try:
        untyped: Any = frames
        last = infer_channel_dimension_format(untyped, num_channels=(1, 3, 4)) == ChannelDimension.LAST
    except ValueError as error:
        raise VideoDecodeError(
            f"An array {tuple(frames.shape)} is not a video; use (T, H, W, C) or (T, C, H, W) with 1, 3 or 4 channels."
        ) from error
    frames = _pictures(frames.permute(0, 3, 1, 2) if last else frames)
    return _clip(frames, None, None, indices, len(video), "array")


def _is_plain(video: Any) -> bool:
    """Whether a video is an RGB array, uint8 or floating point, with an unambiguous channel axis."""
    if not hasattr(video, "ndim") or 0 in video.shape or (video.shape[1] == 3) == (video.shape[3] == 3):
        return False
    if 1 in (video.shape[1], video.shape[3]) or 4 in (video.shape[1], video.shape[3]):
        return False
    if isinstance(video, torch.Tensor):
        return video.dtype == torch.uint8 or video.is_floating_point()
    return video.dtype == np.uint8 or video.dtype.kind == "f"


def _pictures(frames: torch.Tensor, name: str = "An array") -> torch.Tensor:
    """Converts frames (..., C, H, W) to uint8 or floating point; `name` is used in messages."""
    if 0 in frames.shape:
        raise VideoDecodeError(f"{name} {tuple(frames.shape)} is empty; use frames that have pixels.")
    if frames.is_floating_point():
        if not frames.isfinite().all():
            raise VideoDecodeError(f"{name} contains NaN or infinite values; replace them.")
        return frames
    if frames.dtype == torch.uint8:
        return frames
    if frames.is_complex():
        raise VideoDecodeError(f"{name} of complex numbers is not an image; use its absolute values.")
    low, high = (int(value) for value in frames.to(torch.int64).aminmax())
    if frames.dtype == torch.bool or low < 0 or high > 255:
        raise VideoDecodeError(
            f"{name} of {str(frames.dtype).removeprefix('torch.')} from {low} to {high} is not an image; scale it to "
            "bytes, 0 to 255, or floats, 0 to 1."
        )
    return frames.to(torch.uint8)


def _tensor(array: Any) -> torch.Tensor:
    """Converts a numeric array to a tensor, if possible without copying it."""
    if isinstance(array, torch.Tensor):
        return array
    if array.dtype.kind not in "biufc":
        raise VideoDecodeError(f"An array of {array.dtype} does not contain images; use numbers, 0 to 255 or 0 to 1.")
    array = np.asarray(array, np.float64 if array.dtype == np.longdouble else array.dtype.newbyteorder("="))
    # torch does not support negative strides, and warns about read-only arrays.
    unsupported = any(step < 0 or step % array.itemsize for step in array.strides)
    return torch.from_numpy(array.copy() if unsupported or not array.flags.writeable else array)


def _stack(images: list[Any], first: Any) -> torch.Tensor | np.ndarray:
    """Stacks frames of a video into one array. PIL images are resized to the size of its first frame."""
    size = first.size if isinstance(first, Image.Image) else None
    try:
        if all(isinstance(image, torch.Tensor) for image in images):
            return torch.stack(images)
        return np.stack([_pixels(image, size) for image in images])
    except (RuntimeError, TypeError, ValueError) as error:
        shapes = list(dict.fromkeys(str(tuple(getattr(image, "shape", ()))) for image in images))
        raise VideoDecodeError(
            f"Frames {' and '.join(shapes[:2])} cannot be stacked ({str(error).splitlines()[0]}); use arrays of one "
            "shape, or PIL images."
        ) from error


def _pixels(image: Any, size: tuple[int, int] | None) -> np.ndarray:
    if not isinstance(image, Image.Image):
        return np.asarray(image)
    if image.mode.startswith("I;16"):  # Pillow would clip the values instead of scaling them.
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):  # Their range is not defined, so they are treated like arrays.
        grey = image if image.size == (size or image.size) else image.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(grey)[..., None].repeat(3, -1)
    is_transparent = image.has_transparency_data
    image = image.convert("RGBA" if is_transparent else "RGB")
    pixels = np.asarray(image if image.size == size else image.resize(size or image.size, Image.Resampling.BICUBIC))
    return on_white(pixels) if is_transparent else pixels


def _natural(file: Path) -> list[Any]:
    """Sort key that orders frame 2 before frame 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(file).lower())]


def frame_files(folder: Path) -> list[Path]:
    """Returns the frames in a folder, in natural order.

    Raises:
        VideoDecodeError: If there are none.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    if not files:
        raise VideoDecodeError(
            f"The folder {folder} contains no frames ({', '.join(IMAGE_SUFFIXES)}); use one with frames, or a video."
        )
    return sorted(files, key=_natural)


def _read_images(files: list[Path], sampler: Sampler, transform: FrameTransform | None) -> Clip:
    indices = sampler(None, len(files), None)
    # A video has one size, whichever of its frames are read.
    size = _first_size(files)
    frames: list[torch.Tensor] = []
    for file in (files[index] for index in indices):
        try:
            with Image.open(file, formats=IMAGE_FORMATS) as opened:
                _refuse_large(opened, file)
                # Cameras store the orientation in the metadata of the file.
                image = ImageOps.exif_transpose(opened)
                picture = _pictures(
                    torch.from_numpy(_pixels(image, size).copy()).permute(2, 0, 1), f"The frame {file}"
                )
        except FileNotFoundError as error:
            raise VideoDecodeError(f"The frame {file} does not exist; check the path.") from error
        except VideoDecodeError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoDecodeError(f"The frame {file} is damaged or not an image; replace or delete it.") from error
        frames.append(transform(picture) if transform else picture)
    return _clip(torch.stack(frames), None, None, indices, len(files), "pil", size and size[::-1])


def _first_size(files: list[Path]) -> tuple[int, int] | None:
    """Returns width and height of the first image that can be opened, upright. None if there is none."""
    for file in files:
        try:
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                is_turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
                return image.size[::-1] if is_turned else image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return None


def _refuse_large(image: Image.Image, file: Path) -> None:
    """Checks the image size in the header of a file before the pixels are decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise VideoDecodeError(
            f"The frame {file} has {image.width} x {image.height} pixels, more than the maximum of {MAX_PIXELS}; "
            "reduce its size."
        )


def _clip(
    frames: torch.Tensor,
    seconds: np.ndarray | None,
    duration: float | None,
    indices: np.ndarray,
    total: int,
    backend: str,
    size: tuple[int, int] | None = None,
) -> Clip:
    height, width = size or frames.shape[-2:]
    metadata = VideoMetadata(
        total_num_frames=total,
        fps=total / duration if duration else None,
        width=width,
        height=height,
        duration=duration,
        video_backend=backend,
        frames_indices=indices.tolist(),
    )
    times = None if seconds is None else torch.from_numpy(seconds[indices]).float()
    return Clip(frames.contiguous(), times, metadata)
