"""Decoding of video files with PyAV: frames and their times.

The header of a file is not trusted. Frames are counted and timed from the packets, or from the decoded frames if the
two disagree. If key frames and time stamps are reliable, only the packets from a key frame to a sampled frame are
decoded. `video_source_tgdfer.py` opens the files.
"""

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Literal

import av
import numpy as np
import torch
from transformers.utils import logging

from .frame_conversion_tgdfer import FrameConverter, display_matrix, square_size
from .video_source_tgdfer import LIMITS, VideoDecodeError, VideoSource, undecodable_error

logger = logging.get_logger(__name__)

# Selects the frames to read. It is called with the times (N,) of the frames, their number N, and the duration of the
# video. Times and durations are in seconds, or None if they are unknown. It returns increasing indices.
Sampler = Callable[[np.ndarray | None, int, float | None], np.ndarray]
# Changes a decoded frame (3, H, W) before it is stored.
FrameTransform = Callable[[torch.Tensor], torch.Tensor]

# Codecs in which decoding can start at any key frame. In others (GIF, FFV1, ...) the key frame flag does not guarantee
# this.
KEYED = {"h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4"}

# Decoders that keep the alpha channel of a codec.
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
BACKENDS = ("pyav", "torchcodec")
# Encoders begin the sound up to a few frames before the first picture. A shorter delay of the picture is not counted.
SHORTEST_DELAY = 0.1


class _Mismatch(Exception):
    """Raised if the decoded frames do not match the packets."""


@dataclass
class _Packets:
    """Information about the N displayed frames of a stream, read from its packets without decoding them.

    Attributes:
        seconds (`np.ndarray` of shape `(N,)`): Times of the frames in seconds, as players show them.
        stamps (`list[int]`): The N time stamps of the frames in units of the stream, increasing.
        duration (`float`): Seconds from the first frame to the end of the last frame.
        place (`dict[int, int]`): Index of the packet of each time stamp. Packets are counted in decoding order.
        keys (`list[tuple[int, int]]`): Packet index and time stamp of each key frame.
        exact (`bool`): Whether decoding can start at any key frame.
        stream (`int`): Number of the stream in the file.
    """

    seconds: np.ndarray
    stamps: list[int]
    duration: float
    place: dict[int, int] = field(default_factory=dict)
    keys: list[tuple[int, int]] = field(default_factory=list)
    exact: bool = False
    stream: int = 0

    def runs(self, stamps: Iterable[int]) -> list[tuple[int, int]]:
        """Returns the first and last packets of the runs to decode for some frames. Runs start at key frames."""
        places = [place for place, _ in self.keys]
        runs: list[tuple[int, int]] = []
        for last, stamp in sorted((self.place[stamp], stamp) for stamp in stamps):
            key = bisect_right(places, last) - 1
            # In an open group of pictures, a frame that is decoded after a key frame but displayed before it also
            # depends on the previous key frame.
            while key >= 0 and self.keys[key][1] > stamp:
                key -= 1
            first = self.keys[key][0] if key >= 0 else 0
            while runs and first <= runs[-1][1] + 1:
                first, last = min(first, runs[-1][0]), max(last, runs.pop()[1])
            runs.append((first, last))
        return runs


@dataclass
class Pictures:
    """Frames that were read from a file with N frames.

    Attributes:
        frames (`torch.Tensor` of shape `(T, 3, H, W)`): RGB frames, uint8 unless the transform changes that.
        indices (`np.ndarray` of shape `(T,)`): Indices of the frames in the file.
        seconds (`np.ndarray` of shape `(N,)`): Times of all frames of the file in seconds, as players show them. The
            first frame is at 0, unless the sound begins at least `SHORTEST_DELAY` seconds before it.
        duration (`float`): Seconds from the first frame to the end of the last frame.
        size (`tuple[int, int]`): Height and width of the video in pixels, before the transform.
        backend (`str`): The decoder, one of `BACKENDS`.
    """

    frames: torch.Tensor
    indices: np.ndarray
    seconds: np.ndarray
    duration: float
    size: tuple[int, int]
    backend: str = "pyav"


