"""Reading clips: which frames are sampled, and these frames and their seconds from any video, folder or array."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
from transformers.video_utils import VideoMetadata, is_valid_video

from .video_file_tgdfer import Each, Sampler, VideoDecodeError, VideoFile, on_white
from .video_source_tgdfer import MAX_PIXELS

SAMPLINGS = ("segments", "dense", "fps")
# Frames a second that are assumed where nothing tells: folders of frames and arrays.
ASSUMED_FPS = 25
# Cameras and encoders leave out single frames. So many seconds without a frame are a gap, if they are also so many
# times the usual step between frames.
SHORTEST_GAP, GAP_STEPS = 0.5, 3
# Frames of arrays, folders and decoders that are read together where they are gone through one by one.
_AT_A_TIME = 16
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# What a file of such a name may hold. Not among them: EPS and others that Pillow hands to programs of the system.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@dataclass
class Clip:
    """Sampled frames of one video.

    Attributes:
        frames: (T, C, H, W), C = 1, 3 or 4; RGB where read from a file; uint8, or the dtype of the array given.
        seconds: (T,) float32, when each frame is shown, the first frame of the video at 0; None where unknown.
        metadata: of the whole video; `frames_indices` are the T frames.
        unit: whether white is 1, as `in_unit_range` says of the whole video; otherwise it is 255.
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    metadata: VideoMetadata
    unit: bool = False


def read(video: Any, sampler: Sampler, each: Each | None = None, **options: Any) -> Clip:
    """Reads the frames that `sampler` chooses.

    Args:
        video: path or URL of a video, bytes or binary file object of a video, a value of a `datasets` column of
            videos, decoded or not (`{"path": ..., "bytes": ...}`), an open PyAV container or torchcodec decoder;
            folder of frames or list of their files, in natural order (2 before 10); array or tensor (T, H, W, C) or
            (T, C, H, W), or a list of T images or (H, W, C) arrays; or what `open_video` made of one of these.
        sampler: chooses the frames.
        each: is done to each picture (3, H, W), or to several (T, 3, H, W) at once, before it is kept; not to those of
            a decoder, nor to arrays of other channels or numbers than bytes and floats.
        **options: `url_timeout`, `url_max_bytes`, `url_allow_private` and `backend` of a `VideoFile`.

    Raises:
        VideoDecodeError: nothing can be read from it.
    """
    file, name = _file(video)
    if file is not None:
        found = _opened(file, name, **options).read(sampler, each)
        total = len(found.seconds)
        return _clip(found.frames, found.seconds, found.duration, found.indices, total, found.backend, found.size)
    if isinstance(video, str | os.PathLike):
        return _read_images(_frame_files(Path(video)), sampler, each)
    if is_frame_files(video):
        return _read_images(sorted(map(Path, video), key=_natural), sampler, each)
    if hasattr(video, "get_frames_at"):
        return _read_decoder(video, sampler)
    return _read_array(video, sampler, each)


def stream(
    video: Any, sampler: Sampler, each: Each | None = None, **options: Any
) -> Iterator[tuple[int, float | None, torch.Tensor]]:
    """The frames that `sampler` chooses one by one, a file in a single pass: a few of them are kept at a time.

    Args:
        video: as in `read`.
        sampler: chooses the frames.
        each: as in `read`.
        **options: as in `read`.

    Yields:
        Index, seconds, None where unknown, and picture (3, H, W) of each frame; those that cannot be decoded are left
        out.

    Raises:
        VideoDecodeError: nothing can be read from it.
    """
    file, name = _file(video)
    if file is not None:
        yield from _opened(file, name, **options).stream(sampler, each)
        return
    todo = np.zeros(0, np.int64)

    def choose(seconds: Any, total: int, duration: Any) -> np.ndarray:
        nonlocal todo
        todo = sampler(seconds, total, duration)
        return todo[:_AT_A_TIME]

    clip = read(video, choose, each)
    for start in range(0, len(todo), _AT_A_TIME):
        part = todo[start : start + _AT_A_TIME]
        clip = read(video, lambda *_, part=part: part, each) if start else clip
        times = [None] * len(part) if clip.seconds is None else clip.seconds.tolist()
        yield from zip(part.tolist(), times, clip.frames, strict=True)


def open_video(video: Any, **options: Any) -> Any:
    """A `VideoFile` of what is one, so that it is fetched once and can be read several times; others as they are."""
    file, name = _file(video)
    return video if file is None else _opened(file, name, **options)


