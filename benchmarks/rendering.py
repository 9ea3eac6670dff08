"""Speed of the renderer in frames per second, alone and with encoding: `python -m benchmarks.rendering`."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from tgdfer.help_pages import run
from tgdfer.training.rendered_faces import RenderedFaces, sample_clip, sample_person, write_dataset


def draw_alone(clips: int = 8) -> float:
    """Returns the frames per second of drawing on one core without encoding. The best of three rounds counts."""
    cv2.setNumThreads(1)
    best = 0.0
    for _ in range(3):
        rng, frames = np.random.default_rng(0), 0
        begin = time.process_time()
        for number in range(clips):
            clip = sample_clip("happiness", sample_person(0, "train", number), RenderedFaces(), rng)
            frames += sum(1 for _ in clip.draw())
        best = max(best, frames / (time.process_time() - begin))
    return best


def main(
    clips: Annotated[int, typer.Option(help="Number of clips for each of seven labels.", min=1)] = 20,
    workers: Annotated[int, typer.Option(help="Number of processes that draw and encode.", min=1)] = os.cpu_count()
    or 1,
) -> None:
    """Draw clips without encoding, then draw and encode a data set."""
    print(f"drawing without encoding, on one core: {draw_alone():.0f} frames/s")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        out = write_dataset(Path(folder) / "faces", clips={"train": clips}, workers=workers)
        seconds = time.perf_counter() - begin
        rows = [json.loads(line) for line in (out / "train" / "metadata.jsonl").read_text("utf-8").splitlines()]
        size = sum(path.stat().st_size for path in out.rglob("*.mp4"))
    frames = sum(len(row["intensity"]) for row in rows)
    print(f"{frames} frames in {len(rows)} clips, {workers} workers: {frames / seconds:.0f} frames/s")
    print(f"{size / frames / 1024:.1f} KiB per frame on disk")


if __name__ == "__main__":
    run(main)
