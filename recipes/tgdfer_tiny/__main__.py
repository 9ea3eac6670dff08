"""Train `tgdfer-tiny`: `python -m recipes.tgdfer_tiny train` trains, calibrates, measures and writes the model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import get_console
from rich.table import Table

from recipes.command_errors import errors_as_sentences
from recipes.tgdfer_tiny.export import NAME, save_model
from recipes.tgdfer_tiny.material import Material, Sources
from recipes.tgdfer_tiny.search_reference import Faces, write_reference
from recipes.tgdfer_tiny.train import Recipe, train, validate
from recipes.weights_folder import WEIGHTS, require_weights_folder

app = typer.Typer(help=__doc__, no_args_is_help=True)

WORK = Path("runs/tgdfer_tiny")
Ferplus = Annotated[Path, typer.Option(help="Parquet file of FER2013 with the votes of FER+.")]
Clips = Annotated[Path, typer.Option(help="Folder of real clips with the splits train and test.")]
Work = Annotated[Path, typer.Option(help="Folder of the crops, the rendered clips and the features.")]
FaceModel = Annotated[Path | None, typer.Option(help="File of the YuNet model. By default it comes from the Hub.")]
Clip = Annotated[str, typer.Option(help="Dual encoder to start from.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]


@app.command("train")
def train_command(
    ferplus: Ferplus,
    clips: Clips,
    face_model: FaceModel = None,
    clip: Clip = Sources.clip,
    out: Annotated[
        Path, typer.Option(help="Folder of the model. It is replaced at the end of the training.")
    ] = WEIGHTS / NAME,
    work: Work = WORK,
    seed: Seed = 0,
) -> None:
    """Train the model, calibrate it on held-out people, and measure it once on the test splits."""
    with errors_as_sentences():
        require_weights_folder(out, ["tgdfer"])
        material, recipe = Material(Sources(ferplus, clips, work, clip, face_model), seed=seed), Recipe(seed=seed)
        trained = train(material, recipe)
        command = f"python -m recipes.tgdfer_tiny train --ferplus FILE --clips FOLDER --seed {seed}"
        metrics = save_model(out, material, recipe, trained, command)
    _print_figures([(results["dataset"], results) for results in (metrics, *metrics["also_measured"])])


@app.command("reference")
def reference_command(
    ferplus: Ferplus,
    face_model: FaceModel = None,
    out: Annotated[Path, typer.Option(help="Folder of the model.")] = WEIGHTS / NAME,
    seed: Seed = 0,
) -> None:
    """Compute the distribution of frame embeddings with which searches compare their scores.

    It is written to the `processor_config.json` of the model. The weights do not change. `train` does the same.
    """
    with errors_as_sentences():
        reference = write_reference(out, Faces(ferplus, face_model, seed=seed), get_console().print)
    get_console().print(f"The reference was computed from {reference.source}.")


@app.command("validate")
def validate_command(
    ferplus: Ferplus,
    clips: Clips,
    face_model: FaceModel = None,
    clip: Clip = Sources.clip,
    work: Work = WORK,
    folds: Annotated[
        int, typer.Option(help="Number of folds. In each fold, another fifth of the people is held out.")
    ] = 5,
    seed: Seed = 0,
) -> None:
    """Measure the training on held-out people, without the test splits."""
    with errors_as_sentences():
        material = Material(Sources(ferplus, clips, work, clip, face_model), seed=seed)
        for fold in range(folds):
            _print_figures(validate(material, Recipe(fold=fold, seed=seed)), f"fold {fold}")


def _print_figures(
    measured: Iterator[tuple[str, dict[str, Any]]] | list[tuple[str, dict[str, Any]]], title: str = ""
) -> None:
    """Prints a table of the figures in percent."""
    names = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing", "ece": "ECE"}
    table = Table("", *names.values(), title=title, caption="in percent")
    for name, figures in measured:
        values = [figures.get(key) for key in names]
        table.add_row(name, *("" if value is None else f"{100 * value:.1f}" for value in values))
    get_console().print(table)


if __name__ == "__main__":
    app()
