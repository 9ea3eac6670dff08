"""Peak memory and time of `tgdfer predict` on a long file: `python -m benchmarks.long_videos.memory`.

The file repeats the packets of one minute of a rendered face. Writing half an hour of video therefore takes seconds.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import av
import cv2
import numpy as np
import typer

from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces, sample_long_clip, sample_person
from tgdfer.weights import DEFAULT_MODEL

# Code of the child process. It runs `tgdfer` and prints the peak memory.
_CHILD = """
import resource, sys
from tgdfer.command_line import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def write_face(path: Path, height: int, width: int, seconds: float = 60.0) -> None:
    """Renders a video of a face that fills two thirds of the height, with a key frame every two seconds.

    Args:
        path (`Path`): File to write.
        height (`int`): Height of the frames in pixels.
        width (`int`): Width of the frames in pixels.
        seconds (`float`, *optional*, defaults to `60.0`): Length of the video in seconds.
    """
    person = sample_person(0, "test", 0)
    clip = sample_long_clip(seconds, EMOTIONS, person, RenderedFaces(), np.random.default_rng(0))
    side = height * 2 // 3 // 2 * 2
    top, left = (height - side) // 2, (width - side) // 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=width, height=height, pix_fmt="yuv420p")
        stream.options = {"preset": "veryfast", "g": "50"}
        canvas = np.full((height, width, 3), 120, np.uint8)
        for face in clip.draw():
            canvas[top : top + side, left : left + side] = cv2.resize(face, (side, side))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        container.mux(stream.encode(None))


def repeat(path: Path, times: int, out: Path) -> None:
    """Writes a video that repeats another one several times, without decoding it."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        source_stream = source.streams.video[0]
        stream = target.add_stream_from_template(source_stream)
        packets = [packet for packet in source.demux(source_stream) if packet.size and packet.pts is not None]
        starts = [packet.pts for packet in packets if packet.pts is not None]
        length = max(starts) - min(starts) + max(packet.duration or 0 for packet in packets)
        for number in range(times):
            source.seek(0)
            for packet in source.demux(source_stream):
                if packet.size and packet.pts is not None and packet.dts is not None:
                    packet.pts += number * length
                    packet.dts += number * length
                    packet.stream = stream
                    target.mux(packet)


def main(
    model: Annotated[str, typer.Option(help="Trained model: a name, a folder or a Hub id.")] = DEFAULT_MODEL,
    minutes: Annotated[int, typer.Option(help="Length of the file in minutes.", min=1)] = 30,
    size: Annotated[str, typer.Option(help="Size of the frames, as WIDTHxHEIGHT.")] = "1280x720",
    face_model: Annotated[
        str | None, typer.Option(help="File of the YuNet model. If it is given, the face is cropped.")
    ] = None,
) -> None:
    """Predict a long file in a child process, and print its time and peak memory."""
    width, height = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        minute, file = Path(folder) / "minute.mp4", Path(folder) / "long.mp4"
        write_face(minute, height, width)
        repeat(minute, minutes, file)
        arguments = ["predict", str(file), "--model", model, "--json", str(Path(folder) / "out.json")]
        if face_model:
            arguments += ["--face-crop", "largest", "--face-model", face_model]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stderr)
    peak = int(done.stdout.rsplit("peak", 1)[1]) * (1 if sys.platform == "darwin" else 1024)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{minutes} minutes of {size}: peak memory {peak / 1e9:.2f} GB, {seconds:.0f} s"
        f" ({usage.ru_utime + usage.ru_stime:.0f} s of CPU time)"
    )


if __name__ == "__main__":
    typer.run(main)
