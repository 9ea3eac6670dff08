"""Video files: their frames, and the seconds they are shown at, by PyAV.

Nothing a container declares is believed: frames are counted and timed by the packets that are there, and where the
packets and the decoder disagree, by the decoder. Only the packets that lead from a key frame to a sampled frame are
decoded, where key frames and time stamps can be trusted. `video_source_tgdfer.py` opens the files.
"""

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, Literal

import av
import numpy as np
import torch
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter
from transformers.utils import logging

from .video_source_tgdfer import LIMITS, VideoDecodeError, VideoSource

logger = logging.get_logger(__name__)

# Given the seconds (N,) at which frames are shown, None where nobody knows, their number N and the length of the clip
# in seconds or None: the indices to read, increasing.
Sampler = Callable[[np.ndarray | None, int, float | None], np.ndarray]
# Changes a decoded frame (3, H, W) before it is stored.
FrameTransform = Callable[[torch.Tensor], torch.Tensor]

# Codecs whose key frames start anew; in others (GIF, FFV1, ...) the mark does not promise it.
KEYED = {"h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4"}

# Decoders that keep the alpha of a codec.
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
BACKENDS = ("pyav", "torchcodec")


class _Mismatch(Exception):
    """The decoder gives other frames than the packets promise."""


@dataclass
class _Packets:
    """What the N shown packets of a stream tell without decoding.

    Attributes:
        seconds: (N,) when each frame is shown, the first at 0.
        stamps: (N,) the same as time stamps of the stream.
        duration: seconds to the end of the last.
        place: of each stamp, its packet's place among all packets, which come in the order of decoding.
        keys: (place, stamp) of the key frames.
        exact: whether decoding may start at any of them.
        stream: number of the stream in the file.
    """

    seconds: np.ndarray
    stamps: list[int]
    duration: float
    place: dict[int, int] = field(default_factory=dict)
    keys: list[tuple[int, int]] = field(default_factory=list)
    exact: bool = False
    stream: int = 0

    def runs(self, stamps: Iterable[int]) -> list[tuple[int, int]]:
        """First and last place of the packets to decode, from a key frame each, for the frames at `stamps`."""
        places = [place for place, _ in self.keys]
        runs: list[tuple[int, int]] = []
        for last, stamp in sorted((self.place[stamp], stamp) for stamp in stamps):
            key = bisect_right(places, last) - 1
            # Pictures shown before the key frame that they follow lean on the one before it (open group of pictures).
            while key >= 0 and self.keys[key][1] > stamp:
                key -= 1
            first = self.keys[key][0] if key >= 0 else 0
            while runs and first <= runs[-1][1] + 1:
                first, last = min(first, runs[-1][0]), max(last, runs.pop()[1])
            runs.append((first, last))
        return runs


@dataclass
class Pictures:
    """Frames read from a file.

    Attributes:
        frames: (T, 3, H, W) uint8 RGB.
        indices: (T,) of the N frames of the file.
        seconds: (N,) when they are shown, the first at 0.
        duration: seconds to the end of the last.
        size: height and width of the video, whatever was done to the frames.
        backend: what has decoded them, one of `BACKENDS`.
    """

    frames: torch.Tensor
    indices: np.ndarray
    seconds: np.ndarray
    duration: float
    size: tuple[int, int]
    backend: str = "pyav"


