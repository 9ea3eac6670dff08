"""Runs that are stopped within an epoch end as if they had never been interrupted."""

import hashlib
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tgdfer.training import models
from tgdfer.training import train as training
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.soft_labels import SoftLabels
from tgdfer.training.data.splits import Part
from tgdfer.training.errors import UserError
from tgdfer.training.interruption import Terminated
from tgdfer.training.runs import checkpoints
from tgdfer.training.runs.checkpoints import checkpoint_folders, read_progress, remove_leftovers
from tgdfer.training.runs.run_folder import hash_clips
from tgdfer.training.runs.step_log import STEPS, read_steps
from tgdfer.training.train import train

TIMES = ("seconds", "waiting", "clips_per_second", "memory_gb")


def rows(run: Path, name: str = "log.jsonl") -> list[dict]:
    """The rows of a log without times, which no two runs share."""
    lines = (run / name).read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def assert_identical(run: Path, whole: Path) -> None:
    assert rows(run) == rows(whole)
    assert rows(run, STEPS) == rows(whole, STEPS)
    for name in ("best", "last"):
        ours, theirs = (load_file(folder / name / "model.safetensors") for folder in (run, whole))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not [path for path in run.rglob(".*")]


def stop_after(step: int, monkeypatch, error=KeyboardInterrupt):
    """Has the next training stop when an update is done."""
    after_update = training._Run._after_update

    def after_update_or_stop(self):
        after_update(self)
        if self.loop.step == step:
            raise error

    monkeypatch.setattr(training._Run, "_after_update", after_update_or_stop)


@pytest.fixture(scope="module")
def quick(clips_folder, clip_folder, descriptions_file, tmp_path_factory) -> TrainingConfig:
    """A run of two epochs with six updates each, which logs every fourth one."""
    return TrainingConfig.from_options(
        dataset=str(clips_folder),
        model=str(clip_folder),
        descriptions=str(descriptions_file),
        output=str(tmp_path_factory.mktemp("quick") / "whole"),
        num_frames=4,
        batch_size=2,
        epochs=2,
        new_lr=5e-3,
        log_every=4,
        checkpoint_every="3",
        frozen_features=True,
        feature_views=2,
    )


@pytest.fixture(scope="module")
def whole(quick) -> Path:
    return train(quick)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5, 10])
