"""The benchmark of predictions: its timers, its recordings, its processes and its report."""

import json
import sys
import time
from pathlib import Path

import av
import pytest
from small_clips import write_clip

from benchmarks.long_videos.memory import repeat
from benchmarks.prediction import runs as module
from benchmarks.prediction.children import ResourceUsage, measure_command
from benchmarks.prediction.fer_whole import FullFerEnvironment
from benchmarks.prediction.parts import PARTS, Timers
from benchmarks.prediction.report import figures_of, write_prediction_report
from benchmarks.prediction.runs import Runs, prepare
from tgdfer.training.errors import UserError


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


class Worker:
    """Reads, and looks at what it has read."""

    def read(self):
        for number in range(2):
            work(0.04)
            yield number

    def look(self):
        return [work(0.02) or number for number in self.read()]


def test_time_counts_for_the_innermost_part_alone(monkeypatch):
    timers = Timers()
    monkeypatch.setattr(Worker, "read", Worker.read)
    monkeypatch.setattr(Worker, "look", Worker.look)
    timers.wrap_generator(Worker, "read", "decoding")
    timers.wrap(Worker, "look", "faces")
    assert Worker().look() == [0, 1]
    assert timers.spent["decoding"] == pytest.approx(0.08, abs=0.03)
    assert timers.spent["faces"] == pytest.approx(0.04, abs=0.03)
    assert timers.running == ["rest"] and [*timers.spent] == [*PARTS]


def test_a_repeated_recording_has_its_frames_again_and_again_at_an_even_pace(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", num_frames=8)
    repeat(clip, 3, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(24)])


def test_a_recording_is_repeated_until_it_is_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGER", 0.5)
    clip = write_clip(tmp_path / "a.mp4", num_frames=8)
    found = prepare(clip, tmp_path)
    assert found.seconds == pytest.approx((0.32, 0.96)) and found.fps == 25 and found.size == (32, 32)
    with av.open(str(found.long)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_a_process_is_measured_with_its_own_and_its_processes_time():
    code = "import os; assert os.environ['OMP_NUM_THREADS'] == '2'; kept = bytearray(10**8); sum(range(10**6))"
    one = measure_command([sys.executable, "-c", code], 2)
    assert 0 < one.cpu < 60 and one.wall > 0 and 100 < one.peak < 400
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {'sum(range(10**8))'!r}])"
    assert measure_command([sys.executable, "-c", child], 1).cpu > one.cpu
    with pytest.raises(UserError, match=r"failed with exit code 1 \(ValueError: no\)"):
        measure_command([sys.executable, "-c", "raise ValueError('no')"], 1)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs of made-up cost: a start of 1 and, of a second of video, 0.1 of ours and 1.0 of `fer`."""
    monkeypatch.setattr(module, "LONGER", 0.5)
    recording = prepare(write_clip(tmp_path / "a.mp4", num_frames=8), tmp_path)
    seen = []

    def fake(command, threads, extra=None):
        seen.append(command)
        line = " ".join(command)
        length = recording.seconds[1] if recording.long.name in line else recording.seconds[0]
        if "parts" in line:
            Path(command[3]).write_text(json.dumps(dict.fromkeys(PARTS, 0.5)))
        slope = 1.0 if "fer_video" in line else 0.1
        cpu = 0.5 if "-c" in command else 1 + slope * length + 0.2 * ("--annotate" in line)
        return ResourceUsage(cpu, 2 * cpu, 900.0 if "-c" in command else 1000.0)

    monkeypatch.setattr(module, "measure_command", fake)
    found = Runs(tmp_path, FullFerEnvironment(tmp_path / "fer"), tmp_path / "yunet.onnx")
    found.compare([recording], 2)
    found.measure_other_commands([recording], 1)
    return found, recording, seen


def test_start_and_slope_are_told_apart_and_runs_are_kept(measured, tmp_path):
    found, recording, seen = measured
    row = figures_of(found, [recording])["recordings"]["a.mp4"]["tools"]["yunet"][1]
    assert row["start"] == pytest.approx(1.0) and row["per_second"] == pytest.approx(0.1)
    assert row["above_floor"] == pytest.approx(0.5 + 0.032) and row["memory_above_floor"] == 100
    count = len(seen)
    again = Runs(tmp_path, FullFerEnvironment(tmp_path / "fer"), tmp_path / "yunet.onnx")
    again.compare([recording], 2)
    assert len(seen) == count, "what is done is not run again"
    again.compare([recording], 3)
    assert len(seen) == count + 2 * (1 + 2 * 4)


def test_the_report_names_ratios_and_has_a_chart(measured, tmp_path):
    found, recording, _ = measured
    out, figures = tmp_path / "out.md", tmp_path / "out.json"
    write_prediction_report(found, [recording], "python -m benchmarks.prediction", out, figures)
    text = out.read_text()
    assert "| `tgdfer predict`, YuNet | 1 | 1.03 | 1.00 | 0.10 | 0.10 | 1000 MB |" in text
    assert "0.53 CPU seconds and 100 MB (yunet)" in text and str(tmp_path) not in text
    assert (tmp_path / "out.png").is_file()
    assert json.loads(figures.read_text())["recordings"]["a.mp4"]["tools"]["fer"]["1"]["per_second"] == pytest.approx(
        1
    )
