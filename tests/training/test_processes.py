"""Several processes on a CPU, as `torchrun` and `accelerate launch` start them: none waits, and none does it twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import process_scripts
import pytest
import torch
from launching import ACCELERATE, TORCHRUN, run, run_two
from safetensors.torch import load_file

from tgdfer.console import is_first_to_print
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.features import Views, frame_features
from tgdfer.training.files import read_yaml
from tgdfer.training.models import start_model
from tgdfer.training.processes import batch_rounds, gather_batches, own_batches, true_in_any_process
from tgdfer.training.runs.checkpoints import checkpoint_folders, read_progress
from tgdfer.training.runs.step_log import read_steps
from tgdfer.training.train import train

# What random numbers and other clips of a batch decide is switched off, so that two processes learn as one does.
STEADY = {"instance_dropout": 0, "feature_dropout": 0, "long_range_dropout": 0, "alignment_weight": 0}


def two_processes(server, name, options, folder):
    """What each of two processes has found."""
    (folder / "options.json").write_text(json.dumps(options))
    run_two(server, process_scripts.__file__, name, folder)
    found = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [one["processes"] for one in found] == [2, 2]
    assert found[0]["seed"] + 1 == found[1]["seed"], "each process drops other features"
    return found


def rows(folder):
    return [
        json.loads(line) | {"seconds": 0, "waiting": 0} for line in (folder / "log.jsonl").read_text().splitlines()
    ]


@pytest.mark.slow
def test_frozen_features_training_and_evaluation_equal_those_of_one_process(
    options, tmp_path, monkeypatch, forked_python
):
    steady = {"frozen_features": True, "feature_views": 1, "model_options": STEADY, "batch_size": 2, "new_lr": 1e-2}
    options |= steady
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "two"))
    first, second = two_processes(forked_python, "features", options, tmp_path)
    assert first["metrics"] == second["metrics"] and first["few"] == second["few"]
    assert not list(tmp_path.rglob("*.tmp"))

    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "one"))
    config = TrainingConfig.from_options(**options)
    clips = load_clips(config.data.dataset, "test")
    model, processor = start_model(config.model, ["happiness", "neutral", "sadness"])
    seen = frame_features(model, processor.video_processor, clips, Views(2, batch_size=4))
    for rank in range(2):
        theirs = load_file(tmp_path / f"rank-{rank}.safetensors")
        assert theirs["frame_mask"].dtype == torch.bool and len(theirs["features"][0]) == 15
        assert all(torch.equal(theirs[name], value) for name, value in vars(seen).items())
    names = [sorted(path.name for path in (tmp_path / cache).rglob("*.safetensors")) for cache in ("one", "two")]
    assert set(names[0]) <= set(names[1]), "both find the features of the other"

    again = evaluate_model(tmp_path / "run", EvaluationData(), output=tmp_path / "one_by_one", batch_size=4)
    baseline = first["metrics"].pop("baseline")
    assert baseline["war"] >= 0 and first["metrics"] | {"command": ""} == again | {"command": ""}
    tables = [(tmp_path / folder / "predictions.csv").read_text() for folder in ("evaluated", "few", "one_by_one")]
    assert tables[0] == tables[2] and len(tables[1].splitlines()) == 1 + 15

    # A step of two processes with two clips each is one of four clips.
    alone = train(config.with_options(batch_size=4, output=str(tmp_path / "alone")))
    for ours, theirs in zip(rows(alone), rows(tmp_path / "run"), strict=True):
        assert ours.pop("lr") == pytest.approx(theirs.pop("lr"))
        assert ours == pytest.approx(theirs, abs=1e-4)
    calibrations = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("alone", "run")]
    assert calibrations[0]["calibration"] == pytest.approx(calibrations[1]["calibration"], abs=1e-3)


@pytest.mark.slow
def test_lora_trains_and_resumes_as_if_never_interrupted(options, tmp_path, forked_python):
    options |= {"epochs": 2, "new_lr": 5e-3, "batch_size": 5, "checkpoint_every": "1", "log_every": 1}
    found = two_processes(forked_python, "lora", options, tmp_path)
    assert all(one["interrupted"] for one in found)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole") and len(rows(tmp_path / "run")) == 2
    for name in ("best", "last"):
        ours, theirs = (load_file(tmp_path / run / name / "model.safetensors") for run in ("run", "whole"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    steps = [[row["loss"] for row in read_steps(tmp_path / run / "steps.jsonl")] for run in ("run", "whole")]
    assert steps[0] == steps[1] and len(steps[0]) == 4
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    assert facts["calibration"]["num_clips"] == 3 and not list((tmp_path / "run").glob("**/.*"))


@pytest.mark.slow
def test_accelerate_launch_says_the_precision_and_each_sentence_comes_once(options, tmp_path):
    options |= {"epochs": 1, "frozen_features": True, "feature_views": 1}
    folder = Path(options["output"])
    (tmp_path / "options.yaml").write_text(json.dumps(options))
    command = [*ACCELERATE, "-m", "tgdfer"]
    out = run(*command, "train", "--config", tmp_path / "options.yaml", ACCELERATE_USE_CPU="true")
    assert read_yaml(folder / "config.yaml")["mixed_precision"] == "bf16"
    assert out.count("The model is in") == out.count("Calibrated on") == out.count("val. loss") == 1
    out = run(*command, "evaluate", folder, ACCELERATE_USE_CPU="true")
    assert out.count("UAR") == 1 and json.loads((folder / "metrics.json").read_text())["num_clips"] == 15


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_clip_that_breaks_in_one_process_ends_the_run_with_its_sentence(frozen, options, tmp_path):
    """The other processes do not wait for the one that is gone, and print no traceback of their connection."""
    options |= {"batch_size": 2, "frozen_features": frozen, "feature_views": 1}
    (tmp_path / "options.yaml").write_text(json.dumps(options))
    environment = {"TGDFER_CACHE": str(tmp_path / "cache")}
    command = [process_scripts.__file__, "broken", "train", "--config", tmp_path / "options.yaml"]
    _, complaints = run(*TORCHRUN, *command, seconds=90, fails=True, **environment)
    assert complaints.count("error: b.mp4 is not a video; download it again.") == 1
    assert "[rank0]" not in complaints and "Connection closed" not in complaints
    assert not list((tmp_path / "run").rglob(".*"))


@pytest.mark.slow
def test_evaluate_ends_where_a_clip_breaks_in_one_process(options):
    folder = train(TrainingConfig.from_options(**options | {"epochs": 1, "frozen_features": True, "feature_views": 1}))
    command = [process_scripts.__file__, "broken", "evaluate", folder, "--batch-size", "2"]
    _, complaints = run(*TORCHRUN, *command, seconds=90, fails=True)
    assert complaints.count("error: b.mp4 is not a video; download it again.") == 1
    assert "[rank0]" not in complaints and not (folder / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_a_mistake_that_all_processes_find_is_told_once(launcher, tmp_path):
    command = ["-m", "tgdfer", "train", "--dataset", tmp_path / "none", "--output", tmp_path / "run"]
    launched = TORCHRUN if launcher == "torchrun" else ACCELERATE
    _, complaints = run(*launched, *command, seconds=90, fails=True, ACCELERATE_USE_CPU="true")
    assert complaints.count("error: Cannot read the data set") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_of_the_launcher_is_told_once(number, options, tmp_path):
    (tmp_path / "options.yaml").write_text(json.dumps(options | {"epochs": 500, "batch_size": 2, "log_every": 1}))
    command = [sys.executable, *TORCHRUN, "-m", "tgdfer", "train", "--config", str(tmp_path / "options.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            deadline, log = time.monotonic() + 120, tmp_path / "run" / "log.jsonl"
            while not log.is_file() and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert out.count("of 500 epochs are kept in") == 1, err[-3000:]
    assert "[rank" not in err and not list((tmp_path / "run").rglob(".*"))
    progress = read_progress(checkpoint_folders(tmp_path / "run")[-1])
    assert progress.processes == 2 and len(progress.loop["averages"]["sums"]) == 2
    if number == signal.SIGTERM:  # Both processes agree on the step after which they save.
        rows = read_steps(tmp_path / "run" / "steps.jsonl")
        assert progress.step == rows[-1]["step"] and len(progress.history) == progress.step // 3


def test_without_the_store_of_a_launcher_each_process_says_it(monkeypatch):
    assert is_first_to_print("once") and is_first_to_print("once"), "one process alone"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_to_print("once")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    assert [is_first_to_print(sentence) for sentence in ("once", "once", "another")] == [True, False, True]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert is_first_to_print("once"), "the launcher has started the processes again"


class _State:
    def __init__(self, index, count):
        self.process_index, self.num_processes = index, count


@pytest.mark.parametrize("count", [0, 1, 7, 15, 16])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batches_are_dealt_out_once_and_come_back_in_order(count, processes, monkeypatch):
    shares = []
    for index in range(processes):
        monkeypatch.setattr("tgdfer.training.processes.process_state", lambda i=index: _State(i, processes))
        shares.append(own_batches(count, 4))
        # In a round each process has at most one batch, and it is its own.
        assert [turn[index] for turn in batch_rounds(count, 4) if index < len(turn)] == shares[-1]
    monkeypatch.setattr("tgdfer.training.processes.gather_object", lambda own: shares)
    gathered = gather_batches(shares[0])
    assert [place for batch in gathered for place in batch] == list(range(count))
    assert all(len(batch) == 4 for batch in gathered[:-1])


def test_one_process_agrees_with_itself():
    assert true_in_any_process(True, False) == [True, False]


@pytest.mark.slow
def test_precision_is_that_of_the_launcher_where_none_is_named(options, monkeypatch, caplog):
    config = TrainingConfig.from_options(**options | {"epochs": 1, "frozen_features": True, "feature_views": 1})
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    folder = train(config)
    assert read_yaml(folder / "config.yaml")["mixed_precision"] == "bf16" and not caplog.text
    # It is kept with the run, which goes on with it.
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    with pytest.raises(UserError, match="mixed_precision is 'no', but the run in .* has 'bf16'"):
        train(config.with_options(resume=True))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    train(config.with_options(resume=True))
    assert not caplog.text
    train(config.with_options(mixed_precision="no", output=f"{folder}-2"))
    assert read_yaml(f"{folder}-2/config.yaml")["mixed_precision"] == "no"
    assert "accelerate launch says mixed_precision 'bf16', but this run has 'no'." in caplog.text


def test_precision_that_no_run_can_have_is_named(options, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    if not torch.accelerator.is_available():
        with pytest.raises(UserError, match="mixed_precision is 'fp16', but there is no GPU: choose bf16 or no."):
            train(TrainingConfig.from_options(**options))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp12")
    with pytest.raises(UserError, match="mixed_precision is 'fp12', but"):
        train(TrainingConfig.from_options(**options))
    assert not Path(options["output"]).exists()
