"""Which of several streams of pictures is read, and images that move."""

import errno
import io
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tgdfer.processing.animated_images_tgdfer import is_animated_webp
from tgdfer.processing.video_file_tgdfer import VideoDecodeError, VideoFile
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=4)


def write_streams(path: Path, *streams: tuple[int, Disposition, int], **options: str) -> Path:
    """A file with several streams of pictures, each of one grey, with its disposition and number of frames."""
    with av.open(str(path), "w", options=options) as container:
        made = []
        for grey, disposition, frames in streams:
            stream = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
            stream.disposition = disposition
            made.append((stream, grey, frames))
        for stream, grey, frames in made:
            for _ in range(frames):
                picture = np.full((48, 64, 3), grey, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return path


NONE, DEFAULT = Disposition(0), Disposition.default


@pytest.mark.parametrize(
    ("streams", "shown"),
    [
        ([(40, NONE, 8), (200, DEFAULT, 8)], 200),
        ([(40, DEFAULT, 8), (200, NONE, 8)], 40),
        ([(40, NONE, 8), (200, NONE, 8)], 40),
        ([(40, NONE, 8)], 40),
    ],
)
def test_the_stream_is_read_that_players_show(streams, shown, tmp_path, reader):
    path = write_streams(tmp_path / "a.mkv", *streams, default_mode="passthrough")
    for given in (path, path.read_bytes()):
        frames, _ = reader.read_clip(given)
        assert frames.float().mean().item() == pytest.approx(shown, abs=4) and len(frames) == 4


def pictures(alpha: int | None = None) -> list[Image.Image]:
    colours = [(0, 40, 200), (60, 40, 160), (120, 40, 120), (180, 40, 80)]
    if alpha is None:
        return [Image.new("RGB", (64, 48), colour) for colour in colours]
    return [Image.new("RGBA", (64, 48), (*colour, alpha)) for colour in colours]


@pytest.mark.parametrize("form", ["avif", "webp", "gif"])
@pytest.mark.parametrize("given", ["path", "bytes", "file"])
def test_animated_images_are_read_whole(form, given, tmp_path, reader):
    first, *others = pictures()
    path = tmp_path / f"a.{form}"
    first.save(path, save_all=True, append_images=others, duration=[100, 200, 100, 100])
    video = {"path": path, "bytes": path.read_bytes(), "file": io.BytesIO(path.read_bytes())}[given]
    frames, seconds = reader.read_clip(video)
    assert seconds.tolist() == pytest.approx([0, 0.1, 0.3, 0.4], abs=1e-3)
    assert frames[:, 0, 20, 20].tolist() == pytest.approx([0, 60, 120, 180], abs=8)


def test_what_is_seen_through_lies_on_white(tmp_path, reader):
    first, *others = pictures(alpha=0)
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=100)
    assert reader.read_clip(tmp_path / "a.webp")[0].min() == 255


@pytest.mark.parametrize("form", ["avif", "webp"])
def test_images_that_do_not_move_are_one_frame(form, tmp_path, reader):
    pictures()[0].save(tmp_path / f"a.{form}")
    assert len(reader.read_clip(tmp_path / f"a.{form}")[0]) == 1


def test_damaged_animations_are_one_sentence(tmp_path, reader, monkeypatch):
    first, *others = pictures()
    first.save(tmp_path / "a.webp", save_all=True, append_images=others)
    data = (tmp_path / "a.webp").read_bytes()
    assert is_animated_webp(data) and not is_animated_webp(data[:20])
    (tmp_path / "a.webp").write_bytes(data[: len(data) // 2])
    with pytest.raises(
        VideoDecodeError, match=r"^[^\n]*a.webp cannot be read: it is damaged \([^\n]*; download or create it again\.$"
    ):
        reader.read_clip(tmp_path / "a.webp")
    monkeypatch.setattr("tgdfer.processing.video_source_tgdfer.MAX_PIXELS", 100)
    with pytest.raises(VideoDecodeError, match="64 x 48 pixels, more than the maximum of 100; reduce its size"):
        reader.read_clip(data)


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path, monkeypatch):
    def deny(name, mode):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    path = tmp_path / "private.mp4"
    path.write_bytes(b"secret")
    monkeypatch.setattr("tgdfer.processing.video_source_tgdfer.open", deny, raising=False)
    with pytest.raises(
        VideoDecodeError, match=r"private\.mp4 cannot be opened \(Permission denied\); check its permissions"
    ):
        VideoFile(str(path))


def test_animations_that_take_too_long_are_refused(tmp_path, reader, monkeypatch):
    first, *others = pictures()
    first.save(tmp_path / "a.webp", save_all=True, append_images=others)
    monkeypatch.setattr("tgdfer.processing.animated_images_tgdfer._MAX_PIXELS_IN_ALL", 3 * 64 * 48)
    with pytest.raises(VideoDecodeError, match="it has 4 frames of 64 x 48 pixels, which take too long to convert"):
        reader.read_clip(tmp_path / "a.webp")
