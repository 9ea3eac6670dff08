"""Measures the package on real faces, compared with `fer`: `python -m benchmarks.real_faces run | report`."""

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
    settings_options,
)
from benchmarks.harness.row import Row
from benchmarks.harness.runner import require_known_rows, run_rows
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces.clip_rows import clip_rows
from benchmarks.real_faces.fer_environment import FerEnvironment
from benchmarks.real_faces.named_descriptions import write_descriptions
from benchmarks.real_faces.photograph_rows import photograph_rows
from benchmarks.real_faces.photographs import PhotographDataset
from benchmarks.real_faces.report import write_real_faces_report
from tgdfer.console import hide_loading_bars
from tgdfer.training.errors import UserError
from tgdfer.weights import DEFAULT_MODEL

app = new_app(__doc__)

WORK = Path("runs/real_faces")


@app.command()
def run(
    work: Annotated[
        Path, typer.Option(help="Folder of the features, of the results, and of the virtual environment of fer.")
    ] = WORK,
    photographs: Photographs = None,
    real: RealClips = None,
    trained: Annotated[
        str,
        typer.Option(envvar="TGDFER_TRAINED", help="Trained TG-DFER model: folder of a run or of a model, or Hub id."),
    ] = DEFAULT_MODEL,
    model: ClipModel = Settings.model,
    face_model: FaceModel = None,
    row: RowNames = None,
    minutes: Minutes = 50.0,
) -> None:
    """Run all rows that are not finished. An interrupted measurement is resumed by the same command."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model)
    hide_loading_bars()
    with errors_as_sentences():
        if photographs is None and real is None:
            raise UserError("There is nothing to measure: give a file to --photographs or a folder to --real.")
        trained_model = TrainedModel(trained)
        command = published_command(
            "benchmarks.real_faces",
            "run",
            **settings_options(settings),
            photographs=("FILE" if photographs else None, None),
            real=("FOLDER" if real else None, None),
            trained=(trained_model.name, DEFAULT_MODEL),
            row=(row or [], []),
        )
        fer = FerEnvironment(work / "fer")
        planned: list[tuple[Any, list[Row]]] = []
        if photographs is not None:
            faces = PhotographDataset(photographs, settings, work, face_model)
            planned.append((faces, photograph_rows(faces, fer, trained_model)))
        if real is not None:
            clips = real_dataset(settings, real)
            clips.require_complete()
            planned.append((clips, clip_rows(clips, fer, trained_model)))
        require_known_rows(row or [], [planned_row.name for _, rows in planned for planned_row in rows])
        for dataset, rows in planned:
            selected = [planned_row for planned_row in rows if not row or planned_row.name in row]
            if not run_rows(dataset, selected, work, command, end):
                return print_time_is_over(minutes)
        write_descriptions(work, trained_model, settings)
    get_console().print("All rows are finished. To write the report, run: python -m benchmarks.real_faces report")


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    out: ReportFile = REPORTS / "real_faces.md",
    figures: FiguresFile = FIGURES / "real_faces.json",
) -> None:
    """Write the report of the rows that are finished so far."""
    with errors_as_sentences():
        write_real_faces_report(work, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
