"""Measures recall and calibration on rendered faces that differ in one attribute: `python -m benchmarks.fairness`."""

from pathlib import Path
from typing import Annotated

import typer
from rich import get_console
from rich.progress import track

from benchmarks.fairness.faces import FACTORS, rendered_groups
from benchmarks.fairness.measure import figures_by_group, predict_pictures
from benchmarks.fairness.report import factor_table, weaker_groups, write_fairness_report
from benchmarks.harness.command_options import (
    FIGURES,
    FiguresFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.harness.trained_model import TrainedModel
from tgdfer.console import hide_loading_bars
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import is_trained, start_model
from tgdfer.training.rendered_faces import EMOTIONS
from tgdfer.weights import DEFAULT_MODEL

app = new_app()

PEOPLE = 30


@app.command()
def fairness(
    model: Annotated[
        str,
        typer.Option(
            envvar="TGDFER_TRAINED",
            help="Trained TG-DFER model, or a CLIP model for zero-shot classification: folder or Hub id.",
        ),
    ] = DEFAULT_MODEL,
    people: Annotated[int, typer.Option(help="Number of rendered people.", min=2)] = PEOPLE,
    out: Annotated[
        Path | None, typer.Option(help="Markdown file of the report. Without it, the tables are only printed.")
    ] = None,
    figures: FiguresFile = FIGURES / "fairness.json",
) -> None:
    """Render the same expressions on faces of different groups, and compare the predictions of a model."""
    hide_loading_bars()
    with errors_as_sentences():
        network, processor = _network(model)
        total = people * len(EMOTIONS) * sum(map(len, FACTORS.values()))
        pictures = track(rendered_groups(people), "Rendered faces", total=total, console=get_console())
        predictions = predict_pictures(network, processor.video_processor, pictures)
        measured = {factor: figures_by_group(predictions, factor, list(groups)) for factor, groups in FACTORS.items()}
        name = Path(model).name if Path(model).is_dir() else model
        for factor, groups in measured.items():
            get_console().print(f"{factor_table(factor, groups)}\n", highlight=False, markup=False, soft_wrap=True)
        for line in weaker_groups(measured):
            get_console().print(f"lower UAR: {line}", highlight=False, markup=False)
        if out is not None:
            command = published_command(
                "benchmarks.fairness", model=(name, DEFAULT_MODEL), people=(people, PEOPLE), out=(str(out), None)
            )
            write_fairness_report(measured, name, people, out, figures, command)
            print_written(out)


def _network(model: str) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Loads a trained model with its calibration, or makes an untrained model from a CLIP."""
    if not is_trained(model):
        return start_model(ModelConfig(model=model, frozen_features=True), sorted(EMOTIONS))
    trained = TrainedModel(model)
    trained.class_indices(sorted(EMOTIONS))  # Raises an error if the model lacks a class.
    return trained.network


if __name__ == "__main__":
    app()
