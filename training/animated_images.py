"""Animated WebP as video. FFmpeg reads only still ones, so Pillow decodes them."""

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import Image, ImageSequence

from tgdfer.processing.video_file_tgdfer import MAX_PIXELS, VideoDecodeError, on_white

# Players show a frame without a duration for so many milliseconds.
_USUAL_MILLISECONDS = 100


def is_animated_webp(path: str | Path) -> bool:
    """Whether a file is a WebP with several frames; False where it cannot be read."""
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def copy_animated_webp(path: str | Path, target: BinaryIO) -> None:
    """Writes the frames of an animated WebP as a lossless video, each at its time.

    Args:
        path: the WebP.
        target: a seekable file, which is then at its start.

    Raises:
        VideoDecodeError: the file is damaged, or its frames are too large.
    """
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise VideoDecodeError(
                    f"{path} has {image.width} x {image.height} pixels, more than the {MAX_PIXELS} that are read; "
                    "make it smaller."
                )
            with av.open(target, "w", format="matroska") as container:
                _copy_frames(image, container)
    except VideoDecodeError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise VideoDecodeError(f"{path} is damaged ({error}); download or make it again.") from error
    target.seek(0)


def _copy_frames(image: Image.Image, container: Any) -> None:
    stream = container.add_stream("ffv1", rate=1000 // _USUAL_MILLISECONDS)
    stream.width, stream.height, stream.pix_fmt = image.width, image.height, "bgr0"
    stream.codec_context.time_base = Fraction(1, 1000)
    moment = 0
    for shown in ImageSequence.Iterator(image):
        pixels = np.ascontiguousarray(on_white(np.asarray(shown.convert("RGBA"))))
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = moment, Fraction(1, 1000)
        container.mux(stream.encode(frame))
        moment += int(shown.info.get("duration") or _USUAL_MILLISECONDS)
    container.mux(stream.encode())