def in_unit_range(video: Any) -> bool:
    """Whether white is 1 in a video: its values float, and none of them in any frame is above 1.

    Args:
        video: as in `read`; of files, only pictures of floats can be in this range.
    """
    if _file(video)[0] is not None or hasattr(video, "get_frames_at"):
        return False
    if isinstance(video, str | os.PathLike):
        return _unit_files(_frame_files(Path(video)))
    if is_frame_files(video):
        return _unit_files(sorted(map(Path, video), key=_natural))
    if not is_valid_video(video):
        return False
    # A frame at a time: the first bright one decides.
    for frame in video.to_dense() if isinstance(video, torch.Tensor) else video:
        values = np.asarray(frame) if isinstance(frame, Image.Image) else frame
        floats = values.is_floating_point() if isinstance(values, torch.Tensor) else values.dtype.kind == "f"
        if not floats or bool((values > 1).any()):
            return False
    return True


def _unit_files(files: list[Path]) -> bool:
    """`in_unit_range` of pictures; those that cannot be read are left to `read`."""
    for file in files:
        try:
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                if image.mode != "F":
                    return False
                _refuse_large(image, file)
                if bool((np.asarray(image) > 1).any()):
                    return False
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return True


def is_frame_files(video: Any) -> bool:
    """Whether it is a list of image files: the frames of one clip."""
    return (
        isinstance(video, list | tuple)
        and len(video) > 0
        and all(isinstance(file, str | os.PathLike) and Path(file).suffix.lower() in IMAGE_SUFFIXES for file in video)
    )


def _file(video: Any) -> tuple[Any, str]:
    """The video file behind what was given, and its name; None where it is not a file."""
    # A decoder that `datasets` has made says of what.
    encoded = getattr(video, "_hf_encoded", None)
    if encoded and (encoded["bytes"] is not None or os.path.isfile(encoded["path"])):
        video = encoded
    if isinstance(video, dict):
        path, data = video.get("path"), video.get("bytes")
        if path is None and data is None:
            raise VideoDecodeError('A video given as a dict needs "path" or "bytes"; give one of them.')
        return (path, "") if data is None else (data, str(path or ""))
    if isinstance(video, str | os.PathLike):
        return (None if os.path.isdir(video) else video), ""
    if isinstance(video, bytes | bytearray | av.container.InputContainer) or hasattr(video, "read"):
        return video, ""
    return None, ""


def _opened(file: Any, name: str, **options: Any) -> VideoFile:
    return file if isinstance(file, VideoFile) else VideoFile(file, name, **options)


# Decoders, arrays and pictures


def _read_decoder(decoder: Any, sampler: Sampler) -> Clip:
    """Reads from a decoder with the interface of `torchcodec.decoders.VideoDecoder`, by the times it tells."""
    total = len(decoder)
    if total == 0:
        raise VideoDecodeError("The decoder has no frame; open another video.")
    # A decoder tells the time of single frames; those of all it knows only by decoding them.
    rate = decoder.metadata.average_fps
    guess = np.arange(total) / rate if rate else None
    indices = sampler(guess, total, total / rate if rate else None)
    start = decoder.metadata.begin_stream_seconds or 0.0
    try:
        batch = decoder.get_frames_at(indices.tolist())
        seconds = batch.pts_seconds.cpu() - start
        if rate and (seconds - torch.from_numpy(indices) / rate).abs().max() > 1 / rate:
            # Frames at no even pace: those that are shown when these would be.
            batch = decoder.get_frames_played_at((start + (indices + 0.5) / rate).tolist())
            seconds = batch.pts_seconds.cpu() - start
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise VideoDecodeError(f"The decoder cannot read its video ({reason}); open it anew.") from error
    frames = batch.data if batch.data.shape[1] in (1, 3, 4) else batch.data.permute(0, 3, 1, 2)
    # A frame that is shown for long comes once.
    new = torch.cat([torch.ones(1, dtype=torch.bool), seconds.diff() > 0])
    clip = _clip(frames.cpu()[new], None, total / rate if rate else None, indices[new], total, "torchcodec")
    clip.seconds = seconds[new].float()
    return clip


