"""A training that goes on where it was interrupted."""

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
    """Keeps the state of a training in a file, and its log beside it.

    Every step must be a function of its number and of torch's random state, which is kept too, so that an interrupted
    training ends as one that was not.

    Args:
        folder: Where `NAME.pt` and `NAME.jsonl` lie.
        name: Of the training.
        recipe: Dataclass of all parameters; a state of another recipe is refused.
        module: What is trained.
        parts: Optimizers and schedules.
        every: Steps between two saves.
        data: Fingerprint of what it learns from; a state of other data is refused.

    Raises:
        UserError: If the folder holds the state of another recipe, or of other data.
    """

    def __init__(
        self, folder: Path, name: str, recipe: Any, module: nn.Module, parts: Sequence[Any], every: int, data: str
    ) -> None:
        self.name, self.file, self.journal = name, folder / f"{name}.pt", folder / f"{name}.jsonl"
        self.recipe, self.module, self.parts, self.every = asdict(recipe), module, parts, every
        self.data = data
        self.step, self.seconds = 0, 0.0
        if not self.file.is_file():
            return
        state = torch.load(self.file, weights_only=True)
        if (state["recipe"], state["data"]) != (self.recipe, data):
            raise UserError(
                f"{self.file} belongs to another recipe or other pictures: name another work folder or remove it."
            )
        module.load_state_dict(state["module"])
        for part, saved in zip(parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        torch.set_rng_state(state["random"])
        self.step, self.seconds = state["step"], state["seconds"]
        # Steps after the last save are done again, and logged again.
        rows = self.journal.read_text("utf-8").splitlines() if self.journal.is_file() else []
        kept = [row for row in rows if json.loads(row)["step"] <= self.step]
        self.journal.write_text("".join(row + "\n" for row in kept), "utf-8")

    def steps(self, total: int, progress: Callable[[str, int, int], None]) -> Iterator[int]:
        """Numbers of the steps that are still to do; the state is saved as they are done.

        Args:
            total: Steps in all.
            progress: Called with (name, steps done, in all) after each; a `UserError` from it ends the training, of
                which nothing is lost.
        """
        begin = time.perf_counter() - self.seconds
        for step in range(self.step, total):
            yield step
            self.step, self.seconds = step + 1, time.perf_counter() - begin
            if self.step % self.every == 0 or self.step == total:
                self._save()
            try:
                progress(self.name, self.step, total)
            except UserError:
                self._save()
                raise

    def log(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Append a line to the log."""
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        row = {"step": step + 1, **{name: round(float(value.detach()), 4) for name, value in values.items()}}
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": self.recipe,
            "data": self.data,
            "random": torch.get_rng_state(),
            "module": self.module.state_dict(),
            "parts": [part.state_dict() for part in self.parts],
            "step": self.step,
            "seconds": self.seconds,
        }
        draft = self.file.with_suffix(".part")
        torch.save(state, draft)
        os.replace(draft, self.file)
