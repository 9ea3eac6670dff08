"""Conversion of decoded frames to upright RGB images with square pixels."""

from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from .video_source_tgdfer import VideoDecodeError


class FrameConverter:
    """Converts decoded frames to upright RGB images of one size with square pixels; `name` is used in messages."""

    def __init__(self, name: str):
        self.name = name
        # `frame.to_ndarray` creates a converter for each frame, which takes longer than decoding.
        self.convert = VideoReformatter()
        self.size: dict[str, int] = {}
        # Rotation of the last frame, and the display matrix of the first frame with this rotation.
        self.rotation: int | None = None
        self.matrix: Any = None

    def __call__(self, frame: Any, stream: Any) -> torch.Tensor:
        """Converts a frame of a stream to an image (3, H, W), uint8."""
        # The size of a stream may change midway. All images get the size of the first frame.
        self.size = self.size or square_size(frame.width, frame.height, stream.sample_aspect_ratio)
        # The side data is read only if the rotation changes, because a frame whose side data was read stays in memory
        # until garbage collection.
        if frame.rotation != self.rotation:
            self.rotation, self.matrix = frame.rotation, display_matrix(frame)
        see_through = any(component.is_alpha for component in frame.format.components)
        try:
            if frame.interlaced_frame:
                frame = _deinterlace(frame)
            picture = self.convert.reformat(frame, **self.size, format="rgba" if see_through else "rgb24", threads=1)
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoDecodeError(
                f"The frames of {self.name} ({frame.format.name}) cannot be converted to RGB; convert it to H.264."
            ) from error
        pixels = _upright(on_white(picture.to_ndarray()), self.matrix)
        # Channels stay last in memory, because resizing needs this layout and would otherwise make a copy.
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def _upright(pixels: np.ndarray, matrix: Any) -> np.ndarray:
    """Rotates and mirrors an image (H, W, 3) as its display matrix requires. None changes nothing."""
    if matrix is None:
        return pixels
    across, down = np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]].reshape(2, 2) / 2**16
    if across[0] * down[1] - across[1] * down[0] < 0:
        # The image is mirrored first. The rest of the transformation is a rotation.
        pixels, across = pixels[:, ::-1], -across
    turned = np.degrees(np.arctan2(-across[1], across[0]))
    return np.rot90(pixels, round(turned / 90))


def display_matrix(frame: Any) -> Any:
    """Returns the display matrix of a frame, nine 32-bit numbers, or None if it is displayed as it is stored."""
    try:
        side_data = frame.side_data
    except ValueError:
        # PyAV cannot list side data if one type is unknown to it, such as the EXIF of a JPEG. These are removed.
        unknown = range(len(SideDataType), 64)
        side_data = _filtered(frame, *[("sidedata", f"mode=delete:type={kind}") for kind in unknown]).side_data
    return side_data.get("DISPLAYMATRIX")


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Removes the alpha channel of images (..., 3 or 4) by compositing them on white, as `transformers` does."""
    if pixels.shape[-1] == 3 or (pixels[..., 3] == 255).all():
        return pixels[..., :3]
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def square_size(width: int, height: int, ratio: Any) -> dict[str, int]:
    """Returns the size at which the pixels of a frame are square. No side becomes shorter."""
    ratio = float(ratio or 1)
    # A more extreme ratio comes from a damaged header.
    if not 1 / 4 <= ratio <= 4:
        ratio = 1.0
    return {"width": round(width * max(ratio, 1.0)), "height": round(height * max(1 / ratio, 1.0))}


def _deinterlace(frame: Any) -> Any:
    """Deinterlaces a frame: keeps one of its two fields, and interpolates the missing lines along edges."""
    return _filtered(frame, ("estdif", "mode=frame:deint=all"))


def _filtered(frame: Any, *filters: tuple[str, str]) -> Any:
    """Applies filters of FFmpeg, given as name and options, to a frame."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    graph.link_nodes(source, *[graph.add(*one) for one in filters], graph.add("buffersink")).configure()
    graph.push(frame)
    graph.push(None)
    return graph.pull()
