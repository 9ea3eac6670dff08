"""Copying the sound of a video into another video, synchronised with its pictures."""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import av
from transformers.utils import logging

from tgdfer.processing.video_file_tgdfer import VideoFile, delay, first_second
from tgdfer.processing.video_source_tgdfer import ANY_TAGS, FORMATS, shown_stream

logger = logging.get_logger(__name__)

# Audio codecs in MP4 files that common players support.
_PLAYED_IN_MP4 = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
_AAC_RATES = {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000}
# Number of packets that are searched for the first picture. H.264 and HEVC reorder at most 16 pictures.
_REORDERED = 64
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
_ERRORS = (av.error.FFmpegError, OSError, ValueError, IndexError)


class Sound:
    """Copies the sound of a video file into another file. If the sound is broken, copying stops with a warning.

    Args:
        video (`VideoFile`): Video that contains the sound.
    """

    def __init__(self, video: VideoFile):
        self.name, self._source, self._format = video.name, video.source, video.format
        self._stack = ExitStack()
        self._container: Any = None
        self._packets: Iterator[Any] = iter(())
        self._pending: Any = None
        self._output: Any = None
        self._target: Any = None
        self._resampler: Any = None
        self._last: int | None = None
        self._start = 0.0

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add_to(self, output: Any) -> None:
        """Adds an audio stream to a container.

        The sound is copied if the container supports the codec and common players do. Otherwise it is encoded as AAC.

        Args:
            output (`Any`): Container to write to. Nothing is added if the video has no sound.
        """
        self._output = output
        try:
            self._start, copied = self._inspect(output.format.name)
            container = self._open(self._stack)
            stream = container.streams.best("audio")
            if stream is None:
                return
            if copied:
                self._target = output.add_stream_from_template(stream)
            else:
                self._add_aac(stream)
            self._packets = (packet for packet in container.demux(stream) if packet.size)
        except _ERRORS as error:
            self._give_up(error)

    def write_until(self, second: float) -> None:
        """Writes the sound up to a time in seconds, as `VideoFile` gives the times of pictures."""
        while self._target is not None:
            try:
                packet = self._pending or next(self._packets, None)
            except _ERRORS as error:
                self._give_up(error)
                return
            if packet is None:
                return
            time = packet.pts if packet.dts is None else packet.dts
            if time is not None and float(time * packet.time_base) - self._start > second:
                self._pending = packet
                return
            self._pending = None
            self._write(packet)

    def finish(self) -> None:
        """Writes the rest of the sound."""
        self.write_until(float("inf"))
        if self._target is not None and self._resampler is not None and self._last is not None:
            try:
                self._encode(None)
                self._output.mux(self._target.encode(None))
            except _ERRORS as error:
                self._give_up(error)

    def _inspect(self, container_format: str) -> tuple[float, bool]:
        """Returns the time that becomes second 0 of the copy, and whether the sound can be copied."""
        with ExitStack() as stack:
            container = self._open(stack)
            sound = container.streams.best("audio")
            if sound is None:
                return 0.0, False
            copied = container_format != "mp4" or sound.codec_context.codec.canonical_name in _PLAYED_IN_MP4
            copied = copied and self._can_copy(container_format, container, sound)
        with ExitStack() as stack:
            container = self._open(stack)
            pictures = shown_stream(container)
            shown = (packet for packet in container.demux(pictures) if packet.size and not packet.is_discard)
            times = [packet.dts if packet.pts is None else packet.pts for packet in islice(shown, _REORDERED)]
            known = [time for time in times if time is not None]
            first = float(min(known, default=0) * pictures.time_base)
            return first - delay(first, first_second(container)), copied

    def _can_copy(self, container_format: str, container: Any, sound: Any) -> bool:
        """Returns whether a container format supports the sound, by writing the first packet to such a container."""
        try:
            first = next(packet for packet in container.demux(sound) if packet.size)
            with av.open(io.BytesIO(), "w", format=container_format) as trial:
                first.stream = trial.add_stream_from_template(sound)
                trial.mux(first)
        except (*_ERRORS, StopIteration):
            return False
        return True

    def _open(self, stack: ExitStack) -> Any:
        source = self._source if isinstance(self._source, str) else _IndependentReader(self._source)
        return stack.enter_context(av.open(source, "r", self._format, options=_OPTIONS, **ANY_TAGS))

    def _add_aac(self, stream: Any) -> None:
        rate = stream.codec_context.sample_rate
        rate = rate if rate in _AAC_RATES else 48000
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self._target = self._output.add_stream("aac", rate=rate, layout=layout)
        # `async` fills gaps with silence, so that the sound after them stays synchronised.
        self._resampler = av.AudioResampler("fltp", layout, rate, frame_size=1024, options={"async": "1"})

    def _write(self, packet: Any) -> None:
        """Copies a packet, or decodes and encodes it."""
        shift = round(self._start / packet.time_base)
        if self._resampler is not None:
            try:
                frames = packet.decode()
            except _ERRORS:
                # The resampler fills the gap with silence.
                logger.warning_once(f"Some of the sound of {self.name} is damaged and is missing in the copy.")
                return
            for frame in frames:
                if frame.pts is not None:
                    frame.pts -= round(self._start / frame.time_base)
                self._last = 0
                self._encode(frame)
            return
        if packet.dts is None or (self._last is not None and packet.dts <= self._last):
            logger.warning_once(f"Some of the sound of {self.name} has no valid times and is missing in the copy.")
            return
        self._last = packet.dts
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        packet.stream = self._target
        self._mux(packet)

    def _encode(self, frame: Any) -> None:
        try:
            for part in self._resampler.resample(frame):
                self._output.mux(self._target.encode(part))
        except _ERRORS as error:
            self._give_up(error)

    def _mux(self, packet: Any) -> None:
        try:
            self._output.mux(packet)
        except _ERRORS as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        logger.warning(f"Copying the sound of {self.name} stopped before its end ({reason}); all pictures are copied.")
        self._packets, self._pending, self._resampler = iter(()), None, None


class _IndependentReader(io.RawIOBase):
    """A reader of a binary file that has its own position, independent of other readers of the same file."""

    def __init__(self, file: Any):
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        other_position = self._file.tell()
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position = self._file.tell()
        self._file.seek(other_position)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        other_position = self._file.tell()
        self._file.seek(self._position)
        self._position = self._file.seek(offset, whence)
        self._file.seek(other_position)
        return self._position

    def tell(self) -> int:
        return self._position
