"""Kills trainings at random steps, and checks that they resume to identical weights: `python -m benchmarks.resume`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    FiguresFile,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.resume.measure import measure, settings
from benchmarks.resume.report import write_resume_report

app = new_app()


@app.command()
def resume(
    out: ReportFile = REPORTS / "resume.md",
    figures: FiguresFile = FIGURES / "resume.json",
    seed: Annotated[int, typer.Option(help="Seed of the kill points.", min=0)] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Only a few kills and epochs.")] = False,
) -> None:
    """Kill trainings at random steps, resume them, and compare them with a run that was never interrupted."""
    command = published_command("benchmarks.resume", seed=(seed, 0)) + (" --quick" if quick else "")
    with errors_as_sentences(), tempfile.TemporaryDirectory(prefix="tgdfer-resume-") as work:
        chosen = settings(4 if quick else 1)
        outcomes = {one.title: (one, measure(one, Path(work), seed)) for one in chosen if one.runs}
        write_resume_report(outcomes, command, out, figures)
    print_written(out)
    if not all(all(outcome.identical) and all(outcome.same_rows) for _, outcome in outcomes.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
