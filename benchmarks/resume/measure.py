"""Trains rendered clips, kills the process at random steps, resumes it, and compares the results."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from rich import get_console

from tgdfer import command_line
from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text
from tgdfer.training.rendered_faces import write_dataset
from tgdfer.training.runs.checkpoints import checkpoint_folders, read_progress
from tgdfer.training.runs.reproduction import compare_runs
from tgdfer.training.runs.step_log import STEPS, read_steps

# Fields of logs that no two runs share.
TIMES = ("seconds", "waiting", "clips_per_second", "memory_gb")
# The server imports all libraries once, and every training is a fork of it. A fork of this process could not train:
# whatever used PyTorch or OpenCV here may have left threads that a fork does not have.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tgdfer.command_line", "tgdfer.training.train", "tgdfer.training.rendered_faces"])
# Seconds that a process may take from one kill to the next.
PATIENCE = 1200


@dataclass(frozen=True)
class Setting:
    """A training whose processes are killed.

    Attributes:
        title (`str`): Its name in the report.
        options (`Mapping[str, Any]`): Options of the training.
        runs (`int`): Number of runs.
        kills (`int`): Number of kills of each run, one after another.
    """

    title: str
    options: Mapping[str, Any]
    runs: int
    kills: int


@dataclass
class Outcome:
    """What became of the killed runs of a setting.

    Attributes:
        steps (`int`): Number of updates of a whole run.
        killed_after (`list[int]`): Last logged step at each kill.
        repeated (`list[int]`): Number of logged steps that were trained again after each kill.
        while_saving (`int`): Number of kills that left an unfinished checkpoint or model.
        identical (`list[bool]`): Whether each run ended with the same weights, losses and figures as the whole run.
        same_rows (`list[bool]`): Whether each run has the same rows of both logs, apart from times.
    """

    steps: int
    killed_after: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    while_saving: int = 0
    identical: list[bool] = field(default_factory=list)
    same_rows: list[bool] = field(default_factory=list)


def settings(scale: int = 1) -> list[Setting]:
    """Returns the settings: features of a frozen CLIP, and clips with LoRA.

    Args:
        scale (`int`, *optional*, defaults to 1): Divides the numbers of runs and epochs, for a quick trial.
    """
    common = {"batch_size": 4, "log_every": 1, "validation_fraction": 0.25, "class_balance": "sampler"}
    lora = {"model_options": {"lora_layers": 1}, "num_frames": 4, "checkpoint_every": "2"}
    # Without a learned context, the text tower does not run, so that more runs can be killed.
    frozen = {
        "frozen_features": True,
        "feature_views": 1,
        "model_options": {"context": "none"},
        "checkpoint_every": "3",
    }
    return [
        Setting("frozen features", {**common, **frozen, "epochs": 8 // scale}, runs=5 // scale, kills=4 // scale),
        Setting("clips and LoRA", {**common, **lora, "epochs": 2}, runs=2 // scale, kills=2),
    ]


def measure(setting: Setting, work: Path, seed: int = 0) -> Outcome:
    """Trains once without and several times with kills.

    Args:
        setting (`Setting`): The training.
        work (`Path`): Folder of the clips and the runs. Runs of an earlier measurement must not be there.
        seed (`int`, *optional*, defaults to 0): Seed of the kill points.

    Raises:
        UserError: If a training fails.
    """
    clips = work / "clips"
    if not clips.is_dir():
        rendering = _CONTEXT.Process(target=_render, args=(clips,))
        rendering.start()
        rendering.join()
    folder = work / setting.title.replace(" ", "_")
    whole = _Training(folder / "whole", clips, setting.options)
    whole.finish()
    outcome = Outcome(steps=len(read_steps(whole.run / STEPS)))
    generator = random.Random(seed)
    for number in range(setting.runs):
        training = _Training(folder / f"killed-{number}", clips, setting.options)
        # The parts between the kills have about the same length, and every step may be hit.
        part = outcome.steps / setting.kills
        for kill in range(setting.kills):
            step = min(outcome.steps - 1, max(1, int((kill + generator.random()) * part)))
            _kill_after(training, step, generator.random(), outcome)
            get_console().print(f"{setting.title}, run {number + 1}: killed after steps {outcome.killed_after}")
        training.finish()
        results = [one for one in compare_runs(whole.run, training.run) if one.is_result]
        outcome.identical.append(all(one.is_identical for one in results))
        outcome.same_rows.append(
            all(_rows(whole.run, name) == _rows(training.run, name) for name in (STEPS, "log.jsonl"))
        )
        get_console().print(f"{setting.title}, run {number + 1}: identical {outcome.identical[-1]}")
    return outcome


class _Training:
    """The command `tgdfer train` in a process of its own."""

    def __init__(self, run: Path, clips: Path, options: Mapping[str, Any]) -> None:
        self.run, self.config = run, run.with_suffix(".json")
        run.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.config, json.dumps({**options, "dataset": str(clips), "output": str(run)}))

    def start(self) -> ForkServerProcess:
        """Starts or resumes the training."""
        arguments = ["train", "--config", str(self.config)]
        arguments += ["--resume"] if (self.run / "config.yaml").is_file() else []
        process = _CONTEXT.Process(
            target=_run_command, args=(arguments, self.run.with_suffix(".log"), self.run.parents[1])
        )
        process.start()
        return process

    def finish(self) -> None:
        """Trains until the end."""
        process = self.start()
        process.join(PATIENCE)
        if process.exitcode != 0:
            process.kill()
            raise UserError(f"The training in {self.run} has failed: see {self.run.with_suffix('.log')}.")


def _run_command(arguments: list[str], log: Path, work: Path) -> None:
    """Runs a command of `tgdfer` with one thread in this process, and writes what it prints to a file."""
    with log.open("ab") as file:
        for descriptor in (1, 2):  # Standard output and standard error.
            os.dup2(file.fileno(), descriptor)
    os.environ["TGDFER_CACHE"] = str(work / "cache")
    torch.set_num_threads(1)
    sys.exit(command_line.main(arguments))


def _render(clips: Path) -> None:
    write_dataset(clips, clips={"train": 4, "test": 1}, people={"train": 4, "test": 1}, workers=1)


def _kill_after(training: _Training, step: int, share: float, outcome: Outcome) -> None:
    """Kills a training some time after a step, at most two steps later, and notes what it left."""
    process, started = training.start(), time.monotonic()
    path = training.run / STEPS
    seen = _wait(lambda: _last_step(path) >= step or not process.is_alive(), PATIENCE)
    before = time.monotonic()
    _wait(lambda: _last_step(path) > step or not process.is_alive(), 2.0)
    time.sleep(2 * share * min(time.monotonic() - before, 1.0))
    process.kill()
    process.join()
    code = process.exitcode
    if not seen or code not in (0, -signal.SIGKILL):
        raise UserError(
            f"The training in {training.run} has failed after {time.monotonic() - started:.0f} s: see"
            f" {training.run.with_suffix('.log')}."
        )
    if code == 0:  # It was faster than the signal.
        return
    last = _last_step(path)
    outcome.killed_after.append(last)
    outcome.while_saving += any(training.run.rglob(".*.tmp")) or any(training.run.glob("checkpoints/.*"))
    kept = checkpoint_folders(training.run)
    outcome.repeated.append(last - (read_progress(kept[-1]).step if kept else 0))


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until a condition holds. Returns whether it does after this many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def _last_step(path: Path) -> int:
    rows = read_steps(path)
    return rows[-1]["step"] if rows else 0


def _rows(run: Path, name: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (run / name).read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
