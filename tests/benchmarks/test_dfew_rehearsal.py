"""The rehearsal of DFEW: killing a command and continuing it, and what the report says about it."""

import pytest

from benchmarks.dfew_rehearsal import folds
from benchmarks.dfew_rehearsal.report import _training_sections
from benchmarks.dfew_rehearsal.steps import Steps
from tgdfer.training.errors import UserError
from tgdfer.training.provenance import commit

# A program in the place of `tgdfer`: `python -m tgdfer FILE TEXT` uses memory, writes a line, and waits or ends.
STAND_IN = """
import sys, time
block = bytearray(100_000_000)
with open(sys.argv[1], "a") as file:
    file.write("line\\n")
if sys.argv[2] == "wait":
    time.sleep(600)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "tgdfer.py").write_text(STAND_IN)
    monkeypatch.setattr(folds, "_PAUSE", 0.01)
    return {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""}


def test_a_command_is_killed_at_a_point_and_its_memory_is_known(stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    used = folds._run_until([str(log), "wait"], lambda: folds._epochs(log) > 0, stand_in)
    assert log.read_text() == "line\n"
    assert 1e8 < used["peak_bytes"] < 5e8 and 0 < used["cpu_seconds"] < used["seconds"] + 1
    used = folds._run_until([str(log), "0"], None, stand_in)
    assert folds._epochs(log) == 2


@pytest.mark.parametrize(
    ("end", "point", "sentence"), [("3", None, "failed"), ("0", lambda: False, "before it could")]
)
def test_a_command_that_does_not_end_as_it_should(end, point, sentence, stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        folds._run_until([str(tmp_path / "log"), end], point, stand_in)


def test_finished_steps_are_not_repeated(tmp_path):
    calls = []
    for _ in range(2):
        steps = Steps(tmp_path / "steps.json")
        result = steps.measure("first", lambda: calls.append(1) or {"seconds": 2.0})
        assert result == {"seconds": 2.0, "commit": commit()}
    assert calls == [1]


def test_the_report_adds_the_starts_and_shows_the_table():
    parts = [
        {"cpu_seconds": 10.0, "seconds": 20.0, "peak_bytes": 3 * 2**20, "killed_in": 2},
        {"cpu_seconds": 5.0, "seconds": 6.0, "peak_bytes": 9 * 2**20, "killed_in": None},
    ]
    sections = _training_sections({"parts": parts, "table": "dfew, last epoch:\n\n| fold | UAR |\n| --- | ---: |\n"})
    text = "\n".join(sections)
    assert "| killed in fold 2 | 10 | 20 | 3 |" in text and "| together | 15 | 26 | 9 |" in text
    assert sections[-1].startswith("| fold | UAR |") and sections[-2] == "dfew, last epoch:"
