"""Comparison of a training run with its repetition."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import get_console
from rich.table import Table
from safetensors import safe_open

from tgdfer.training.errors import UserError
from tgdfer.training.runs.epoch_log import log_rows
from tgdfer.training.runs.record import read_record

_FIGURES = {"validation_loss": "validation loss", "war": "WAR", "uar": "UAR", "f1": "F1", "map": "mAP"}


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common in one respect.

    Attributes:
        name (`str`): What is compared.
        is_identical (`bool`): Whether both runs have the same.
        difference (`str`, *optional*, defaults to `""`): The difference.
        is_result (`bool`, *optional*, defaults to `False`): Whether it is a result of training. Otherwise it is a
            condition that may explain other results.
    """

    name: str
    is_identical: bool
    difference: str = ""
    is_result: bool = False


def compare_runs(first: Path, second: Path) -> list[Comparison]:
    """Compares two finished runs.

    Args:
        first (`Path`): Folder of the run.
        second (`Path`): Folder of its repetition.

    Returns:
        Comparisons of the conditions (clips, commits on the Hub, descriptions, code, versions and hardware), and of
        the results (loss and figures of each epoch, weights of the best and of the last model).

    Raises:
        UserError: If a file of a run cannot be read.
    """
    before, now = read_record(first), read_record(second)
    old, new = before["sessions"][-1], now["sessions"][-1]
    data = {name: (before["data"][name], now["data"][name]) for name in ("fingerprint", "revision", "num_clips")}
    conditions = [
        Comparison("clips", data["fingerprint"][0] == data["fingerprint"][1], "other files, labels or votes"),
        _compare_values("revision of the data set", *data["revision"]),
        _compare_mappings("base model", before["base_model"], now["base_model"]),
        Comparison("descriptions", before.get("descriptions") == now.get("descriptions"), "other texts"),
        _compare_values("commit of the code", old["commit"], new["commit"]),
        _compare_mappings("versions", old["versions"], new["versions"]),
        _compare_mappings("hardware", old["hardware"], new["hardware"]),
    ]
    return [*conditions, *_compare_logs(log_rows(first), log_rows(second)), *_compare_models(first, second)]


def is_reproduced(comparisons: Sequence[Comparison]) -> bool:
    """Returns whether all results of training are identical."""
    return all(one.is_identical for one in comparisons if one.is_result)


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Prints a table of the comparisons, with the conditions first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("compared")
    table.add_column("result")
    for one in sorted(comparisons, key=lambda one: one.is_result):
        table.add_row(
            one.name, "identical" if one.is_identical else one.difference, style="" if one.is_identical else "bold"
        )
    get_console().print(table, highlight=False, markup=False)


def _compare_values(name: str, old: Any, new: Any) -> Comparison:
    return Comparison(name, old == new, f"{_text(old)}, now {_text(new)}")


def _compare_mappings(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return Comparison(
        name, not changed, "; ".join(f"{key} {_text(old.get(key))}, now {_text(new.get(key))}" for key in changed)
    )


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _compare_logs(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[Comparison]:
    """Compares the loss and the validation figures of each epoch."""
    if len(old) != len(new):
        return [Comparison("epochs", False, f"{len(old)}, now {len(new)}", is_result=True)]
    compared = []
    for field, name in {"loss": "training loss", **_FIGURES}.items():
        pairs = [(a.get(field), b.get(field)) for a, b in zip(old, new, strict=True)]
        if all(pair == (None, None) for pair in pairs):
            continue
        differences = [math.inf if a is None or b is None else abs(a - b) for a, b in pairs]
        worst = max(range(len(pairs)), key=differences.__getitem__)
        text = f"largest difference {differences[worst]:.2g}, in epoch {worst + 1}"
        compared.append(Comparison(f"{name} of {len(pairs)} epochs", not any(differences), text, is_result=True))
    return compared


def _compare_models(first: Path, second: Path) -> list[Comparison]:
    """Compares the weights of the best and of the last model."""
    compared = []
    for name in ("best", "last"):
        difference = _largest_difference(first / name, second / name)
        text = "other parameters" if difference is None else f"largest difference {difference:.2g}"
        compared.append(Comparison(f"weights of the {name} model", difference == 0, text, is_result=True))
    return compared


def _largest_difference(first: Path, second: Path) -> float | None:
    """Returns the largest absolute difference of two models. None if they have other parameters or shapes."""
    files = [_weight_files(folder) for folder in (first, second)]
    if files[0].keys() != files[1].keys():
        return None
    largest = 0.0
    for name in files[0]:
        tensors = []
        for folder in files:
            with safe_open(folder[name], framework="pt") as weights:
                tensors.append(weights.get_tensor(name))
        if tensors[0].shape != tensors[1].shape:
            return None
        if tensors[0].numel():
            largest = max(largest, float((tensors[0].double() - tensors[1].double()).abs().max()))
    return largest


def _weight_files(folder: Path) -> dict[str, Path]:
    """Returns the file of each parameter of a saved model.

    Raises:
        UserError: If the weights cannot be read.
    """
    files: dict[str, Path] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as weights:
                files |= dict.fromkeys(weights.keys(), path)
    except Exception as error:  # safetensors raises an error of its own for damaged files.
        raise UserError(f"The weights in {folder} cannot be read ({error}): restore them, or train again.") from error
    if not files:
        raise UserError(f"There are no weights in {folder}: restore them, or train again.")
    return files
