"""Reading of animated WebP files. FFmpeg supports only still WebP images, so Pillow decodes them."""

import tempfile
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import Image, ImageSequence

# Duration in milliseconds for which players show a frame without a duration.
_DEFAULT_MILLISECONDS = 100
# Size in bytes above which a spooled temporary file is moved from memory to disk.
_IN_MEMORY = 2**26
# Maximum number of pixels in all frames. Conversion takes about a minute for as many.
_MAX_PIXELS_IN_ALL = 2**32
# Number of bytes that identify an animated WebP. The flag for animation is in the last byte.
HEAD = 21


def is_animated_webp(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of a WebP with several frames."""
    is_webp = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_webp and len(head) >= HEAD and bool(head[20] & 2)


def copy_animated_webp(source: BinaryIO, max_pixels: int) -> BinaryIO:
    """Converts an animated WebP to a lossless video with the same times.

    Args:
        source (`BinaryIO`): The WebP file, positioned at its start.
        max_pixels (`int`): Maximum number of pixels in a frame.

    Returns:
        `BinaryIO`: A temporary file that is deleted when it is closed.

    Raises:
        ValueError: If the file is damaged, or its frames are too large or too many. The message names the cause and
            the remedy.
    """
    target: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        with Image.open(source, formats=("WEBP",)) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width} x {image.height} pixels"
                raise ValueError(f"it has {size}, more than the maximum of {max_pixels}; reduce its size")
            number: int = image.n_frames  # type: ignore[attr-defined]
            if image.width * image.height * number > _MAX_PIXELS_IN_ALL:
                size = f"{number} frames of {image.width} x {image.height} pixels"
                raise ValueError(f"it has {size}, which take too long to convert; save it as a video, such as MP4")
            with av.open(target, "w", format="matroska") as container:
                _copy_frames(image, container)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        target.close()
        raise ValueError(f"it is damaged ({error}); download or create it again") from error
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def _copy_frames(image: Image.Image, container: Any) -> None:
    stream = container.add_stream("ffv1", rate=1000 // _DEFAULT_MILLISECONDS)
    stream.width, stream.height, stream.pix_fmt = image.width, image.height, "bgr0"
    stream.codec_context.time_base = Fraction(1, 1000)
    milliseconds = 0
    for picture in ImageSequence.Iterator(image):
        on_white = Image.new("RGBA", image.size, "white")
        on_white.alpha_composite(picture.convert("RGBA"))
        frame = av.VideoFrame.from_ndarray(np.asarray(on_white.convert("RGB")), format="rgb24")
        frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
        container.mux(stream.encode(frame))
        milliseconds += int(picture.info.get("duration") or _DEFAULT_MILLISECONDS)
    container.mux(stream.encode())
