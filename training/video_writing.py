"""Writing H.264 videos frame by frame, for face crops, annotated videos and rendered faces."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from tgdfer.training.files import atomic_write

if TYPE_CHECKING:
    # The processes that render faces need no sound, and importing it imports torch.
    from tgdfer.training.sound import Sound

# Ticks per second: fine enough for the timestamps of any container.
_TICKS = 90_000


class VideoWriter:
    """Writes an H.264 file with a timestamp for each frame. It is created by `writing`.

    Args:
        path (`Path`): File to write. Its suffix selects the container.
        crf (`int`, *optional*, defaults to 18): Constant rate factor, from 0 (lossless) to 51.
        comment (`str`, *optional*, defaults to `""`): Comment in the metadata of the file.
        threads (`int`, *optional*, defaults to 1): Threads of the encoder. With more than one, the bytes depend on
            timing.
        sound (`Sound`, *optional*): Sound that is written with the pictures.
    """

    def __init__(self, path: Path, crf: int = 18, comment: str = "", threads: int = 1, sound: "Sound | None" = None):
        # faststart writes the index of an MP4 file before the frames.
        faststart = {"movflags": "faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}
        self.container = av.open(str(path), "w", options=faststart)
        if comment:
            self.container.metadata["comment"] = comment
        self.stream = _add_h264_stream(self.container, 25, crf)
        self.stream.codec_context.time_base = Fraction(1, _TICKS)
        self.stream.codec_context.thread_count = threads
        self.last = -1
        # Time in seconds until which the last frame is shown. None if the container decides.
        self.end: float | None = None
        self._reformatter = VideoReformatter()
        self._sound = sound
        if sound:
            sound.add_to(self.container)

    def write(self, second: float, picture: np.ndarray) -> None:
        """Adds a frame, and the sound up to it.

        Args:
            second (`float`): Timestamp in seconds.
            picture (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB. H.264 needs even sides, so the last row or column
                of an odd side is cut off.
        """
        picture = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
        if self.last < 0:
            self.stream.height, self.stream.width = picture.shape[:2]
            # The colour matrix of the conversion below. Otherwise players would assume another one for large pictures.
            self.stream.codec_context.colorspace = Colorspace.ITU601
            self.stream.codec_context.color_range = ColorRange.MPEG
        # The frame uses the memory of the picture until it is converted.
        borrowed = av.VideoFrame.from_numpy_buffer(picture, format="rgb24")
        frame = self._reformatter.reformat(borrowed, format="yuv420p", threads=1)
        # Timestamps must increase. A frame with the timestamp of the previous one is shown one tick later.
        self.last = frame.pts = max(self.last + 1, round(second * _TICKS))
        frame.time_base = Fraction(1, _TICKS)
        if self._sound:
            self._sound.write_until(second)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Writes the frames that the encoder still holds, and the rest of the sound."""
        if self.last >= 0:
            for packet in self.stream.encode(None):
                if packet.pts == self.last and self.end is not None:
                    packet.duration = max(1, round(self.end * _TICKS) - self.last)
                self.container.mux(packet)
            if self._sound:
                self._sound.finish()


@contextmanager
def writing(
    path: str | Path, crf: int = 18, comment: str = "", threads: int = 1, sound: "Sound | None" = None
) -> Iterator[VideoWriter]:
    """Opens a `VideoWriter` for a `with` block. The file is written atomically, and its folder is created.

    Args:
        path (`str` or `Path`): File to write. Its suffix selects the container.
        crf (`int`, *optional*, defaults to 18): Constant rate factor, from 0 (lossless) to 51.
        comment (`str`, *optional*, defaults to `""`): Comment in the metadata of the file.
        threads (`int`, *optional*, defaults to 1): Threads of the encoder. With more than one, the bytes depend on
            timing.
        sound (`Sound`, *optional*): Sound that is written with the pictures.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix determines the container. The temporary file has the same suffix.
    with atomic_write(path) as draft:
        writer = VideoWriter(draft, crf, comment, threads, sound)
        try:
            yield writer
            writer.finish()
        finally:
            writer.container.close()


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: int, crf: int = 18) -> None:
    """Encodes frames at a constant rate. The same frames always give the same bytes.

    Args:
        path (`str` or `Path`): File to write.
        frames (`Iterable[np.ndarray]` of shape `(H, W, 3)`): uint8 RGB frames with even sides.
        fps (`int`): Frames per second.
        crf (`int`, *optional*, defaults to 18): Constant rate factor, from 0 (lossless) to 51.
    """
    with atomic_write(path) as draft, av.open(str(draft), "w") as container:
        # With x264's macroblock tree, the bytes differ from run to run.
        stream = _add_h264_stream(container, fps, crf, {"x264-params": "mbtree=0"})
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _add_h264_stream(container: Any, fps: int, crf: int, options: dict[str, str] | None = None) -> Any:
    """Adds an H.264 stream to a container."""
    stream = container.add_stream("libx264", rate=Fraction(fps), pix_fmt="yuv420p")
    stream.options = {"crf": str(crf), "preset": "veryfast", **(options or {})}
    # Several processes work side by side, and with several threads the bytes depend on timing.
    stream.codec_context.thread_count = 1
    return stream
