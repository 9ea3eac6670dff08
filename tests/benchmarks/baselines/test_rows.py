"""The rows of the baselines on small clips."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up_results import FAR

from benchmarks.baselines.report import ORDER
from benchmarks.baselines.rows import rows_of
from benchmarks.harness import trained_tgdfer
from benchmarks.harness.benchmark_dataset import real_dataset
from benchmarks.harness.comparison import CHANCE, RANDOM
from benchmarks.harness.results import read_results, runs_of
from benchmarks.harness.runner import row_key, run_rows


@pytest.mark.slow
def test_every_row_is_kept_with_what_it_rests_on(measured):
    datasets = read_results(measured, ORDER)
    assert [results.name for results in datasets] == ["rendered", "real"]
    for results in datasets:
        assert list(results.rows) == [name for name in ORDER if name != "tgdfer-lora"] and not results.unfinished
        for state in results.rows.values():
            assert state["complete"]
            for run in runs_of(state).values():
                assert run["command"] == "the command" and "core" in run["machine"]
                assert run["seconds"] >= 0 and set(run["versions"]) >= {"torch", "transformers"} and "commit" in run
                if run["predicted"] != CHANCE:
                    assert len(run["predicted"]) == len(results.truth.labels)
                    assert set(run["predicted"]) <= set(results.truth.classes)
                if run["scores"] != RANDOM:
                    assert [len(s) for s in run["scores"]] == [len(i) for i in results.truth.intensity]
    assert not list((measured / "scratch").glob("*")), "runs of the training loop are removed"


@pytest.mark.slow
def test_choices_are_kept_beside_the_figures(measured):
    rows = read_results(measured, ORDER)[1].rows
    assert set(rows["lora-top"]["parts"]) == {"precision", "rate 0.001", "rate 0.01", *(f"fold {i}" for i in range(5))}
    assert rows["lora-mean"]["parts"]["fold 3"]["chosen"]["rate"] in (1e-3, 1e-2)
    assert rows["frozen-top"]["parts"]["seed 0"]["chosen"]["epochs"] in (1, 2)
    assert rows["frozen-mean"]["parts"]["seed 0"]["chosen"]["C"] > 0
    audit = rows["position"]["parts"]["once"]["audit"]
    assert rows["position"]["figures"]["frame_ap"][0] == audit["middle"]["frame_ap"]
    assert set(audit) == {"first", "last", "middle", "edges"}


@pytest.mark.slow
def test_colours_that_tell_the_label_are_read(measured):
    """The clips of the folder are coloured at their apex: whoever is told the apex must find all labels."""
    rows = read_results(measured, ORDER)[1].rows
    assert rows["oracle"]["figures"]["uar"][0] == 1
    assert rows["random"]["figures"]["uar"][0] == pytest.approx(1 / 3)
    assert rows["frozen-mean"]["figures"]["frame_ap"][0] > rows["random"]["figures"]["frame_ap"][0]


@pytest.mark.slow
def test_truth_of_the_training_frames_is_read_by_the_oracle_alone(settings, clips_folder, tmp_path):
    """Nothing of the rows that train on frozen features changes when the intensity of train is another."""
    keys = {}
    for swapped in (False, True):
        dataset = real_dataset(settings, clips_folder)
        clips = dataset.train
        if swapped:
            other = [[1.0 - value for value in values] for values in clips.intensity]
            dataset.__dict__["train"] = replace(clips, intensity=other)
        by_name = {row.name: row for row in rows_of(dataset)}
        keys[swapped] = {
            name: by_name[name].run("seed 0", {}, tmp_path)["scores"]
            for name in ("frozen-mean", "frozen-top", "oracle")
        }
    assert keys[False]["frozen-mean"] == keys[True]["frozen-mean"]
    assert keys[False]["frozen-top"] == keys[True]["frozen-top"]
    assert keys[False]["oracle"] != keys[True]["oracle"]


def test_interrupted_training_goes_on_from_its_checkpoint(settings, clips_folder, tmp_path, monkeypatch):
    asked = []

    def interrupted(config):
        asked.append((config.run.resume, config.model.frozen_features, config.run.seed))
        folder = Path(config.run.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(trained_tgdfer, "train", interrupted)
    dataset = real_dataset(settings, clips_folder)
    tgdfer = next(row for row in rows_of(dataset) if row.name == "tgdfer")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_rows(dataset, [tgdfer], tmp_path, "", FAR)
    assert asked == [(False, True, 0), (True, True, 0)]


def test_what_decides_tgdfer_is_in_its_key(settings, clips_folder, monkeypatch):
    dataset = real_dataset(settings, clips_folder)

    def key():
        return row_key(dataset, next(row for row in rows_of(dataset) if row.name == "tgdfer"))

    first, usual = key(), type(dataset).config
    assert key() == first
    with monkeypatch.context() as patch:
        patch.setattr(trained_tgdfer, "source_hash", lambda package: "other code")
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setattr(type(dataset), "config", lambda *a, **o: usual(*a, **{"epochs": 1} | o))
        assert key() != first
