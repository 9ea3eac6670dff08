"""Measures the contribution of each part of TG-DFER: `python -m benchmarks.ablation run | report`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.ablation.report import write_ablation_report
from benchmarks.ablation.rows import rows_of
from benchmarks.harness.benchmark_dataset import Settings, real_dataset, rendered_dataset
from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FaceModel,
    FiguresFile,
    Minutes,
    Photographs,
    RealClips,
    RenderedClips,
    ReportFile,
    RowNames,
    errors_as_sentences,
    new_app,
    print_time_is_over,
    print_written,
    published_command,
)
from benchmarks.harness.feature_dataset import AnyDataset, FeatureDataset
from benchmarks.harness.runner import run_datasets
from benchmarks.real_faces.photograph_bags import photograph_bags
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.console import hide_loading_bars

app = new_app(__doc__)

WORK = Path("runs/ablation")


@app.command()
def run(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    clips: RenderedClips = BENCHMARK,
    real: RealClips = None,
    features: Annotated[
        Path | None,
        typer.Option(
            envvar="TGDFER_FEATURES",
            help=".npz file of frame features of another network, with label, split, person and intensity.",
        ),
    ] = None,
    photographs: Photographs = None,
    face_model: FaceModel = None,
    row: RowNames = None,
    minutes: Minutes = 50.0,
) -> None:
    """Run all rows that are not finished. An interrupted measurement is resumed by the same command."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(epochs=20)
    command = published_command(
        "benchmarks.ablation",
        "run",
        row=(row or [], []),
        real=("FOLDER" if real else None, None),
        features=("FILE" if features else None, None),
        photographs=("FILE" if photographs else None, None),
    )
    hide_loading_bars()
    with errors_as_sentences():
        # The files of the user are checked first, because rendering takes minutes.
        user_datasets: list[AnyDataset] = [real_dataset(settings, real)] if real else []
        user_datasets += [FeatureDataset(features, settings)] if features else []
        if photographs:
            faces = PhotographDataset(photographs, settings, work, face_model)
            user_datasets.append(photograph_bags(faces, settings))
        for dataset in user_datasets:
            dataset.require_complete()
        planned = [(dataset, rows_of(dataset)) for dataset in [rendered_dataset(settings, clips), *user_datasets]]
        if not run_datasets(planned, work, command, end, row or ()):
            return print_time_is_over(minutes)
    get_console().print("All rows are finished. To write the report, run: python -m benchmarks.ablation report")


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    out: ReportFile = REPORTS / "ablation.md",
    figures: FiguresFile = FIGURES / "ablation.json",
) -> None:
    """Write the report of the rows that are finished so far."""
    with errors_as_sentences():
        write_ablation_report(work, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
