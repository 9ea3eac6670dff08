"""Train and measure `clip-tiny-faces`: `python -m tgdfer.training.clip_tiny_faces train | evaluate`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from tgdfer.training.clip_tiny_faces import WEIGHTS
from tgdfer.training.clip_tiny_faces.evaluate import (
    action_unit_retrieval,
    file_apexes,
    rendered_apexes,
    zero_shot_recalls,
)
from tgdfer.training.clip_tiny_faces.export import save_weights
from tgdfer.training.clip_tiny_faces.train import Recipe, train

app = typer.Typer(help=__doc__, no_args_is_help=True)


@app.command("train")
def train_command(
    out: Annotated[Path, typer.Option(help="Folder of the weights; replaced when all is done.")] = WEIGHTS,
    work: Annotated[Path, typer.Option(help="Folder of pictures, log and checkpoint.")] = Path("runs/clip_tiny_faces"),
    pairs: Annotated[int, typer.Option(help="Pairs of picture and caption to see.")] = Recipe.pairs,
    images: Annotated[int, typer.Option(help="Pictures to render.")] = Recipe.images,
    seed: Annotated[int, typer.Option(help="Decides everything.")] = Recipe.seed,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = os.cpu_count() or 1,
) -> None:
    """Train; the same command goes on where an interrupted one stopped."""
    recipe = replace(Recipe(), pairs=pairs, images=images, seed=seed)
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn()) as bar:
        tasks = {name: bar.add_task(name, total=None) for name in ("rendering", "training")}
        try:
            model, tokenizer, seconds = train(
                work,
                recipe,
                workers,
                lambda name, done, total: bar.update(tasks[name], completed=done, total=total),
            )
        except ValueError as error:
            bar.stop()
            typer.secho(f"error: {error}", fg="red", err=True)
            raise typer.Exit(2) from error
    figures = save_weights(out, model, tokenizer, recipe, seconds)
    typer.echo(f"{out}: {figures}")


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path | None, typer.Argument(help="Clips with metadata.jsonl; else rendered ones.")] = None,
    weights: Annotated[Path, typer.Option(help="Folder of the weights.")] = WEIGHTS,
) -> None:
    """Zero-shot recalls, by class descriptions, of one apex frame of every clip."""
    model, processor = CLIPModel.from_pretrained(weights).eval(), AutoImageProcessor.from_pretrained(weights)
    tokenizer: Any = AutoTokenizer.from_pretrained(weights)
    if folder and not (folder / "metadata.jsonl").is_file():
        typer.secho(f"error: {folder} holds no metadata.jsonl: name the folder of one split.", fg="red", err=True)
        raise typer.Exit(2)
    images, labels = file_apexes(folder) if folder else rendered_apexes()
    recalls = zero_shot_recalls(model, tokenizer, processor, images, labels)
    for name, recall in recalls.items():
        typer.echo(f"{name:>10} {100 * recall:5.1f}")
    typer.echo(f"{'UAR':>10} {100 * np.mean(list(recalls.values())):5.1f}")
    if not folder:
        precisions = action_unit_retrieval(model, tokenizer, processor)
        typer.echo(f"{'AU mean AP':>10} {np.mean(list(precisions.values())):5.3f}")


if __name__ == "__main__":
    app()
