"""Measures time and memory of `tgdfer predict`, compared with `fer`: `python -m benchmarks.prediction`."""

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
from benchmarks.prediction.fer_whole import FullFerEnvironment
from benchmarks.prediction.report import write_prediction_report
from benchmarks.prediction.runs import Runs, prepare, render_recording

app = new_app()

WORK = Path("runs/prediction")


@app.command()
def prediction(
    videos: Annotated[
        list[Path] | None,
        typer.Option(help="Recording to measure. Can be repeated. By default a face is render_recording."),
    ] = None,
    face_model: Annotated[
        Path | None,
        typer.Option(envvar="TGDFER_FACE_MODEL", help="File of the YuNet model. Without it, only MTCNN is measured."),
    ] = None,
    fer: Annotated[
        Path | None, typer.Option(help="Virtual environment of fer. By default it is in the work folder.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often each command is run.", min=1)] = 2,
    minutes: Annotated[
        int, typer.Option(help="Length in minutes of an additional video of 1920x1080. 0 skips it.", min=0)
    ] = 0,
    work: Annotated[Path, typer.Option(help="Folder of the finished runs.")] = WORK,
    out: ReportFile = REPORTS / "prediction.md",
    figures: FiguresFile = FIGURES / "prediction.json",
) -> None:
    """Measure CPU time and peak memory of predictions. An interrupted measurement is resumed by the same command."""
    command = published_command(
        "benchmarks.prediction",
        videos=([path.name for path in videos or []], []),
        face_model=(face_model and face_model.name, None),
        repeats=(repeats, 2),
        minutes=(minutes, 0),
    )
    with errors_as_sentences():
        work.mkdir(parents=True, exist_ok=True)
        environment = FullFerEnvironment((fer or work / "fer").absolute())
        environment.require()
        recordings = [prepare(path.absolute(), work.absolute()) for path in videos or render_recording(work)]
        runs = Runs(work.absolute(), environment, face_model and face_model.absolute())
        runs.compare(recordings, repeats)
        runs.measure_other_commands(recordings, repeats)
        if minutes:
            runs.long_video(minutes)
        write_prediction_report(runs, recordings, command, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
