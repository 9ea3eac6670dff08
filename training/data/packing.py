"""Packing a folder of frames into one video file, without encoding the frames again."""

import io
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from tgdfer.processing.video_reading_tgdfer import frame_files
from tgdfer.processing.video_source_tgdfer import VideoDecodeError

# Frames per second of packed frames. Folders of frames do not say how fast they were.
RATE = 25
_CODECS = {"JPEG": "mjpeg", "PNG": "png"}


def pack_frames(folder: Path) -> bytes:
    """Packs a folder of frames into a QuickTime video.

    JPEG and PNG files become the frames of the video byte by byte, so nothing is lost. If the formats or sizes of the
    frames of a clip differ, all are encoded as PNG, in the size of the first one.

    Args:
        folder (`Path`): Folder of frames, in natural order of their names.

    Raises:
        VideoDecodeError: If there are no frames, or one is damaged.
    """
    files = frame_files(folder)
    kinds = {_kind(file) for file in files}
    (format_name, size), *others = kinds
    if others or format_name not in _CODECS:
        size = _kind(files[0])[1]
        return _mux("png", size, [_as_png(file, size) for file in files])
    return _mux(_CODECS[format_name], size, [file.read_bytes() for file in files])


def _mux(codec: str, size: tuple[int, int], frames: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    # Timestamps and random ids of the muxer would make equal folders differ.
    with av.open(buffer, "w", format="mov", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        stream.time_base = Fraction(1, RATE)
        for number, content in enumerate(frames):
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts, packet.duration = stream, number, number, 1
            packet.time_base, packet.is_keyframe = Fraction(1, RATE), True
            container.mux(packet)
    return buffer.getvalue()


def _kind(file: Path) -> tuple[str, tuple[int, int]]:
    """Returns format and size (width, height) of a picture."""
    try:
        with Image.open(file) as image:
            return str(image.format), image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoDecodeError(f"The frame {file} is damaged or not an image; replace or delete it.") from error


def _as_png(file: Path, size: tuple[int, int]) -> bytes:
    with Image.open(file) as image:
        buffer = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, "png")
        return buffer.getvalue()
