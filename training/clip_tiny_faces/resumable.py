"""A training that goes on where it was interrupted."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tgdfer.training.errors import UserError


class ResumableTraining:
    """Keeps the state of a training in a file, and its log beside it.

    Every step must be a function of the seed and its own number, so that an interrupted training ends as one that was
    not.

    Args:
        folder: Where `NAME.pt` and `NAME.jsonl` lie.
        name: Of the training.
        recipe: Dataclass of all parameters; a state of another recipe is refused.
        module: What is trained.
        parts: Optimizers and schedules.
        every: Steps between two saves.

    Raises:
        UserError: If the folder holds the state of another recipe.
    """

    def __init__(
        self, folder: Path, name: str, recipe: Any, module: nn.Module, parts: Sequence[Any], every: int
    ) -> None:
        self.file, self.journal = folder / f"{name}.pt", folder / f"{name}.jsonl"
        self.recipe, self.module, self.parts, self.every = asdict(recipe), module, parts, every
        self.step, self.seconds = 0, 0.0
        if not self.file.is_file():
            return
        state = torch.load(self.file, weights_only=True)
        if state["recipe"] != self.recipe:
            raise UserError(f"{self.file} belongs to another recipe: name another work folder or remove it.")
        module.load_state_dict(state["module"])
        for part, saved in zip(parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def steps(self, total: int) -> Iterator[int]:
        """Numbers of the steps that are still to do; the state is saved as they are done."""
        begin = time.perf_counter() - self.seconds
        for step in range(self.step, total):
            yield step
            self.step, self.seconds = step + 1, time.perf_counter() - begin
            if self.step % self.every == 0 or self.step == total:
                self._save()

    def log(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Append a line to the log."""
        row = {"step": step + 1, **{name: round(float(value.detach()), 4) for name, value in values.items()}}
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        state = {
            "recipe": self.recipe,
            "module": self.module.state_dict(),
            "parts": [part.state_dict() for part in self.parts],
            "step": self.step,
            "seconds": self.seconds,
        }
        draft = self.file.with_suffix(".part")
        torch.save(state, draft)
        os.replace(draft, self.file)
