"""Render a data set of faces: `python -m tgdfer.training.rendered_faces OUT --clips 60 --test-clips 20`."""

import os
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces, contact_sheet, write_dataset


def _with_names(sheet: np.ndarray) -> np.ndarray:
    """The sheet under a line with the names of its columns."""
    width = sheet.shape[1] // len(EMOTIONS)
    line = np.full((20, sheet.shape[1], 3), 255, np.uint8)
    for i, name in enumerate(EMOTIONS):
        cv2.putText(line, name, (i * width + 6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([line, sheet])


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write, or the picture if --sheet is given.")],
    clips: Annotated[int, typer.Option(help="Clips for each label in train.")] = 60,
    test_clips: Annotated[int, typer.Option(help="Clips for each label in test.")] = 20,
    people: Annotated[int, typer.Option(help="People in train.")] = 30,
    test_people: Annotated[int, typer.Option(help="People in test.")] = 10,
    seed: Annotated[int, typer.Option(help="Decides everything that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = os.cpu_count() or 1,
    sheet: Annotated[bool, typer.Option("--sheet", help="Draw one picture of emotions and people instead.")] = False,
) -> None:
    """Render clips of faces with the truth about every frame."""
    if sheet:
        # Without noise, and in few colours: a small file.
        picture = contact_sheet(RenderedFaces(noise=(0.0, 0.0)), people=6, seed=seed)
        Image.fromarray(_with_names(picture)).quantize(256).save(out, optimize=True)
        typer.echo(f"{out}: {', '.join(EMOTIONS)}, from left to right")
        return
    columns = TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as bar:
        task = bar.add_task("clips")
        try:
            write_dataset(
                out,
                clips={"train": clips, "test": test_clips},
                people={"train": people, "test": test_people},
                seed=seed,
                workers=workers,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except ValueError as error:
            bar.stop()
            typer.secho(f"error: {error}", fg="red", err=True)
            raise typer.Exit(2) from error
    typer.echo(f"{out}: {len(EMOTIONS) * (clips + test_clips)} clips")


if __name__ == "__main__":
    typer.run(main)
