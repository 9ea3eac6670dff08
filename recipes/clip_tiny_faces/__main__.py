"""Train and measure `clip-tiny-faces`: `python -m recipes.clip_tiny_faces --help` lists the commands in order."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recipes.clip_tiny_faces.export import KINDS, file_hash, save_weights
from recipes.clip_tiny_faces.expression_net import load_net, save_net
from recipes.clip_tiny_faces.ferplus import load_ferplus, prepare_ferplus, read_face
from recipes.clip_tiny_faces.measure import (
    Figure,
    Parts,
    measure_clips,
    measure_photographs,
    measure_rendered,
    read_answers,
)
from recipes.clip_tiny_faces.photographs import load_photographs
from recipes.clip_tiny_faces.stills import cached_stills
from recipes.clip_tiny_faces.towers import build_image_processor, load_dual_encoder
from recipes.clip_tiny_faces.train import Ground, Recipe, train
from recipes.clip_tiny_faces.train_teacher import (
    TeacherRecipe,
    TeachingData,
    name_expression,
    train_teacher,
    validate,
)
from recipes.weights_folder import WEIGHTS, require_weights_folder
from tgdfer.processing.detectors_tgdfer import load_detector
from tgdfer.training.errors import UserError
from tgdfer.weights import CLIP_TINY_FACES

app = typer.Typer(help=__doc__, no_args_is_help=True)


WORK = Path("runs/clip_tiny_faces")
TEACHER = WORK / "teacher_weights.safetensors"
Work = Annotated[Path, typer.Option(help="Folder of pictures, logs and checkpoints.")]
Stills = Annotated[Path, typer.Option(help="Parquet file of aligned grey faces: image, label or none, split, person.")]
Clips = Annotated[
    Path, typer.Option(help="Folder of real clips with train and test: no label of their people is learned.")
]
Minutes = Annotated[float, typer.Option(help="Stop after so many minutes; the same command goes on.")]
Images = Annotated[int, typer.Option(help="Pictures to render.")]
Seed = Annotated[int, typer.Option(help="Decides everything.")]
PEOPLE = 8_000


@app.command("prepare")
def prepare_command(
    ferplus: Annotated[Path, typer.Option(help="Parquet file of FER2013 with the votes of FER+.")],
    face_model: Annotated[Path | None, typer.Option(help="Model of YuNet; default: from the Hub.")] = None,
    work: Work = WORK,
    images: Images = 24_000,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = os.cpu_count() or 1,
) -> None:
    """Crop the photographs and render faces, once for all trainings."""
    with _sentences(), _bars("cropping", "rendering") as show:
        prepare_ferplus(ferplus, work / "ferplus.safetensors", face_model, partial(show, "cropping"))
        cached_stills(work / "rendered", images, PEOPLE, seed, 0, workers=workers, progress=partial(show, "rendering"))


@app.command("teacher")
def teacher_command(
    stills: Stills,
    clips: Clips,
    out: Annotated[Path, typer.Option(help="File of the weights.")] = TEACHER,
    work: Work = WORK,
    images: Images = 24_000,
    epochs: Annotated[int, typer.Option(help="Passes over the voted photographs.")] = TeacherRecipe.epochs,
    seed: Seed = 0,
    minutes: Minutes = 60.0,
) -> None:
    """Train the convolutional teacher; the same command goes on where an interrupted one stopped."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _sentences(), _bars("teacher", minutes=minutes) as show:
        data = TeachingData(
            load_ferplus(work / "ferplus.safetensors", "train"),
            load_ferplus(work / "ferplus.safetensors", "validation"),
            load_photographs(stills, clips=clips),
            cached_stills(work / "rendered", images, PEOPLE, seed, 0),
        )
        net, seconds = train_teacher(work, TeacherRecipe(epochs=epochs, seed=seed), data, device, show)
        save_net(net.cpu(), out)
    typer.echo(f"{out}: trained for {seconds / 60:.0f} minutes")


