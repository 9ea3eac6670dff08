"""Measures whether a model is sensitive to the order of frames: `python -m benchmarks.temporal run | report`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    FiguresFile,
    Minutes,
    ReportFile,
    RowNames,
    new_app,
    published_command,
    say_time_is_over,
    say_written,
    sentences,
)
from benchmarks.harness.runner import run_rows
from benchmarks.temporal.dataset import PEOPLE, pair_dataset
from benchmarks.temporal.pairs import sample_pairs
from benchmarks.temporal.report import write_temporal_report
from benchmarks.temporal.rows import temporal_rows
from tgdfer.console import hide_loading_bars

app = new_app(__doc__)

WORK = Path("runs/temporal")
# Epochs at most, and one view: the pairs are not augmented.
SETTINGS = Settings(views=1, epochs=20)


@app.command()
def run(
    work: Annotated[Path, typer.Option(help="Folder of results.")] = WORK,
    minutes: Minutes = 50,
    row: RowNames = None,
) -> None:
    """Measure the rows that are not done yet."""
    end = time.monotonic() + 60 * minutes
    hide_loading_bars()
    with sentences():
        dataset = pair_dataset(SETTINGS)
        command = published_command("benchmarks.temporal", "run")
        if not run_rows(dataset, temporal_rows(dataset), work, command, end, row or ()):
            return say_time_is_over(minutes)
    get_console().print("All rows are done. Write the report: python -m benchmarks.temporal report")


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    out: ReportFile = REPORTS / "temporal.md",
    figures: FiguresFile = FIGURES / "temporal.json",
) -> None:
    """Write table and picture of what is measured so far."""
    with sentences():
        write_temporal_report(work, out, figures, list(sample_pairs("test", *PEOPLE["test"])))
    say_written(out)


if __name__ == "__main__":
    app()
