"""Rows that are stopped, gone on with and run again, and how their results are read."""

import json
from dataclasses import replace

import pytest
from made_up_results import FAR, FakeDataset, row

from benchmarks.harness import runner
from benchmarks.harness.results import read_results
from benchmarks.harness.runner import row_key, run_datasets, run_rows
from tgdfer.training.errors import UserError


def test_finished_parts_are_not_run_again(tmp_path):
    ran: list[str] = []
    assert run_rows(FakeDataset(), [row(ran)], tmp_path, "", FAR)
    assert run_rows(FakeDataset(), [row(ran)], tmp_path, "", FAR)
    assert ran == ["seed 0", "seed 1"]


@pytest.mark.parametrize(
    ("dataset", "config"),
    [({"identity": "others"}, {}), ({}, {"rate": 1})],
    ids=["dataset", "config"],
)
def test_row_is_run_again_when_what_decides_it_has_changed(tmp_path, dataset, config):
    ran: list[str] = []
    run_rows(FakeDataset(), [row(ran)], tmp_path, "", FAR)
    run_rows(FakeDataset(**dataset), [row(ran, **config)], tmp_path, "", FAR)
    assert ran == ["seed 0", "seed 1"] * 2
    assert row_key(FakeDataset(), row([])) != row_key(FakeDataset(**dataset), row([], **config))


def test_interrupted_run_goes_on_and_leaves_no_half_written_file(tmp_path):
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_rows(FakeDataset(), [row(ran, fails_at="seed 1")], tmp_path, "", FAR)
    folder = tmp_path / "results" / "fake"
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "row.json"]
    half = json.loads((folder / "row.json").read_text())
    assert list(half["parts"]) == ["seed 0"] and not half["complete"]
    assert run_rows(FakeDataset(), [row(ran)], tmp_path, "", FAR)
    whole = json.loads((folder / "row.json").read_text())
    assert ran == ["seed 0", "seed 1"] and whole["complete"]
    assert whole["parts"]["seed 1"]["before"] == 1, "a part is given what the earlier ones found"


def test_interrupted_write_leaves_the_file_before_it(tmp_path, monkeypatch):
    run_rows(FakeDataset(), [row([], parts=("seed 0",))], tmp_path, "", FAR)
    path = tmp_path / "results" / "fake" / "row.json"
    before = path.read_text()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            run_rows(FakeDataset(), [row([], parts=("seed 0",), rate=2)], tmp_path, "", FAR)
    assert path.read_text() == before


def test_no_part_is_begun_after_the_end(tmp_path, monkeypatch):
    ran: list[str] = []
    now = iter([0.0, 2.0])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(now))
    assert not run_rows(FakeDataset(), [row(ran)], tmp_path, "", end=1.0)
    assert ran == ["seed 0"]


def test_rows_can_be_named_and_unknown_ones_are_refused(tmp_path):
    ran: list[str] = []
    rows = [row(ran, "one", ("seed 0",)), row(ran, "two", ("seed 1",)), replace(row(ran, "three"), by_default=False)]
    run_rows(FakeDataset(), rows, tmp_path, "", FAR, only=["two"])
    assert ran == ["seed 1"]
    run_rows(FakeDataset(), rows, tmp_path, "", FAR)
    assert ran == ["seed 1", "seed 0"]
    with pytest.raises(UserError, match="no row 'tow'; did you mean 'two'"):
        run_rows(FakeDataset(), rows, tmp_path, "", FAR, only=["tow"])


def test_a_row_need_not_exist_on_all_data_sets(tmp_path):
    ran: list[str] = []
    first, second = FakeDataset(name="first"), FakeDataset(name="second")
    planned = [(first, [row(ran, "one")]), (second, [row(ran, "one"), row(ran, "two")])]
    assert run_datasets(planned, tmp_path, "", FAR, ["two"])
    assert ran == ["seed 0", "seed 1"] and not (tmp_path / "results" / "first").exists()
    assert run_datasets(planned, tmp_path, "", FAR)
    assert len(ran) == 6
    with pytest.raises(UserError, match="There is no row 'tow'; did you mean 'two'"):
        run_datasets(planned, tmp_path, "", FAR, ["tow"])
    assert not run_datasets([(FakeDataset(name="third"), [row(ran)]), *planned], tmp_path, "", end=1.0)


def test_damaged_results_are_named(tmp_path):
    run_rows(FakeDataset(), [row([])], tmp_path, "", FAR)
    path = tmp_path / "results" / "fake" / "row.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="row.json cannot be read .*remove it"):
        run_rows(FakeDataset(), [row([])], tmp_path, "", FAR)


def test_rows_of_another_dataset_are_left_out(tmp_path):
    run_rows(FakeDataset(), [row([], "frozen-mean"), row([], "tgdfer")], tmp_path, "", FAR)
    run_rows(FakeDataset(identity="other"), [row([], "tgdfer")], tmp_path, "", FAR)
    assert list(read_results(tmp_path)[0].rows) == ["tgdfer"]
