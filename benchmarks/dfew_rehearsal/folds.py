"""Training on all folds of a generated tree, with a process that is killed twice and continued."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.dfew_rehearsal.steps import Steps
from benchmarks.dfew_rehearsal.tree import FRAMES
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json

# The process is killed after the first epoch of these folds.
KILLED_IN = (2, 4)
EPOCHS = 3
# Seconds between two looks at the folder of a run that is to be killed.
_PAUSE = 0.05


def train_all_folds(place: Path, root: Path, model: Path, folds: str, steps: Steps) -> dict[str, Any]:
    """Trains on frozen features and tests on each fold, by one command that is killed twice and continued.

    Args:
        place (`Path`): Folder for the results.
        root (`Path`): Folder of the tree.
        model (`Path`): Model to start from.
        folds (`str`): The folds, as for `tgdfer train --folds`.
        steps (`Steps`): Finished steps.

    Returns:
        `parts`, for each start of the command its `seconds`, `cpu_seconds`, `peak_bytes` and `killed_in` (a fold, or
        None); and `table` and `figures`, the contents of `folds.md` and `folds.json`.
    """
    output = place / "folds"
    command = ["train", "--recipe", "dfew", "--data-root", str(root), "--folds", folds, "--output", str(output)]
    command += ["--model", str(model), "--num-frames", str(FRAMES), "--epochs", str(EPOCHS)]
    command += ["--frozen-features", "--feature-views", "1"]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TGDFER_CACHE": str(place.absolute() / "cache")}

    def start(fold: int | None) -> dict[str, Any]:
        resume = ["--resume"] if (output / "folds.yaml").is_file() else []
        log = output / f"fold_{fold}" / "log.jsonl"
        before = _epochs(log)
        is_reached = None if fold is None else lambda: _epochs(log) > before
        return {**_run_until(command + resume, is_reached, environment), "killed_in": fold}

    parts = [
        steps.measure(f"train_folds_{number}", lambda fold=fold: start(fold))  # type: ignore[misc]
        for number, fold in enumerate((*KILLED_IN, None), 1)
    ]
    table = (output / "folds.md").read_text(encoding="utf-8")
    return {"parts": parts, "table": table, "figures": read_json(output / "folds.json")}


def _epochs(log: Path) -> int:
    """Returns the number of finished epochs of a run."""
    return len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0


def _run_until(
    arguments: Sequence[str], is_reached: Callable[[], bool] | None, environment: dict[str, str]
) -> dict[str, float]:
    """Runs `tgdfer` in a child process, and kills it when a point is reached.

    Args:
        arguments: Arguments of `tgdfer`.
        is_reached: Whether to kill the process now. None to let it end.
        environment: Additional environment variables.

    Returns:
        `seconds` (from start to end), `cpu_seconds` and `peak_bytes`.

    Raises:
        UserError: If the command fails, or ends before it can be killed.
    """
    start = time.perf_counter()
    words = [sys.executable, "-m", "tgdfer", *arguments]
    peak, used = 0, None
    with tempfile.TemporaryFile("w+") as complaints:
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=complaints, env=os.environ | environment)
        process = psutil.Process(child.pid)
        while used is None:
            # `ru_maxrss` would include the memory of this process, which the child is forked from.
            with suppress(psutil.Error):
                peak = max(peak, process.memory_info().rss)
            # Unlike `wait`, this also tells how much time a killed process has used.
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
            if ended:
                used, code = usage, os.waitstatus_to_exitcode(status)
                child.returncode = code
                continue
            if is_reached is not None and is_reached():
                os.kill(child.pid, signal.SIGKILL)
            time.sleep(_PAUSE)
        complaints.seek(0)
        said = complaints.read()[-1500:]
    if is_reached is not None and code == 0:
        raise UserError("The command ended before it could be killed: rehearse with more clips.")
    expected = 0 if is_reached is None else -signal.SIGKILL
    if code != expected:
        raise UserError(f"tgdfer {' '.join(arguments[:3])} failed: {said}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": peak,
    }
