"""Render a data set of faces: `python -m tgdfer.training.rendered_faces OUT --clips 60 --test-clips 20`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.training.rendered_faces import (
    EMOTIONS,
    PROTOTYPES,
    RenderedFaces,
    contact_sheet,
    film_strip,
    write_dataset,
    write_long_videos,
)


def _with_names(sheet: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Adds a line with the names of the columns above a sheet."""
    width = sheet.shape[1] // len(names)
    line = np.full((20, sheet.shape[1], 3), 255, np.uint8)
    for i, name in enumerate(names):
        cv2.putText(line, name, (i * width + 6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([line, sheet])


def _require_png(path: Path) -> None:
    """Checks that a picture can be written, before anything is drawn.

    Raises:
        ValueError: If the path is not a .png file in a folder that exists.
    """
    if path.suffix != ".png" or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: name a .png file in a folder that exists.")


def _save(picture: np.ndarray, path: Path) -> None:
    """Writes a picture with a palette, which keeps the file small, and with dithering, which keeps shading smooth."""
    image = Image.fromarray(picture)
    mixed = image.quantize(palette=image.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    mixed.save(path, optimize=True)


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write; with --sheet or --strip, picture to write.")],
    clips: Annotated[int, typer.Option(help="Clips of each label in train; with --length, videos in train.")] = 60,
    test_clips: Annotated[int, typer.Option(help="Clips of each label in test; with --length, videos in test.")] = 20,
    people: Annotated[int, typer.Option(help="Number of people in train.")] = 30,
    test_people: Annotated[int, typer.Option(help="Number of people in test.")] = 10,
    contempt: Annotated[bool, typer.Option("--contempt", help="Also render contempt, as an eighth label.")] = False,
    length: Annotated[
        float | None,
        typer.Option(help="Write videos of this many seconds, with several emotions each, instead of clips."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    workers: Annotated[int, typer.Option(help="Number of processes that render.")] = os.cpu_count() or 1,
    sheet: Annotated[
        bool,
        typer.Option(
            "--sheet", help="Draw one picture with a row for each person and a column for each label instead."
        ),
    ] = False,
    strip: Annotated[
        bool,
        typer.Option("--strip", help="Draw one picture of clips frame by frame, with plots of intensities, instead."),
    ] = False,
) -> None:
    """Render a data set of faces with the intensity and the action units of every frame."""
    labels = tuple(PROTOTYPES) if contempt else EMOTIONS
    # Overview pictures have no noise, no motion blur and no occlusion.
    clear = replace(RenderedFaces(), noise=(0.0, 0.0), shutter=(0.0, 0.0), occlusion=0.0)
    try:
        if sheet or strip:
            _require_png(out)
        if sheet:
            _save(_with_names(contact_sheet(clear, people=6, seed=seed, labels=labels), labels), out)
            typer.echo(f"{out}: {', '.join(labels)}, from left to right")
        elif strip:
            _save(film_strip(clear, seed=seed), out)
            typer.echo(f"{out}: a clip in each row, with its intensities below")
        else:
            count = {"train": clips, "test": test_clips}
            persons = {"train": people, "test": test_people}
            _render(out, count, persons, length, seed=seed, workers=workers, labels=labels)
            videos_per_number = 1 if length is not None else len(labels)
            typer.echo(f"{out}: {videos_per_number * sum(count.values())} {'clips' if length is None else 'videos'}")
    except ValueError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from error


def _render(out: Path, count: dict[str, int], people: dict[str, int], length: float | None, **options) -> None:
    """Writes clips, or videos of a given length, with a progress bar."""
    columns = TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as bar:
        task = bar.add_task("clips", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if length is None:
            write_dataset(out, clips=count, people=people, progress=advance, **options)
        else:
            write_long_videos(out, length, videos=count, people=people, progress=advance, **options)


if __name__ == "__main__":
    typer.run(main)
