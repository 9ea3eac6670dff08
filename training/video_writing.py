"""Videos written frame by frame at the times of their source, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# Fine enough for the times of any container.
_TICKS = 90_000


class VideoWriter:
    """An H.264 file that grows by one picture after the other.

    Args:
        path: file to write; its ending says the container.
        crf: quality, from 0 (nothing is lost) to 51.
        comment: what the file says of itself.
    """

    def __init__(self, path: Path, crf: int = 18, comment: str = ""):
        # Known only when the file ends are the times of the last frames; until then they stand at the front all alike.
        self.container = av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {})
        if comment:
            self.container.metadata["comment"] = comment
        self.stream = self.container.add_stream("libx264", rate=Fraction(25), pix_fmt="yuv420p")
        self.stream.options = {"crf": str(crf), "preset": "veryfast"}
        self.stream.codec_context.time_base = Fraction(1, _TICKS)
        # Processes work side by side.
        self.stream.codec_context.thread_count = 1
        self.last = -1

    def write(self, second: float, picture: np.ndarray) -> None:
        """Adds a picture (H, W, 3), uint8 RGB; an odd side loses its last line, which H.264 cannot hold."""
        picture = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
        if self.last < 0:
            self.stream.height, self.stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        # Two frames of one time are none: the later one is shown at once after the other.
        self.last = frame.pts = max(self.last + 1, round(second * _TICKS))
        frame.time_base = Fraction(1, _TICKS)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        if self.last >= 0:
            self.container.mux(self.stream.encode(None))
        self.container.close()


@contextmanager
def writing(path: str | Path, crf: int = 18, comment: str = "") -> Iterator[VideoWriter]:
    """A `VideoWriter` whose file takes its name when it is whole; makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")  # the same ending, which says the container
    writer = VideoWriter(draft, crf, comment)
    try:
        try:
            yield writer
        finally:
            writer.close()
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
