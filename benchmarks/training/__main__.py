"""Measures what the options of training bring on real faces: `python -m benchmarks.training run | report`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.harness.benchmark_dataset import Settings, real_dataset
from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    FaceModel,
    FiguresFile,
    Minutes,
    Photographs,
    RealClips,
    ReportFile,
    RowNames,
    errors_as_sentences,
    new_app,
    print_time_is_over,
    print_written,
    published_command,
)
from benchmarks.harness.runner import run_datasets
from benchmarks.real_faces.photographs import PhotographDataset
from benchmarks.training.photograph_folder import photograph_folder
from benchmarks.training.report import write_training_report
from benchmarks.training.rows import rows_of
from tgdfer.console import hide_loading_bars
from tgdfer.training.errors import UserError

app = new_app(__doc__)

WORK = Path("runs/training_options")


@app.command()
def run(
    real: RealClips = None,
    photographs: Photographs = None,
    work: Annotated[Path, typer.Option(help="Folder of the photographs and of the results.")] = WORK,
    face_model: FaceModel = None,
    row: RowNames = None,
    minutes: Minutes = 50.0,
) -> None:
    """Run all rows that are not finished. An interrupted measurement is resumed by the same command."""
    end = time.monotonic() + 60 * minutes
    settings = Settings()
    command = published_command(
        "benchmarks.training", "run", real=("FOLDER", None), photographs=("FILE", None), row=(row or [], [])
    )
    hide_loading_bars()
    with errors_as_sentences():
        if real is None or photographs is None:
            raise UserError(
                "The rows need clips and photographs: give a folder to --real and a file to --photographs."
            )
        clips = real_dataset(settings, real)
        clips.require_complete()
        faces = PhotographDataset(photographs, settings, work, face_model)
        stills = photograph_folder(faces, settings, work / "photographs")
        planned = [(clips, rows_of(clips, stills)), (stills, rows_of(stills))]
        if not run_datasets(planned, work, command, end, row or ()):
            return print_time_is_over(minutes)
    get_console().print("All rows are finished. To write the report, run: python -m benchmarks.training report")


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    out: ReportFile = REPORTS / "training.md",
    figures: FiguresFile = FIGURES / "training.json",
) -> None:
    """Write the report of the rows that are finished so far."""
    with errors_as_sentences():
        write_training_report(work, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
