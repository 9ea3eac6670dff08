"""Ctrl-C and SIGTERM in long work: what is done is kept and told, no temporary file stays, the exit codes differ."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from command_flags import flags

from tgdfer.command_line import main
from tgdfer.demo import Demo
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training import evaluate
from tgdfer.training import train as loop
from tgdfer.training.config import TrainingConfig
from tgdfer.training.evaluate import evaluate_model
from tgdfer.training.interruption import Terminated, deferring_sigterm, raising_on_sigterm, reporting_interruption
from tgdfer.training.optimisation import loop as optimisation
from tgdfer.training.runs import checkpoints
from tgdfer.training.runs.checkpoints import checkpoint_folders, read_progress
from tgdfer.training.runs.step_log import read_steps
from tgdfer.training.train import train

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def stop(number: int) -> None:
    os.kill(os.getpid(), number)
    raise AssertionError("the signal does not arrive")


@pytest.fixture(scope="module")
def finished(clips_folder, clip_folder, descriptions_file, tmp_path_factory) -> TrainingConfig:
    """A run of one epoch. What is done to it is done to copies."""
    config = TrainingConfig.from_options(
        dataset=str(clips_folder),
        model=str(clip_folder),
        descriptions=str(descriptions_file),
        output=str(tmp_path_factory.mktemp("finished") / "run"),
        num_frames=4,
        batch_size=4,
        epochs=1,
        frozen_features=True,
        feature_views=1,
    )
    train(config)
    return config


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished.run.output, tmp_path / "run")


@pytest.fixture
def said(capsys):
    """What was printed, as one line."""
    return lambda: " ".join("".join(capsys.readouterr()).split())


def test_sigterm_is_raised_and_then_as_it_was():
    with pytest.raises(Terminated), raising_on_sigterm():
        stop(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(ZeroDivisionError), raising_on_sigterm():
        raise ZeroDivisionError


def test_sigterm_can_be_deferred():
    reached = []
    with pytest.raises(Terminated) as stopped, raising_on_sigterm(), deferring_sigterm() as sigterm:
        assert not sigterm.arrived
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append(sigterm.arrived)
    assert reached == [True] and stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(ZeroDivisionError), deferring_sigterm():
        raise ZeroDivisionError


def test_an_error_after_a_deferred_sigterm_is_its_consequence_unless_a_file_cannot_be_written():
    for error, raised in ((RuntimeError("a worker has ended"), Terminated), (OSError("full"), OSError)):
        with pytest.raises(raised), deferring_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
            raise error


def test_a_handler_of_the_caller_stays():
    arrived = []
    before = signal.signal(signal.SIGTERM, lambda *_: arrived.append(1))
    try:
        with deferring_sigterm() as sigterm:
            os.kill(os.getpid(), signal.SIGTERM)
        assert arrived == [1] and not sigterm.arrived
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_sigterm_does_not_interrupt_the_cleanup():
    cleaned = False
    with pytest.raises(Terminated), raising_on_sigterm():
        try:
            stop(signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True
    assert cleaned


def test_what_the_end_of_a_helper_process_leaves_undone_counts_as_the_signal():
    with pytest.raises(Terminated), raising_on_sigterm():
        try:
            stop(signal.SIGTERM)
        finally:
            raise RuntimeError("DataLoader worker is killed by signal: Terminated.")


def test_the_sentence_is_that_of_the_main_process(monkeypatch, said):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(KeyboardInterrupt), reporting_interruption(lambda: "All is kept."):
            raise KeyboardInterrupt
    assert said() == "All is kept."


@pytest.mark.parametrize("number", CODES)
def test_train_says_how_many_epochs_are_kept(number, options, tmp_path, monkeypatch, said):
    options |= {"frozen_features": True, "feature_views": 1}
    run, train_epoch = tmp_path / "run", optimisation.TrainingLoop.train_epoch

    def stop_in(self, epoch, track):
        return train_epoch(self, epoch, track) if epoch < 1 else stop(number)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "load_parts", lambda *_: stop(number))
        assert main(["train", *flags(options)]) == CODES[number]
    assert "nothing was written. Start again with the same command." in said() and not run.exists()
    monkeypatch.setattr(optimisation.TrainingLoop, "train_epoch", stop_in)
    assert main(["train", *flags(options)]) == CODES[number]
    sentence = f"Interrupted: 1 of 2 epochs are kept in {run}. Continue with: tgdfer train --resume --output {run}"
    assert said().count(sentence) == 1


@pytest.mark.slow
@pytest.mark.parametrize("place", ["save_model", "save", "replace"])
def test_no_temporary_folder_stays_and_no_model_is_lost(place, finished, run, monkeypatch):
    """Whether a model is being written, or a checkpoint, or the new model just takes the place of the earlier one."""
    models = checkpoints.Checkpoints(
        run, optimisation.start_accelerator(), TGDFERProcessor.from_pretrained(run / "best")
    )
    model = loop.start_model(finished.model, ["happiness", "neutral", "sadness"])[0]
    shutil.rmtree(run / "checkpoints")
    if place == "replace":
        replace = os.replace

        def replace_or_stop(old, new):
            if new == run / "best" and str(old).endswith(".tmp"):
                raise KeyboardInterrupt
            replace(old, new)

        monkeypatch.setattr(checkpoints.os, "replace", replace_or_stop)
    else:
        written = TGDFERProcessor.save_pretrained if place == "save_model" else checkpoints.write_text

        def write_or_stop(*arguments, **more):
            written(*arguments, **more)
            raise KeyboardInterrupt

        target = (TGDFERProcessor, "save_pretrained") if place == "save_model" else (checkpoints, "write_text")
        monkeypatch.setattr(*target, write_or_stop)
    before = (run / "best" / "model.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        models.save(checkpoints.Progress()) if place == "save" else models.save_model(model, "best")
    assert (run / "best" / "model.safetensors").read_bytes() == before
    assert not list(run.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_evaluate_keeps_the_files_that_are_whole(number, run, monkeypatch, said):
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "predict_readable_clips", lambda *_, **__: stop(number))
        assert main(["evaluate", str(run)]) == CODES[number]
    assert said().count("Finished files are kept. Run the same command again to create the others.") == 1
    assert not (run / "metrics.json").exists()
    monkeypatch.setattr(evaluate, "mean_baseline", lambda *_: stop(number))
    assert main(["evaluate", str(run), "--baseline"]) == CODES[number]
    assert said().count("Run the same command again") == 1
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["num_clips"] == 15 and not list(run.rglob(".*"))
    monkeypatch.undo()
    assert evaluate_model(run)["war"] == metrics["war"]


@pytest.mark.parametrize("number", CODES)
def test_demo_says_that_it_goes_on(number, tmp_path, monkeypatch, said):
    monkeypatch.setattr(Demo, "_render", lambda _: stop(number))
    assert main(["demo", "--output", str(tmp_path / "demo"), "--clips", "2"]) == CODES[number]
    assert f"are kept in {tmp_path / 'demo'}. Resume with the same command." in said()


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_to_all_processes_of_a_run_is_one_sentence(number, options, tmp_path, forked_python):
    """Terminals and batch systems send it to the processes that decode clips as well."""
    options |= {"epochs": 500, "workers": 2, "log_every": 1}
    run = tmp_path / "run"
    with forked_python.start(["-m", "tgdfer", "train", *flags(options)]) as process:
        deadline = time.monotonic() + 120
        while not (run / "log.jsonl").is_file() and time.monotonic() < deadline and not process.have_ended():
            time.sleep(0.05)
        process.signal(number)
        (done,) = process.wait(120)
    assert done.returncode == CODES[number], done.stderr[-2000:]
    assert "Traceback" not in done.stderr and done.stdout.count(f"of 500 epochs are kept in {run}") == 1
    assert not list(run.rglob(".*"))
    if number == signal.SIGTERM:  # The step that was being computed is kept as well.
        progress = read_progress(checkpoint_folders(run)[-1])
        steps = read_steps(run / "steps.jsonl")
        assert progress.step == steps[-1]["step"] and f"{len(progress.history)} of 500 epochs" in done.stdout


@pytest.mark.slow
def test_workers_that_are_left_do_not_keep_python_from_ending(tmp_path, forked_python):
    """The iterator of a loader with workers may still be referenced when Python ends."""
    script = tmp_path / "leave.py"
    script.write_text(
        "from types import SimpleNamespace\n"
        "import torch\n"
        "from tgdfer.training.optimisation.loop import clip_loader\n"
        "if __name__ == '__main__':\n"
        "    accelerator = SimpleNamespace(device=torch.device('cpu'))\n"
        "    loader = clip_loader(torch.utils.data.TensorDataset(torch.zeros(8, 1)), 1, accelerator, workers=1)\n"
        "    batches = iter(loader)\n"
        "    next(batches)\n"
        "    print('the end')\n"
    )
    ended = forked_python.run(script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the end\n", "")
