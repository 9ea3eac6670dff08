"""The log of the steps of a training run: a row in `steps.jsonl`, a line, and the values for trackers."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from tgdfer.training.files import write_text
from tgdfer.training.optimisation.loop import DivergedError, TrainingLoop

try:
    import resource
except ImportError:  # Windows.
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

STEPS = "steps.jsonl"


class StepLog:
    """Writes rows to `RUN/steps.jsonl`, and sends them to the trackers of the accelerator.

    The first step, the last step and every few steps between them have a row.

    A row has the `step` and the `epoch`, counted from 1, and of the steps since the last row the mean `loss`, its
    mean `terms`, the share of the time spent `waiting` for data, and the `clips_per_second` of all processes. `lr` are
    the learning rates by group and `grad_norm` is the norm of the gradients before clipping, both of the last step.
    `memory_gb` is the highest memory of the first process so far, on the GPU if it has one.

    Args:
        folder (`Path`): Folder of the run.
        accelerator (`Accelerator`): Accelerator of the training.
        loop (`TrainingLoop`): The training loop.
        every (`int`): Number of steps between rows.
        last (`int`): Number of steps of the whole run.
        show (`Callable[[dict[str, Any]], None]`): Is called with each row in the first process.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        loop: TrainingLoop,
        every: int,
        last: int,
        show: Callable[[dict[str, Any]], None],
    ) -> None:
        self.path, self.accelerator, self.loop, self.show = folder / STEPS, accelerator, loop, show
        self.every, self.last = every, last
        self.reported = 0  # Last step that an interrupted run has sent to the trackers.
        self._seconds = self._waited = self._waited_before = 0.0
        self._started: float | None = None

    def continue_after(self, step: int) -> None:
        """Removes the rows after a step, which are written again."""
        if self.accelerator.is_main_process:
            rows = read_steps(self.path)
            self.reported = rows[-1]["step"] if rows else 0
            write_text(self.path, "".join(_line(row) for row in rows if row["step"] <= step))

    def start_clock(self, waited: float = 0.0) -> None:
        """Starts to measure the time of training.

        Args:
            waited (`float`, *optional*, defaults to 0.0): Seconds of the epoch spent waiting for data so far.
        """
        self._started, self._waited_before = time.perf_counter(), waited

    def stop_clock(self) -> None:
        """Stops to measure the time, for example during the validation."""
        if self._started is not None:
            self._seconds += time.perf_counter() - self._started
            self._waited += self.loop.timer.waited - self._waited_before
            self._started = None

    def after_update(self) -> None:
        """Writes a row if one is due. Every process must call this method.

        Raises:
            DivergedError: If the mean loss is not finite.
        """
        if self.loop.step % self.every and self.loop.step not in (1, self.last):
            return
        clips = self.loop.averages.clips * self.accelerator.num_processes
        loss, terms = self.loop.averages.read()  # This waits for the GPU, so the time is that of all steps.
        self.stop_clock()
        row = {
            "step": self.loop.step,
            "epoch": self.loop.epoch + 1,
            "loss": _finite(loss),
            "terms": {name: _finite(value) for name, value in terms.items()},
            "lr": self.loop.rates,
            "grad_norm": _finite(float(self.loop.gradient_norm)),
            "waiting": round(self._waited / self._seconds, 4) if self._seconds else 0.0,
            "clips_per_second": round(clips / self._seconds, 1) if self._seconds else None,
            "memory_gb": peak_memory(self.accelerator.device),
        }
        self._seconds = self._waited = 0.0
        if self.accelerator.is_main_process:
            self._write(row)
        if not math.isfinite(loss):
            raise DivergedError(f"The loss is {loss} in epoch {row['epoch']}, after step {row['step']}")
        self.start_clock(self.loop.timer.waited)

    def _write(self, row: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        if row["step"] > self.reported:
            self.accelerator.log(_tracked(row), step=row["step"])
        self.show(row)


def read_steps(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of `steps.jsonl`. A last line that a killed process has not finished is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            logger.debug("%s has an unfinished line: %s", path, line)
    return rows


def describe_step(row: dict[str, Any], steps: int) -> str:
    """Returns a row as one line of text.

    Args:
        row (`dict[str, Any]`): The row.
        steps (`int`): Number of steps of the whole run.
    """

    def text(value: float | None, form: str = ".3f") -> str:
        return "not finite" if value is None else format(value, form)

    terms = ", ".join(f"{name} {text(value)}" for name, value in row["terms"].items())
    rates = ", ".join(f"{name} {rate:.1e}" for name, rate in row["lr"].items())
    parts = [
        f"step {row['step']} of {steps}, epoch {row['epoch']}: loss {text(row['loss'])}"
        + (f" ({terms})" if len(row["terms"]) > 1 else ""),
        f"lr {rates}",
        f"gradient norm {text(row['grad_norm'], '.2f')}",
        f"waiting {row['waiting']:.0%}",
        f"{text(row['clips_per_second'], '.0f')} clips/s" if row["clips_per_second"] else "",
        f"{row['memory_gb']:.1f} GB" if row["memory_gb"] else "",
    ]
    return ", ".join(filter(None, parts))


def peak_memory(device: torch.device) -> float | None:
    """Returns the highest memory so far in GB: of the GPU, otherwise of this process. None if it is not known."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _finite(value: float) -> float | None:
    """Returns a value that JSON has: None for infinity and NaN."""
    return value if math.isfinite(value) else None


def _tracked(row: dict[str, Any]) -> dict[str, float]:
    """Returns the values of a row by the names that trackers group them by."""
    values = {"epoch": row["epoch"], **{f"train/{name}": row[name] for name in ("loss", "grad_norm")}}
    values |= {f"loss/{name}": value for name, value in row["terms"].items()}
    values |= {f"lr/{name}": value for name, value in row["lr"].items()}
    values |= {f"speed/{name}": row[name] for name in ("waiting", "clips_per_second", "memory_gb")}
    return {name: value for name, value in values.items() if value is not None}
