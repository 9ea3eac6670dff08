"""Measures whether region relevance points to where a rendered face has moved: `python -m benchmarks.regions`."""

from pathlib import Path
from typing import Annotated

import typer
from rich import get_console
from rich.progress import track

from benchmarks.harness.command_options import (
    FIGURES,
    REPORTS,
    ClipModel,
    FiguresFile,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.regions.faces import MOVEMENTS, moved_faces
from benchmarks.regions.measure import measure, relevance_of, with_movements
from benchmarks.regions.report import Example, method_table, write_regions_report
from tgdfer.console import hide_loading_bars
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS

app = new_app()

MODEL, PEOPLE = "clip-tiny-faces", 40
# People of the training split in the picture.
EXAMPLES = 3


@app.command()
def regions(
    model: ClipModel = MODEL,
    people: Annotated[int, typer.Option(help="Number of rendered people, in train as in test.", min=3)] = PEOPLE,
    out: ReportFile = REPORTS / "regions.md",
    figures: FiguresFile = FIGURES / "regions.json",
) -> None:
    """Render faces that move in one way, and compare the region of the movement with the most relevant place."""
    hide_loading_bars()
    with errors_as_sentences():
        network, processor = start_model(ModelConfig(model=model, frozen_features=True), sorted(EMOTIONS))
        with_movements(network, processor)
        total = people * len(MOVEMENTS)
        train, test = (
            list(track(moved_faces(split, people), f"Drawing {split} faces", total, console=get_console()))
            for split in ("train", "test")
        )
        shown = train[: EXAMPLES * len(MOVEMENTS)]
        examples = list(map(Example, shown, relevance_of(network, processor, shown)))
        pointing = measure(relevance_of(network, processor, test, progress=True), test, train)
        get_console().print(method_table(pointing), highlight=False, markup=False, soft_wrap=True)
        name = Path(model).name if Path(model).is_dir() else model
        command = published_command("benchmarks.regions", model=(name, MODEL), people=(people, PEOPLE))
        write_regions_report(pointing, examples, name, out, figures, command)
        print_written(out)


if __name__ == "__main__":
    app()
