"""Compares TG-DFER with simple methods: `python -m benchmarks.baselines run | report`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.baselines.report import write_baselines_report
from benchmarks.baselines.rows import rows_of
from benchmarks.harness.benchmark_dataset import Settings, real_dataset, rendered_dataset
from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    ClipModel,
    FiguresFile,
    Minutes,
    RealClips,
    ReportFile,
    RowNames,
    TestClips,
    TrainClips,
    errors_as_sentences,
    new_app,
    print_time_is_over,
    print_written,
    published_command,
    settings_options,
)
from benchmarks.harness.runner import run_rows
from tgdfer.console import hide_loading_bars

app = new_app(__doc__)


@app.command()
def run(
    work: Annotated[Path, typer.Option(help="Folder of the clips and of the results.")] = BENCHMARK,
    real: RealClips = None,
    model: ClipModel = Settings.model,
    clips: TrainClips = Settings.clips,
    test_clips: TestClips = Settings.test_clips,
    row: RowNames = None,
    minutes: Minutes = 50.0,
) -> None:
    """Run all rows that are not finished. An interrupted measurement is resumed by the same command."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model, clips=clips, test_clips=test_clips)
    command = published_command(
        "benchmarks.baselines",
        "run",
        **settings_options(settings),
        row=(row or [], []),
        real=("FOLDER" if real else None, None),
    )
    hide_loading_bars()
    with errors_as_sentences():
        # The folder of the user is checked first, because rendering takes minutes.
        datasets = [real_dataset(settings, real)] if real else []
        for dataset in datasets:
            dataset.require_complete()
        for dataset in [rendered_dataset(settings, work), *datasets]:
            if not run_rows(dataset, rows_of(dataset), work, command, end, row or ()):
                return print_time_is_over(minutes)
    get_console().print("All rows are finished. To write the report, run: python -m benchmarks.baselines report")


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = BENCHMARK,
    out: ReportFile = REPORTS / "baselines.md",
    figures: FiguresFile = FIGURES / "baselines.json",
) -> None:
    """Write the report of the rows that are finished so far."""
    with errors_as_sentences():
        write_baselines_report(work, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
