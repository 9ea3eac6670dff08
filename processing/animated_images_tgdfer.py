"""Animated WebP as video. FFmpeg reads only still ones, so Pillow decodes them."""

import tempfile
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import Image, ImageSequence

# Players show a frame without a duration for so many milliseconds.
_USUAL_MILLISECONDS = 100
# Files up to this size stay in memory.
_IN_MEMORY = 2**26
# Bytes of a file by which an animated WebP is known: the flag for animation is one bit of the last.
HEAD = 21


def is_animated_webp(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of a WebP with several frames."""
    known = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return known and len(head) >= HEAD and bool(head[20] & 2)


def copy_animated_webp(source: BinaryIO, max_pixels: int) -> BinaryIO:
    """Writes the frames of an animated WebP as a lossless video, each at its time.

    Args:
        source: the WebP, at its start.
        max_pixels: of a frame.

    Returns:
        A temporary file, which disappears when it is closed.

    Raises:
        ValueError: the file is damaged, or its frames are too large; the message says which.
    """
    target: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        with Image.open(source, formats=("WEBP",)) as image:
            if image.width * image.height > max_pixels:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than the {max_pixels} allowed")
            with av.open(target, "w", format="matroska") as container:
                _copy_frames(image, container)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        target.close()
        raise ValueError(f"it is damaged: {error}") from error
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def _copy_frames(image: Image.Image, container: Any) -> None:
    stream = container.add_stream("ffv1", rate=1000 // _USUAL_MILLISECONDS)
    stream.width, stream.height, stream.pix_fmt = image.width, image.height, "bgr0"
    stream.codec_context.time_base = Fraction(1, 1000)
    moment = 0
    for shown in ImageSequence.Iterator(image):
        on_white = Image.new("RGBA", image.size, "white")
        on_white.alpha_composite(shown.convert("RGBA"))
        frame = av.VideoFrame.from_ndarray(np.asarray(on_white.convert("RGB")), format="rgb24")
        frame.pts, frame.time_base = moment, Fraction(1, 1000)
        container.mux(stream.encode(frame))
        moment += int(shown.info.get("duration") or _USUAL_MILLISECONDS)
    container.mux(stream.encode())
