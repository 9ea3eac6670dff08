"""Reading clips: any video PyAV decodes, folders of frames and arrays become frames and the seconds they are shown at.

Nothing a container declares is believed: frames are counted and timed by the packets that are there, and where the
packets and the decoder disagree, by the decoder. Only the frames that were sampled are converted and kept in memory.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
from transformers.utils import logging
from transformers.video_utils import VideoMetadata, is_valid_video

try:
    from huggingface_hub.utils import httpx
except ImportError:  # huggingface_hub 1.x
    import httpx  # type: ignore[no-redef]

logger = logging.get_logger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Titles of files are in any encoding. From PyAV 19 on that is no error, and the argument is gone.
_ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# Given the seconds (N,) at which frames are shown, None where nobody knows, their number N and the length of the clip
# in seconds or None: the indices to read, increasing.
Sampler = Callable[[np.ndarray | None, int, float | None], np.ndarray]


class VideoReadError(ValueError):
    """A video that cannot be read. Its message is one sentence that names the video and what to do about it."""


@dataclass
class Clip:
    """Sampled frames of one video.

    Attributes:
        frames: (T, C, H, W), C = 1, 3 or 4; RGB where read from a file; uint8, or the dtype of the array given.
        seconds: (T,) float32, when each frame is shown, the first frame of the video at 0; None where unknown.
        metadata: of the whole video; `frames_indices` are the T frames.
    """

    frames: torch.Tensor
    seconds: torch.Tensor | None
    metadata: VideoMetadata


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


def read(video: Any, sampler: Sampler) -> Clip:
    """Reads the frames that `sampler` chooses.

    Args:
        video: path or URL of a video, folder of frames, bytes or binary file object of a video, array or tensor
            (T, H, W, C) or (T, C, H, W), or a list of T images or (H, W, C) arrays.
        sampler: chooses the frames.

    Raises:
        VideoReadError: nothing can be read from it.
    """
    if isinstance(video, str | os.PathLike) and os.path.isdir(video):
        return _read_folder(Path(video), sampler)
    if isinstance(video, str | os.PathLike | bytes | bytearray) or hasattr(video, "read"):
        return _VideoFile(video).read(sampler)
    return _read_array(video, sampler)


# Arrays and folders


def _read_array(video: Any, sampler: Sampler) -> Clip:
    if not is_valid_video(video) or len(video) == 0:
        raise VideoReadError(
            f"A {type(video).__name__} is not a clip; give the path, URL, bytes or file object of a video, a folder "
            "of frames, an array (T, H, W, 3) or a list of images."
        )
    indices = sampler(None, len(video), None)
    chosen = video[indices] if hasattr(video, "ndim") else [video[index] for index in indices]
    if isinstance(chosen, list):
        chosen = _stack(chosen)
    frames: Any = chosen if isinstance(chosen, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(chosen))
    if infer_channel_dimension_format(frames, num_channels=(1, 3, 4)) == ChannelDimension.LAST:
        frames = frames.permute(0, 3, 1, 2)
    return _clip(frames, None, None, indices, len(video), "array")


def _stack(images: list[Any]) -> torch.Tensor | np.ndarray:
    """Frames of one clip as one array; PIL images that differ in size are brought to the size of the first."""
    if all(isinstance(image, torch.Tensor) for image in images):
        return torch.stack(images)
    size = images[0].size if isinstance(images[0], Image.Image) else None
    return np.stack([_pixels(image, size) for image in images])


def _pixels(image: Any, size: tuple[int, int] | None) -> np.ndarray:
    if not isinstance(image, Image.Image):
        return np.asarray(image)
    image = image.convert("RGB")
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))


def _read_folder(folder: Path, sampler: Sampler) -> Clip:
    """Reads a folder of frames, one image file each, in the natural order of their names (2 before 10)."""
    files = sorted(
        (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")),
        key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name.lower())],
    )
    if not files:
        raise VideoReadError(
            f"The folder {folder} has no frames ({', '.join(IMAGE_SUFFIXES)}) in it; give a video file or a folder of "
            "frames."
        )
    indices = sampler(None, len(files), None)
    images = []
    for index in indices:
        try:
            with Image.open(files[index]) as image:
                images.append(image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise VideoReadError(f"The frame {files[index]} is damaged or no image; replace or delete it.") from error
    frames = torch.from_numpy(np.array(_stack(images))).permute(0, 3, 1, 2)
    return _clip(frames, None, None, indices, len(files), "pil")


def _clip(
    frames: torch.Tensor,
    seconds: np.ndarray | None,
    duration: float | None,
    indices: np.ndarray,
    total: int,
    backend: str,
) -> Clip:
    metadata = VideoMetadata(
        total_num_frames=total,
        fps=total / duration if duration else None,
        width=frames.shape[-1],
        height=frames.shape[-2],
        duration=duration,
        video_backend=backend,
        frames_indices=indices.tolist(),
    )
    times = None if seconds is None else torch.from_numpy(seconds[indices]).float()
    return Clip(frames.contiguous(), times, metadata)


# Video files


class _VideoFile:
    """One video file, opened anew for every pass over it: seeking is not to be trusted in damaged files."""

    def __init__(self, video: str | os.PathLike | bytes | bytearray | BinaryIO):
        self.source: str | BinaryIO
        if isinstance(video, bytes | bytearray):
            self.name, self.source = f"The video of {len(video)} bytes", io.BytesIO(video)
            size = len(video)
        elif isinstance(video, str | os.PathLike):
            self.name = os.fspath(video)
            if "://" in self.name:
                self.source = io.BytesIO(_download(self.name))
                size = self.source.getbuffer().nbytes
            elif not os.path.isfile(video):
                raise VideoReadError(f"{self.name} does not exist; check the path.")
            else:
                # The prefix keeps names such as "concat:a" or "http:b" from being read as protocols.
                self.source, size = f"file:{self.name}", os.path.getsize(video)
        else:
            self.name = str(getattr(video, "name", "The video file object"))
            self.source = video if video.seekable() else io.BytesIO(video.read())
            size = self.source.seek(0, io.SEEK_END)
        if size == 0:
            raise VideoReadError(f"{self.name} is empty (0 bytes); copy or download it again.")
        self.damage = ""

    def read(self, sampler: Sampler) -> Clip:
        """Samples by the times of the packets, and by those of the decoded frames where packets mislead."""
        seconds, stamps, duration = self._packet_times()
        frames: dict[int, np.ndarray] = {}
        if stamps is not None:
            indices = sampler(seconds, len(seconds), duration)
            wanted = {stamps[index]: index for index in indices}
            frames = self._decode(lambda _, pts: wanted.get(pts), len(indices), in_order=True)
        if stamps is None or len(frames) < len(indices):
            seconds, duration = self._decoded_times()
            indices = sampler(seconds, len(seconds), duration)
            chosen = set(indices.tolist())
            frames = self._decode(lambda number, _: number if number in chosen else None, len(indices), in_order=False)
            # Decoders with several threads do not always get the same out of a damaged file.
            indices = np.array([index for index in indices if index in frames])
        if self.damage:
            logger.warning_once(f"{self.name} is damaged ({self.damage}); what could be decoded of it is used.")
        stack = torch.from_numpy(np.stack([frames[index] for index in indices])).permute(0, 3, 1, 2)
        return _clip(stack, seconds, duration, indices, len(seconds), "pyav")

    def _packet_times(self) -> tuple[np.ndarray, list[int] | None, float]:
        """Seconds (N,) of the frames, their time stamps, and the length, without decoding a thing.

        The time stamps are None where packets cannot stand for frames: some have no time or share one.
        """
        stamps, last = [], 0
        with self._open() as container:
            stream = self._stream(container)
            for packet in self._packets(container, stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.pts)
                    last = packet.duration or last
            unit = float(stream.time_base or 0)
            header = stream.duration * unit if stream.duration else None
        if not stamps:
            raise VideoReadError(f"{self.name} has a video stream without a frame; download or encode it again.")
        if None in stamps or len(set(stamps)) < len(stamps):
            return np.zeros(0), None, 0.0
        stamps.sort()
        seconds = (np.array(stamps, dtype=np.int64) - stamps[0]) * unit
        duration = _end(seconds, last * unit)
        if header and duration < 0.9 * header - 0.5:
            self.damage = self.damage or f"its header promises {header:.1f} s, {duration:.1f} s are there"
        return seconds, stamps, duration

    def _decoded_times(self) -> tuple[np.ndarray, float]:
        """Seconds (N,) of the frames that the decoder gives, in their order, and the length of the clip."""
        with self._open() as container:
            stream = self._stream(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            unit = float(stream.time_base or 0)
            stamps = [frame.pts for frame in self._frames(container, stream)]
        if not stamps:
            raise VideoReadError(f"Not one frame of {self.name} can be decoded; download or encode it again.")
        if None in stamps or (np.diff(stamps) <= 0).any():
            seconds = np.arange(len(stamps)) / rate
        else:
            seconds = (np.array(stamps, dtype=np.int64) - stamps[0]) * unit
        return seconds, _end(seconds, 1 / rate)

    def _decode(
        self, slot: Callable[[int, int | None], int | None], count: int, in_order: bool
    ) -> dict[int, np.ndarray]:
        """Decodes until `count` frames were kept: those for which `slot(number, pts)` is not None, as (H, W, 3).

        Returns fewer where some did not come, and none where `in_order` is asked for and the time stamps are not.
        """
        kept: dict[int, np.ndarray] = {}
        size: dict[str, int] = {}
        last = None
        # One converter for all frames: `frame.to_ndarray` sets one up for each, which takes longer than decoding.
        convert = VideoReformatter()
        with self._open() as container:
            for number, frame in enumerate(self._frames(container, self._stream(container))):
                # AVI has no time stamps for B-frames: they come as those of other frames.
                if in_order and (frame.pts is None or (last is not None and frame.pts <= last)):
                    return {}
                last = frame.pts
                index = slot(number, frame.pts)
                if index is None:
                    continue
                # A stream may change its size midway; the clip has that of its first frame.
                size = size or {"width": frame.width, "height": frame.height}
                turns = round(frame.rotation / 90)
                picture = convert.reformat(frame, **size, format="rgb24", threads=1).to_ndarray()
                kept[index] = np.rot90(picture, turns)
                if len(kept) == count:
                    break
        return kept

    def _open(self) -> Any:
        if not isinstance(self.source, str):
            self.source.seek(0)
        try:
            return av.open(self.source, options={"protocol_whitelist": "file"}, **_ANY_TAGS)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoReadError(
                f"{self.name} is not a video, or was cut off before it can be played ({reason}); download or convert "
                "it again."
            ) from error

    def _stream(self, container: Any) -> Any:
        # The cover of a song is a video stream of one picture.
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            kinds = sorted({stream.type for stream in container.streams} - {"video"}) or ["nothing"]
            raise VideoReadError(f"{self.name} has no pictures in it, only {', '.join(kinds)}; give a video file.")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoReadError(f"{self.name} is encoded in a way that PyAV cannot decode; convert it to H.264.")
        # Frame threads pay for large pictures only; clips of faces are small and read by many workers at once.
        if stream.codec_context.width * stream.codec_context.height >= 640 * 480:
            stream.thread_type = "AUTO"
        return stream

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        try:
            yield from container.demux(stream)
        except (av.error.FFmpegError, OSError) as error:
            self.damage = f"it cannot be read to its end: {getattr(error, 'strerror', None) or error}"

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        for packet in self._packets(container, stream):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                self.damage = f"some frames cannot be decoded: {getattr(error, 'strerror', None) or error}"
                continue
            yield from frames


def _end(seconds: np.ndarray, last: float) -> float:
    """Length of a clip in seconds, its last frame shown for `last` or, where that is 0, as long as the others."""
    return float(seconds[-1] + (last or (np.median(np.diff(seconds)) if len(seconds) > 1 else 0.0)))


def _download(url: str) -> bytes:
    """Bytes behind an http(s) URL, or one of any file system that fsspec knows (`hf://`, `s3://`, ...)."""
    try:
        if url.startswith(("http://", "https://")):
            response = httpx.get(url, follow_redirects=True, timeout=60)
            response.raise_for_status()
            return response.content
        import fsspec

        with fsspec.open(url, "rb") as file:
            return file.read()
    # Every file system has exceptions of its own.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VideoReadError(f"{url} cannot be fetched ({reason}); check the address and the connection.") from error
