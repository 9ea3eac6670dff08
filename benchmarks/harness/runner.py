"""Runs rows part by part, and keeps each part as soon as it is done."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from rich import get_console

import tgdfer
from benchmarks.harness.comparison import figures_of, mean_and_spread, outcomes
from benchmarks.harness.given_features import AnyGround
from benchmarks.harness.row import Row
from tgdfer.training.errors import UserError, nearest
from tgdfer.training.files import write_text


def run_rows(
    ground: AnyGround, rows: Sequence[Row], work: Path, command: str, end: float, only: Sequence[str] = ()
) -> bool:
    """Runs all parts of rows that are not done yet.

    Each row has a file `work/results/GROUND/ROW.json`, written whole after every part, beside `ground.json`, the
    truth about the test clips.

    Args:
        ground: what they run on.
        rows: the rows.
        work: folder of the benchmark.
        command: what was typed, to be kept with the figures.
        end: value of `time.monotonic()` after which no part is begun.
        only: names of the rows to run; by default those that are run by default.

    Returns:
        Whether all is done.

    Raises:
        UserError: if a row is not known, or the folder holds a file that cannot be read.
    """
    for name in only:
        if name not in (known := [row.name for row in rows]):
            raise UserError(f"There is no row {name!r}{nearest(name, known)}")
    folder = work / "results" / ground.name
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "title": ground.title,
        "identity": ground.identity,
        "clips": _counts(ground),
        "train": {"labels": ground.train.labels, "people": ground.people},
        **asdict(ground.truth),
    }
    write_text(folder / "ground.json", json.dumps(about) + "\n")
    for row in rows:
        wanted = row.name in only if only else row.by_default
        if wanted and not _run_row(ground, row, work, folder / f"{row.name}.json", command, end):
            return False
    return True


def _run_row(ground: AnyGround, row: Row, work: Path, path: Path, command: str, end: float) -> bool:
    key = row_key(ground, row)
    state = read_row(path) if path.is_file() else None
    if state is None or state["key"] != key:
        state = {"row": row.name, "title": row.title, "ground": ground.name, "key": key, "parts": {}}
    state |= {"identity": ground.identity, "config": row.config}
    for part in row.parts:
        if part in state["parts"]:
            continue
        if time.monotonic() > end:
            return False
        start = time.perf_counter()
        scratch = work / "scratch" / f"{ground.name}-{row.name}-{part.replace(' ', '-')}-{key[:12]}"
        found = row.run(part, state["parts"], scratch)
        if "predicted" in found:
            figures = figures_of(outcomes([found], ground.truth), ground.truth)
            found["figures"] = {name: values[0] for name, values in figures.items()}
        # A row may be done in several pieces, and by several versions.
        found |= {"seconds": round(time.perf_counter() - start, 1), "commit": commit(), "versions": _versions()}
        found |= {"command": command, "machine": machine()}
        state["parts"][part] = found
        state["figures"] = _figures(state)
        state["complete"] = set(row.parts) <= set(state["parts"])
        write_text(path, json.dumps(state) + "\n")
        shutil.rmtree(scratch, ignore_errors=True)
        get_console().print(f"{ground.name:9} {row.name:13} {part:12} {_shown(found)}", highlight=False)
    return True


def row_key(ground: AnyGround, row: Row) -> str:
    """Changes with all that decides the figures of a row: clips, weights, words, version and its own config."""
    facts = {
        "ground": ground.identity,
        "row": row.name,
        "parts": row.parts,
        "config": row.config,
        "version": tgdfer.__version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_row(path: Path) -> dict[str, Any]:
    """Reads what a run has written.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, and its row is run again.") from error


def runs_of(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a row that predict the test clips."""
    return {name: part for name, part in state["parts"].items() if "predicted" in part}


def _figures(state: dict[str, Any]) -> dict[str, Any]:
    """Mean and spread of every figure over the runs."""
    runs = [part["figures"] for part in runs_of(state).values()]
    return {name: mean_and_spread([run[name] for run in runs]) for name in runs[0]} if runs else {}


def machine() -> str:
    """What it runs on, in words that tell nothing of whose it is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = {1: "one CPU core", 2: "two CPU cores", 4: "four CPU cores", 8: "eight CPU cores"}
    return words.get(cores, f"{cores} CPU cores") + (" and a GPU" if torch.cuda.is_available() else "")


def commit() -> str | None:
    """The commit of the code that runs, marked where it has been changed since; None outside of a repository."""
    here = Path(tgdfer.__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # Where the package is installed below somebody's project, the commit is not that of this code.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        command = [*git, "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    versions = {"tgdfer": tgdfer.__version__, "python": platform.python_version()}
    return versions | {"torch": torch.__version__, "transformers": transformers.__version__}


def _counts(ground: AnyGround) -> dict[str, dict[str, int]]:
    """Clips and people of each part, and labels."""
    return {
        split: {"clips": len(clips), "people": len(set(clips.people or [])), "labels": len(clips.classes)}
        for split, clips in (("train", ground.train), ("test", ground.test))
    }


def _shown(found: dict[str, Any]) -> str:
    """A part in a line."""
    facts = [
        f"{name} {100 * value:.1f}"
        for name, value in (found.get("figures") or {"held-out uar": found.get("held_out_uar")}).items()
        if value is not None
    ]
    return f"{', '.join(facts)}  ({found['seconds']:.0f} s)"
