"""The log of the epochs of a training run: `log.jsonl`, and the values for trackers."""

import json
from pathlib import Path
from typing import Any

LOG = "log.jsonl"


def log_rows(folder: Path) -> list[dict[str, Any]]:
    """Reads the rows of `log.jsonl`, which is written atomically. There are none before the end of the first epoch."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def tracked_epoch(row: dict[str, Any]) -> dict[str, float]:
    """Returns the values of a row by the names that trackers group them by."""
    names = {"validation_loss": "loss", "war": "war", "uar": "uar", "f1": "f1", "map": "map"}
    values = {f"validation/{name}": row.get(field) for field, name in names.items()}
    values |= {"epoch": row["epoch"], "train/epoch_loss": row["loss"]}
    return {name: value for name, value in values.items() if value is not None}
