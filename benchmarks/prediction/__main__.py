"""Measures time and memory of `tgdfer predict` beside `fer`: `python -m benchmarks.prediction`."""

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
from benchmarks.prediction.fer_whole import WholeFer
from benchmarks.prediction.report import write_prediction_report
from benchmarks.prediction.runs import Runs, prepared, rendered

app = new_app()

WORK = Path("runs/prediction")


@app.command()
def prediction(
    videos: Annotated[
        list[Path] | None,
        typer.Option(help="Recording to measure; may be given more than once. By default one is rendered."),
    ] = None,
    face_model: Annotated[
        Path | None,
        typer.Option(envvar="TGDFER_FACE_MODEL", help="File of YuNet; without it MTCNN alone is measured."),
    ] = None,
    fer: Annotated[Path | None, typer.Option(help="Environment of fer; by default in the work folder.")] = None,
    repeats: Annotated[int, typer.Option(help="How often each command is run.", min=1)] = 2,
    minutes: Annotated[
        int, typer.Option(help="Also measure a video of 1920x1080 of so many minutes; 0 leaves it out.", min=0)
    ] = 0,
    work: Annotated[Path, typer.Option(help="Folder of the runs that are done.")] = WORK,
    out: ReportFile = REPORTS / "prediction.md",
    figures: FiguresFile = FIGURES / "prediction.json",
) -> None:
    """Measure CPU seconds and peak memory of predictions; the same command goes on where an earlier one stopped."""
    command = published_command(
        "benchmarks.prediction",
        videos=([path.name for path in videos or []], []),
        face_model=(face_model and face_model.name, None),
        repeats=(repeats, 2),
        minutes=(minutes, 0),
    )
    with errors_as_sentences():
        work.mkdir(parents=True, exist_ok=True)
        environment = WholeFer((fer or work / "fer").absolute())
        environment.require()
        recordings = [prepared(path.absolute(), work.absolute()) for path in videos or rendered(work)]
        runs = Runs(work.absolute(), environment, face_model and face_model.absolute())
        runs.compare(recordings, repeats)
        runs.others(recordings, repeats)
        if minutes:
            runs.long_video(minutes)
        write_prediction_report(runs, recordings, command, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
