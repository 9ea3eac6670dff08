"""Measures time and memory of TG-DFER, compared with its own CLIP: `python -m benchmarks.speed`."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import get_console

from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    FiguresFile,
    errors_as_sentences,
    new_app,
    print_written,
)
from benchmarks.speed.parts import Sizes, parts_of
from benchmarks.speed.processes import measure_parts
from benchmarks.speed.report import write_speed_report

app = new_app()

WORK = Path("runs/speed")


@app.command()
def speed(
    repetitions: Annotated[
        int, typer.Option(help="Number of times that each measurement is repeated.", min=1)
    ] = Sizes.repetitions,
    work: Annotated[Path, typer.Option(help="Folder of the finished parts.")] = WORK,
    output: Annotated[
        Path, typer.Option(help="Markdown file of the report. Its picture is written beside it.")
    ] = REPORTS / "performance.md",
    figures: FiguresFile = FIGURES / "performance.json",
    minutes: Annotated[float, typer.Option(help="Time budget in minutes. No part is started after it.")] = 100.0,
) -> None:
    """Measure time and memory of the network and of its CLIP. An interrupted measurement is resumed.

    Each part runs in a new process and is stored as soon as it is finished. If there is a GPU, it is measured too.
    """
    sizes = Sizes(repetitions=repetitions)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with errors_as_sentences():
        measured = measure_parts(sizes, work, devices, time.monotonic() + 60 * minutes)
    missing = [part for parts in measured.values() for name, part in parts_of(sizes).items() if name not in parts]
    if missing:
        get_console().print(
            f"The time budget is used up, and {len(missing)} parts are missing. Run the same command again to resume."
        )
    # Training is measured last, and the report can be written without it.
    if all(part["kind"] == "training" for part in missing):
        write_speed_report(sizes, measured, output, figures)
        print_written(output)


if __name__ == "__main__":
    app()
