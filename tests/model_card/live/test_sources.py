"""Cameras and files in real time, without a camera and without waiting."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tgdfer.command_line import main
from tgdfer.model_card.live import sources
from tgdfer.processing.video_file_tgdfer import VideoDecodeError


class Camera:
    """A camera that gives some frames, and then none."""

    def __init__(self, frames: list[bool]):
        self.frames, self.released = frames, False

    def set(self, *_):
        return True

    def isOpened(self):
        return bool(self.frames)

    def read(self):
        is_there = self.frames.pop(0) if self.frames else False
        picture = np.zeros((4, 6, 3), np.uint8)
        picture[..., 0] = 200  # OpenCV gives blue first
        return is_there, picture if is_there else None

    def release(self):
        self.released = True


class Time:
    """A clock that runs only when somebody sleeps or works."""

    def __init__(self):
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    one = Time()
    monkeypatch.setattr(sources, "time", SimpleNamespace(time=one.time, sleep=one.sleep))
    return one


@pytest.fixture
def camera(monkeypatch):
    def connect(frames: list[bool]) -> Camera:
        one = Camera(frames)
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: one)
        return one

    return connect


def test_a_camera_gives_rgb_frames_until_it_disappears(camera, clock):
    connected = camera([True] * 4 + [False] * 3 + [True] * 2)
    found = [picture for _, picture in sources.open_camera(0)]
    # The first frame only shows that the camera works. Frames that fail once in a while do not end it.
    assert len(found) == 5 and found[0][0, 0].tolist() == [0, 0, 200]
    assert connected.released


@pytest.mark.parametrize("frames", [[], [False]])
def test_without_a_camera_there_is_one_sentence(camera, capsys, frames):
    connected = camera(frames)
    assert main(["live", "--camera", "3"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error: There is no camera 3 on this machine, or another program uses it; connect")
    assert connected.released


def test_a_file_is_played_in_real_time(clock, clip_writer, tmp_path):
    path = clip_writer(tmp_path / "clip.mp4", num_frames=25)
    moments = [moment for moment, _ in sources.open_file(path)]
    assert np.diff(moments) == pytest.approx(0.04, abs=1e-3) and len(moments) == 25


def test_frames_that_come_too_late_are_left_out(clock, clip_writer, tmp_path):
    path = clip_writer(tmp_path / "clip.mp4", num_frames=25)
    moments = []
    for moment, _ in sources.open_file(path):
        moments.append(moment)
        clock.now += 0.1  # whoever reads is slower than the file
    assert 9 <= len(moments) <= 12
    assert moments[-1] - moments[0] <= 1.2  # the file has 1 s


def test_the_clock_begins_when_frames_are_wanted(clock, clip_writer, tmp_path):
    frames = sources.open_file(clip_writer(tmp_path / "clip.mp4", num_frames=25))
    clock.now += 60  # nobody has opened the page yet
    moments = [moment for moment, _ in frames]
    assert np.diff(moments) == pytest.approx(0.04, abs=1e-3) and len(moments) == 25


def test_a_file_that_is_no_video_is_refused_at_once(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(VideoDecodeError, match=name):
            sources.open_file(tmp_path / name)


def test_only_one_source_can_be_given(capsys):
    assert main(["live", "--camera", "0", "--video", "clip.mp4"]) == 2
    assert "give only one of them" in " ".join(capsys.readouterr().err.split())
