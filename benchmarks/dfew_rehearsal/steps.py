"""The measured steps of a rehearsal, which are kept in a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tgdfer.training.files import read_json, write_text
from tgdfer.training.provenance import commit


class Steps:
    """Measured steps. A rehearsal that was interrupted continues with the next step.

    Args:
        path (`Path`): JSON file of the finished steps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = read_json(path) if path.is_file() else {}

    def measure(self, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns the result of a step, with the `commit` it ran at. It is run only if it is not finished yet."""
        if name not in self.done:
            self.done[name] = {**run(), "commit": commit()}
            write_text(self.path, json.dumps(self.done, indent=2) + "\n")
        return self.done[name]
