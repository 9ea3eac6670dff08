"""Measures recall and calibration on rendered faces that differ in one respect: `python -m benchmarks.fairness`."""

from pathlib import Path
from typing import Annotated

import typer
from rich import get_console
from rich.progress import track

from benchmarks.fairness.faces import FACTORS, rendered_groups
from benchmarks.fairness.measure import answers_of, figures_by_group
from benchmarks.fairness.report import factor_table, weaker_groups, write_fairness_report
from benchmarks.harness.command_options import (
    FIGURES,
    FiguresFile,
    new_app,
    published_command,
    say_written,
    sentences,
)
from tgdfer.command_line import quieten
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS

app = new_app()

MODEL, PEOPLE = "clip-tiny-faces", 30


@app.command()
def fairness(
    model: Annotated[
        str,
        typer.Option(
            envvar="TGDFER_TRAINED", help="A CLIP, which answers by words, or a trained TG-DFER: folder or Hub id."
        ),
    ] = MODEL,
    people: Annotated[int, typer.Option(help="Number of rendered people.", min=2)] = PEOPLE,
    out: Annotated[
        Path | None, typer.Option(help="Report to write, in Markdown; without it the tables are printed alone.")
    ] = None,
    figures: FiguresFile = FIGURES / "fairness.json",
) -> None:
    """Render the same expressions on faces of different groups, and compare how a model answers."""
    quieten()
    with sentences():
        network, processor = start_model(ModelConfig(model=model, frozen_features=True), sorted(EMOTIONS))
        total = people * len(EMOTIONS) * sum(map(len, FACTORS.values()))
        pictures = track(rendered_groups(people), "Rendered faces", total=total, console=get_console())
        answers = answers_of(network, processor.video_processor, pictures)
        found = {factor: figures_by_group(answers, factor, list(groups)) for factor, groups in FACTORS.items()}
        name = Path(model).name if Path(model).is_dir() else model
        for factor, groups in found.items():
            get_console().print(f"{factor_table(factor, groups)}\n", highlight=False, markup=False, soft_wrap=True)
        for line in weaker_groups(found):
            get_console().print(f"weaker: {line}", highlight=False, markup=False)
        if out is not None:
            command = published_command(
                "benchmarks.fairness", model=(name, MODEL), people=(people, PEOPLE), out=(str(out), None)
            )
            write_fairness_report(found, name, people, out, figures, command)
            say_written(out)


if __name__ == "__main__":
    app()
