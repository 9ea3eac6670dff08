"""Rehearses the DFEW protocol on a generated tree of the published size: `python -m benchmarks.dfew_rehearsal`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.dfew_rehearsal.measure import rehearse
from benchmarks.dfew_rehearsal.report import write_rehearsal
from benchmarks.dfew_rehearsal.tree import TOTAL
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
from benchmarks.harness.provenance import machine, versions
from tgdfer.console import hide_loading_bars

app = new_app()
SIZES = [1000, TOTAL]


@app.command()
def rehearsal(
    work: Annotated[Path, typer.Option(help="Folder of the generated trees and of the results.")] = Path(
        "runs/dfew_rehearsal"
    ),
    out: ReportFile = REPORTS / "dfew_rehearsal.md",
    figures: FiguresFile = FIGURES / "dfew_rehearsal.json",
    size: Annotated[list[int], typer.Option(help="Number of clips of a tree. Can be repeated.", min=200)] = SIZES,
    folds: Annotated[
        str | None,
        typer.Option(metavar="all or N,N", help="Also train on these folds of the largest tree, killed twice."),
    ] = None,
) -> None:
    """Check, convert and evaluate generated trees like DFEW, and report time and memory.

    With --folds, also train on frozen features and test on the folds, with a process that is killed twice and resumed.
    """
    command = published_command("benchmarks.dfew_rehearsal", size=(size, SIZES), folds=(folds, None))
    hide_loading_bars()
    with errors_as_sentences():
        sizes = [rehearse(work, total, folds if total == max(size) else None) for total in sorted(size)]
        facts = {"machine": machine(), "versions": versions(("torch", "datasets"))}
        write_rehearsal({"command": command, "provenance": facts, "sizes": sizes}, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
