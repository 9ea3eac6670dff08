"""Measures what TG-DFER costs beside its own CLIP, in time and memory: `python -m benchmarks.speed`."""

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
    repetitions: Annotated[int, typer.Option(help="How often each thing is timed.", min=1)] = Sizes.repetitions,
    work: Annotated[Path, typer.Option(help="Folder of the parts that are done.")] = WORK,
    output: Annotated[Path, typer.Option(help="Report to write, in Markdown; a picture goes beside it.")] = REPORTS
    / "performance.md",
    figures: FiguresFile = FIGURES / "performance.json",
    minutes: Annotated[float, typer.Option(help="Begin nothing after so many minutes.")] = 100.0,
) -> None:
    """Measure time and memory of the network beside its CLIP; the same command goes on where an earlier one stopped.

    Each part runs in a process of its own and is kept as soon as it is done. The GPU is measured if there is one.
    """
    sizes = Sizes(repetitions=repetitions)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with errors_as_sentences():
        measured = measure_parts(sizes, work, devices, time.monotonic() + 60 * minutes)
    left = [part for found in measured.values() for name, part in parts_of(sizes).items() if name not in found]
    if left:
        get_console().print(
            f"The time is over, {len(left)} parts are left: the same command goes on where this one stopped."
        )
    # Trainings are measured last, and the report can do without them.
    if all(part["kind"] == "training" for part in left):
        write_speed_report(sizes, measured, output, figures)
        print_written(output)


if __name__ == "__main__":
    app()
