"""The figures and the report of the live page, without a browser."""

import json
from pathlib import Path

import pytest

from benchmarks.live.measure import figures_of, memory_figures
from benchmarks.live.report import report
from benchmarks.live.watching import write_camera

VERSIONS = {"tgdfer": "0.1.0", "torch": "2.14.1"}
WHERE = {"machine": "two CPU cores", "commit": "1234567890", "versions": VERSIONS}


def test_frames_and_latencies_become_figures():
    # 20 frames in each of two seconds, 10 in the third, and a last second that is not whole.
    frames = [
        [5 + second + number / count, 0.05] for second, count in enumerate((20, 20, 10)) for number in range(count)
    ]
    answers = [[5 + number / 8, 0.1 + 0.01 * (number % 20)] for number in range(25)]
    found = figures_of({"frames": [*frames, [8.0, 0.05]], "answers": answers})
    assert found["shown_fps"] == pytest.approx(50 / 3)
    assert found["slow_seconds"] == pytest.approx(1 / 3)
    assert found["answers_per_second"] == pytest.approx(8)
    assert found["median"] == pytest.approx(0.17) and found["p95"] == pytest.approx(0.28, abs=0.01)


def test_growth_of_memory_is_found_and_a_short_peak_is_not_growth():
    seconds = range(0, 1810, 10)
    steady = memory_figures([(second, 900_000_000 + (50_000_000 if second == 600 else 0)) for second in seconds])
    assert steady["per_hour"] == 0 and steady["peak"] == 950_000_000 and steady["minutes"] == 30
    growing = memory_figures([(second, 900_000_000 + 10_000 * second) for second in seconds])
    assert growing["per_hour"] == pytest.approx(36_000_000, rel=0.01)


def row(**changes):
    return {
        "video": "face.mp4",
        "fps": 25.0,
        "source": "file",
        "detector": "yunet",
        "shown_fps": 24.8,
        "slow_seconds": 0.0,
        "answers_per_second": 7.9,
        "median": 0.12,
        "p95": 0.21,
        "cpu_share": 0.7,
        "load": 1.5,
        "exit_code": 0,
        "closing_seconds": 3.2,
        "sentence": "The page was closed.",
        **changes,
    }


def test_the_report_counts_the_rows_that_reach_the_targets():
    rows = [row(), row(detector="mtcnn", shown_fps=14.0, p95=1.2)]
    text = " ".join(
        report({"pace": {"rows": rows, "seconds": 30, "command": "python -m benchmarks.live", **WHERE}}).split()
    )
    assert "(1 of 2 rows reach it)" in text and "below 1 s (1 of 2)" in text
    assert "after 3.2 s, with exit code 0 and the sentence “The page was closed.”" in text
    assert "| `face.mp4`, file, yunet | 25 | 24.8 | 0% | 7.9 | 0.12 s | 0.21 s | 0.70 | 1.5 |" in text


def test_the_report_has_each_part_that_was_measured():
    memory = {"peak": 1e9, "settled": 9e8, "end": 9.1e8, "per_hour": 2e7, "minutes": 30.0, "changes": 29}
    memory |= {"video": "face.mp4", "command": "python -m benchmarks.live memory", **WHERE}
    text = report({"memory": memory})
    assert "## Memory" in text and "## Speed" not in text
    assert "| growth per hour | +20.0 |" in text


def test_the_published_report_has_the_published_figures():
    folder = Path(__file__).parents[3]
    figures = json.loads((folder / "benchmarks" / "results" / "live.json").read_text(encoding="utf-8"))
    assert (folder / "docs" / "results" / "live.md").read_text(encoding="utf-8") == report(figures)


def test_the_camera_of_chromium_gets_uncompressed_frames(clip_writer, tmp_path):
    path = write_camera(clip_writer(tmp_path / "clip.mp4", num_frames=5), tmp_path / "camera.y4m")
    content = path.read_bytes()
    assert content.startswith(b"YUV4MPEG2 W") and content.count(b"FRAME\n") == 5
