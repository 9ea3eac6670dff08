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
    read_predictions,
)
from recipes.clip_tiny_faces.photographs import load_photographs
from recipes.clip_tiny_faces.stills import cached_stills
from recipes.clip_tiny_faces.towers import build_image_processor, load_dual_encoder
from recipes.clip_tiny_faces.train import Recipe, TrainingData, train
from recipes.clip_tiny_faces.train_teacher import (
    TeacherRecipe,
    TeachingData,
    name_expression,
    train_teacher,
    validate,
)
from recipes.command_errors import errors_as_sentences
from recipes.weights_folder import WEIGHTS, require_weights_folder
from tgdfer.processing.detectors_tgdfer import load_detector
from tgdfer.training.errors import UserError
from tgdfer.weights import CLIP_TINY_FACES

app = typer.Typer(help=__doc__, no_args_is_help=True)


WORK = Path("runs/clip_tiny_faces")
TEACHER = WORK / "teacher_weights.safetensors"
Work = Annotated[Path, typer.Option(help="Folder of the pictures, logs and checkpoints.")]
Split = Annotated[str, typer.Option(help="Split of FER+: validation for choices, test only once for a release.")]
Stills = Annotated[
    Path,
    typer.Option(
        help="Parquet file of aligned grey faces with the columns image, label (may be empty), split, person."
    ),
]
Clips = Annotated[
    Path,
    typer.Option(
        help="Folder of real clips with the splits train and test. Labels of the people in these clips are not used."
    ),
]
Minutes = Annotated[float, typer.Option(help="Time budget in minutes. The same command resumes.")]
Images = Annotated[int, typer.Option(help="Number of pictures to render.")]
Seed = Annotated[int, typer.Option(help="Random seed of the training.")]
# Number of different people in the rendered pictures.
PEOPLE = 8_000


@app.command("prepare")
def prepare_command(
    ferplus: Annotated[Path, typer.Option(help="Parquet file of FER2013 with the votes of FER+.")],
    face_model: Annotated[
        Path | None, typer.Option(help="File of the YuNet model. By default it comes from the Hub.")
    ] = None,
    work: Work = WORK,
    images: Images = 24_000,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(help="Number of processes that render.")] = os.cpu_count() or 1,
) -> None:
    """Crop the photographs and render faces. All trainings use the result."""
    with errors_as_sentences(), _bars("cropping", "rendering") as show:
        prepare_ferplus(ferplus, work / "ferplus.safetensors", face_model, partial(show, "cropping"))
        cached_stills(work / "rendered", images, PEOPLE, seed, 0, workers=workers, progress=partial(show, "rendering"))


@app.command("teacher")
def teacher_command(
    stills: Stills,
    clips: Clips,
    out: Annotated[Path, typer.Option(help="File of the weights to write.")] = TEACHER,
    work: Work = WORK,
    images: Images = 24_000,
    epochs: Annotated[
        int, typer.Option(help="Number of epochs over the photographs with votes.")
    ] = TeacherRecipe.epochs,
    seed: Seed = 0,
    minutes: Minutes = 60.0,
) -> None:
    """Train the convolutional teacher. An interrupted training is resumed by the same command."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with errors_as_sentences(), _bars("teacher", minutes=minutes) as show:
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
    start: Annotated[Path, typer.Option(help="Folder of the initial weights.")] = CLIP_TINY_FACES,
    teacher: Annotated[Path, typer.Option(help="File of the teacher's weights.")] = TEACHER,
    out: Annotated[
        Path, typer.Option(help="Folder of the weights to write. It is replaced at the end of the training.")
    ] = (WEIGHTS / CLIP_TINY_FACES.name),
    work: Work = WORK,
    pairs: Annotated[int, typer.Option(help="Number of training pictures, over all steps.")] = Recipe.pairs,
    images: Images = 24_000,
    seed: Seed = 0,
    minutes: Minutes = 60.0,
) -> None:
    """Train the dual encoder. An interrupted training is resumed by the same command."""
    with errors_as_sentences(), _bars("pupil", minutes=minutes) as show:
        require_weights_folder(out, KINDS)
        net = load_net(teacher)
        data = TrainingData(
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
        model, tokenizer, seconds = train(work, recipe, data, start, show)
        save_weights(out, Parts(model, tokenizer, build_image_processor()), recipe, seconds, data)
    typer.echo(f"{out}: trained for {seconds / 60:.0f} minutes")


@app.command("evaluate")
def evaluate_command(
    weights: Annotated[Path, typer.Option(help="Folder of the weights.")] = CLIP_TINY_FACES,
    work: Annotated[
        Path | None, typer.Option(help="Folder written by `prepare`. If it is given, FER+ is measured.")
    ] = None,
    split: Split = "validation",
    against: Annotated[
        Path | None, typer.Option(help="File of the predictions of another tool, one label per line, for comparison.")
    ] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder of real clips with train and test.")] = None,
    rendered: Annotated[bool, typer.Option(help="Also measure on rendered people.")] = True,
) -> None:
    """Measure zero-shot classification and linear probes, with 95% intervals."""
    with errors_as_sentences():
        parts = Parts(*load_dual_encoder(weights), build_image_processor())
        if work:
            cache = work / "ferplus.safetensors"
            count = len(load_ferplus(cache, split).majority_indices())
            others = {against.stem: read_predictions(against, count)} if against else None
            _print_figures(measure_photographs(parts, cache, split, others))
        if rendered:
            _print_figures(measure_rendered(parts))
        if clips:
            _print_figures(measure_clips(parts, clips))


@app.command("look")
def look_command(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(help="Picture files of faces. Without them, the photographs of FER+ are measured."),
    ] = None,
    face_model: Annotated[
        Path | None, typer.Option(help="File of the YuNet model. By default it comes from the Hub.")
    ] = None,
    split: Split = "validation",
    teacher: Annotated[Path, typer.Option(help="File of the teacher's weights.")] = TEACHER,
    work: Work = WORK,
) -> None:
    """Predict pictures with the teacher. Without pictures, measure it on aligned and uncropped photographs of FER+."""
    with errors_as_sentences():
        net = load_net(teacher)
        if pictures:
            detector = load_detector("yunet", str(face_model) if face_model else None)[1]
            for file in pictures:
                typer.echo(f"{file}: {name_expression(net, read_face(file, detector))}")
            return
        faces = load_ferplus(work / "ferplus.safetensors", split)
        for name, value in validate(net, faces, torch.device("cpu")).items():
            typer.echo(f"{name:>40} {100 * float(value):.1f}")


def _print_figures(figures: Iterator[tuple[str, Figure]]) -> None:
    for name, figure in figures:
        typer.echo(f"{name:>40} {figure}")


@contextmanager
def _bars(*names: str, minutes: float = math.inf) -> Iterator[Callable[[str, int, int], None]]:
    """Shows progress bars by name, and yields a function that updates them.

    The function raises a `UserError` if the time budget is used up.
    """
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    end = time.monotonic() + 60 * minutes
    with Progress(*columns, TimeRemainingColumn()) as bar:
        tasks = {name: bar.add_task(name, total=None) for name in names}

        def show(name: str, done: int, total: int) -> None:
            bar.update(tasks[name], completed=done, total=total)
            if time.monotonic() > end and done < total:
                raise UserError(
                    f"The time budget of {minutes:g} minutes is used up: run the same command again to resume."
                )

        yield show


if __name__ == "__main__":
    app()