class VideoFile(VideoSource):
    """The frames of one video file, and the seconds they are shown at.

    Args:
        video: path, URL, bytes, seekable or other binary file object, or an open PyAV container, which is left as it
            is.
        name: of the video in messages, where it has none of its own.
        backend: "torchcodec" lets it decode where it works and gives what PyAV gives.
        **options: limits of fetching a URL; see `VideoSource`.

    Raises:
        VideoDecodeError: it does not exist, is empty, or cannot be fetched.
    """

    def __init__(self, video: Any, name: str = "", backend: str = "pyav", **options: Any):
        # What `_packets_of` gives; False before.
        self._known: _Packets | Literal[False] | None = False
        # What `_in_order` gives; None before.
        self._ordered: bool | None = None
        self.decoder: Any = _torchcodec() if backend == "torchcodec" else None
        super().__init__(video, name, **options)

    def key_frames(self) -> np.ndarray:
        """Numbers of the frames that can be decoded by themselves, increasing; none where nothing tells.

        Raises:
            VideoDecodeError: there is no video in it.
        """
        packets = self._packets_of()
        if packets is None or not packets.exact:
            return np.zeros(0, np.int64)
        stamps = np.array([stamp for _, stamp in packets.keys])
        return np.flatnonzero(np.isin(packets.stamps, stamps))

    def read(self, sampler: Sampler, transform: FrameTransform | None = None) -> Pictures:
        """Samples by the times of the packets, and by those of the decoded frames where packets mislead.

        Args:
            sampler: chooses the frames.
            transform: applied to each frame before it is stored, so that large frames are not kept in memory.

        Raises:
            VideoDecodeError: there is no video in it, or none of its frames can be decoded.
        """
        packets = self._packets_of()
        if packets is not None:
            indices = sampler(packets.seconds, len(packets.stamps), packets.duration)
            for backend, pictures in self._ways(packets, indices):
                try:
                    frames, _, size = self._gather(pictures, len(indices), transform)
                except _Mismatch:
                    continue
                self._warn()
                return Pictures(frames, indices, packets.seconds, packets.duration, size, backend)
        seconds, duration = self._decoded_times()
        indices = sampler(seconds, len(seconds), duration)
        # Decoders with several threads do not always get the same out of a damaged file: some may be missing.
        frames, indices, size = self._gather(self._by_number(indices), len(indices), transform)
        self._warn()
        return Pictures(frames, indices, seconds, duration, size)

    def stream(
        self, sampler: Sampler, transform: FrameTransform | None = None
    ) -> Iterator[tuple[int, float, torch.Tensor]]:
        """The chosen frames one by one, in a single pass: index, seconds and picture (3, H, W).

        For long videos, of which most is decoded anyway: nothing is kept, and frames that cannot be decoded are left
        out.

        Raises:
            VideoDecodeError: as `read`.
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

    def _ways(
        self, packets: _Packets, indices: np.ndarray
    ) -> Iterator[tuple[str, Iterator[tuple[int, torch.Tensor]]]]:
        """Ways to decode the chosen frames, the sparing ones first; each may end in a `_Mismatch`."""
        if packets.exact and self.decoder:
            yield "torchcodec", self._by_torchcodec(packets, indices)
        if packets.exact:
            yield "pyav", self._by_stamp(packets, indices, True)
        yield "pyav", self._by_stamp(packets, indices, False)

    def _in_turn(self, packets: _Packets | None, indices: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
        """Index and picture of each of the chosen frames that decode, in order; from key frames on, if possible."""
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
            logger.warning_once(f"{self.name} is damaged ({self.damage}); what could be decoded of it is used.")

    def _gather(
        self, pictures: Iterator[tuple[int, torch.Tensor]], count: int, transform: FrameTransform | None
    ) -> tuple[torch.Tensor, np.ndarray, tuple[int, int]]:
        """Frames (T, 3, H, W), their indices (T,) and the size of the pictures, without a second copy of them."""
        frames: torch.Tensor | None = None
        indices: list[int] = []
        size = (0, 0)
        for index, picture in pictures:
            size = (picture.shape[1], picture.shape[2])
            picture = picture if transform is None else transform(picture)
            frames = picture.new_empty((count, *picture.shape)) if frames is None else frames
            frames[len(indices)] = picture
            indices.append(index)
            del picture  # Else it stays until the next one is there.
        if frames is None:
            raise VideoDecodeError(f"Not one frame of {self.name} can be decoded; download or encode it again.")
        return frames[: len(indices)], np.array(indices), size

    # Times

    def _packets_of(self) -> _Packets | None:
        """What the packets tell, or None where they cannot stand for frames: some have no time or share one.

        They are gone through once. File objects may change between two readings, so theirs are read again.
        """
        if self._known is False or not isinstance(self.source, str):
            self._known = self._read_packets()
        return self._known

    def _read_packets(self) -> _Packets | None:
        stamps, last, keys, place = [], 0, [], {}
        with self._open() as container:
            stream = self._stream(container)
            for position, packet in enumerate(self._packets(container, stream)):
                if packet.is_keyframe:
                    keys.append((position, packet.pts))
                if not packet.is_discard:
                    stamps.append(packet.pts)
                    place[packet.pts] = position
                    last = packet.duration or last
            unit, number = float(stream.time_base or 0), stream.index
            header = stream.duration * unit if stream.duration else None
            edited = "mp4" in container.format.name
            exact = _starts_anew_at_keys(stream.codec_context, stamps)
        if not stamps:
            raise VideoDecodeError(f"{self.name} has a video stream without a frame; download or encode it again.")
        if edited:
            self._refuse_edits()
        if None in place or len(place) < len(stamps) or any(pts is None for _, pts in keys):
            return None
        stamps.sort()
        seconds = (np.array(stamps, dtype=np.int64) - stamps[0]) * unit
        duration = _end(seconds, last * unit)
        if header and duration < 0.9 * header - 0.5:
            self.damage = self.damage or f"its header promises {header:.1f} s, {duration:.1f} s are there"
        return _Packets(seconds, stamps, duration, place, keys, exact and not self.damage, number)

    def _decoded_times(self) -> tuple[np.ndarray, float]:
        """Seconds (N,) of the frames that the decoder gives, in their order, and the length of the clip."""
        with self._open() as container:
            stream = self._stream(container)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            unit = float(stream.time_base or 0)
            stamps = [frame.pts for frame in self._frames(container, stream)]
        if not stamps:
            raise VideoDecodeError(f"Not one frame of {self.name} can be decoded; download or encode it again.")
        if None in stamps or (np.diff(stamps) <= 0).any():
            seconds = np.arange(len(stamps)) / rate
        else:
            seconds = (np.array(stamps, dtype=np.int64) - stamps[0]) * unit
        return seconds, _end(seconds, 1 / rate)

    def _in_order(self, packets: _Packets, count: int = 64) -> bool:
        """Whether the first frames come out of the decoder at the times of the packets, in their order.

        They are decoded once. File objects may change between two readings, so theirs are decoded again.
        """
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
        """Index and picture of each of the chosen frames, in order.

        Raises:
            _Mismatch: if `strict`, frames do not come, or not in the order of their time stamps; if `from_keys`, one
                is less than perfect.
        """
        wanted = {packets.stamps[index]: int(index) for index in indices}
        places = {packets.place[stamp] for stamp in wanted}
        runs, keys = [(0, max(places, default=0))], set()
        if from_keys:
            runs = packets.runs(wanted)
            keys = {stamp for place, stamp in packets.keys if place in dict(runs)}
        last, damage = None, self.damage
        convert = _Converter(self.name)
        with self._open() as container:
            stream = self._stream(container)
            for frame in self._frames(container, stream, runs, places if from_keys else None):
                # AVI has no time stamps for B-frames: they come as those of other frames.
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
        """Index and picture of each of the chosen frames, in order.

        Raises:
            _Mismatch: torchcodec cannot read the file, or does not give these frames as PyAV gives them. In some
                containers it lands on others than those it was asked for; their times tell.
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
                    if abs(frame.pts_seconds - start - packets.seconds[index]) > 1e-3:
                        raise _Mismatch
                    yield index, frame.data
        except (RuntimeError, ValueError, IndexError) as error:
            raise _Mismatch from error

    def _is_plain(self) -> bool:
        """Whether the pictures are shown as they are stored, by the first of them."""
        with self._open() as container:
            stream = self._stream(container)
            frame = next(self._frames(container, stream), None)
            if frame is None or frame.interlaced_frame or _display_matrix(frame) is not None:
                return False
            square = _square(frame.width, frame.height, stream.sample_aspect_ratio)
            return square == {"width": frame.width, "height": frame.height} and all(
                part.bits == 8 and not part.is_alpha for part in frame.format.components
            )

    def _by_number(self, indices: np.ndarray) -> Iterator[tuple[int, torch.Tensor]]:
        """Index and picture of each of the chosen frames, as the decoder counts them."""
        wanted = set(indices.tolist())
        convert = _Converter(self.name)
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
        """Decoded frames of the packets in `runs`, (first, last) each; of all where there are none.

        Where the places of the packets that are `needed` are given, others are decoded only if frames lean on them.
        """
        todo = iter(runs or [])
        first, last = next(todo, (0, -1))
        context = _context(stream)
        # Elsewhere, frames on which no frame of their layer leans may still be those that another layer leans on.
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
            pass  # At the end PyAV asks for a stream that has appeared on the way, and does not know it.
        except (av.error.FFmpegError, OSError) as error:
            self.damage = f"it cannot be read to its end: {getattr(error, 'strerror', None) or error}"


