"""Time of training in two processes, compared with one: `python -m benchmarks.processes`.

LoRA is trained end to end on rendered clips, and frame features are computed for a frozen backbone. Each command runs
in one process and in two, with one thread for each process and the same number of clips per update.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    FiguresFile,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.harness.provenance import machine, versions
from benchmarks.harness.tables import markdown_table, paragraph, write_report
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, write_text
from tgdfer.training.provenance import commit
from tgdfer.training.rendered_faces import write_dataset

# Clips per update, of all processes together.
BATCH = 16
PROCESSES = (1, 2)
# How much faster two processes should be.
TARGET = 1.8
# Minutes that one process should take at least, so that starting Python does not decide.
MINUTES = 10

app = new_app()


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measured runs.

    Attributes:
        clips (`int`, *optional*, defaults to 40): Rendered clips of each of the seven labels.
        epochs (`int`, *optional*, defaults to 13): Epochs of the training.
        views (`int`, *optional*, defaults to 13): Views of each clip whose features are computed.
    """

    clips: int = 40
    epochs: int = 13
    views: int = 13


@app.command()
def processes(
    clips: Annotated[int, typer.Option(help="Rendered clips of each label.", min=2)] = Sizes.clips,
    epochs: Annotated[int, typer.Option(help="Epochs of the training.", min=1)] = Sizes.epochs,
    views: Annotated[int, typer.Option(help="Views of each clip whose features are computed.", min=1)] = Sizes.views,
    work: Annotated[Path, typer.Option(help="Folder of the clips, the runs and the finished parts.")] = Path(
        "runs/processes"
    ),
    out: ReportFile = REPORTS / "processes.md",
    figures: FiguresFile = FIGURES / "processes.json",
) -> None:
    """Train and compute features in one process and in two, and report how much faster two are.

    An interrupted measurement resumes with the next part. Nothing else should run on the machine meanwhile.
    """
    sizes = Sizes(clips, epochs, views)
    options = {name: (value, getattr(Sizes, name)) for name, value in asdict(sizes).items()}
    with errors_as_sentences():
        measured = measure_all(sizes, work)
        facts = {"commit": commit(), "machine": machine(), "versions": versions(("torch", "accelerate"))}
        command = published_command("benchmarks.processes", **options)
        contents = {"command": command, "provenance": facts, "sizes": asdict(sizes), "measured": measured}
        write_report(out, report_sections(contents), figures, contents)
    print_written(out)


def measure_all(sizes: Sizes, work: Path) -> dict[str, dict[str, Any]]:
    """Measures all parts that are not measured yet.

    Args:
        sizes (`Sizes`): Sizes of the runs.
        work (`Path`): Folder of the clips, the runs and the finished parts.

    Returns:
        For "training" and "features", and for each number of processes as text, `seconds` (of the whole command) and
        `loss` (of the last epoch); for "training" also `training_seconds`, without start and end.
    """
    place = work / "-".join(map(str, asdict(sizes).values()))
    data = work / f"clips-{sizes.clips}"
    if not data.is_dir():
        write_dataset(data, clips={"train": sizes.clips})
    path = place / "parts.json"
    done: dict[str, dict[str, Any]] = read_json(path) if path.is_file() else {"training": {}, "features": {}}
    measure: dict[str, Callable[[int, Path], dict[str, Any]]] = {
        "training": lambda count, run: _train(data, run, count, ["--epochs", str(sizes.epochs)]),
        "features": lambda count, run: _train(
            data, run, count, ["--epochs", "1", "--frozen-features", "--feature-views", str(sizes.views)]
        ),
    }
    for kind, run_part in measure.items():
        for count in PROCESSES:
            if str(count) not in done[kind]:
                done[kind][str(count)] = run_part(count, place / f"{kind}-{count}")
                write_text(path, json.dumps(done, indent=2) + "\n")
    return done


def _train(data: Path, run: Path, processes: int, options: Sequence[str]) -> dict[str, Any]:
    """Runs `tgdfer train` in a number of processes of one thread, and measures it."""
    for leftover in (run, run.with_name(f"{run.name}-cache")):  # Of a measurement that was interrupted.
        shutil.rmtree(leftover, ignore_errors=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "tgdfer", "train"]
    command += ["--dataset", str(data), "--output", str(run), "--batch-size", str(BATCH // processes)]
    command += ["--validation-fraction", "0", "--workers", "0", "--model-options", "lora_layers=2", *options]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    environment["TGDFER_CACHE"] = str(run.with_name(f"{run.name}-cache").absolute())
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"tgdfer train in {processes} processes failed: {done.stderr[-1500:]}")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"seconds": seconds, "training_seconds": sum(row["seconds"] for row in rows), "loss": rows[-1]["loss"]}


def report_sections(contents: dict[str, Any]) -> list[str]:
    """Returns the sections of the report."""
    facts, sizes, measured = contents["provenance"], contents["sizes"], contents["measured"]
    number = 7 * sizes["clips"]
    titles = {
        "training": f"training LoRA end to end: {sizes['epochs']} epochs of {number:,} clips",
        "features": f"frame features: {sizes['views']} views of {number:,} clips, and one epoch on them",
    }
    rows, short = [], []
    for kind, title in titles.items():
        one, two = (measured[kind][str(count)] for count in PROCESSES)
        rows.append([title, *(f"{part['seconds']:.0f}" for part in (one, two)), _ratio(one, two, "seconds")])
        if kind == "training":
            cells = [f"{part['training_seconds']:.0f}" for part in (one, two)]
            rows.append(["of these, the epochs", *cells, _ratio(one, two, "training_seconds")])
        if one["seconds"] < 60 * MINUTES:
            short.append(kind)
    installed = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    texts = [
        "# Two processes compared with one",
        f"`{contents['command']}` generates this page. Change the text in `benchmarks/processes.py`. Measured on"
        f" {facts['machine']}, commit {facts['commit']}, {installed}.",
        "Rendered clips are read, augmented and encoded by `clip-tiny-faces`, with 16 frames of each clip. Every"
        f" process has one thread and decodes its clips itself. An update has {BATCH} clips of all processes"
        " together, so two processes learn from the same clips in the same order as one. The seconds are those of the"
        " whole command, from its start to its end, with importing and saving.",
        f"The target is a factor of {TARGET} with at least {MINUTES} minutes for one process.",
        markdown_table(["", "one process, s", "two processes, s", "factor"], rows),
        "Starting Python, importing the libraries and saving take about as long with two processes as with one. The"
        " longer a training, the less this matters, so the factor of the epochs is that of a long training.",
    ]
    if short:
        texts.append(
            f"One process took less than {MINUTES} minutes for {' and '.join(short)}, so starting Python has a larger"
            " share than in a real training."
        )
    return [text if text.startswith(("#", "|")) else paragraph(text) for text in texts]


def _ratio(one: dict[str, Any], two: dict[str, Any], name: str) -> str:
    return f"{one[name] / two[name]:.2f}"


if __name__ == "__main__":
    app()
