"""What the commands of all benchmarks share: options, mistakes as one sentence, and the command that is published."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import get_console

from benchmarks.harness.benchmark_dataset import Settings
from tgdfer.help_pages import App
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.training.errors import UserError

# The rendered clips and the results of the baselines. Other benchmarks read the clips from here.
BENCHMARK = Path("runs/benchmark")
REPORTS = Path("docs/results")
FIGURES = Path("benchmarks/results")

RenderedClips = Annotated[
    Path, typer.Option(help="Folder of the rendered clips; they are rendered if they are not there.")
]
ReportFile = Annotated[Path, typer.Option(help="Report to write, in Markdown; a picture goes beside it.")]
FiguresFile = Annotated[Path, typer.Option(help="File to write the figures to, in JSON.")]
Minutes = Annotated[float, typer.Option(help="Begin no part of a row after so many minutes.")]
RowNames = Annotated[
    list[str] | None, typer.Option(help="Run this row alone; may be given more than once.", show_default=False)
]
RealClips = Annotated[
    Path | None,
    typer.Option(
        envvar="TGDFER_REALCLIPS",
        help="Folder of real clips: train and test, with person and intensity in the metadata.",
    ),
]
ClipModel = Annotated[str, typer.Option(help="CLIP to start from.")]
TrainClips = Annotated[int, typer.Option(help="Rendered training clips of each label.", min=5)]
TestClips = Annotated[int, typer.Option(help="Rendered test clips of each label.", min=1)]


def new_app(about: str | None = None) -> App:
    """An app for one command, or with the `about` of its help for several."""
    return App(help=about, no_args_is_help=about is not None, add_completion=False)


def published_command(*words: str, **options: tuple[Any, Any]) -> str:
    """The command that made a report, without paths of this machine.

    Args:
        words: module and command, such as "benchmarks.baselines" and "run".
        options: for each option its value and its default; options at their default are left out, and each value of a
            list is given by itself.
    """
    typed = ["python", "-m", *words]
    for name, (value, default) in options.items():
        if value != default:
            for one in value if isinstance(value, list) else [value]:
                typed += [f"--{name.replace('_', '-')}", str(one)]
    return shlex.join(typed)


def settings_options(settings: Settings) -> Mapping[str, tuple[Any, Any]]:
    """Options of `published_command` for settings that can be given on the command line."""
    model = settings.model
    return {
        "model": (Path(model).name if Path(model).is_dir() else model, Settings.model),
        "clips": (settings.clips, Settings.clips),
        "test_clips": (settings.test_clips, Settings.test_clips),
    }


@contextmanager
def sentences() -> Iterator[None]:
    """Prints mistakes of the user as one sentence, with exit code 2, and says after Ctrl-C how to go on."""
    try:
        yield
    except (UserError, VideoDecodeError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        typer.secho("Interrupted: the same command goes on where this one stopped.", err=True)
        raise typer.Exit(130) from stop


def say_time_is_over(minutes: float) -> None:
    """Says that rows are left, and how to run them."""
    get_console().print(f"{minutes:g} minutes are over: the same command goes on where this one stopped.")


def say_written(path: Path) -> None:
    """Says that a report is written."""
    get_console().print(f"{path} is written.", highlight=False, markup=False)