def test_run_stopped_at_any_step_ends_as_if_it_was_not(quick, whole, tmp_path, monkeypatch, step):
    config = quick.with_options(output=str(tmp_path / "run"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(step, patch)
        train(config)
    names = [folder.name for folder in checkpoint_folders(tmp_path / "run")]
    last = step // 3 * 3
    assert names == [f"step-{kept:08d}" for kept in (last - 3, last) if kept > 0]
    train(config.with_options(resume=True))
    assert_identical(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"frozen_features": False, "model_options": {"lora_layers": 1}, "workers": 1, "class_balance": "sampler"},
        {"gradient_accumulation": 4, "class_balance": "sampler", "mixed_precision": "bf16"},
    ],
    ids=["lora", "accumulated"],
)
def test_clips_and_accumulated_gradients_resume_within_an_epoch(quick, tmp_path, monkeypatch, changes):
    config = quick.with_options(epochs=2, log_every=1, checkpoint_every="1", **changes)
    whole = train(config.with_options(output=str(tmp_path / "whole")))
    config = config.with_options(output=str(tmp_path / "run"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(3, patch)
        train(config)
    train(config.with_options(resume=True))
    assert_identical(tmp_path / "run", whole)


def test_rows_of_steps(whole):
    found = read_steps(whole / STEPS)
    assert [(row["step"], row["epoch"]) for row in found] == [(1, 1), (4, 1), (8, 2), (12, 2)]
    for row in found:
        assert row["loss"] == pytest.approx(sum(row["terms"].values()), rel=1e-5) and "bag" in row["terms"]
        assert row["grad_norm"] > 0 and 0 <= row["waiting"] <= 1 and row["clips_per_second"] > 0
        assert row["memory_gb"] > 0.01 and set(row["lr"]) == {"prompts", "new"}
    assert (whole / "learning_curves.png").read_bytes()[:4] == b"\x89PNG"


def test_sigterm_saves_a_checkpoint_after_the_step(quick, whole, tmp_path, monkeypatch):
    config = quick.with_options(output=str(tmp_path / "run"), checkpoint_every="1000")
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Terminated) as stopped:
        steps = training.StepLog.after_update

        def steps_and_signal(self):
            steps(self)
            if self.loop.step == 7:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(training.StepLog, "after_update", steps_and_signal)
        train(config)
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    (kept,) = checkpoint_folders(run)
    progress = read_progress(kept)
    assert progress.step == 7 and len(progress.history) == 1 and progress.loop["batches"] == 1
    train(config.with_options(resume=True))
    assert_identical(run, whole)


def test_sigterm_during_the_validation_keeps_the_whole_epoch(quick, whole, tmp_path, monkeypatch):
    config, run = quick.with_options(output=str(tmp_path / "run")), tmp_path / "run"
    validate = training._Run._validate

    def signal_and_validate(self):
        if self.loop.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(self)

    with monkeypatch.context() as patch, pytest.raises(Terminated):
        patch.setattr(training._Run, "_validate", signal_and_validate)
        train(config)
    progress = read_progress(checkpoint_folders(run)[-1])
    assert (progress.step, len(progress.history), progress.loop["batches"]) == (12, 1, 6)
    train(config.with_options(resume=True))
    assert_identical(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [True, False])
def test_best_is_an_epoch_in_the_log_also_if_the_resumed_run_comes_out_differently(
    quick, tmp_path, monkeypatch, replaced
):
    """As on a GPU. The first run is killed after its second epoch, which was better, or within it."""
    run, config = tmp_path / "run", quick.with_options(output=str(tmp_path / "run"), checkpoint_every="8")
    validate, uars = training._Run._validate, [0.5, 0.9]

    def validate_to(self):
        return validate(self) | {"uar": uars[self.loop.epoch]}

    monkeypatch.setattr(training._Run, "_validate", validate_to)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if replaced:
            patch.setattr(training._Run, "_stop_after_sigterm", _stop_after_the_second_epoch)
        else:
            stop_after(9, patch)
        train(config)
    uars[1] = 0.1
    train(config.with_options(resume=True))
    best, last = (load_file(run / name / "model.safetensors") for name in ("best", "last"))
    is_last = all(torch.equal(best[key], last[key]) for key in best)
    facts = json.loads((run / "training.json").read_text())
    assert (facts["best_epoch"], is_last) == ((2, True) if replaced else (1, False))


def _stop_after_the_second_epoch(run):
    if run.loop.epoch == 1:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(quick, tmp_path_factory) -> Path:
    """A run that was stopped after eight updates. It has the checkpoints of the third and the sixth."""
    config = quick.with_options(output=str(tmp_path_factory.mktemp("stopped") / "run"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(8, patch)
        train(config)
    return Path(config.run.output)


@pytest.fixture
def interrupted(quick, stopped, tmp_path) -> TrainingConfig:
    """The configuration that continues a copy of the stopped run."""
    shutil.copytree(stopped, tmp_path / "run")
    return quick.with_options(output=str(tmp_path / "run"), resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "random_states_0.pkl", "progression.json"])
def test_the_checkpoint_before_a_damaged_one_is_used(interrupted, whole, tmp_path, caplog, name):
    run = tmp_path / "run"
    before, last = checkpoint_folders(run)
    content = (last / name).read_bytes()
    (last / name).write_bytes(content[: len(content) // 2])
    train(interrupted)
    assert f"{last} is damaged (" in caplog.text and f"It is removed, and {before.name} is used." in caplog.text
    assert_identical(run, whole)


def test_only_damaged_checkpoints_are_one_sentence(interrupted, tmp_path):
    for folder in checkpoint_folders(tmp_path / "run"):
        (folder / "optimizer.bin").unlink()
    with pytest.raises(
        UserError, match=r"No checkpoint in .* can be read \(.*optimizer.bin.*\): remove .*run and train again."
    ):
        train(interrupted)
    assert len(checkpoint_folders(tmp_path / "run")) == 2


def test_another_number_of_processes_is_refused(interrupted, tmp_path):
    for folder in checkpoint_folders(tmp_path / "run"):
        file = folder / "progression.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"processes": 2}))
    with pytest.raises(UserError, match="has 2 processes, but there are 1 now: resume it with as many"):
        train(interrupted)


def test_all_options_that_differ_are_named(interrupted, tmp_path):
    with pytest.raises(UserError, match="batch_size is 3, but the run in .* has 2; seed is 1, but it has 0: resume"):
        train(interrupted.with_options(seed=1, batch_size=3))
    train(interrupted.with_options(keep=1, log_every=1, checkpoint_every=None))
    assert len(checkpoint_folders(tmp_path / "run")) == 1


def test_descriptions_that_were_edited_are_named(interrupted, tmp_path, monkeypatch):
    before = (tmp_path / "run" / "run.json").read_text()
    monkeypatch.setattr(models, "descriptions_for", lambda *args: descriptions_for(*args) | {"sadness": ["a scowl"]})
    with pytest.raises(UserError, match=r"The descriptions of sadness have changed since the run in .*run started"):
        train(interrupted)
    assert (tmp_path / "run" / "run.json").read_text() == before


def test_votes_that_changed_are_other_clips(clips_folder, tmp_path):
    clips = load_clips(str(clips_folder), "train").select([0, 1])

    def hashed(values):
        soft = values and SoftLabels("votes", ["happiness", "sadness"], np.array(values, np.float32))
        return hash_clips(tmp_path, Part(replace(clips, soft=soft), [0, 1]))

    assert hashed([[0.6, 0.4], [1, 0]]) != hashed([[0.9, 0.1], [1, 0]])
    expected = hashlib.sha256(f"{clips.fingerprint()} {clips.labels} [0, 1]".encode()).hexdigest()
    assert hashed(None) == expected


@pytest.mark.slow
@pytest.mark.parametrize("where", ["checkpoint", "model"])
def test_a_full_disk_leaves_the_earlier_checkpoints(quick, whole, tmp_path, monkeypatch, where):
    """A limit of the size of files raises the same errors in all libraries as a disk without space."""
    resource = pytest.importorskip("resource")
    run, config = tmp_path / "run", quick.with_options(output=str(tmp_path / "run"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = getattr(checkpoints.Checkpoints, "save" if where == "checkpoint" else "save_model")

    def save_on_a_full_disk(self, *arguments):
        if (run / "checkpoints" / "step-00000006").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        try:
            save(self, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, save.__name__, save_on_a_full_disk)
        with pytest.raises(UserError, match=r"cannot be written \(.*\): make space there, and continue .* --resume."):
            train(config)
    assert not list(run.rglob(".*")) and checkpoint_folders(run)[-1].name >= "step-00000006"
    train(config.with_options(resume=True))
    assert_identical(run, whole)


@pytest.mark.parametrize(
    ("log_every", "sentence"),
    [
        (100, "The loss or a weight is not finite after step 6: start again .* The last good checkpoint is .*00003"),
        (2, "The loss is nan in epoch 1, after step 6: start again .* The last good checkpoint is .*00003"),
    ],
)
def test_diverging_training_names_the_last_good_checkpoint(quick, tmp_path, monkeypatch, log_every, sentence):
    run, config = tmp_path / "run", quick.with_options(output=str(tmp_path / "run"), log_every=log_every)
    after_update = training._Run._after_update

    def break_and_go_on(self):
        if self.loop.step == 5:
            self.loop.optimizer.param_groups[0]["params"][0].data.fill_(torch.nan)
        after_update(self)

    monkeypatch.setattr(training._Run, "_after_update", break_and_go_on)
    with pytest.raises(UserError, match=sentence):
        train(config)
    assert [folder.name for folder in checkpoint_folders(run)] == ["step-00000003"]
    assert all(row["loss"] is None or row["loss"] > 0 for row in read_steps(run / STEPS))


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    for name in (".best.old", ".last.tmp", "checkpoints/.tmp", "checkpoints/step-00000003", "errors"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".best.old" / "config.json").write_text("{}")
    (tmp_path / ".tgdfer-1a2b3c4d.json").touch()
    remove_leftovers(tmp_path)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["best", "best/config.json", "checkpoints", "checkpoints/step-00000003", "errors"]


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_with_identical_weights(quick, whole, tmp_path, forked_python):
    run = tmp_path / "run"
    config = quick.with_options(output=str(run), checkpoint_every="2", log_every=1)
    (tmp_path / "options.yaml").write_text(json.dumps(config.options()))
    code = f"import sys, torch\ntorch.set_num_threads({torch.get_num_threads()})\n"
    code += "from tgdfer.command_line import main\nsys.exit(main())"
    command = ["-c", code, "train", "--config", str(tmp_path / "options.yaml")]
    for step in (1, 5, 9):
        with forked_python.start(command) as process:
            deadline = time.monotonic() + 150
            while _last_step(run) < step and time.monotonic() < deadline and not process.have_ended():
                time.sleep(0.002)
            process.signal(signal.SIGKILL)
            (killed,) = process.wait()
        assert killed.returncode == -signal.SIGKILL and _last_step(run) >= step, killed.stderr[-3000:]
        if step == 1:
            command.append("--resume")
    done = forked_python.run(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in read_steps(run / STEPS)] == list(range(1, 13))
    assert rows(run) == rows(whole)
    for name in ("best", "last"):
        ours, theirs = (load_file(folder / name / "model.safetensors") for folder in (run, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def _last_step(run: Path) -> int:
    """The last step in the log of a run, which a process may be writing."""
    return max((row["step"] for row in read_steps(run / STEPS)), default=0)
