"""Measures the package on real faces, beside `fer`: `python -m benchmarks.real_faces run | report`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import get_console

from benchmarks.harness.benchmark_dataset import Settings, real_dataset
from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    ClipModel,
    FiguresFile,
    Minutes,
    RealClips,
    ReportFile,
    RowNames,
    errors_as_sentences,
    new_app,
    print_time_is_over,
    print_written,
    published_command,
    settings_options,
)
from benchmarks.harness.row import Row
from benchmarks.harness.runner import run_rows
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces.clip_rows import clip_rows
from benchmarks.real_faces.fer_environment import FerEnvironment
from benchmarks.real_faces.photograph_rows import photograph_rows
from benchmarks.real_faces.photographs import PhotographDataset
from benchmarks.real_faces.report import write_real_faces_report
from benchmarks.real_faces.words import write_words
from tgdfer.console import hide_loading_bars
from tgdfer.training.errors import UserError, nearest
from tgdfer.weights import DEFAULT_MODEL

app = new_app(__doc__)

WORK = Path("runs/real_faces")


@app.command()
def run(
    work: Annotated[Path, typer.Option(help="Folder of features and results, and of the environment of fer.")] = WORK,
    photographs: Annotated[
        Path | None,
        typer.Option(
            envvar="TGDFER_FERPLUS", help="Parquet file of photographs: columns image, label, split and near."
        ),
    ] = None,
    real: RealClips = None,
    trained: Annotated[
        str,
        typer.Option(
            envvar="TGDFER_TRAINED", help="Trained TG-DFER to measure: folder of a run or of a model, or Hub id."
        ),
    ] = DEFAULT_MODEL,
    model: ClipModel = Settings.model,
    face_model: Annotated[
        Path | None,
        typer.Option(envvar="TGDFER_FACE_MODEL", help="File of the face detector YuNet, instead of the Hub's."),
    ] = None,
    row: RowNames = None,
    minutes: Minutes = 50.0,
) -> None:
    """Run all rows that are not done; the same command goes on where an earlier one stopped."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model)
    hide_loading_bars()
    with errors_as_sentences():
        if photographs is None and real is None:
            raise UserError("There is nothing to measure: name a file with --photographs or a folder with --real.")
        measured = TrainedModel(trained)
        command = published_command(
            "benchmarks.real_faces",
            "run",
            **settings_options(settings),
            photographs=("FILE" if photographs else None, None),
            real=("FOLDER" if real else None, None),
            trained=(measured.name, DEFAULT_MODEL),
            row=(row or [], []),
        )
        fer = FerEnvironment(work / "fer")
        planned: list[tuple[Any, list[Row]]] = []
        if photographs is not None:
            faces = PhotographDataset(photographs, settings, work, face_model)
            planned.append((faces, photograph_rows(faces, fer, measured)))
        if real is not None:
            clips = real_dataset(settings, real)
            clips.require_complete()
            planned.append((clips, clip_rows(clips, fer, measured)))
        _require_known(row or [], [one.name for _, rows in planned for one in rows])
        for dataset, rows in planned:
            wanted = [one for one in rows if not row or one.name in row]
            if not run_rows(dataset, wanted, work, command, end):
                return print_time_is_over(minutes)
        write_words(work, measured, settings)
    get_console().print("All rows are done. Write the report: python -m benchmarks.real_faces report")


def _require_known(names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"There is no row {name!r}{nearest(name, known)}")


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    out: ReportFile = REPORTS / "real_faces.md",
    figures: FiguresFile = FIGURES / "real_faces.json",
) -> None:
    """Write tables and pictures of what is measured so far."""
    with errors_as_sentences():
        write_real_faces_report(work, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