def _read_array(video: Any, sampler: Sampler, each: Each | None = None) -> Clip:
    if not is_valid_video(video) or len(video) == 0:
        raise VideoDecodeError(
            f"A {type(video).__name__} is not a clip; give the path, URL, bytes or file object of a video, a folder "
            "of frames or a list of their files, an array (T, H, W, 3) or a list of images."
        )
    indices = sampler(None, len(video), None)
    if isinstance(video, torch.Tensor):
        video = video.to_dense()
    if each is not None and _is_plain(video):
        # Large pictures are not copied: they are resized where they are, and fastest with the channels last in memory.
        steps = set(np.diff(indices).tolist()) or {1}
        if len(steps) == 1:
            parts = [video[indices[0] : indices[-1] + 1 : steps.pop()]]
        else:
            parts = [video[index : index + 1] for index in indices]
        channels = [0, 1, 2, 3] if video.shape[1] == 3 else [0, 3, 1, 2]
        pictures = [_pictures(_tensor(part).permute(channels)) for part in parts]
        frames = torch.cat([each(part) for part in pictures])
        return _clip(frames, None, None, indices, len(video), "array", (pictures[0].shape[2], pictures[0].shape[3]))
    chosen = video[indices] if hasattr(video, "ndim") else [video[index] for index in indices]
    if isinstance(chosen, list):
        chosen = _stack(chosen)
    frames = _tensor(chosen)
    try:
        shown: Any = frames
        last = infer_channel_dimension_format(shown, num_channels=(1, 3, 4)) == ChannelDimension.LAST
    except ValueError as error:
        raise VideoDecodeError(
            f"An array {tuple(frames.shape)} is not a clip; give (T, H, W, C) or (T, C, H, W) of 1, 3 or 4 channels."
        ) from error
    frames = _pictures(frames.permute(0, 3, 1, 2) if last else frames)
    return _clip(frames, None, None, indices, len(video), "array")


def _is_plain(video: Any) -> bool:
    """Whether a video is an array of RGB pictures, bytes or floats, that says which of its axes is which."""
    if not hasattr(video, "ndim") or 0 in video.shape or (video.shape[1] == 3) == (video.shape[3] == 3):
        return False
    if 1 in (video.shape[1], video.shape[3]) or 4 in (video.shape[1], video.shape[3]):
        return False
    if isinstance(video, torch.Tensor):
        return video.dtype == torch.uint8 or video.is_floating_point()
    return video.dtype == np.uint8 or video.dtype.kind == "f"


def _pictures(frames: torch.Tensor, name: str = "An array") -> torch.Tensor:
    """Frames (..., C, H, W) that float, or are bytes; `name` is what messages call them."""
    if 0 in frames.shape:
        raise VideoDecodeError(f"{name} {tuple(frames.shape)} has no pixel in it; give frames with some.")
    if frames.is_floating_point():
        if not frames.isfinite().all():
            raise VideoDecodeError(f"{name} has values that are no numbers; replace them.")
        return frames
    if frames.dtype == torch.uint8:
        return frames
    if frames.is_complex():
        raise VideoDecodeError(f"{name} of complex numbers is no picture; give its absolute values.")
    low, high = (int(value) for value in frames.to(torch.int64).aminmax())
    if frames.dtype == torch.bool or low < 0 or high > 255:
        raise VideoDecodeError(
            f"{name} of {str(frames.dtype).removeprefix('torch.')} from {low} to {high} is no picture; scale it to "
            "bytes, 0 to 255, or floats, 0 to 1."
        )
    return frames.to(torch.uint8)


def _tensor(array: Any) -> torch.Tensor:
    """An array of any numbers, in an order of bytes and of a kind that torch knows; not copied where that will do."""
    if isinstance(array, torch.Tensor):
        return array
    if array.dtype.kind not in "biufc":
        raise VideoDecodeError(f"An array of {array.dtype} holds no pictures; give numbers, 0 to 255 or 0 to 1.")
    array = np.asarray(array, np.float64 if array.dtype == np.longdouble else array.dtype.newbyteorder("="))
    # torch knows no steps backwards and warns of what may not be written to.
    backwards = any(step < 0 or step % array.itemsize for step in array.strides)
    return torch.from_numpy(array.copy() if backwards or not array.flags.writeable else array)


