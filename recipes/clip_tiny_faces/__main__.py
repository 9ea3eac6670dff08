"""Train and measure `clip-tiny-faces`: `python -m recipes.clip_tiny_faces train | evaluate`."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from recipes.clip_tiny_faces.evaluate import (
    action_unit_retrieval,
    file_apexes,
    linear_probe,
    rendered_apexes,
    require_apexes,
    zero_shot_recalls,
)
from recipes.clip_tiny_faces.export import history, require_weights_folder, save_weights
from recipes.clip_tiny_faces.model import weights_hash
from recipes.clip_tiny_faces.photographs import load_photographs
from recipes.clip_tiny_faces.teacher import TeacherRecipe
from recipes.clip_tiny_faces.train import Recipe, train
from tgdfer.training.errors import UserError
from tgdfer.weights import CLIP_TINY_FACES

app = typer.Typer(help=__doc__, no_args_is_help=True)


@app.command("train")
def train_command(
    photographs: Annotated[
        Path | None, typer.Option(help="Parquet file of aligned grey faces: image, label or none, split.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Folder of clips with train and test, for figures in the card.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of weights to go on from, at half the rates; default: start anew.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the weights; replaced when all is done.")] = CLIP_TINY_FACES,
    work: Annotated[Path, typer.Option(help="Folder of pictures, logs and checkpoints.")] = Path(
        "runs/clip_tiny_faces"
    ),
    pairs: Annotated[int, typer.Option(help="Pictures to see, each with a caption.")] = Recipe.pairs,
    images: Annotated[int, typer.Option(help="Pictures to render.")] = Recipe.images,
    seed: Annotated[int, typer.Option(help="Decides everything.")] = Recipe.seed,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = os.cpu_count() or 1,
    minutes: Annotated[float, typer.Option(help="Stop after so many minutes; the same command goes on.")] = 60.0,
) -> None:
    """Train; the same command goes on where an interrupted one stopped."""
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    end = time.monotonic() + 60 * minutes
    with _sentences(), Progress(*columns, TimeRemainingColumn()) as bar:
        tasks = {name: bar.add_task(name, total=None) for name in ("rendering", "teacher", "pupil")}

        def show(name: str, done: int, total: int) -> None:
            bar.update(tasks[name], completed=done, total=total)
            # The rendered pictures are kept when all are there, which takes minutes.
            if time.monotonic() > end and done < total and name != "rendering":
                raise UserError(f"{minutes:g} minutes are over: the same command goes on where this one stopped.")

        require_weights_folder(out)
        recipe = replace(Recipe(), pairs=pairs, images=images, seed=seed, teacher=TeacherRecipe(seed=seed))
        if start:
            history(start)
            recipe = replace(recipe, start=weights_hash(start))
        if real:
            for split in ("train", "test"):
                require_apexes(real / split)
        faces = load_photographs(photographs) if photographs else None
        model, tokenizer, seconds = train(work, recipe, faces, start, workers, show)
        figures = save_weights(out, model, tokenizer, recipe, seconds, faces, real, start)
    typer.echo(f"{out}: {figures}")


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path | None, typer.Argument(help="Clips with metadata.jsonl; else rendered ones.")] = None,
    probe: Annotated[Path | None, typer.Option(help="Clips of other people, to fit a linear probe on.")] = None,
    weights: Annotated[Path, typer.Option(help="Folder of the weights.")] = CLIP_TINY_FACES,
) -> None:
    """Zero-shot recalls, by class descriptions, of the apex frames of clips; and of a linear probe."""
    with _sentences():
        if probe and not folder:
            raise UserError("--probe is fitted on clips to be measured on others: name their folder too.")
        if not (weights / "config.json").is_file():
            raise UserError(f"{weights} holds no config.json: name the folder of the weights.")
        model, processor = CLIPModel.from_pretrained(weights).eval(), AutoImageProcessor.from_pretrained(weights)
        tokenizer: Any = AutoTokenizer.from_pretrained(weights)
        images, labels = file_apexes(folder)[:2] if folder else rendered_apexes()
        recalls = zero_shot_recalls(model, tokenizer, processor, images, labels)
        for name, recall in recalls.items():
            typer.echo(f"{name:>10} {100 * recall:5.1f}")
        typer.echo(f"{'UAR':>10} {100 * np.mean(list(recalls.values())):5.1f}")
        if folder and probe:
            for name, value in linear_probe(model, processor, probe, folder).items():
                typer.echo(f"linear probe, UAR on {name}: {100 * value:.1f}")
        if not folder:
            precisions = action_unit_retrieval(model, tokenizer, processor)
            typer.echo(f"{'AU mean AP':>10} {np.mean(list(precisions.values())):5.3f}")


@contextmanager
def _sentences() -> Iterator[None]:
    """Shows an error of the user's as a sentence."""
    try:
        yield
    except UserError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
