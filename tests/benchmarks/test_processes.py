"""The benchmark of two processes: what it runs, what it keeps, and its report."""

import json

import pytest

from benchmarks import processes
from benchmarks.processes import Sizes, measure_all, report_sections


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Stand-ins for rendering and for the commands, which take as many seconds as there are options."""
    ran = []

    def run(command, env, **_):
        ran.append((command, env))
        folder = tmp_path / "work" / "2-3-4" / command[command.index("--output") + 1].rpartition("/")[2]
        folder.mkdir(parents=True)
        rows = [{"seconds": 1.5, "loss": 0.5}, {"seconds": 2.0, "loss": 0.25}]
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return processes.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(processes.subprocess, "run", run)
    monkeypatch.setattr(processes, "write_dataset", lambda folder, clips: folder.mkdir(parents=True))
    return ran


def test_both_numbers_of_processes_have_the_same_clips_in_an_update(commands, tmp_path):
    sizes = Sizes(clips=2, epochs=3, views=4)
    measured = measure_all(sizes, tmp_path / "work")
    assert len(commands) == 4
    for command, environment in commands:
        count = 2 if "torch.distributed.run" in command else 1
        assert int(command[command.index("--batch-size") + 1]) * count == processes.BATCH
        assert environment["OMP_NUM_THREADS"] == "1" and environment["ACCELERATE_USE_CPU"] == "true"
        assert environment["TGDFER_CACHE"].startswith(str(tmp_path)), "features that are cached are not measured"
    assert len({environment["TGDFER_CACHE"] for _, environment in commands}) == 4
    assert ["--frozen-features" in command for command, _ in commands] == [False, False, True, True]
    assert measured["training"]["2"]["training_seconds"] == 3.5 and measured["training"]["2"]["loss"] == 0.25
    assert measure_all(sizes, tmp_path / "work") == measured and len(commands) == 4, "finished parts are kept"


def test_report_by_hand():
    parts = {"1": {"seconds": 660.0, "training_seconds": 640.0, "loss": 1.0}}
    parts["2"] = {"seconds": 350.0, "training_seconds": 320.0, "loss": 1.0}
    short = {count: part | {"seconds": part["seconds"] / 2} for count, part in parts.items()}
    facts = {"machine": "two CPU cores", "commit": "abc", "versions": {"torch": "2"}}
    contents = {"command": "python -m benchmarks.processes", "provenance": facts}
    contents |= {"sizes": {"clips": 10, "epochs": 2, "views": 3}, "measured": {"training": parts, "features": short}}
    text = "\n".join(report_sections(contents))
    assert "| 660 | 350 | 1.89 |" in text and "| 640 | 320 | 2.00 |" in text
    assert "| 330 | 175 | 1.89 |" in text and "less than 10 minutes for features" in " ".join(text.split())
