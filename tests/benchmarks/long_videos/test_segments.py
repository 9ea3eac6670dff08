"""Thresholds that are chosen on made-up videos, the interval of the difference, and the report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.long_videos import __main__ as command
from benchmarks.long_videos import report
from benchmarks.long_videos.segments import (
    ARGMAX,
    DEFAULT_RULE,
    HYSTERESIS,
    LongVideo,
    SegmentResults,
    difference,
    select_thresholds,
)
from tgdfer.processing.segments_tgdfer import find_segments

SECONDS = [0.1 * frame for frame in range(100)]
TRUE = {"label": "fear", "start": 2.0, "end": 5.0}


def video(inside: float, outside: float) -> LongVideo:
    """Fear with one probability inside of its segment, and with another outside."""
    fear = [inside if TRUE["start"] <= second <= TRUE["end"] else outside for second in SECONDS]
    scores = {"fear": fear, "neutral": [1 - value for value in fear]}
    return LongVideo(Path("a.mp4"), {"people": [{"frame_scores": scores, "timestamps": SECONDS}]}, [TRUE])


def test_thresholds_that_separate_the_segment_are_chosen():
    rule, tried = select_thresholds([video(0.45, 0.3), video(0.5, 0.3)])
    assert 0.3 < rule.low <= rule.high <= 0.45 + 1e-9
    assert tried == 3 * 17 * 18 / 2, "the low threshold is never above the high one"
    strictest = select_thresholds([video(0.9, 0.1)])[0]
    assert strictest.high == pytest.approx(0.9) and strictest.low == pytest.approx(0.9)


def test_difference_is_over_videos_and_paired():
    found = find_segments(*[video(0.9, 0.1).timeline[name] for name in ("frame_scores", "timestamps")])
    truths = [[TRUE]] * 6
    assert difference([found] * 6, [found] * 6, truths, draws=20) == [0.0, 0.0, 0.0]
    value, low, high = difference([found] * 6, [[]] * 6, truths, draws=20)
    assert value == low == high == pytest.approx(1.0)


@pytest.mark.parametrize("other_rule", [False, True])
def test_command_writes_report_and_figures_apart(other_rule, tmp_path, monkeypatch):
    default = {"high": 0.5, "low": 0.3, "shortest": 0.3}
    means = {"map_30": 0.7, "map_50": 0.6, "map_70": 0.4, "map": 0.5666}
    figures = {
        "videos": {"seconds": 12.0, "train": 1, "test": 2, "seed": 1},
        "segments": 7,
        "rule": default | {"high": 0.6} if other_rule else default,
        "default_rule": default,
        "tried": 459,
        "train": {"map": 0.5},
        "test": {HYSTERESIS: means, DEFAULT_RULE: means, ARGMAX: means},
        "found": {HYSTERESIS: 8, DEFAULT_RULE: 9, ARGMAX: 20},
        "difference": [0.026, -0.009, 0.051],
    }
    monkeypatch.setattr(command, "measure_segments", lambda *a: SegmentResults(figures, video(0.9, 0.1), []))
    monkeypatch.setattr(report, "_draw", lambda one, segments, path: path.write_bytes(b"picture"))
    out, facts = tmp_path / "docs" / "long.md", tmp_path / "figures" / "long.json"
    arguments = ["--out", str(out), "--figures", str(facts), "--seconds", "12", "--train", "1", "--test", "2"]
    answer = CliRunner().invoke(command.app, [*arguments, "--work", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    text, published = out.read_text(), "python -m benchmarks.long_videos --seconds 12 --train 1 --test 2"
    assert "| hysteresis | 8 | 70.0 | 60.0 | 40.0 | 56.7 |" in text and f"`{published}`" in text
    assert ("thresholds of `Hysteresis()` | 9" in text) == other_rule
    assert "](long.png)" in text and (out.parent / "long.png").is_file()
    assert json.loads(facts.read_text()) == {"command": published, **figures}