def _stack(images: list[Any]) -> torch.Tensor | np.ndarray:
    """Frames of one clip as one array; PIL images that differ in size are brought to the size of the first."""
    size = images[0].size if isinstance(images[0], Image.Image) else None
    try:
        if all(isinstance(image, torch.Tensor) for image in images):
            return torch.stack(images)
        return np.stack([_pixels(image, size) for image in images])
    except (RuntimeError, TypeError, ValueError) as error:
        shapes = list(dict.fromkeys(str(tuple(getattr(image, "shape", ()))) for image in images))
        raise VideoDecodeError(
            f"Frames {' and '.join(shapes[:2])} are not those of one clip ({str(error).splitlines()[0]}); give arrays "
            "of one shape, or PIL images."
        ) from error


def _pixels(image: Any, size: tuple[int, int] | None) -> np.ndarray:
    if not isinstance(image, Image.Image):
        return np.asarray(image)
    if image.mode.startswith("I;16"):  # Pillow clips these to bytes where it converts them, most of them to white.
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):  # Their range is nobody's promise: they are judged as arrays are.
        grey = image if image.size == (size or image.size) else image.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(grey)[..., None].repeat(3, -1)
    see_through = image.has_transparency_data
    image = image.convert("RGBA" if see_through else "RGB")
    pixels = np.asarray(image if image.size == size else image.resize(size or image.size, Image.Resampling.BICUBIC))
    return on_white(pixels) if see_through else pixels


