"""Which videos arguments name, and standard input and pipes."""

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.processing.video_reading_tgdfer import VideoDecodeError
from tgdfer.training import video_paths
from tgdfer.training.errors import UserError
from tgdfer.training.video_paths import find_videos, readable_source


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Videos, frames, and what is neither, in a folder that is the current one."""
    names = ("10.mp4", "2.MOV", "notes.txt", "cover.jpg", ".hidden.mp4", "b/1.gif", "b/.git/1.mp4")
    for name in (*names, "frames/10.png", "frames/2.png", "odd/a[1].mp4", "photos/a.jpg", "photos/list.csv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_videos_and_its_folders_of_frames_in_natural_order(tree: Path) -> None:
    assert find_videos(["in"]) == ["in/2.MOV", "in/10.mp4", "in/b/1.gif", "in/frames", "in/odd/a[1].mp4"]


def test_a_folder_of_images_is_a_clip_of_frames(tree: Path) -> None:
    assert find_videos(["in/frames", "in/photos"]) == ["in/frames", "in/photos"]


def test_patterns(tree: Path) -> None:
    assert find_videos(["in/*.[mM]*"]) == ["in/2.MOV", "in/10.mp4"]
    assert find_videos(["in/**/*.gif"]) == ["in/b/1.gif"]
    assert find_videos(["in/fra*"]) == ["in/frames"]
    assert find_videos(["in/odd/a[1].mp4"]) == ["in/odd/a[1].mp4"], "a name, no pattern"
    with pytest.raises(UserError, match=r"^No file matches 'in/\*\.avi'; check the pattern\.$"):
        find_videos(["in/*.avi"])


def test_arguments_keep_their_order_and_each_video_comes_once(tree: Path) -> None:
    url = "https://host/a*.mp4?x=[1]"
    assert find_videos(["in/10.mp4", url, "-", "no.mp4", "in/*.mp4"]) == ["in/10.mp4", url, "-", "no.mp4"]


def test_a_tilde_is_the_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert find_videos(["~"]) == find_videos([str(tree)])


def test_a_folder_without_videos(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match="The folder empty contains neither videos"):
        find_videos(["empty"])


class Input(io.BytesIO):
    """A pipe: it cannot be gone through again."""

    def seekable(self) -> bool:
        return False


def given(monkeypatch: pytest.MonkeyPatch, data: bytes, terminal: bool = False) -> None:
    stdin = type("Stdin", (), {"buffer": Input(data), "isatty": lambda self: terminal})()
    monkeypatch.setattr("sys.stdin", stdin)


def test_standard_input_is_read_and_nothing_of_it_stays(
    clip_writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clip_writer(tmp_path / "clip.mp4")
    given(monkeypatch, clip.read_bytes())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with readable_source("-") as source:
        frames, seconds = TGDFERVideoProcessor(num_frames=4).read_clip(source)
        assert frames.shape == (4, 3, 32, 32) and seconds is not None
        assert not list((tmp_path / "temporary").iterdir()), "the file has no name"
    assert source["bytes"].closed


def test_standard_input_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, b"", terminal=True)
    with (
        pytest.raises(VideoDecodeError, match="^Standard input is a terminal; redirect a video"),
        readable_source("-"),
    ):
        pass
    monkeypatch.setattr(video_paths, "MAX_SPOOLED_BYTES", 2**20)
    given(monkeypatch, bytes(2**21))
    with pytest.raises(VideoDecodeError, match="^Standard input is larger than"), readable_source("-"):
        pass
    given(monkeypatch, b"no video")
    with readable_source("-") as source, pytest.raises(VideoDecodeError, match="^Standard input is not a video"):
        TGDFERVideoProcessor().read_clip(source)
    given(monkeypatch, b"")
    with readable_source("-") as source, pytest.raises(VideoDecodeError, match="^Standard input is empty"):
        TGDFERVideoProcessor().read_clip(source)


def test_a_named_pipe(clip_writer, tmp_path: Path) -> None:
    clip, pipe = clip_writer(tmp_path / "clip.mp4"), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()))
    writer.start()
    with readable_source(str(pipe)) as source:
        assert len(TGDFERVideoProcessor(num_frames=4).read_clip(source)[0]) == 4
    writer.join()


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "tif", "webp", "ppm"])
def test_photographs(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo-01.{suffix}"
    # Grey: libraries differ in how they enlarge the colours of a JPEG.
    Image.fromarray(noise()[0][..., :1].repeat(3, 2)).save(path)
    with readable_source(str(path)) as source:
        frames, seconds = TGDFERVideoProcessor().read_clip(source)
    assert seconds is not None and seconds.tolist() == [0.0]
    expected = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    assert np.abs(frames[0].permute(1, 2, 0).numpy() - expected).mean() < 3


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animated_images_keep_their_times(suffix: str, tmp_path: Path) -> None:
    first, *others = map(Image.fromarray, noise())
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=others, duration=[100, 250, 100, 100], lossless=True)
    with readable_source(str(path)) as source:
        frames, seconds = TGDFERVideoProcessor(num_frames=4).read_clip(source)
    assert seconds is not None and seconds.tolist() == pytest.approx([0, 0.1, 0.35, 0.45], abs=1e-3)
    if suffix == "webp":
        assert np.array_equal(frames.permute(0, 2, 3, 1).numpy(), noise())


def test_damaged_images(tmp_path: Path) -> None:
    first, *others = map(Image.fromarray, noise())
    path = tmp_path / "a.webp"
    first.save(path, save_all=True, append_images=others)
    data = path.read_bytes()
    for cut in (0, 40, len(data) // 2, len(data) - 30):
        path.write_bytes(data[:cut])
        with pytest.raises(VideoDecodeError, match="a.webp"), readable_source(str(path)) as source:
            TGDFERVideoProcessor(num_frames=4).read_clip(source)


def noise() -> np.ndarray:
    """Four pictures (4, 24, 32, 3), smooth so that JPEG keeps them."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, 3, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)


def test_files_and_addresses_are_given_as_they_are() -> None:
    for video in ("clip.mp4", "https://host/clip.mp4"):
        with readable_source(video) as source:
            assert source == video


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    (tmp_path / "private").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"The folder .*private cannot be read \(Permission denied\); check its per"):
        find_videos([str(tmp_path / "private")])
