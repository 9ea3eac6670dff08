"""The live page: tgdfer-tiny, frames of rendered examples of the Space, and the command in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[3] / "model_card" / "space" / "examples"


@pytest.fixture(scope="session")
def loaded() -> Any:
    """tgdfer-tiny and its processor."""
    from tgdfer.training.predict import PredictionOptions, load

    network, processor, _ = load("tgdfer-tiny", PredictionOptions())
    return network, processor


@pytest.fixture
def expressions(loaded) -> Any:
    """Expressions in the classes of tgdfer-tiny, without any frame."""
    from tgdfer.model_card.live.expressions import Expressions

    return Expressions(*loaded)


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """The frames (T, H, W, 3) of the example with two people, 20 a second."""
    from tgdfer.processing.video_reading_tgdfer import open_video, stream

    frames = stream(open_video(EXAMPLES / "two_people.mp4"), lambda seconds, total, duration: np.arange(total))
    return np.stack([frame.permute(1, 2, 0).numpy() for _, _, frame in frames])


@pytest.fixture(scope="session")
def still_faces(pictures) -> np.ndarray:
    """The faces (2, 15) in the first picture. The people hardly move."""
    from tgdfer.processing.detectors_tgdfer import find_faces, load_detector

    faces = find_faces(load_detector("mtcnn")[1], pictures[0])
    assert len(faces) == 2
    return faces


@pytest.fixture
def session(expressions, still_faces) -> Iterator[Any]:
    """A session whose detector finds both people in every frame of the example."""
    from tgdfer.model_card.live.following import FaceFollower
    from tgdfer.model_card.live.session import LiveSession

    one = LiveSession(expressions, FaceFollower("yunet", lambda picture: still_faces.copy(), clock=lambda: 0.0))
    yield one
    one.end("The test is over.")


class Command:
    """`tgdfer live` in a process of its own, and the address that it prints."""

    def __init__(self, *arguments: str):
        command = [sys.executable, "-m", "tgdfer", "live", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.url = next(line for line in self.process.stdout or () if "http://" in line).split()[-1]

    def end(self) -> tuple[int, str]:
        """Waits for the end, and returns the exit code and the last sentence."""
        code = self.process.wait(60)
        return code, self.process.stdout.read().strip().splitlines()[-1]


@pytest.fixture
def command() -> Iterator[Any]:
    started = []

    def start(*arguments: str) -> Command:
        started.append(Command(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.process.stdout.close()
