"""Measures whether explanations are true: `python -m benchmarks.explanation`."""

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
    work: Annotated[Path, typer.Option(help="Folder of the clips and of the results.")] = BENCHMARK,
    out: ReportFile = REPORTS / "explanation.md",
    figures: FiguresFile = FIGURES / "explanation.json",
    model: ClipModel = Settings.model,
    clips: TrainClips = Settings.clips,
    test_clips: TestClips = Settings.test_clips,
    trained: Annotated[
        str | None,
        typer.Option(
            envvar="TGDFER_TRAINED",
            help="Additional trained TG-DFER model to measure: folder of a run or of a model, or Hub id.",
        ),
    ] = None,
    minutes: Minutes = 50.0,
) -> None:
    """Measure on rendered faces whether explanations are true. An interrupted measurement is resumed."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model, clips=clips, test_clips=test_clips)
    hide_loading_bars()
    with errors_as_sentences():
        dataset = rendered_dataset(settings, work)
        results = work / "explanation"  # The results of the baselines are in another folder.
        trained_model = None if trained is None else TrainedModel(trained)
        command = published_command(
            "benchmarks.explanation",
            **settings_options(settings),
            trained=(trained_model and trained_model.name, None),
        )
        if not run_rows(dataset, explanation_rows(dataset, trained_model), results, command, end):
            return print_time_is_over(minutes)
        write_explanation_report(results, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