@functools.cache
def _torchcodec() -> Any:
    """The decoder of torchcodec, None where it is not installed or finds no FFmpeg."""
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        # Versions that load FFmpeg late tell by this that they have found none.
        if getattr(torchcodec, "ffmpeg_major_version", 0) is None:
            raise ImportError("it finds no FFmpeg")
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning(f"torchcodec cannot be loaded ({reason}), so PyAV decodes.")
        return None
    return VideoDecoder


def _context(stream: Any) -> Any:
    """The decoder of a stream: that of libvpx where a WebM file has an alpha, which FFmpeg's own leaves out."""
    context = stream.codec_context
    name = WITH_ALPHA.get(context.codec.canonical_name)
    if name not in av.codecs_available or stream.metadata.get("alpha_mode") != "1":
        return context
    context = av.CodecContext.create(name, "r")
    context.options = LIMITS
    return context


def _starts_anew_at_keys(context: Any, stamps: list[Any]) -> bool:
    """Whether what follows a key frame can be decoded, and be told by its time stamps, without what comes before."""
    reordered = None not in stamps and any(one > other for one, other in pairwise(stamps))
    # A codec that reorders and packets that do not show it: the time stamps are those of other frames (AVI).
    if context is None or (context.has_b_frames and not reordered):
        return False
    codec = context.codec
    return codec.canonical_name in KEYED or bool(codec.intra_only)


