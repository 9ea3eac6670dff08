"""Runs rows part by part, and stores each part on disk as soon as it is finished."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import get_console

import tgdfer
from benchmarks.harness.comparison import figures_of, mean_and_spread, outcomes
from benchmarks.harness.feature_dataset import AnyDataset
from benchmarks.harness.provenance import machine, versions
from benchmarks.harness.results import read_state, runs_of
from benchmarks.harness.row import Row
from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.files import write_text
from tgdfer.training.provenance import commit


def run_datasets(
    planned: Sequence[tuple[AnyDataset, Sequence[Row]]], work: Path, command: str, end: float, only: Sequence[str] = ()
) -> bool:
    """Runs the rows of several data sets with `run_rows`. A data set that lacks all selected rows is skipped.

    Args:
        planned (`Sequence[tuple[AnyDataset, Sequence[Row]]]`): Each data set with its rows.
        work (`Path`): As in `run_rows`.
        command (`str`): As in `run_rows`.
        end (`float`): As in `run_rows`.
        only (`Sequence[str]`, *optional*, defaults to `()`): As in `run_rows`.

    Returns:
        `bool`: Whether all parts are finished.

    Raises:
        UserError: If a name is unknown on all data sets, or a stored file cannot be read.
    """
    require_known_rows(only, [row.name for _, rows in planned for row in rows])
    for dataset, rows in planned:
        selected = [row.name for row in rows if row.name in only]
        if only and not selected:
            continue
        if not run_rows(dataset, rows, work, command, end, selected):
            return False
    return True


def require_known_rows(names: Sequence[str], known: Sequence[str]) -> None:
    """Checks that the rows that the user names exist.

    Raises:
        UserError: If there is no row of this name.
    """
    for name in names:
        if name not in known:
            raise UserError(f"There is no row {name!r}{did_you_mean(name, known)}")


def run_rows(
    dataset: AnyDataset, rows: Sequence[Row], work: Path, command: str, end: float, only: Sequence[str] = ()
) -> bool:
    """Runs all parts of rows that are not finished yet.

    Each row has a file `work/results/DATASET/ROW.json`, which is rewritten after every part. The file `dataset.json`
    in the same folder holds the ground truth of the test clips.

    Args:
        dataset (`AnyDataset`): The data set.
        rows (`Sequence[Row]`): The rows of the benchmark.
        work (`Path`): Folder of the benchmark.
        command (`str`): Command line that is stored with the figures.
        end (`float`): Value of `time.monotonic()` after which no part is started.
        only (`Sequence[str]`, *optional*, defaults to `()`): Names of the rows to run. Empty for the rows that run by
            default.

    Returns:
        `bool`: Whether all parts are finished.

    Raises:
        UserError: If a name is unknown, or a stored file cannot be read.
    """
    require_known_rows(only, [row.name for row in rows])
    folder = work / "results" / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "title": dataset.title,
        "identity": dataset.identity,
        "clips": _counts(dataset),
        "train": {"labels": dataset.train.labels, "people": dataset.people},
        **asdict(dataset.truth),
    }
    write_text(folder / "dataset.json", json.dumps(description) + "\n")
    for row in rows:
        selected = row.name in only if only else row.by_default
        if selected and not _run_row(dataset, row, work, folder / f"{row.name}.json", command, end):
            return False
    return True


def _run_row(dataset: AnyDataset, row: Row, work: Path, path: Path, command: str, end: float) -> bool:
    key = row_key(dataset, row)
    state = read_state(path) if path.is_file() else None
    if state is None or state["key"] != key:
        state = {"row": row.name, "title": row.title, "dataset": dataset.name, "key": key, "parts": {}}
    state |= {"identity": dataset.identity, "config": row.config}
    for part in row.parts:
        if part in state["parts"]:
            continue
        if time.monotonic() > end:
            return False
        start = time.perf_counter()
        scratch = work / "scratch" / f"{dataset.name}-{row.name}-{part.replace(' ', '-')}-{key[:12]}"
        result = row.run(part, state["parts"], scratch)
        if "predicted" in result:
            figures = figures_of(outcomes([result], dataset.truth), dataset.truth)
            result["figures"] = {name: values[0] for name, values in figures.items()}
        # The provenance is stored with each part, because parts may come from different versions and machines.
        result |= {"seconds": round(time.perf_counter() - start, 1), "commit": commit(), "versions": versions()}
        result |= {"command": command, "machine": machine()}
        state["parts"][part] = result
        state["figures"] = _figures(state)
        state["complete"] = set(row.parts) <= set(state["parts"])
        write_text(path, json.dumps(state) + "\n")
        shutil.rmtree(scratch, ignore_errors=True)
        get_console().print(f"{dataset.name:9} {row.name:13} {part:12} {_summary(result)}", highlight=False)
    return True


def row_key(dataset: AnyDataset, row: Row) -> str:
    """Returns a hash of everything that determines the figures of a row.

    These are the clips, the weights, the descriptions, the parts, the config and the version of the package.
    """
    inputs = {
        "dataset": dataset.identity,
        "row": row.name,
        "parts": row.parts,
        "config": row.config,
        "version": tgdfer.__version__,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _figures(state: dict[str, Any]) -> dict[str, Any]:
    """Returns mean and standard deviation of each figure over the runs."""
    runs = [part["figures"] for part in runs_of(state).values()]
    return {name: mean_and_spread([run[name] for run in runs]) for name in runs[0]} if runs else {}


def _counts(dataset: AnyDataset) -> dict[str, dict[str, int]]:
    """Returns the number of clips, people and labels of each split."""
    return {
        split: {"clips": len(clips), "people": len(set(clips.people or [])), "labels": len(clips.classes)}
        for split, clips in (("train", dataset.train), ("test", dataset.test))
    }


def _summary(result: dict[str, Any]) -> str:
    """Summarises the result of a part in one line."""
    figures = result.get("figures") or {"held-out uar": result.get("held_out_uar")}
    texts = [f"{name} {100 * value:.1f}" for name, value in figures.items() if value is not None]
    return f"{', '.join(texts)}  ({result['seconds']:.0f} s)"
