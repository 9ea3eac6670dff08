"""Overhead of resizing and of importing, compared with VideoMAE and the libraries: `python -m benchmarks.overhead`.

The figures are ratios of CPU times. Each time is the shortest of several repeats, in which the candidates take turns.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import typer
from rich import get_console
from transformers import VideoMAEVideoProcessor

from benchmarks.harness.command_options import new_app, print_written
from benchmarks.harness.provenance import machine, versions
from benchmarks.harness.tables import markdown_table, paragraph
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.files import write_text
from tgdfer.training.provenance import commit

app = new_app()

FRAMES = 16
SIZES = ((480, 640), (1080, 1920))
# Libraries that every prediction needs.
LIBRARIES = "import torch, torchvision, cv2, av; from transformers import CLIPModel"
# Highest ratios that are acceptable.
TARGETS = {"resizing": 1.1, "importing": 1.15}


def layouts(height: int, width: int) -> dict[str, Any]:
    """Returns the same video of noise as arrays and tensors with different memory layouts."""
    array = np.random.default_rng(0).integers(0, 256, (FRAMES, height, width, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array)
    return {
        "array (T, H, W, 3)": array,
        "tensor (T, H, W, 3)": tensor,
        "tensor (T, 3, H, W), channels last in memory": tensor.permute(0, 3, 1, 2),
        "tensor (T, 3, H, W)": tensor.permute(0, 3, 1, 2).contiguous(),
        "array (T, 3, H, W)": np.ascontiguousarray(array.transpose(0, 3, 1, 2)),
        "list of arrays (H, W, 3)": list(array),
    }


def resizing(repeats: int) -> list[list[str]]:
    """Compares the resizing of both processors.

    Returns:
        `list[list[str]]`: Rows of the table: layout, size, ratio of the times, and whether the pixels are equal.
    """
    ours = TGDFERVideoProcessor(num_frames=FRAMES)
    settings: dict[str, Any] = {"resample": ours.resample, "image_mean": ours.image_mean, "image_std": ours.image_std}
    theirs = VideoMAEVideoProcessor(**settings)
    rows = []
    for height, width in SIZES:
        for name, video in layouts(height, width).items():
            pixels: list[Any] = [None, None]

            def run_ours(video: Any = video, pixels: list[Any] = pixels) -> None:
                pixels[0] = ours(video, return_tensors="pt")["pixel_values_videos"]

            def run_theirs(video: Any = video, pixels: list[Any] = pixels) -> None:
                pixels[1] = theirs(video, return_tensors="pt")["pixel_values"]

            seconds = shortest_times(repeats, run_ours, run_theirs)
            equal = "yes" if torch.equal(*pixels) else f"within {(pixels[0] - pixels[1]).abs().max():.0e}"
            rows.append([name, f"{width} x {height}", f"{seconds[0] / seconds[1]:.2f}", equal])
    return rows


def shortest_times(repeats: int, *functions: Callable[[], None]) -> list[float]:
    """Returns the shortest CPU time of each function in seconds, after a warm-up call."""
    for function in functions:
        function()
    seconds = [float("inf")] * len(functions)
    for repeat in range(repeats):
        # The order alternates, so that other processes on the machine disturb all functions equally.
        for number in range(len(functions))[:: -1 if repeat % 2 else 1]:
            start = time.process_time()
            functions[number]()
            seconds[number] = min(seconds[number], time.process_time() - start)
    return seconds


def importing(repeats: int) -> tuple[float, int]:
    """Measures the CPU time of importing all modules that a prediction imports, relative to `LIBRARIES`.

    Returns:
        `tuple[float, int]`: The ratio, and the number of modules.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _write_clip(path)
        call = f"main(['predict', {str(path)!r}, '--face-crop', 'none'])"
        names = _python(
            f"import sys\nfrom tgdfer.command_line import main\nassert {call} == 0\n"
            "print('modules:', *(name for name in sys.modules if name != '__main__'))"
        )
    modules = names.rpartition("modules:")[2].split()
    # Some modules cannot be imported directly, only by the library that contains them.
    code = (
        f"import importlib, time\n{LIBRARIES}\nlibraries = time.process_time()\nfor name in {modules!r}:\n"
        "    try:\n        importlib.import_module(name)\n    except Exception:\n        pass\n"
        "print('seconds:', libraries, time.process_time())"
    )
    runs = [_python(code).rpartition("seconds:")[2].split() for _ in range(repeats)]
    libraries, everything = (min(map(float, seconds)) for seconds in zip(*runs, strict=True))
    return everything / libraries, len(modules)


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def _write_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        for value in range(0, 160, 10):
            picture = np.full((64, 64, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


@app.command()
def main(
    repeats: Annotated[int, typer.Option(min=1, help="How often each array is resized.")] = 30,
    imports: Annotated[int, typer.Option(min=1, help="How often all modules are imported.")] = 4,
    out: Annotated[Path | None, typer.Option(help="Markdown file of the report.")] = None,
) -> None:
    """Compare the times and write a report."""
    torch.set_num_threads(1)
    rows = resizing(repeats)
    ratio, modules = importing(imports)
    text = report(rows, ratio, modules)
    if out is None:
        get_console().print(text, highlight=False, markup=False)
    else:
        write_text(out, text)
        print_written(out)


def report(rows: list[list[str]], ratio: float, modules: int) -> str:
    """Returns the report in Markdown.

    Args:
        rows (`list[list[str]]`): Rows of the table of arrays, from `resizing`.
        ratio (`float`): Ratio of the import times.
        modules (`int`): Number of imported modules.
    """
    packages = versions(("torch", "torchvision", "transformers"))
    version_text = ", ".join(f"{name} {number}" for name, number in packages.items())
    lines = [
        "# Overhead of resizing and imports",
        "",
        paragraph(
            f"Ratios of CPU time in one run on {machine()}, with one thread, at commit"
            f" `{(commit() or 'unknown')[:7]}` ({version_text}). Command:"
        ),
        "`python -m benchmarks.overhead --out docs/results/overhead.md`",
        "",
        "## Arrays",
        "",
        paragraph(
            f"The table compares `TGDFERVideoProcessor` with `VideoMAEVideoProcessor` on {FRAMES} frames that are"
            f" already in memory, with the same settings. The target is a ratio of at most {TARGETS['resizing']}."
            " `TGDFERVideoProcessor` does not copy the frames before it resizes them. torchvision resizes fastest if"
            " the channels are last in memory."
        ),
        "",
        markdown_table(["video", "size", "time relative to VideoMAE", "equal pixels"], rows),
        "",
        "## Imports",
        "",
        paragraph(
            f"`tgdfer predict` imports {modules} modules. Importing all of them takes {ratio:.2f} times as long as"
            " importing only torch, torchvision, `CLIPModel`, cv2 and av. The target is at most"
            f" {TARGETS['importing']}."
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app()
