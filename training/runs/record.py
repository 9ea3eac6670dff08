"""`run.json`: how a run was made. `tgdfer reproduce` runs it again from this file, and compares."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, write_text
from tgdfer.training.provenance import command, commit, machine

logger = logging.getLogger(__name__)

RECORD = "run.json"


class RunRecord:
    """The record of a run.

    `configuration` has all options, `data` and `base_model` what it was trained on and started from, with the
    fingerprint of the clips and the commits on the Hub. `descriptions` are those of each class. Each of the `sessions`
    is a start of the run: its time in UTC, its first and last step, the command, the commit of the code, the versions,
    and the hardware. `seconds` is the time of training.

    The values that `training.json` also has come from the same dictionary. `training.json` is published with a model
    and contains no paths. This file stays on the machine.

    Args:
        folder (`Path`): Folder of the run.
        config (`TrainingConfig`): Configuration of the run.
        facts (`dict[str, Any]`): Facts of the run, as in `training.json`.
        fingerprint (`str`): Hash of the clips.
        descriptions (`Mapping[str, list[str]]`): Descriptions of each class.

    Raises:
        UserError: If the run is resumed, and its record cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainingConfig,
        facts: dict[str, Any],
        fingerprint: str,
        descriptions: Mapping[str, list[str]],
    ) -> None:
        self.path = folder / RECORD
        earlier = read_record(folder)["sessions"] if self.path.is_file() else []
        self.session: dict[str, Any] = {
            "started": _now(),
            "ended": None,
            "from_step": None,
            "to_step": None,
            "command": command(),
            "commit": commit(),
            "versions": facts["versions"],
            "hardware": facts["hardware"] | machine(),
        }
        if earlier:
            _warn_about_other_versions(earlier[-1]["versions"], self.session["versions"])
        self.content: dict[str, Any] = {
            "configuration": config.options(),
            "data": {
                "name": facts["dataset"],
                "split": facts["split"],
                "num_clips": facts["num_clips"],
                "fingerprint": fingerprint,
                "revision": facts.get("dataset_revision"),
            },
            "base_model": {"name": facts["base_model"], "revision": facts.get("base_model_revision")},
            "descriptions": dict(descriptions),
            "seed": facts["seed"],
            "seconds": 0.0,
            "sessions": [*earlier, self.session],
        }

    def start(self, step: int) -> None:
        """Writes the record when training starts after a step."""
        self.session["from_step"] = step
        self._write()

    def end(self, step: int, seconds: float) -> None:
        """Writes the record when training ends or is interrupted.

        Args:
            step (`int`): Number of updates so far.
            seconds (`float`): Training time of the run so far, in seconds.
        """
        self.session |= {"ended": _now(), "to_step": step}
        self.content["seconds"] = round(seconds, 1)
        with suppress(OSError):  # The disk may be full. The error that ended the run is then more important.
            self._write()

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.content, indent=2) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record of a run.

    Raises:
        UserError: If it cannot be read.
    """
    content = read_json(folder / RECORD)
    try:
        usable = bool(content["configuration"] and content["data"]["fingerprint"] and content["sessions"])
    except (KeyError, TypeError):
        usable = False
    if not usable:
        raise UserError(f"{folder / RECORD} is not the record of a run: restore it, or train again.")
    return content


def _warn_about_other_versions(before: dict[str, str], now: dict[str, str]) -> None:
    changed = [f"{name} {before.get(name)}" for name in now if now[name] != before.get(name)]
    if changed:
        logger.warning(
            "The run was started with %s: its results may differ from those of a run without an interruption.",
            ", ".join(changed),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
