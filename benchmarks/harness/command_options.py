"""Shared parts of the benchmark commands: options, error messages, and the command line that reports show."""

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

# Default folder of the rendered clips, which several benchmarks share, and of the results of the baselines.
BENCHMARK = Path("runs/benchmark")
REPORTS = Path("docs/results")
FIGURES = Path("benchmarks/results")

RenderedClips = Annotated[
    Path, typer.Option(help="Folder of the rendered clips. They are rendered if they do not exist.")
]
ReportFile = Annotated[
    Path, typer.Option(help="Markdown file of the report. Pictures are written to the same folder.")
]
FiguresFile = Annotated[Path, typer.Option(help="JSON file of the figures.")]
Minutes = Annotated[float, typer.Option(help="Time budget in minutes. No part of a row is started after it.")]
RowNames = Annotated[list[str] | None, typer.Option(help="Run only this row. Can be repeated.", show_default=False)]
RealClips = Annotated[
    Path | None,
    typer.Option(
        envvar="TGDFER_REALCLIPS",
        help="Folder of real clips with the splits train and test, and with person and intensity in the metadata.",
    ),
]
Photographs = Annotated[
    Path | None,
    typer.Option(
        envvar="TGDFER_FERPLUS", help="Parquet file of photographs with the columns image, label, split and near."
    ),
]
FaceModel = Annotated[
    Path | None,
    typer.Option(envvar="TGDFER_FACE_MODEL", help="File of the YuNet model. By default it comes from the Hub."),
]
ClipModel = Annotated[str, typer.Option(help="CLIP model to start from: a name, a folder or a Hub id.")]
TrainClips = Annotated[int, typer.Option(help="Number of rendered training clips per label.", min=5)]
TestClips = Annotated[int, typer.Option(help="Number of rendered test clips per label.", min=1)]


def new_app(help_text: str | None = None) -> App:
    """Creates the app of a benchmark.

    Args:
        help_text (`str`, *optional*): Help text of an app with several commands. None for an app with a single
            command.
    """
    return App(help=help_text, no_args_is_help=help_text is not None, add_completion=False)


def published_command(*command: str, **options: tuple[Any, Any]) -> str:
    """Returns the command line that made a report, without paths of this machine.

    Args:
        *command: Module and command, such as "benchmarks.baselines" and "run".
        **options: Value and default of each option. Options with the default value are omitted. An option with a list
            as value is repeated for each item.
    """
    arguments = ["python", "-m", *command]
    for name, (value, default) in options.items():
        if value != default:
            for item in value if isinstance(value, list) else [value]:
                arguments += [f"--{name.replace('_', '-')}", str(item)]
    return shlex.join(arguments)


def settings_options(settings: Settings) -> Mapping[str, tuple[Any, Any]]:
    """Returns the options of `published_command` for the settings that have a command-line flag."""
    model = settings.model
    return {
        "model": (Path(model).name if Path(model).is_dir() else model, Settings.model),
        "clips": (settings.clips, Settings.clips),
        "test_clips": (settings.test_clips, Settings.test_clips),
    }


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Prints user errors as one sentence with exit code 2. After Ctrl-C, says how to resume."""
    try:
        yield
    except (UserError, VideoDecodeError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        typer.secho("Interrupted. Run the same command again to resume.", err=True)
        raise typer.Exit(130) from stop


def print_time_is_over(minutes: float) -> None:
    """Prints that the time budget is used up, and how to run the remaining rows."""
    get_console().print(f"The time budget of {minutes:g} minutes is used up. Run the same command again to resume.")


def print_written(path: Path) -> None:
    """Prints that a report was written."""
    get_console().print(f"Wrote {path}.", highlight=False, markup=False)
