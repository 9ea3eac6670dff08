"""Train `tgdfer-tiny`: `python -m recipes.tgdfer_tiny train` writes the model, calibrated and measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import get_console
from rich.table import Table

from recipes.tgdfer_tiny.export import NAME, save_model
from recipes.tgdfer_tiny.material import Material, Sources
from recipes.tgdfer_tiny.train import Recipe, train, validate
from recipes.weights_folder import WEIGHTS, require_weights_folder
from tgdfer.training.errors import UserError, error_message, is_user_error

app = typer.Typer(help=__doc__, no_args_is_help=True)

WORK = Path("runs/tgdfer_tiny")
Ferplus = Annotated[Path, typer.Option(help="Parquet file of FER2013 with the votes of FER+.")]
Clips = Annotated[Path, typer.Option(help="Folder of real clips with the splits train and test.")]
Work = Annotated[Path, typer.Option(help="Folder of crops, rendered clips and features.")]
FaceModel = Annotated[Path | None, typer.Option(help="Model of YuNet; default: from the Hub.")]
Clip = Annotated[str, typer.Option(help="Dual encoder to start from.")]
Seed = Annotated[int, typer.Option(help="Decides everything.")]


@app.command("train")
def train_command(
    ferplus: Ferplus,
    clips: Clips,
    face_model: FaceModel = None,
    clip: Clip = Sources.clip,
    out: Annotated[Path, typer.Option(help="Folder of the model; replaced when all is done.")] = WEIGHTS / NAME,
    work: Work = WORK,
    seed: Seed = 0,
) -> None:
    """Train the model, calibrate it on people that were held out, and measure it once on the test splits."""
    with _sentences():
        require_weights_folder(out, ["tgdfer"])
        material, recipe = Material(Sources(ferplus, clips, work, clip, face_model), seed=seed), Recipe(seed=seed)
        trained = train(material, recipe)
        command = f"python -m recipes.tgdfer_tiny train --ferplus FILE --clips FOLDER --seed {seed}"
        metrics = save_model(out, material, recipe, trained, command)
    _show([(one["dataset"], one) for one in (metrics, *metrics["also_measured"])])


@app.command("validate")
def validate_command(
    ferplus: Ferplus,
    clips: Clips,
    face_model: FaceModel = None,
    clip: Clip = Sources.clip,
    work: Work = WORK,
    folds: Annotated[int, typer.Option(help="Fifths of the people to hold out, one after the other.")] = 5,
    seed: Seed = 0,
) -> None:
    """Measure the training on people that are held out; the test splits are not read."""
    with _sentences():
        material = Material(Sources(ferplus, clips, work, clip, face_model), seed=seed)
        for fold in range(folds):
            _show(validate(material, Recipe(fold=fold, seed=seed)), f"fold {fold}")


def _show(measured: Iterator[tuple[str, dict[str, Any]]] | list[tuple[str, dict[str, Any]]], title: str = "") -> None:
    """Prints a table of what was measured, in percent."""
    names = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing", "ece": "ECE"}
    table = Table("", *names.values(), title=title, caption="in percent")
    for name, figures in measured:
        values = [figures.get(key) for key in names]
        table.add_row(name, *("" if value is None else f"{100 * value:.1f}" for value in values))
    get_console().print(table)


@contextmanager
def _sentences() -> Iterator[None]:
    """Shows an error of the user's as a sentence."""
    try:
        yield
    except ValueError as error:
        if not isinstance(error, UserError) and not is_user_error(error):
            raise
        typer.secho(f"error: {error_message(error)}", fg="red", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
