"""Measure TG-DFER beside simple methods, and its explanations: `python -m benchmarks.harness COMMAND`."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.baselines.report import write_report
from benchmarks.baselines.rows import rows_of
from benchmarks.explanation.report import write_explanation_report
from benchmarks.explanation.rows import explanation_rows
from benchmarks.harness.ground import Settings, real_ground, rendered_ground
from benchmarks.harness.runner import run_rows
from benchmarks.long_videos.segments import LongVideos, measure_segments
from tgdfer.command_line import quieten
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.training.errors import UserError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

WORK = Path("runs/benchmark")
REPORT = Path("docs/baselines.md")
EXPLANATION = Path("docs/explanation.md")
LONG_VIDEOS = Path("docs/long_videos.md")


@app.command()
def run(
    work: Annotated[Path, typer.Option(help="Folder of clips and results.")] = WORK,
    real: Annotated[
        Path | None,
        typer.Option(
            envvar="TGDFER_REALCLIPS",
            help="Folder of real clips: train and test, with person and intensity in the metadata.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="CLIP to start from.")] = Settings.model,
    clips: Annotated[int, typer.Option(help="Rendered training clips of each label.", min=5)] = Settings.clips,
    test_clips: Annotated[int, typer.Option(help="Rendered test clips of each label.", min=1)] = Settings.test_clips,
    row: Annotated[
        list[str] | None, typer.Option(help="Run this row alone; may be given more than once.", show_default=False)
    ] = None,
    minutes: Annotated[float, typer.Option(help="Begin no part of a row after so many minutes.")] = 50.0,
) -> None:
    """Run all rows that are not done; the same command goes on where an earlier one stopped."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model, clips=clips, test_clips=test_clips)
    words = _words("run", settings)
    for name in row or ():
        words += ["--row", name]
    command = shlex.join([*words, *(["--real", "FOLDER"] if real else [])])
    quieten()
    with sentences():
        # What the user gives is looked at before minutes are spent on rendering.
        grounds = [real_ground(settings, real)] if real else []
        for ground in grounds:
            ground.test  # noqa: B018  reads train as well
        grounds.insert(0, rendered_ground(settings, work))
        for ground in grounds:
            if not run_rows(ground, rows_of(ground), work, command, end, row or ()):
                get_console().print(f"{minutes:g} minutes are over: the same command goes on where this one stopped.")
                return
    get_console().print("All rows are done. Write the report: python -m benchmarks.harness report")


@app.command()
def segments(
    work: Annotated[Path, typer.Option(help="Folder of videos, clips and the model.")] = WORK,
    out: Annotated[Path, typer.Option(help="Report to write; picture and figures go beside it.")] = LONG_VIDEOS,
    model: Annotated[
        str | None, typer.Option(help="Trained model; by default one is trained on the rendered clips.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of a video.", min=10)] = LongVideos.seconds,
    train: Annotated[int, typer.Option(help="Videos to choose thresholds on.", min=1)] = LongVideos.train,
    test: Annotated[int, typer.Option(help="Videos to measure on.", min=1)] = LongVideos.test,
) -> None:
    """Find segments of emotion in long rendered videos, beside the argmax of every frame."""
    videos = LongVideos(seconds, train, test)
    words = ["python", "-m", "benchmarks.harness", "segments"]
    for flag, value, default in (
        ("--model", model and Path(model).name, None),
        ("--seconds", f"{seconds:g}", f"{LongVideos.seconds:g}"),
        ("--train", train, LongVideos.train),
        ("--test", test, LongVideos.test),
    ):
        words += [flag, str(value)] if value != default else []
    quieten()
    with sentences():
        figures = measure_segments(work, out, model, videos, shlex.join(words))
    for name, row in figures["test"].items():
        shown = ", ".join(f"{key} {100 * value:.1f}" for key, value in row.items())
        get_console().print(f"{name}: {shown}", highlight=False)
    get_console().print(f"Thresholds {figures['rule']}. {out} is written.", highlight=False, markup=False)


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of the results.")] = WORK,
    out: Annotated[Path, typer.Option(help="File to write; a picture and the figures go beside it.")] = REPORT,
) -> None:
    """Write tables and picture of what is measured so far."""
    with sentences():
        write_report(work, out)
    get_console().print(f"{out} is written.", highlight=False, markup=False)


@app.command()
def explain(
    work: Annotated[Path, typer.Option(help="Folder of clips and results.")] = WORK,
    out: Annotated[Path, typer.Option(help="File to write; the figures go beside it.")] = EXPLANATION,
    model: Annotated[str, typer.Option(help="CLIP to start from; one whose texts fit its pictures.")] = Settings.model,
    clips: Annotated[int, typer.Option(help="Rendered training clips of each label.", min=5)] = Settings.clips,
    test_clips: Annotated[int, typer.Option(help="Rendered test clips of each label.", min=1)] = Settings.test_clips,
    minutes: Annotated[float, typer.Option(help="Begin no training after so many minutes.")] = 50.0,
) -> None:
    """Measure on rendered faces how true explanations are; the same command goes on where an earlier one stopped."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(model=model, clips=clips, test_clips=test_clips)
    quieten()
    with sentences():
        ground = rendered_ground(settings, work)
        # Rows of their own, which are none of the baselines.
        results = work / "explanation"
        command = shlex.join(_words("explain", settings))
        if not run_rows(ground, explanation_rows(ground), results, command, end):
            get_console().print(f"{minutes:g} minutes are over: the same command goes on where this one stopped.")
            return
        write_explanation_report(results, out)
    get_console().print(f"{out} is written.", highlight=False, markup=False)


def _words(command: str, settings: Settings) -> list[str]:
    """What was typed. Folders by what they are, not by where they lie: it is published with the figures."""
    model = settings.model
    named = Path(model).name if Path(model).is_dir() else model
    words = ["python", "-m", "benchmarks.harness", command]
    for flag, value, default in (
        ("--model", named, Settings.model),
        ("--clips", settings.clips, Settings.clips),
        ("--test-clips", settings.test_clips, Settings.test_clips),
    ):
        words += [flag, str(value)] if value != default else []
    return words


@contextmanager
def sentences() -> Iterator[None]:
    """A sentence and code 2 for what the user can mend; what to do next after Ctrl-C."""
    try:
        yield
    except (UserError, VideoDecodeError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        typer.secho("Interrupted: the same command goes on where this one stopped.", err=True)
        raise typer.Exit(130) from stop


if __name__ == "__main__":
    app()
