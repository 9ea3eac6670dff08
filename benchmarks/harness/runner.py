"""Runs rows part by part and keeps each part on disk as soon as it is done."""

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
from benchmarks.harness.provenance import commit, machine, versions
from benchmarks.harness.results import read_state, runs_of
from benchmarks.harness.row import Row
from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.files import write_text


def run_rows(
    dataset: AnyDataset, rows: Sequence[Row], work: Path, command: str, end: float, only: Sequence[str] = ()
) -> bool:
    """Runs all parts of rows that are not done yet.

    Each row has a file `work/results/DATASET/ROW.json`, which is written whole after every part. `dataset.json` beside
    it holds the truth about the test clips.

    Args:
        dataset: the data set.
        rows: the rows.
        work: folder of the benchmark.
        command: the command, which is kept with the figures.
        end: value of `time.monotonic()` after which no part is begun.
        only: names of the rows to run; empty for those that are run by default.

    Returns:
        Whether everything is done.

    Raises:
        UserError: if a name is unknown, or the folder holds a file that cannot be read.
    """
    for name in only:
        if name not in (known := [row.name for row in rows]):
            raise UserError(f"There is no row {name!r}{did_you_mean(name, known)}")
    folder = work / "results" / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "title": dataset.title,
        "identity": dataset.identity,
        "clips": _counts(dataset),
        "train": {"labels": dataset.train.labels, "people": dataset.people},
        **asdict(dataset.truth),
    }
    write_text(folder / "dataset.json", json.dumps(about) + "\n")
    for row in rows:
        wanted = row.name in only if only else row.by_default
        if wanted and not _run_row(dataset, row, work, folder / f"{row.name}.json", command, end):
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
        found = row.run(part, state["parts"], scratch)
        if "predicted" in found:
            figures = figures_of(outcomes([found], dataset.truth), dataset.truth)
            found["figures"] = {name: values[0] for name, values in figures.items()}
        # Each part says how it was run, because parts may come from different versions and machines.
        found |= {"seconds": round(time.perf_counter() - start, 1), "commit": commit(), "versions": versions()}
        found |= {"command": command, "machine": machine()}
        state["parts"][part] = found
        state["figures"] = _figures(state)
        state["complete"] = set(row.parts) <= set(state["parts"])
        write_text(path, json.dumps(state) + "\n")
        shutil.rmtree(scratch, ignore_errors=True)
        get_console().print(f"{dataset.name:9} {row.name:13} {part:12} {_shown(found)}", highlight=False)
    return True


def row_key(dataset: AnyDataset, row: Row) -> str:
    """Hash of everything that decides the figures of a row: clips, weights, descriptions, version and its config."""
    facts = {
        "dataset": dataset.identity,
        "row": row.name,
        "parts": row.parts,
        "config": row.config,
        "version": tgdfer.__version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _figures(state: dict[str, Any]) -> dict[str, Any]:
    """Mean and spread of every figure over the runs."""
    runs = [part["figures"] for part in runs_of(state).values()]
    return {name: mean_and_spread([run[name] for run in runs]) for name in runs[0]} if runs else {}


def _counts(dataset: AnyDataset) -> dict[str, dict[str, int]]:
    """Number of clips, people and labels of each split."""
    return {
        split: {"clips": len(clips), "people": len(set(clips.people or [])), "labels": len(clips.classes)}
        for split, clips in (("train", dataset.train), ("test", dataset.test))
    }


def _shown(found: dict[str, Any]) -> str:
    """One line about a part."""
    facts = [
        f"{name} {100 * value:.1f}"
        for name, value in (found.get("figures") or {"held-out uar": found.get("held_out_uar")}).items()
        if value is not None
    ]
    return f"{', '.join(facts)}  ({found['seconds']:.0f} s)"
