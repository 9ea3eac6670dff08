"""Training that can be interrupted and resumed."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tgdfer.training.errors import UserError


class ResumableTraining:
    """Stores the state of a training in a file, and its log in another file.

    Each step must depend only on its number and on the random state of torch, which is stored too. An interrupted
    training then gives the same result as an uninterrupted one.

    Args:
        folder (`Path`): Folder of `NAME.pt` and `NAME.jsonl`.
        name (`str`): Name of the training.
        recipe (`Any`): Dataclass of all parameters. A state of another recipe is rejected.
        module (`nn.Module`): The trained module.
        parts (`Sequence[Any]`): Optimizers and learning rate schedules.
        save_every (`int`): Number of steps between saves.
        data (`str`): Fingerprint of the training data. A state of other data is rejected.

    Raises:
        UserError: If the folder contains the state of another recipe or of other data.
    """

    def __init__(
        self, folder: Path, name: str, recipe: Any, module: nn.Module, parts: Sequence[Any], save_every: int, data: str
    ) -> None:
        self.name, self.file, self.log_file = name, folder / f"{name}.pt", folder / f"{name}.jsonl"
        self.recipe, self.module, self.parts, self.save_every = asdict(recipe), module, parts, save_every
        self.data = data
        self.step, self.seconds = 0, 0.0
        if not self.file.is_file():
            return
        state = torch.load(self.file, weights_only=True)
        if (state["recipe"], state["data"]) != (self.recipe, data):
            raise UserError(
                f"{self.file} belongs to another recipe or other pictures: choose another work folder or remove it."
            )
        module.load_state_dict(state["module"])
        for part, saved in zip(parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self.step, self.seconds = state["step"], state["seconds"]
        # Steps after the last save are repeated, so their log is removed.
        lines = self.log_file.read_text("utf-8").splitlines() if self.log_file.is_file() else []
        # A killed process may have left an incomplete last line.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
        self.log_file.write_text("".join(line + "\n" for line in kept), "utf-8")

    def steps(self, total: int, progress: Callable[[str, int, int], None]) -> Iterator[int]:
        """Yields the numbers of the remaining steps, and saves the state regularly.

        Args:
            total (`int`): Total number of steps.
            progress (`Callable`): Called after each step with the name of the training, the number of finished steps
                and the total. If it raises a `UserError`, the state is saved and the training stops.
        """
        begin = time.perf_counter() - self.seconds
        for step in range(self.step, total):
            yield step
            self.step, self.seconds = step + 1, time.perf_counter() - begin
            if self.step % self.save_every == 0 or self.step == total:
                self._save()
            try:
                progress(self.name, self.step, total)
            except UserError:
                self._save()
                raise

    def log(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Appends a line to the log."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        line = {"step": step + 1, **{name: round(float(value.detach()), 4) for name, value in values.items()}}
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": self.recipe,
            "data": self.data,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "module": self.module.state_dict(),
            "parts": [part.state_dict() for part in self.parts],
            "step": self.step,
            "seconds": self.seconds,
        }
        draft = self.file.with_suffix(".part")
        torch.save(state, draft)
        os.replace(draft, self.file)
