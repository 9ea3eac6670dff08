"""Time and memory of sampling 16 frames of a video, compared with `transformers`: `python -m benchmarks.decoding`.

The videos are 60 s of 1080p H.264 by default. Each figure is the best of several repeats. The readers take turns, and
each repeat runs in a new process.
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

# Titles of the compared readers.
READERS = {"load_video": "transformers, load_video(pyav)", "read_clip": "read_clip", "processor": "processor(path)"}


def write_video(path: Path, seconds: int, key_interval: int, fps: int = 30) -> None:
    """Writes a video of noise at several scales that moves through the view.

    Args:
        path (`Path`): File to write.
        seconds (`int`): Length of the video in seconds.
        key_interval (`int`): Number of frames between key frames.
        fps (`int`, *optional*, defaults to `30`): Frames per second.
    """
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
        # Phones and x264 write one slice per frame. By default, PyAV asks for one per thread.
        stream.thread_type = "FRAME"
        interval = str(key_interval)
        stream.options = {"preset": "veryfast", "g": interval, "keyint_min": interval, "sc_threshold": "0"}
        for number in range(seconds * fps):
            top, left = (256 + np.array([200, 250]) * np.sin(np.array([0.011, 0.017]) * number)).astype(int)
            view = np.ascontiguousarray(scene[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


def read(reader: str, path: str) -> None:
    """Reads a video once, and prints the duration in seconds and the growth of peak memory in MiB."""
    processor = TGDFERVideoProcessor()
    processor(np.zeros((2, 300, 300, 3), np.uint8))  # Triggers lazy imports.
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if reader == "load_video":
        load_video(cast(Any, path), num_frames=16, backend="pyav")
    elif reader == "read_clip":
        processor.read_clip(path, 16)
    else:
        processor(path, num_frames=16, return_tensors="pt")
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))


def main(
    seconds: Annotated[int, typer.Option(help="Length of the videos.", min=1)] = 60,
    repeats: Annotated[int, typer.Option(help="How often each reader reads each video.", min=1)] = 3,
    child: Annotated[tuple[str, str] | None, typer.Option("--read", hidden=True)] = None,
) -> None:
    """Compare the readers on files with few and with many key frames."""
    if child:  # This is a child process, which reads one file.
        return read(*child)
    with tempfile.TemporaryDirectory() as folder:
        for key_interval, description in ((30, "1 s"), (60, "2 s"), (10**6, "the whole file")):
            path = Path(folder) / f"{key_interval}.mp4"
            write_video(path, seconds, key_interval)
            print(f"one key frame per {description}, {path.stat().st_size / 2**20:.0f} MiB")
            figures: dict[str, list[list[float]]] = {reader: [] for reader in READERS}
            for _ in range(repeats):
                for reader in READERS:
                    command = [sys.executable, "-m", "benchmarks.decoding", "--read", reader, str(path)]
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    figures[reader].append(json.loads(out.splitlines()[-1]))
            best = {reader: np.min(figures[reader], axis=0) for reader in READERS}
            reference = best["load_video"]
            for reader, name in READERS.items():
                speedup, memory = reference[0] / best[reader][0], best[reader][1] / reference[1]
                print(
                    f"  {name:32} {best[reader][0]:6.2f} s ({speedup:4.1f} times as fast as load_video),"
                    f" {best[reader][1]:5.0f} MiB of additional memory ({memory:4.2f} of load_video)"
                )


if __name__ == "__main__":
    run(main)
