"""Small data sets of white squares, and a detector that takes them for faces."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.faces_tgdfer import TEMPLATE, FaceSettings

SETTINGS = FaceSettings(detector="yunet", size=48)
LANDMARKS = (TEMPLATE - 20) / 72


def squares(picture):
    """A detector of bright squares on black."""
    bright = picture.mean(-1) > 100
    if not bright.any():
        return np.zeros((0, 15))
    y, x = np.nonzero(bright)
    corner, sides = np.array([x.min(), y.min()]), np.array([np.ptp(x) + 1, np.ptp(y) + 1])
    return np.array([[*corner, *sides, *(LANDMARKS * sides + corner).ravel(), 0.9]])


@pytest.fixture(autouse=True)
def _squares_are_faces(monkeypatch):
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda name, model: squares)


def write(path: Path, shown, width=160, height=120, side=40) -> Path:
    """A video that shows a white square in the frames in which it is `shown`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=width, height=height, pix_fmt="yuv420p")
        for is_there in shown:
            picture = np.zeros((height, width, 3), np.uint8)
            if is_there:
                picture[8 : 8 + side, 8 : 8 + side] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clips(tmp_path) -> Path:
    """A data set of two labels: a clip with a face, one that lacks it in the middle of its end, and one without."""
    folder = tmp_path / "clips"
    write(folder / "train" / "joy" / "a.mp4", [True] * 6)
    write(folder / "train" / "joy" / "b.avi", [True] * 4 + [False] * 3)
    write(folder / "train" / "fear" / "c.mp4", [False] * 5)
    rows = [
        {"file_name": "joy/a.mp4", "label": "joy", "intensity": [0, 0.2, 0.4, 0.6, 0.8, 1], "segments": [1, 2]},
        {"file_name": "joy/b.avi", "label": "joy", "intensity": [0, 1, 2, 3, 4, 5, 6], "units": {"AU12": [*range(7)]}},
        {"file_name": "fear/c.mp4", "label": "fear", "intensity": [0, 0, 0]},
        {"file_name": "fear/gone.mp4", "label": "fear"},
    ]
    (folder / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
