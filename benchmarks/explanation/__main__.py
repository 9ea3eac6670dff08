"""Measures how true explanations are: `python -m benchmarks.explanation`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.explanation.report import write_explanation_report
from benchmarks.explanation.rows import explanation_rows
from benchmarks.harness.benchmark_dataset import Settings, rendered_dataset
from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    ClipModel,
    FiguresFile,
    Minutes,
    ReportFile,
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
from benchmarks.harness.trained_model import TrainedModel
from tgdfer.console import hide_loading_bars

app = new_app()


@app.command()
def explain(
    work: Annotated[Path, typer.Option(help="Folder of clips and results.")] = BENCHMARK,
    out: ReportFile = REPORTS / "explanation.md",
    figures: FiguresFile = FIGURES / "explanation.json",
    model: ClipModel = Settings.model,
    clips: TrainClips = Settings.clips,
    test_clips: TestClips = Settings.test_clips,
    trained: Annotated[
        str | None,
        typer.Option(
            envvar="TGDFER_TRAINED",
            help="Trained TG-DFER to measure as well: folder of a run or of a model, or Hub id.",
        ),
    ] = None,
    minutes: Minutes = 50.0,
) -> None:
    """Measure on rendered faces how true explanations are; the same command goes on where an earlier one stopped."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model, clips=clips, test_clips=test_clips)
    hide_loading_bars()
    with errors_as_sentences():
        dataset = rendered_dataset(settings, work)
        results = work / "explanation"  # apart from the rows of the baselines
        measured = None if trained is None else TrainedModel(trained)
        command = published_command(
            "benchmarks.explanation", **settings_options(settings), trained=(measured and measured.name, None)
        )
        if not run_rows(dataset, explanation_rows(dataset, measured), results, command, end):
            return print_time_is_over(minutes)
        write_explanation_report(results, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