def _natural(file: Path) -> list[Any]:
    """Sorts frame 2 before frame 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(file).lower())]


def _frame_files(folder: Path) -> list[Path]:
    files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    if not files:
        raise VideoDecodeError(
            f"The folder {folder} has no frames ({', '.join(IMAGE_SUFFIXES)}) in it; give a video file or a folder of "
            "frames."
        )
    return sorted(files, key=_natural)


def _read_images(files: list[Path], sampler: Sampler, each: Each | None) -> Clip:
    indices = sampler(None, len(files), None)
    frames: list[torch.Tensor] = []
    size = None
    for file in (files[index] for index in indices):
        try:
            with Image.open(file, formats=IMAGE_FORMATS) as opened:
                _refuse_large(opened, file)
                # Cameras turn their pictures by a note in the file.
                image = ImageOps.exif_transpose(opened)
                size = size or image.size
                picture = _pictures(
                    torch.from_numpy(_pixels(image, size).copy()).permute(2, 0, 1), f"The frame {file}"
                )
        except FileNotFoundError as error:
            raise VideoDecodeError(f"The frame {file} does not exist; check the path.") from error
        except VideoDecodeError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoDecodeError(f"The frame {file} is damaged or no image; replace or delete it.") from error
        frames.append(each(picture) if each else picture)
    return _clip(torch.stack(frames), None, None, indices, len(files), "pil", size and size[::-1])


def _refuse_large(image: Image.Image, file: Path) -> None:
    """Looks at what the head of a file declares, before any of its pixels is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise VideoDecodeError(
            f"The frame {file} has {image.width} x {image.height} pixels, more than the {MAX_PIXELS} that are read; "
            "make it smaller."
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


# Which frames are sampled


@dataclass(frozen=True)
class Sampling:
    """Which frames are taken of a clip; all of them where neither `num_frames` nor `fps` is given.

    Attributes:
        method: "segments", one frame of each of `num_frames` equal parts of the clip; "dense", a window of
            `num_frames` frames `stride` apart; or "fps", as many segments as give `fps` frames a second.
        num_frames: frames wanted; not used where `fps` is given.
        fps: frames wanted a second.
        stride: from one frame of a dense window to the next.
        generator: draws a random frame of each segment, or a dense window (training); None takes the middle one.

    Raises:
        ValueError: the method is not known, or is "fps" without `fps`.
    """

    method: str
    num_frames: int | None = None
    fps: float | None = None
    stride: int = 1
    generator: torch.Generator | None = None

    def __post_init__(self):
        if self.method not in SAMPLINGS:
            raise ValueError(f'sampling is one of {", ".join(SAMPLINGS)}, not "{self.method}".')
        if self.method == "fps" and self.fps is None and self.num_frames is not None:
            raise ValueError('sampling="fps" needs to know how many frames a second: give `fps`.')

    def indices(self, total: int, seconds: np.ndarray | None, duration: float | None) -> np.ndarray:
        """Increasing indices of the frames of a clip with `total` frames at `seconds`, `duration` seconds long."""
        if self.num_frames is None and self.fps is None:
            return np.arange(total)
        if self.method == "dense":
            return dense_indices(total, self.num_frames or 0, self.stride, self.generator)
        count = count_segments(self.num_frames, self.fps, duration)
        return sample_indices(total, count, seconds, duration, self.generator)


def count_segments(num_frames: int | None, fps: float | None, duration: float | None) -> int:
    """Segments of a clip that is `duration` seconds long.

    Raises:
        VideoDecodeError: `fps` is not above 0.
        ValueError: `fps` is given and the length of the clip is unknown.
    """
    if fps is None:
        return num_frames or 0
    if not 0 < fps < float("inf"):
        raise VideoDecodeError(f"Frames are to be sampled at an fps of {fps:g}; give one above 0.")
    if duration is None:
        raise ValueError("Sampling by `fps` needs the times of the frames: give `timestamps` with arrays.")
    return max(1, int(duration * fps))


def sample_indices(
    total: int,
    num_frames: int,
    seconds: np.ndarray | None = None,
    duration: float | None = None,
    generator: torch.Generator | None = None,
) -> np.ndarray:
    """One frame of each of `num_frames` equal segments of the clip.

    Args:
        total: frames of the clip.
        num_frames: frames wanted; a clip that has no more gives each of its frames once.
        seconds: (total,) times of the frames. Frames at an even pace are counted, so that rounded times cannot move a
            frame across the border of a segment; others are sampled by time.
        duration: seconds from the first frame to the end of the last.
        generator: draws a random frame of each segment; None takes the middle one.

    Returns:
        Strictly increasing indices, min(total, num_frames) of them.

    Raises:
        ValueError: fewer than one frame is wanted.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, not {num_frames}.")
    if total <= num_frames:
        return np.arange(total)
    steps = np.arange(num_frames)
    within = 0.5 if generator is None else torch.rand(num_frames, generator=generator, dtype=torch.float64).numpy()
    if seconds is None or _evenly_paced(seconds):
        indices = ((steps + within) * total / num_frames).astype(np.int64)
    else:
        length = duration if duration is not None else float(seconds[-1] - seconds[0])
        moments = seconds[0] + (steps + within) * length / num_frames
        indices = np.searchsorted(seconds, moments, side="right") - 1
    # A frame shown for longer than a segment, or drawn from both sides of a border, must not come twice.
    indices = np.maximum.accumulate(indices - steps) + steps
    return np.minimum(indices, total - num_frames + steps)


def _evenly_paced(seconds: np.ndarray) -> bool:
    even = np.linspace(seconds[0], seconds[-1], len(seconds))
    return bool(np.abs(seconds - even).max() < 0.5 * (even[1] - even[0]))


def dense_indices(
    total: int, num_frames: int, stride: int = 1, generator: torch.Generator | None = None
) -> np.ndarray:
    """A window of frames `stride` apart: in the middle of the clip, or anywhere by `generator`.

    Args:
        total: frames of the clip.
        num_frames: frames of the window; a clip that is too short gives those it has at this stride.
        stride: from one frame to the next.
        generator: draws the start of the window (training); None takes the middle of the clip (evaluation).

    Returns:
        Strictly increasing indices, `num_frames` of them or fewer.

    Raises:
        ValueError: `num_frames` or `stride` is below 1.
    """
    _check_window(num_frames, stride)
    spare = total - ((num_frames - 1) * stride + 1)
    if spare <= 0:
        return np.arange(0, total, stride)
    start = spare // 2 if generator is None else int(torch.randint(spare + 1, (1,), generator=generator))
    return start + stride * np.arange(num_frames)


def windows(total: int, num_frames: int) -> Iterator[np.ndarray]:
    """Windows that together cover a stretch of frames and overlap by half.

    Args:
        total: frames of the stretch.
        num_frames: frames of a window; a stretch that has no more is one window.

    Yields:
        Places that follow each other. The last window ends with the last frame, and overlaps the one before it by more
        than the others where the length asks for it.

    Raises:
        ValueError: `num_frames` is below 1.
    """
    _check_window(num_frames, 1)
    for start in range(0, max(0, total - num_frames), max(1, num_frames // 2)):
        yield np.arange(start, start + num_frames)
    yield np.arange(max(0, total - num_frames), total)


def find_gaps(seconds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Where time goes on without frames: mask (T - 1,) of the steps between T frames that follow each other."""
    steps = np.diff(np.asarray(seconds, dtype=float))
    return steps > max(SHORTEST_GAP, GAP_STEPS * float(np.median(steps)) if len(steps) else 0.0)


def _check_window(num_frames: int, stride: int) -> None:
    for name, value in {"num_frames": num_frames, "stride": stride}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
