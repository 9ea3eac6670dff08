"""The rows of `steps.jsonl`, the lines that are printed, and trackers."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from tgdfer.command_line import main
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.figures.learning_curves import plot_learning_curves
from tgdfer.training.optimisation.averages import Averages
from tgdfer.training.optimisation.loop import DivergedError, start_accelerator
from tgdfer.training.runs import trackers
from tgdfer.training.runs.step_log import StepLog, describe_step, peak_memory, read_steps
from tgdfer.training.runs.trackers import require_trackers, start_trackers


def output(loss: float, **terms: float) -> SimpleNamespace:
    tensors = {name: torch.tensor(value) for name, value in terms.items()}
    return SimpleNamespace(loss=torch.tensor(loss), loss_dict=tensors or None)


def loop(accelerator: Accelerator) -> SimpleNamespace:
    """What the log reads of a training loop."""
    return SimpleNamespace(
        step=0,
        epoch=0,
        rates={"new": 1e-3},
        gradient_norm=torch.tensor(2.0),
        averages=Averages(accelerator),
        timer=SimpleNamespace(waited=0.0),
    )


@pytest.fixture
def log(tmp_path):
    accelerator, shown = start_accelerator(), []
    log = StepLog(tmp_path, accelerator, loop(accelerator), 2, 9, shown.append)
    log.shown = shown
    log.start_clock()
    return log


def steps(log: StepLog, *losses: float) -> None:
    for loss in losses:
        log.loop.averages.add(output(loss, bag=loss - 1, instance=1.0), clips=3)
        log.loop.step += 1
        log.after_update()


def test_rows_are_means_since_the_last_row(log):
    steps(log, 7.0, 3.0, 2.0, 4.0, 5.0)
    rows = read_steps(log.path)
    first, second, third = rows
    assert (first["step"], first["loss"]) == (1, 7.0), "short runs have a row too"
    assert (second["step"], second["loss"], second["terms"]) == (2, 3.0, {"bag": 2.0, "instance": 1.0})
    assert (third["step"], third["loss"], third["grad_norm"]) == (4, 3.0, 2.0)
    assert log.shown == rows and second["clips_per_second"] > 0


def test_the_last_step_has_a_row(log):
    steps(log, *[2.0] * 9)
    assert [row["step"] for row in read_steps(log.path)] == [1, 2, 4, 6, 8, 9]


def test_no_row_is_there_twice_after_a_resume(log):
    steps(log, *[2.0] * 6)
    with log.path.open("a") as file:
        file.write('{"step": 8, "loss"')  # The process was killed here.
    log.continue_after(5)
    log.loop.step = 5
    assert [row["step"] for row in read_steps(log.path)] == [1, 2, 4] and log.reported == 6
    steps(log, 2.0, 2.0, 2.0)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2, 4, 6, 8]


def test_loss_that_is_not_finite_is_null_in_the_last_row(log):
    with pytest.raises(DivergedError, match="The loss is inf in epoch 1, after step 2"):
        steps(log, 1.0, float("inf"))
    _, row = read_steps(log.path)
    assert row["loss"] is None and "loss not finite" in describe_step(row, 10)


def test_a_row_is_one_line_of_text():
    row = {"step": 10, "epoch": 2, "loss": 1.25, "terms": {"bag": 1.0, "instance": 0.25}, "lr": {"new": 5e-4}}
    row |= {"grad_norm": 0.5, "waiting": 0.031, "clips_per_second": 120.4, "memory_gb": 1.23}
    assert describe_step(row, 200) == (
        "step 10 of 200, epoch 2: loss 1.250 (bag 1.000, instance 0.250), lr new 5.0e-04, gradient norm 0.50,"
        " waiting 3%, 120 clips/s, 1.2 GB"
    )


def test_sums_are_restored_to_the_last_bit():
    accelerator = start_accelerator()
    values = torch.rand(7, generator=torch.Generator().manual_seed(0)).tolist()
    whole, first, second = Averages(accelerator), Averages(accelerator), Averages(accelerator)
    for value in values:
        whole.add(output(value, bag=value), 1)
    for value in values[:3]:
        first.add(output(value, bag=value), 1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in values[3:]:
        second.add(output(value, bag=value), 1)
    assert second.of_epoch(7) == whole.of_epoch(7) and second.read() == whole.read()


def test_a_model_without_terms_has_none():
    averages = Averages(start_accelerator())
    averages.add(output(2.0), 1)
    assert averages.read() == (2.0, {})


def test_memory_of_this_process_is_plausible():
    assert 0.05 < peak_memory(torch.device("cpu")) < 100


def test_missing_tracker_is_one_sentence(options, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"report_to='trackio' needs the library trackio: `pip install '\.\[trackio"):
        require_trackers(["trackio"])
    arguments = ["train", "--dataset", options["dataset"], "--output", str(tmp_path / "run")]
    assert main([*arguments, "--report-to", "tensorboard"]) == 2
    assert "--report-to tensorboard needs the library tensorboard" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_rows_once(log, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = TrainingConfig.from_options(dataset="clips", report_to=["tensorboard"]).options()
    start_trackers(log.accelerator, ["tensorboard"], tmp_path, options)
    steps(log, *[2.0] * 6)
    log.continue_after(3)
    log.loop.step = 3
    steps(log, *[2.0] * 5)
    for tracker in log.accelerator.trackers:
        tracker.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 4, 6, 8]
    assert {"loss/bag", "loss/instance", "lr/new", "train/grad_norm"} <= set(events.Tags()["scalars"])


def test_trackio_gets_the_rows(log, tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    started, logged = {}, []

    class Run:
        def log(self, values, step=None):
            logged.append((step, values["train/loss"]))

    def start(self):
        started.update(project=self.run_name, **self.init_kwargs)
        self.run = Run()

    monkeypatch.setattr(trackers.TrackioTracker, "start", start)
    monkeypatch.setattr(trackers.TrackioTracker, "store_init_configuration", lambda self, values: None)
    start_trackers(log.accelerator, ["trackio", "trackio"], tmp_path / "first", {"seed": 0, "resume": True})
    steps(log, 2.0, 4.0)
    assert started == {"project": "tgdfer", "name": "first", "resume": "allow"} and logged == [(1, 2.0), (2, 4.0)]


def test_learning_curves_of_runs_with_missing_values(tmp_path):
    rows = [
        {"step": step, "loss": 2 / step, "terms": {"bag": 1 / step}, "lr": {"new": 1e-3}}
        | {"grad_norm": None if step == 4 else 1.0, "clips_per_second": 50.0}
        for step in range(1, 7)
    ]
    epochs = [
        {"epoch": epoch, "loss": 1 / epoch, "validation_loss": None, "war": None, "uar": None} for epoch in (1, 2)
    ]
    for name, (some_rows, some_epochs) in {"all": (rows, epochs), "no": ([], []), "epochs": ([], epochs)}.items():
        path = tmp_path / f"{name}.png"
        plot_learning_curves(some_rows, some_epochs, 3, path, best_epoch=1)
        assert path.read_bytes()[:4] == b"\x89PNG"