def _end(seconds: np.ndarray, last: float) -> float:
    """Length of a clip in seconds, its last frame shown for `last` or, where that is 0, as long as the others."""
    return float(seconds[-1] + (last or (np.median(np.diff(seconds)) if len(seconds) > 1 else 0.0)))


# Pictures


class _Converter:
    """Makes decoded frames upright RGB pictures of one size with square pixels."""

    def __init__(self, name: str):
        self.name = name
        # One converter for all frames: `frame.to_ndarray` sets one up for each, which takes longer than decoding.
        self.convert = VideoReformatter()
        self.size: dict[str, int] = {}
        # How frames are turned, and the display matrix of the first that is turned so.
        self.rotation: int | None = None
        self.matrix: Any = None

    def __call__(self, frame: Any, stream: Any) -> torch.Tensor:
        """Picture (3, H, W), uint8."""
        # A stream may change its size midway; the clip has that of its first frame.
        self.size = self.size or _square(frame.width, frame.height, stream.sample_aspect_ratio)
        # Read once: frames whose side data was looked at stay in memory until the garbage collector comes.
        if frame.rotation != self.rotation:
            self.rotation, self.matrix = frame.rotation, _display_matrix(frame)
        see_through = any(component.is_alpha for component in frame.format.components)
        try:
            if frame.interlaced_frame:
                frame = _deinterlace(frame)
            picture = self.convert.reformat(frame, **self.size, format="rgba" if see_through else "rgb24", threads=1)
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoDecodeError(
                f"The pictures of {self.name} ({frame.format.name}) cannot be made RGB; convert it to H.264."
            ) from error
        pixels = _upright(on_white(picture.to_ndarray()), self.matrix)
        # Channels stay last in memory: resizing wants them so, and would make a copy of its own.
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def _upright(pixels: np.ndarray, matrix: Any) -> np.ndarray:
    """A picture (H, W, 3) as its display matrix has it shown: turned, and mirrored where that says so."""
    if matrix is None:
        return pixels
    across, down = np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]].reshape(2, 2) / 2**16
    if across[0] * down[1] - across[1] * down[0] < 0:
        # Mirrored first, its first row points the other way, and what is left is a rotation.
        pixels, across = pixels[:, ::-1], -across
    turned = np.degrees(np.arctan2(-across[1], across[0]))
    return np.rot90(pixels, round(turned / 90))


def _display_matrix(frame: Any) -> Any:
    """The nine numbers of 32 bits that say how a frame is to be shown, None where it is shown as it is stored."""
    try:
        side_data = frame.side_data
    except ValueError:
        # One kind that PyAV has no name for, such as the EXIF of a JPEG, keeps it from listing any: without those.
        unknown = range(len(SideDataType), 64)
        side_data = _filtered(frame, *[("sidedata", f"mode=delete:type={kind}") for kind in unknown]).side_data
    return side_data.get("DISPLAYMATRIX")


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Pictures (..., 3 or 4) without their alpha, laid on white, as `transformers` lays those of arrays."""
    if pixels.shape[-1] == 3 or (pixels[..., 3] == 255).all():
        return pixels[..., :3]
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def _square(width: int, height: int, ratio: Any) -> dict[str, int]:
    """Size at which pixels are square; it never shrinks."""
    ratio = float(ratio or 1)
    # More is no picture of a camera but a damaged header.
    if not 1 / 4 <= ratio <= 4:
        ratio = 1.0
    return {"width": round(width * max(ratio, 1.0)), "height": round(height * max(1 / ratio, 1.0))}


def _deinterlace(frame: Any) -> Any:
    """One field of a frame, its missing lines filled along the edges: one moment instead of two."""
    return _filtered(frame, ("estdif", "mode=frame:deint=all"))


def _filtered(frame: Any, *filters: tuple[str, str]) -> Any:
    """A frame after filters of FFmpeg, a name and its options each."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    graph.link_nodes(source, *[graph.add(*one) for one in filters], graph.add("buffersink")).configure()
    graph.push(frame)
    graph.push(None)
    return graph.pull()
