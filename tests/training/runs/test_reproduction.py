"""`run.json`, and `tgdfer reproduce`, which repeats a run from it."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tgdfer.command_line import main
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json
from tgdfer.training.provenance import command, commit
from tgdfer.training.reproduce import recorded_config, reproduce
from tgdfer.training.runs.record import read_record
from tgdfer.training.runs.reproduction import compare_runs, is_reproduced
from tgdfer.training.train import train


@pytest.fixture(scope="module")
def run(clips_folder, clip_folder, descriptions_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    options = {"num_frames": 4, "epochs": 2, "frozen_features": True, "feature_views": 1, "output": str(folder)}
    options |= {"dataset": str(clips_folder), "model": str(clip_folder), "descriptions": str(descriptions_file)}
    return train(TrainingConfig.from_options(**options))


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, as its repetition would be."""
    return shutil.copytree(run, tmp_path / "copy")


def test_record_of_a_run(run):
    record, facts = read_record(run), read_json(run / "training.json")
    assert TrainingConfig.from_options(**record["configuration"]).run.output == str(run)
    assert len(record["data"]["fingerprint"]) == 64 and record["data"]["num_clips"] == facts["num_clips"] == 12
    (session,) = record["sessions"]
    assert session["versions"] == facts["versions"] and facts["hardware"].items() <= session["hardware"].items()
    assert (session["from_step"], session["to_step"]) == (0, 2) and session["started"] <= session["ended"]
    assert session["command"] == command() and session["commit"] == commit()
    assert record["seconds"] == facts["seconds"] > 0 and record["seed"] == 0


def test_each_start_is_a_session_and_other_versions_are_named(copy, caplog):
    record = read_record(copy)
    record["sessions"][0]["versions"]["torch"] = "1.0"
    (copy / "run.json").write_text(json.dumps(record))
    config = TrainingConfig.from_options(**record["configuration"]).with_options(output=str(copy), resume=True)
    train(config)
    assert [session["from_step"] for session in read_record(copy)["sessions"]] == [0, 2]
    assert "The run was started with torch 1.0: its results may differ" in caplog.text


def test_commits_of_the_hub_are_pinned(copy):
    record = read_record(copy)
    record["configuration"] |= {"dataset": "user/clips@main", "model": "user/model"}
    record |= {"base_model": {"name": "user/model", "revision": "1" * 40}}
    record["data"] |= {"name": "user/clips", "revision": "2" * 40}
    (copy / "run.json").write_text(json.dumps(record))
    config = recorded_config(copy)
    assert config.data.dataset == f"user/clips@{'2' * 40}" and config.model.source == f"user/model@{'1' * 40}"


@pytest.mark.slow
def test_repetition_is_identical_and_can_be_continued(run, tmp_path, capsys):
    again = tmp_path / "again"
    assert main(["reproduce", str(run), "--output", str(again)]) == 0
    printed = capsys.readouterr().out
    for name in ("clips", "versions", "training loss of 2 epochs", "UAR of 2 epochs", "weights of the best model"):
        assert any(line.startswith(name) and line.split()[-1] == "identical" for line in printed.splitlines()), printed
    shutil.rmtree(again / "last")
    assert is_reproduced(reproduce(run, again))


def test_differences_are_named_and_give_an_exit_code(run, copy, capsys, monkeypatch):
    weights = load_file(copy / "last" / "model.safetensors")
    weights["bias"][0] += 0.5
    save_file(weights, copy / "last" / "model.safetensors")
    rows = [json.loads(line) for line in (copy / "log.jsonl").read_text().splitlines()]
    rows[1]["loss"] += 0.25
    (copy / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = read_record(copy)
    record["sessions"][-1]["versions"]["torch"] = "1.0"
    record["data"]["fingerprint"] = "0"
    record["descriptions"]["sadness"] = ["a frown"]
    (copy / "run.json").write_text(json.dumps(record))
    differences = {one.name: one.difference for one in compare_runs(run, copy) if not one.is_identical}
    assert differences.pop("versions").endswith("now 1.0") and differences == {
        "clips": "other files, labels or votes",
        "descriptions": "other texts",
        "training loss of 2 epochs": "largest difference 0.25, in epoch 2",
        "weights of the last model": "largest difference 0.5",
    }
    monkeypatch.setattr("tgdfer.training.reproduce.train", lambda config: copy)
    assert main(["reproduce", str(run), "--output", str(copy)]) == 4
    assert "largest difference 0.5" in capsys.readouterr().out


def test_conditions_alone_do_not_count_as_differences(run, copy):
    record = read_record(copy)
    record["sessions"][-1]["commit"] = "another"
    (copy / "run.json").write_text(json.dumps(record))
    compared = compare_runs(run, copy)
    assert is_reproduced(compared) and not all(one.is_identical for one in compared)


def test_models_with_other_parameters(run, copy):
    weights = load_file(copy / "best" / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != "bias"}, copy / "best" / "model.safetensors")
    assert [one.difference for one in compare_runs(run, copy) if "best" in one.name] == ["other parameters"]
    (copy / "best" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="The weights in .*best cannot be read"):
        compare_runs(run, copy)


def test_what_cannot_be_reproduced_is_one_sentence(run, copy, tmp_path):
    with pytest.raises(UserError, match="There is no run in .*nothing"):
        reproduce(tmp_path / "nothing", tmp_path / "again")
    with pytest.raises(UserError, match="is the run itself: name another folder"):
        reproduce(run, run)
    shutil.rmtree(copy / "last")
    with pytest.raises(UserError, match="is not finished: continue it with --resume"):
        reproduce(copy, tmp_path / "again")
    (copy / "run.json").write_text("{}")
    with pytest.raises(UserError, match="run.json is not the record of a run"):
        reproduce(copy, tmp_path / "again")
    assert not (tmp_path / "again").exists()