class VideoFile(VideoSource):
    """Reads the frames of a video file and their times.

    Args:
        video (`Any`): A path, a URL, bytes, a binary file object, or an open PyAV container, which is not modified.
        name (`str`, *optional*, defaults to `""`): Name for messages, used for bytes and file objects.
        backend (`str`, *optional*, defaults to `"pyav"`): One of `BACKENDS`. "torchcodec" is used if it is installed
            and can read the file, and if the times of its frames are those of the packets. Otherwise PyAV decodes.
        **options (`Any`): Limits for the download of a URL. See `VideoSource`.

    Raises:
        VideoDecodeError: If the video does not exist, is empty, or cannot be downloaded.
    """

    def __init__(self, video: Any, name: str = "", backend: str = "pyav", **options: Any):
        # Cached result of `_packets_of`. False if it was not computed yet.
        self._known: _Packets | Literal[False] | None = False
        # Cached result of `_in_order`. None if it was not computed yet.
        self._ordered: bool | None = None
        self.decoder: Any = _torchcodec() if backend == "torchcodec" else None
        super().__init__(video, name, **options)

    def key_frames(self) -> np.ndarray:
        """Returns the frames at which decoding can start.

        Returns:
            `np.ndarray`: Increasing indices. The array is empty if the key frames are not reliable.

        Raises:
            VideoDecodeError: If the file contains no video.
        """
        packets = self._packets_of()
        if packets is None or not packets.exact:
            return np.zeros(0, np.int64)
        stamps = np.array([stamp for _, stamp in packets.keys])
        return np.flatnonzero(np.isin(packets.stamps, stamps))

    def read(self, sampler: Sampler, transform: FrameTransform | None = None) -> Pictures:
        """Reads the frames that `sampler` selects.

        The sampler gets the times of the packets, or those of the decoded frames if the packets are wrong.

        Args:
            sampler (`Sampler`): Selects the frames.
            transform (`FrameTransform`, *optional*): Applied to each frame before it is stored, so that large frames
                are not kept in memory.

        Returns:
            `Pictures`: The frames. Frames of a damaged file may be missing.

        Raises:
            VideoDecodeError: If the file contains no video, or none of the selected frames can be decoded.
        """
        packets = self._packets_of()
        if packets is not None:
            indices = sampler(packets.seconds, len(packets.stamps), packets.duration)
            for backend, pictures in self._methods(packets, indices):
                try:
                    frames, _, size = self._gather(pictures, len(indices), transform)
                except _Mismatch:
                    continue
                self._warn()
                return Pictures(frames, indices, packets.seconds, packets.duration, size, backend)
        seconds, duration = self._decoded_times()
        indices = sampler(seconds, len(seconds), duration)
        # With several threads, decoding a damaged file is not deterministic, so some of the frames may be missing now.
        frames, indices, size = self._gather(self._by_number(indices), len(indices), transform)
        self._warn()
        return Pictures(frames, indices, seconds, duration, size)

    def stream(
        self, sampler: Sampler, transform: FrameTransform | None = None
    ) -> Iterator[tuple[int, float, torch.Tensor]]:
        """Yields the frames that `sampler` selects, without storing them. Frames that cannot be decoded are left out.

        Args:
            sampler (`Sampler`): Selects the frames.
            transform (`FrameTransform`, *optional*): Applied to each frame (3, H, W).

        Yields:
            `tuple[int, float, torch.Tensor]`: Index, time in seconds and image (3, H, W) of each frame.

        Raises:
            VideoDecodeError: If the file contains no video, or no frame of a file with wrong packets can be decoded.
        """
        packets = self._packets_of()
        if packets is not None and self._in_order(packets):
            seconds, duration = packets.seconds, packets.duration
        else:
            packets, (seconds, duration) = None, self._decoded_times()
        indices = sampler(seconds, len(seconds), duration)
        for index, picture in self._in_turn(packets, indices):
            yield index, float(seconds[index]), transform(picture) if transform else picture
        self._warn()

    def _methods(
        self, packets: _Packets, indices: np.ndarray
    ) -> Iterator[tuple[str, Iterator[tuple[int, torch.Tensor]]]]:
        """Yields backends and iterators over the frames `indices`, the fastest first. Each may raise `_Mismatch`."""
        if packets.exact and self.decoder:
            yield "torchcodec", self._by_torchcodec(packets, indices)
        if packets.exact:
            yield "pyav", self._by_stamp(packets, indices, True)
        yield "pyav", self._by_stamp(packets, indices, False)

    def _in_turn(self, packets: _Packets | None, indices: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields index and image of each of the frames `indices` that can be decoded, in order.

        Decoding starts at key frames if they are reliable. Otherwise all packets are decoded.
        """
        if packets is None:
            yield from self._by_number(indices)
            return
        done = -1
        if packets.exact:
            try:
                for done, picture in self._by_stamp(packets, indices, True):
                    yield done, picture
                return
            except _Mismatch:
                pass
        yield from self._by_stamp(packets, indices[indices > done], False, strict=False)

    def _warn(self) -> None:
        if self.damage:
            logger.warning_once(f"{self.name} is damaged ({self.damage}); the frames that could be decoded are used.")

    def _gather(
        self, pictures: Iterator[tuple[int, torch.Tensor]], count: int, transform: FrameTransform | None
    ) -> tuple[torch.Tensor, np.ndarray, tuple[int, int]]:
        """Stacks at most `count` frames without a second copy of them in memory.

        Returns:
            `tuple[torch.Tensor, np.ndarray, tuple[int, int]]`: Frames (T, 3, H, W), their indices (T,), and their
            height and width before the transform.
        """
        frames: torch.Tensor | None = None
        indices: list[int] = []
        size = (0, 0)
        for index, picture in pictures:
            size = (picture.shape[1], picture.shape[2])
            picture = picture if transform is None else transform(picture)
            frames = picture.new_empty((count, *picture.shape)) if frames is None else frames
            frames[len(indices)] = picture
            indices.append(index)
            del picture  # Otherwise it would stay in memory until the next one is decoded.
        if frames is None:
            raise undecodable_error(self.name)
        return frames[: len(indices)], np.array(indices), size

    # Times

    def _packets_of(self) -> _Packets | None:
        """Returns the information in the packets, or None if some have no time stamp or two have the same one.

        The result is cached, except for file objects, because their content may change.
        """
        if self._known is False or not isinstance(self.source, str):
            self._known = self._read_packets()
        return self._known

    def _read_packets(self) -> _Packets | None:
        stamps, lengths, keys, place = [], {}, [], {}
        with self._open() as container:
            stream = self._stream(container)
            for position, packet in enumerate(self._packets(container, stream)):
                if packet.is_keyframe:
                    keys.append((position, packet.pts))
                if not packet.is_discard:
                    stamps.append(packet.pts)
                    place[packet.pts] = position
                    lengths[packet.pts] = packet.duration
            unit, number = float(stream.time_base or 0), stream.index
            header = stream.duration * unit if stream.duration else None
            edited, begin = "mp4" in container.format.name, first_second(container)
            exact = _can_start_at_keys(stream.codec_context, stamps)
        if not stamps:
            raise VideoDecodeError(f"{self.name} has a video stream without frames; download or encode it again.")
        if edited:
            self._refuse_edits()
        if None in place or len(place) < len(stamps) or any(pts is None for _, pts in keys):
            return None
        stamps.sort()
        seconds = (np.array(stamps, dtype=np.int64) - stamps[0]) * unit
        # Packets come in decoding order, and the last one may be shown before others.
        duration = _end(seconds, (lengths[stamps[-1]] or 0) * unit)
        if header and duration < 0.9 * header - 0.5:
            self.damage = self.damage or f"its header declares {header:.1f} s, but it contains {duration:.1f} s"
        seconds += delay(stamps[0] * unit, begin)
        return _Packets(seconds, stamps, duration, place, keys, exact and not self.damage, number)

    def _decoded_times(self) -> tuple[np.ndarray, float]:
        """Decodes the whole file, and returns the times (N,) of its frames and the duration, both in seconds.

        If time stamps are missing or out of order, a constant frame rate is assumed.
        """
        with self._open() as container:
            stream = self._stream(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            unit, begin = float(stream.time_base or 0), first_second(container)
            stamps = [frame.pts for frame in self._frames(container, stream)]
        if not stamps:
            raise undecodable_error(self.name)
        if None in stamps or (np.diff(stamps) <= 0).any():
            seconds, late = np.arange(len(stamps)) / rate, 0.0
        else:
            seconds, late = (np.array(stamps, dtype=np.int64) - stamps[0]) * unit, delay(stamps[0] * unit, begin)
        return seconds + late, _end(seconds, 1 / rate)

    def _in_order(self, packets: _Packets, count: int = 64) -> bool:
        """Whether the first decoded frames have the time stamps of packets, in order; cached like `_packets_of`."""
        if self._ordered is None or not isinstance(self.source, str):
            with self._open() as container:
                first = [frame.pts for frame in islice(self._frames(container, self._stream(container)), count)]
            known = bool(first) and None not in first and set(first) <= set(packets.place)
            self._ordered = known and sorted(set(first)) == first
        return self._ordered

    # Frames

    def _by_stamp(
        self, packets: _Packets, indices: np.ndarray, from_keys: bool, strict: bool = True
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields index and image of each of the frames `indices`, in order, identified by their time stamps.

        With `from_keys`, decoding starts at key frames. Otherwise all packets are decoded.

        Raises:
            _Mismatch: If `strict`, and frames are missing or out of order. If `from_keys`, and a frame is damaged.
        """
        wanted = {packets.stamps[index]: int(index) for index in indices}
        places = {packets.place[stamp] for stamp in wanted}
        runs, keys = [(0, max(places, default=0))], set()
        if from_keys:
            runs = packets.runs(wanted)
            keys = {stamp for place, stamp in packets.keys if place in dict(runs)}
        last, damage = None, self.damage
        convert = FrameConverter(self.name)
        with self._open() as container:
            stream = self._stream(container)
            for frame in self._frames(container, stream, runs, places if from_keys else None):
                # AVI stores no time stamps for B-frames, so they get the time stamps of other frames.
                if strict and (frame.pts is None or (last is not None and frame.pts <= last)):
                    raise _Mismatch
                if from_keys and (frame.is_corrupt or (frame.pts in keys and not frame.key_frame)):
                    raise _Mismatch
                last = frame.pts
                if frame.pts in wanted:
                    yield wanted.pop(frame.pts), convert(frame, stream)
                    if not wanted:
                        break
        if from_keys and self.damage != damage:
            self.damage = damage
            raise _Mismatch
        if strict and wanted:
            raise _Mismatch

    def _by_torchcodec(self, packets: _Packets, indices: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields index and image of each of the frames `indices`, in order, decoded by torchcodec.

        Raises:
            _Mismatch: If torchcodec cannot read the file, or would not return the same frames as PyAV. In some
                containers it returns other frames than requested, which is detected by their times.
        """
        if self.decoder is None or not self._is_plain():
            raise _Mismatch
        try:
            with self._from_the_start() as source:
                threads = 0 if self.large else 1
                decoder = self.decoder(source, stream_index=packets.stream, device="cpu", num_ffmpeg_threads=threads)
                start = decoder.metadata.begin_stream_seconds
                if len(decoder) != len(packets.stamps):
                    raise _Mismatch
                for index in indices.tolist():
                    frame = decoder.get_frame_at(index)
                    if abs(frame.pts_seconds - start - (packets.seconds[index] - packets.seconds[0])) > 1e-3:
                        raise _Mismatch
                    yield index, frame.data
        except (RuntimeError, ValueError, IndexError) as error:
            raise _Mismatch from error

    def _is_plain(self) -> bool:
        """Whether the first frame has 8 bits and square pixels, without rotation, interlacing and alpha channel."""
        with self._open() as container:
            stream = self._stream(container)
            frame = next(self._frames(container, stream), None)
            if frame is None or frame.interlaced_frame or display_matrix(frame) is not None:
                return False
            square = square_size(frame.width, frame.height, stream.sample_aspect_ratio)
            return square == {"width": frame.width, "height": frame.height} and all(
                part.bits == 8 and not part.is_alpha for part in frame.format.components
            )

    def _by_number(self, indices: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields index and image of each of the frames `indices`, in order. Decoded frames are counted."""
        wanted = set(indices.tolist())
        convert = FrameConverter(self.name)
        with self._open() as container:
            stream = self._stream(container)
            for number, frame in enumerate(self._frames(container, stream)):
                if number in wanted:
                    wanted.remove(number)
                    yield number, convert(frame, stream)
                    if not wanted:
                        return

    def _frames(
        self,
        container: Any,
        stream: Any,
        runs: list[tuple[int, int]] | None = None,
        needed: set[int] | None = None,
    ) -> Iterator[Any]:
        """Yields the decoded frames of the packets in `runs`, given as (first, last), or of all packets.

        With the indices of the packets that are `needed`, others are decoded only if other frames depend on them.
        """
        todo = iter(runs or [])
        first, last = next(todo, (0, -1))
        context = _context(stream)
        # In other codecs, a frame on which no frame of its layer depends may be a reference for another layer.
        skips = needed is not None and context.codec.canonical_name == "h264"
        for place, packet in enumerate(self._packets(container, stream)):
            if place < first:
                continue
            if skips:
                context.skip_frame = "DEFAULT" if place in (needed or ()) else "NONREF"
            yield from self._decode(context, packet)
            if place == last:
                yield from self._decode(context, None)
                first, last = next(todo, (-1, -1))
                if last < 0:
                    return
                context.flush_buffers()
        yield from self._decode(context, None)

    def _decode(self, context: Any, packet: Any) -> list[Any]:
        try:
            return context.decode(packet)
        except (av.error.FFmpegError, OSError) as error:
            self.damage = f"some frames cannot be decoded: {getattr(error, 'strerror', None) or error}"
            return []

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        try:
            yield from (packet for packet in container.demux(stream) if packet.size)
        except IndexError:
            pass  # PyAV fails at the end of the file if a stream appeared midway.
        except (av.error.FFmpegError, OSError) as error:
            self.damage = f"it cannot be read to the end: {getattr(error, 'strerror', None) or error}"


@functools.cache
def _torchcodec() -> Any:
    """Returns the decoder class of torchcodec, or None if torchcodec is not installed or does not find FFmpeg."""
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        # Newer versions load FFmpeg later. They set this attribute to None if they do not find it.
        if getattr(torchcodec, "ffmpeg_major_version", 0) is None:
            raise ImportError("it does not find FFmpeg")
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning(f"torchcodec cannot be loaded ({reason}); PyAV is used instead.")
        return None
    return VideoDecoder


def _context(stream: Any) -> Any:
    """Returns the decoder of a stream. WebM with alpha needs libvpx, because FFmpeg's decoder drops the alpha."""
    context = stream.codec_context
    name = WITH_ALPHA.get(context.codec.canonical_name)
    if name not in av.codecs_available or stream.metadata.get("alpha_mode") != "1":
        return context
    context = av.CodecContext.create(name, "r")
    context.options = LIMITS
    return context


def _can_start_at_keys(context: Any, stamps: list[Any]) -> bool:
    """Whether decoding can start at any key frame, and frames can be identified by their time stamps.

    Args:
        context (`av.CodecContext`, *optional*): Decoder of the stream, or None if there is none.
        stamps (`list[int | None]`): Time stamps of the packets in decoding order.
    """
    reordered = None not in stamps and any(one > other for one, other in pairwise(stamps))
    # If the codec reorders frames but the time stamps of the packets are in order, they belong to other frames (AVI).
    if context is None or (context.has_b_frames and not reordered):
        return False
    codec = context.codec
    return codec.canonical_name in KEYED or bool(codec.intra_only)


def first_second(container: Any) -> float | None:
    """Returns the time at which the first stream of a container begins, in seconds. None if it is unknown."""
    return None if container.start_time is None else container.start_time / av.time_base


def delay(first: float, begin: float | None) -> float:
    """Returns how many seconds after the begin of a file its first picture is shown. 0 below `SHORTEST_DELAY`.

    Args:
        first (`float`): Time of the first picture, in seconds.
        begin (`float`, *optional*): Time at which the first stream begins, as `first_second` returns it.
    """
    late = 0.0 if begin is None else first - begin
    return late if late >= SHORTEST_DELAY else 0.0


def _end(seconds: np.ndarray, last: float) -> float:
    """Returns the duration in seconds. The last frame lasts `last` seconds, or the median step if `last` is 0."""
    return float(seconds[-1] + (last or (np.median(np.diff(seconds)) if len(seconds) > 1 else 0.0)))
