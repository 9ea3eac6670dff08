"""Measure what every part of TG-DFER brings: `python -m benchmarks.ablation run | report | relabel`."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.ablation.report import write_report
from benchmarks.ablation.rows import rows_of
from benchmarks.baselines.__main__ import sentences
from benchmarks.harness.given_features import AnyGround, FeatureGround
from benchmarks.harness.ground import Settings, real_ground, rendered_ground
from benchmarks.harness.runner import run_rows
from benchmarks.relabelling.measure import measure_relabelling, write_relabelling_report
from tgdfer.command_line import quieten

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

# The clips are those of the benchmark, which may have been rendered already.
CLIPS = Path("runs/benchmark")
WORK = Path("runs/ablation")
REPORT = Path("docs/ablation.md")
RELABELLING = Path("docs/relabelling.md")


@app.command()
def run(
    work: Annotated[Path, typer.Option(help="Folder of results.")] = WORK,
    clips: Annotated[Path, typer.Option(help="Folder of the rendered clips; rendered where there are none.")] = CLIPS,
    real: Annotated[
        Path | None,
        typer.Option(
            envvar="TGDFER_REALCLIPS",
            help="Folder of real clips: train and test, with person and intensity in the metadata.",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            envvar="TGDFER_FEATURES",
            help=".npz of frame features of another net, with label, split, person and intensity.",
        ),
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Run this row alone; may be given more than once.", show_default=False)
    ] = None,
    minutes: Annotated[float, typer.Option(help="Begin no part of a row after so many minutes.")] = 50.0,
) -> None:
    """Run all rows that are not done; the same command goes on where an earlier one stopped."""
    end = time.monotonic() + 60 * minutes
    settings = Settings(epochs=30)
    words = ["python", "-m", "benchmarks.ablation", "run"]
    for name in row or ():
        words += ["--row", name]
    words += ["--real", "FOLDER"] if real else []
    words += ["--features", "FILE"] if features else []
    quieten()
    with sentences():
        # What the user gives is looked at before minutes are spent on rendering.
        grounds: list[AnyGround] = [real_ground(settings, real)] if real else []
        grounds += [FeatureGround(features, settings)] if features else []
        for ground in grounds:
            ground.test  # noqa: B018  reads train as well
        grounds.insert(0, rendered_ground(settings, clips))
        for ground in grounds:
            known = rows_of(ground)
            wanted = [name for name in row or () if name in {r.name for r in known} or ground is grounds[0]]
            if row and not wanted:
                continue
            if not run_rows(ground, known, work, shlex.join(words), end, wanted):
                get_console().print(f"{minutes:g} minutes are over: the same command goes on where this one stopped.")
                return
    get_console().print("All rows are done. Write the report: python -m benchmarks.ablation report")


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
def relabel(
    clips: Annotated[Path, typer.Option(help="Folder of the rendered clips; rendered where there are none.")] = CLIPS,
    out: Annotated[Path, typer.Option(help="File to write; the figures go beside it.")] = RELABELLING,
) -> None:
    """Leave out each emotion in training, and rank its clips by words alone."""
    quieten()
    with sentences():
        ground = rendered_ground(Settings(), clips)
        found = measure_relabelling(ground)
        write_relabelling_report(ground, found, out, "python -m benchmarks.ablation relabel")
    get_console().print(f"{out} is written.", highlight=False, markup=False)


if __name__ == "__main__":
    app()
