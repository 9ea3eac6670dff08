"""The commands `tgdfer data check` and `tgdfer data convert`."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tgdfer.console import hide_loading_bars, print_once
from tgdfer.help_pages import App
from tgdfer.option_groups import with_groups
from tgdfer.training.errors import UserError

DATASET_HELP = (
    "dfew, ferv39k, mafw, afew, crema_d or ravdess with --data-root; a Hub id; a folder of SPLIT/LABEL/CLIP.mp4; or"
    " another folder or Parquet file that `datasets` reads"
)

data_app = App(no_args_is_help=True, help="Check data sets, and convert them to Parquet for the Hub.")


@dataclass(frozen=True)
class ReadingFlags:
    """How a data set is read."""

    data_root: Annotated[
        Path | None, typer.Option(help="Folder of a published data set, such as dfew", rich_help_panel="Data")
    ] = None
    fold: Annotated[
        int | None,
        typer.Option(
            help="Fold of a published data set, from 1. Default: that of the run if there is one, otherwise 1",
            rich_help_panel="Data",
        ),
    ] = None
    dataset_config: Annotated[
        str | None, typer.Option(help="Configuration of the data set, if it has several", rich_help_panel="Data")
    ] = None
    split_map: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=VALUE",
            help="Name of a split in the data set, such as test=eval, if it differs from the usual ones",
            rich_help_panel="Data",
        ),
    ] = field(default_factory=list)
    streaming: Annotated[
        bool,
        typer.Option(
            "--streaming", help="Read a data set of the Hub without preparing a copy of it", rich_help_panel="Data"
        ),
    ] = False
    video_column: Annotated[str | None, typer.Option(help="Column with the videos", rich_help_panel="Data")] = None
    label_column: Annotated[str | None, typer.Option(help="Column with the labels", rich_help_panel="Data")] = None
    label_kind: Annotated[
        Literal["single", "multiple", "votes"] | None,
        typer.Option(
            help="Labels of a clip: one, several, or the votes of people. Default: as in the run if there is one, "
            "otherwise one",
            rich_help_panel="Data",
        ),
    ] = None
    vote_columns: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=VALUE",
            help="Column with the votes for a label, such as anger=ang or anger=votes\\[4]; once for each label",
            rich_help_panel="Data",
        ),
    ] = field(default_factory=list)
    vote_file: Annotated[
        Path | None,
        typer.Option(help="CSV file with the vote columns, if they are not in the data set", rich_help_panel="Data"),
    ] = None

    def options(self) -> dict[str, Any]:
        """Returns the flags as keyword arguments of `load_clips`. Flags that are not given are left out."""
        # A fold of 0 is given, although it equals False.
        values: dict[str, Any] = {
            name: value for name, value in asdict(self).items() if not (value is None or value is False or value == [])
        }
        for name in ("split_map", "vote_columns"):
            if name in values:
                values[name] = dict(_parse_pair(name, text) for text in values[name])
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _parse_pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--{option.replace('_', '-')} expects FIELD=VALUE, but got {text!r}.")
    return name.strip(), value.strip()


WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Number of processes. Default: one for each CPU", rich_help_panel="Run")
]


@data_app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer data check clips/\n\n"
    "tgdfer data check dfew --data-root DFEW/ --fold 1 --output runs/dfew-check"
)
@with_groups
def check(
    dataset: Annotated[str, typer.Argument(help=DATASET_HELP)],
    output: Annotated[
        Path,
        typer.Option(help="Folder for check.json and labels.png, a picture of the labels", rich_help_panel="Run"),
    ] = Path("runs/check"),
    workers: WorkersOption = None,
    *,
    reading: ReadingFlags,
) -> None:
    """Read all clips of a data set, and report what is wrong with it.

    The report names missing, extra and unreadable clips, other frame counts than the list has, the same video in two
    splits, also if it was encoded again, people in two splits, and folds that differ from the published ones. The exit
    code is 1 if there is an error.
    """
    hide_loading_bars()
    from tgdfer.training.data_check.check import FIGURE, REPORT, check_dataset
    from tgdfer.training.data_check.terminal import print_check

    report = check_dataset(dataset, output, workers or os.cpu_count() or 1, **reading.options())
    print_check(report)
    print_once(f"The report is in {output / REPORT}, the picture of the labels in {output / FIGURE}.")
    if report["num_errors"]:
        raise typer.Exit(1)


@data_app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer data convert dfew --data-root DFEW/ --output dfew-parquet\n\n"
    "tgdfer push dfew-parquet your-name/dfew --dataset --private"
)
@with_groups
def convert(
    dataset: Annotated[str, typer.Argument(help=DATASET_HELP)],
    output: Annotated[Path, typer.Option(help="Folder to write", rich_help_panel="Run")],
    workers: WorkersOption = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at the first clip that cannot be read, instead of leaving it out",
            rich_help_panel="Run",
        ),
    ] = False,
    *,
    reading: ReadingFlags,
) -> None:
    """Write a data set as Parquet shards with a card, ready for `tgdfer push --dataset --private`.

    To resume an interrupted conversion, give the same command again.
    """
    hide_loading_bars()
    from tgdfer.model_card.convert import convert_dataset

    facts = convert_dataset(dataset, output, workers or os.cpu_count() or 1, strict=strict, **reading.options())
    print_once(
        f"{facts['num_clips']:,} clips are in {output}, in {facts['num_shards']} shards"
        f" ({facts['num_new_shards']} new). {facts['num_quarantined']:,} clips were put into quarantine."
        f" Next: tgdfer push {output} your-name/{output.name} --dataset --private"
    )
