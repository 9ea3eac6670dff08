"""The benchmark of killed and resumed trainings."""

import json

import pytest

from benchmarks.resume.measure import Outcome, Setting, measure, settings
from benchmarks.resume.report import write_resume_report


def test_there_are_twenty_kill_points_on_frozen_features():
    frozen, lora = settings()
    assert frozen.runs * frozen.kills == 20 and frozen.options["frozen_features"]
    assert lora.runs * lora.kills >= 3 and "frozen_features" not in lora.options


def test_report_counts_kills_and_runs(tmp_path):
    setting = Setting("frozen features", {"checkpoint_every": "3"}, runs=2, kills=2)
    outcome = Outcome(21, [5, 17, 3, 12], [2, 0, 1, 2], 1, [True, False], [True, True])
    out, figures = tmp_path / "resume.md", tmp_path / "resume.json"
    write_resume_report({setting.title: (setting, outcome)}, "python -m benchmarks.resume", out, figures)
    text = out.read_text()
    assert "| frozen features | 21 | 3 steps | 2 | 4 | 1 | 2 | 1 of 2 | 2 of 2 |" in text
    assert "- frozen features: 3, 5, 12, 17" in text
    assert json.loads(figures.read_text())["settings"]["frozen features"]["identical"] == [True, False]


@pytest.mark.slow
def test_a_killed_run_ends_as_the_whole_one(clips_folder, clip_folder, descriptions_file, tmp_path):
    (tmp_path / "clips").symlink_to(clips_folder)
    options = {"model": str(clip_folder), "descriptions": str(descriptions_file), "num_frames": 4, "batch_size": 2}
    options |= {"frozen_features": True, "epochs": 2, "log_every": 1, "checkpoint_every": "2"}
    outcome = measure(Setting("frozen features", options, runs=1, kills=1), tmp_path)
    assert outcome.steps == 12 and outcome.identical == outcome.same_rows == [True]
    (step,) = outcome.killed_after
    assert 0 < step <= 12