@app.command("train")
def train_command(
    stills: Stills,
    clips: Clips,
    start: Annotated[Path, typer.Option(help="Folder of weights to go on from.")] = CLIP_TINY_FACES,
    teacher: Annotated[Path, typer.Option(help="File of the teacher's weights.")] = TEACHER,
    out: Annotated[Path, typer.Option(help="Folder of the weights; replaced when all is done.")] = (
        WEIGHTS / CLIP_TINY_FACES.name
    ),
    work: Work = WORK,
    pairs: Annotated[int, typer.Option(help="Pictures to see.")] = Recipe.pairs,
    images: Images = 24_000,
    seed: Seed = 0,
    minutes: Minutes = 60.0,
) -> None:
    """Train the dual encoder; the same command goes on where an interrupted one stopped."""
    with _sentences(), _bars("pupil", minutes=minutes) as show:
        require_weights_folder(out, KINDS)
        net = load_net(teacher)
        ground = Ground(
            load_ferplus(work / "ferplus.safetensors", "train"),
            load_ferplus(work / "ferplus.safetensors", "validation"),
            load_photographs(stills, clips=clips),
            cached_stills(work / "rendered", images, PEOPLE, seed, 0),
            net,
        )
        recipe = Recipe(
            start=file_hash(start / "model.safetensors"),
            teacher=file_hash(teacher),
            pairs=pairs,
            seed=seed,
        )
        model, tokenizer, seconds = train(work, recipe, ground, start, show)
        save_weights(out, Parts(model, tokenizer, build_image_processor()), recipe, seconds, ground)
    typer.echo(f"{out}: trained for {seconds / 60:.0f} minutes")


@app.command("evaluate")
def evaluate_command(
    weights: Annotated[Path, typer.Option(help="Folder of the weights.")] = CLIP_TINY_FACES,
    work: Annotated[Path | None, typer.Option(help="Folder that `prepare` has written: measures on FER+.")] = None,
    split: Annotated[str, typer.Option(help="Of FER+: validation to choose by, test once for a release.")] = (
        "validation"
    ),
    against: Annotated[Path | None, typer.Option(help="Answers of another tool to these, one label a line.")] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder of real clips with train and test.")] = None,
    rendered: Annotated[bool, typer.Option(help="Measure on rendered people.")] = True,
) -> None:
    """Measure by words alone and with linear probes, with 95 % intervals."""
    with _sentences():
        parts = Parts(*load_dual_encoder(weights), build_image_processor())
        if work:
            cache = work / "ferplus.safetensors"
            count = len(load_ferplus(cache, split).clear())
            others = {against.stem: read_answers(against, count)} if against else None
            _show(measure_photographs(parts, cache, split, others))
        if rendered:
            _show(measure_rendered(parts))
        if clips:
            _show(measure_clips(parts, clips))


@app.command("look")
def look_command(
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures of faces; else the photographs.")] = None,
    face_model: Annotated[Path | None, typer.Option(help="Model of YuNet; default: from the Hub.")] = None,
    split: Annotated[str, typer.Option(help="Of FER+: validation to choose by, test once for a release.")] = (
        "validation"
    ),
    teacher: Annotated[Path, typer.Option(help="File of the teacher's weights.")] = TEACHER,
    work: Work = WORK,
) -> None:
    """What the teacher sees in pictures; without any, its scores on the photographs of FER+, aligned and plain."""
    with _sentences():
        net = load_net(teacher)
        if pictures:
            detector = load_detector("yunet", str(face_model) if face_model else None)[1]
            for file in pictures:
                typer.echo(f"{file}: {name_expression(net, read_face(file, detector))}")
            return
        faces = load_ferplus(work / "ferplus.safetensors", split)
        for name, value in validate(net, faces, torch.device("cpu")).items():
            typer.echo(f"{name:>40} {100 * float(value):.1f}")


def _show(figures: Iterator[tuple[str, Figure]]) -> None:
    for name, figure in figures:
        typer.echo(f"{name:>40} {figure}")


@contextmanager
def _bars(*names: str, minutes: float = math.inf) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars by name; the function that moves them ends the command when the minutes are over."""
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    end = time.monotonic() + 60 * minutes
    with Progress(*columns, TimeRemainingColumn()) as bar:
        tasks = {name: bar.add_task(name, total=None) for name in names}

        def show(name: str, done: int, total: int) -> None:
            bar.update(tasks[name], completed=done, total=total)
            if time.monotonic() > end and done < total:
                raise UserError(f"{minutes:g} minutes are over: the same command goes on where this one stopped.")

        yield show


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
