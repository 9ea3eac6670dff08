"""Time and memory of reading 16 frames of 60 s of 1080p H.264, beside `transformers`: `python -m benchmarks.decoding`.

Each figure is the best of its repeats, which are taken in turns, each in a process of its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, cast

import av
import numpy as np
import typer
from transformers.video_utils import load_video

from tgdfer.help_pages import run
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

WAYS = {"load_video": "transformers, load_video(pyav)", "read_clip": "read_clip", "processor": "processor(path)"}


def write(path: Path, seconds: int, keys: int, fps: int = 30) -> None:
    """Writes a view that moves over noise of several scales, with a key frame every `keys` frames."""
    rng = np.random.default_rng(0)
    height, width = 1080, 1920
    scene = np.zeros((height + 512, width + 512, 3), np.float32)
    for grain in (256, 64, 16, 4):
        noise = rng.random((scene.shape[0] // grain + 1, scene.shape[1] // grain + 1, 3), dtype=np.float32)
        scene += (
            np.kron(noise, np.ones((grain, grain, 1), np.float32))[: scene.shape[0], : scene.shape[1]] * grain**0.3
        )
    scene = (255 * scene / scene.max()).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One slice per frame, as phones and x264 write them. By default PyAV asks for one per thread.
        stream.thread_type = "FRAME"
        stream.options = {"preset": "veryfast", "g": str(keys), "keyint_min": str(keys), "sc_threshold": "0"}
        for number in range(seconds * fps):
            top, left = (256 + np.array([200, 250]) * np.sin(np.array([0.011, 0.017]) * number)).astype(int)
            view = np.ascontiguousarray(scene[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


def read(way: str, path: str) -> None:
    """Prints the seconds of one reading and the growth of peak memory in MiB."""
    processor = TGDFERVideoProcessor()
    processor(np.zeros((2, 300, 300, 3), np.uint8))  # loads what is loaded lazily
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if way == "load_video":
        load_video(cast(Any, path), num_frames=16, backend="pyav")
    elif way == "read_clip":
        processor.read_clip(path, 16)
    else:
        processor(path, num_frames=16, return_tensors="pt")
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))


def main(
    seconds: Annotated[int, typer.Option(help="Length of the videos.", min=1)] = 60,
    repeats: Annotated[int, typer.Option(help="How often each is read.", min=1)] = 3,
    one: Annotated[tuple[str, str] | None, typer.Option("--read", hidden=True)] = None,
) -> None:
    """Compare the ways to read on files with few and with many key frames."""
    if one:  # what a child process does
        return read(*one)
    with tempfile.TemporaryDirectory() as folder:
        for keys, words in ((30, "1 s"), (60, "2 s"), (10**6, "the whole file")):
            path = Path(folder) / f"{keys}.mp4"
            write(path, seconds, keys)
            print(f"a key frame every {words}, {path.stat().st_size / 2**20:.0f} MiB")
            figures: dict[str, list[list[float]]] = {way: [] for way in WAYS}
            for _ in range(repeats):
                for way in WAYS:
                    command = [sys.executable, "-m", "benchmarks.decoding", "--read", way, str(path)]
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    figures[way].append(json.loads(out.splitlines()[-1]))
            best = {way: np.min(figures[way], axis=0) for way in WAYS}
            for way, name in WAYS.items():
                faster, growth = best["load_video"][0] / best[way][0], best[way][1] / best["load_video"][1]
                print(
                    f"  {name:32} {best[way][0]:6.2f} s ({faster:4.1f} times as fast), {best[way][1]:5.0f} MiB more"
                    f" ({growth:4.2f} of its memory)"
                )


if __name__ == "__main__":
    run(main)
