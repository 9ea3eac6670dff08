"""Running the commands of the rehearsal in child processes, and measuring their time and memory."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tgdfer
from benchmarks.dfew_rehearsal.folds import train_all_folds
from benchmarks.dfew_rehearsal.steps import Steps
from benchmarks.dfew_rehearsal.tree import DFEW, FRAMES, TOTAL, write_tree
from tgdfer import TGDFERForVideoClassification, TGDFERProcessor, built_in_descriptions
from tgdfer.training.errors import UserError

# Side of the pictures that the network reads.
PIXELS = 48
# Runs commands of `tgdfer`, which are separated by "+", and prints the CPU time and the peak memory.
_CHILD = """
import resource, sys
from tgdfer.command_line import main
words, codes = sys.argv[1:], []
while words:
    end = words.index("+") if "+" in words else len(words)
    codes.append(main(words[:end]))
    words = words[end + 1:]
used = resource.getrusage(resource.RUSAGE_SELF)
print("measured", used.ru_utime + used.ru_stime, used.ru_maxrss, max(codes))
"""


def run_commands(*commands: Sequence[str], expected: int = 0) -> dict[str, float]:
    """Runs commands of `tgdfer`, one after the other, in one child process with one thread.

    Args:
        *commands (`Sequence[str]`): Arguments of each command.
        expected (`int`, *optional*, defaults to 0): Highest exit code of the commands.

    Returns:
        `seconds` (from start to end), `cpu_seconds` and `peak_bytes`.

    Raises:
        UserError: If a command ends with another exit code.
    """
    words = [word for number, command in enumerate(commands) for word in (["+"] if number else []) + [*command]]
    start = time.perf_counter()
    threads = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *words], capture_output=True, text=True, env=os.environ | threads
    )
    seconds = time.perf_counter() - start
    line = next((line for line in done.stdout.splitlines() if line.startswith("measured ")), None)
    if line is None or int(line.split()[3]) != expected:
        raise UserError(f"tgdfer {' '.join(commands[0])} failed: {done.stdout[-500:]}{done.stderr[-1500:]}")
    _, cpu, peak, _ = line.split()
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "cpu_seconds": float(cpu), "peak_bytes": int(peak) * unit}


def untrained_model(folder: Path) -> Path:
    """Saves an untrained model for small pictures, which compares frames with the descriptions of the classes."""
    if not (folder / "model.safetensors").is_file():
        descriptions = built_in_descriptions(sorted(DFEW.classes))
        processor = TGDFERProcessor.from_clip(str(tgdfer.clip_tiny_faces()), descriptions, num_frames=FRAMES)
        model = TGDFERForVideoClassification.from_clip(
            tgdfer.clip_tiny_faces(), processor.class_prompts(), num_frames=FRAMES
        )
        # Larger pictures would measure the network instead of the data.
        processor.video_processor.size = {"shortest_edge": PIXELS}
        processor.video_processor.crop_size = {"height": PIXELS, "width": PIXELS}
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def rehearse(work: Path, total: int, folds: str | None = None) -> dict[str, Any]:
    """Generates a tree, and checks, converts and evaluates it.

    Args:
        work (`Path`): Folder of the rehearsal.
        total (`int`): Number of clips.
        folds (`str`, *optional*): Folds to train on, as for `tgdfer train --folds`. By default nothing is trained.

    Returns:
        `total`, `listed`; `check`, `convert` and `evaluate` as in `run_commands`; `findings`, the number of findings
        of each kind; `shards`; `parquet_bytes`; `folds`, the WAR and UAR of each fold; `same_answers`, the share of
        clips of the first fold that get the same answer from the converted data set; and with `folds` also
        `training`, as in `train_all_folds`.
    """
    place = work / str(total)
    root, converted = write_tree(place / "DFEW", total), place / "dfew-parquet"
    steps = Steps(place / "steps.json")
    source = ["--data-root", str(root)]
    check = ["data", "check", "dfew", *source, "--output", str(place / "check"), "--workers", "1"]
    # A smaller tree cannot have folds of the published sizes.
    checked = steps.measure("check", lambda: run_commands(check, expected=0 if total == TOTAL else 1))
    report = json.loads((place / "check" / "check.json").read_text(encoding="utf-8"))
    convert = ["data", "convert", "dfew", *source, "--output", str(converted), "--workers", "1"]

    def convert_anew() -> dict[str, float]:
        shutil.rmtree(converted, ignore_errors=True)
        return run_commands(convert)

    made = steps.measure("convert", convert_anew)
    model = str(untrained_model(work / "untrained"))
    numbers = range(1, DFEW.folds + 1)
    commands = [
        ["evaluate", model, "--dataset", "dfew", *source, "--fold", str(fold), "--output", str(place / f"fold_{fold}")]
        for fold in numbers
    ]
    evaluated = steps.measure("evaluate", lambda: run_commands(*commands))
    again = ["evaluate", model, "--dataset", str(converted), "--dataset-config", "fold_1"]
    again += ["--output", str(place / "from_parquet")]
    from_parquet = steps.measure("evaluate_parquet", lambda: run_commands(again))
    metrics = [json.loads((place / f"fold_{fold}" / "metrics.json").read_text(encoding="utf-8")) for fold in numbers]
    shards = list((converted / "data").glob("*.parquet"))
    kinds = {finding["kind"]: len(finding["names"]) for finding in report["findings"] if finding["kind"] != "short"}
    training = train_all_folds(place, root, untrained_model(work / "untrained"), folds, steps) if folds else None
    return {
        "total": total,
        "listed": sum(entry["num_clips"] for entry in metrics),
        "check": checked,
        "convert": made,
        "evaluate": evaluated,
        "evaluate_parquet": from_parquet,
        "findings": kinds,
        "num_errors": report["num_errors"],
        "shards": len(shards),
        "parquet_bytes": sum(shard.stat().st_size for shard in shards),
        "folds": [{name: entry[name] for name in ("num_clips", "war", "uar")} for entry in metrics],
        "same_answers": _same_answers(place / "fold_1", place / "from_parquet"),
        **({"training": training} if training else {}),
    }


def _same_answers(first: Path, second: Path) -> float:
    """Returns the share of clips with the same answer in two evaluations."""
    answers = []
    for folder in (first, second):
        lines = (folder / "predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
        rows = [line.split(",") for line in lines]
        answers.append({Path(row[0]).stem: row[2] for row in rows})
    return float(np.mean([answers[1][file] == answer for file, answer in answers[0].items()]))
