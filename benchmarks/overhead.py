"""Time of resizing arrays beside VideoMAE's, and of imports beside the libraries: `python -m benchmarks.overhead`.

Figures are ratios of processor time in one run. Each is the least of its repeats, which are taken in turns.
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
from benchmarks.harness.provenance import commit, machine, versions
from benchmarks.harness.tables import markdown_table, paragraph
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.files import write_text

app = new_app()

FRAMES = 16
SIZES = ((480, 640), (1080, 1920))
# What a prediction cannot do without.
LIBRARIES = "import torch, torchvision, cv2, av; from transformers import CLIPModel"
TARGETS = {"resizing": 1.1, "importing": 1.15}


def layouts(height: int, width: int) -> dict[str, Any]:
    """One video of noise, as arrays and tensors whose pixels are in different orders in memory."""
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
    """Rows of the table: video, size, ratio of the times, and whether the pixels are equal."""
    ours = TGDFERVideoProcessor(num_frames=FRAMES)
    settings: dict[str, Any] = {"resample": ours.resample, "image_mean": ours.image_mean, "image_std": ours.image_std}
    theirs = VideoMAEVideoProcessor(**settings)
    rows = []
    for height, width in SIZES:
        for name, video in layouts(height, width).items():
            found: list[Any] = [None, None]

            def run_ours(video: Any = video, found: list[Any] = found) -> None:
                found[0] = ours(video, return_tensors="pt")["pixel_values_videos"]

            def run_theirs(video: Any = video, found: list[Any] = found) -> None:
                found[1] = theirs(video, return_tensors="pt")["pixel_values"]

            seconds = least(repeats, run_ours, run_theirs)
            equal = "yes" if torch.equal(*found) else f"to {(found[0] - found[1]).abs().max():.0e}"
            rows.append([name, f"{width} x {height}", f"{seconds[0] / seconds[1]:.2f}", equal])
    return rows


def least(repeats: int, *ways: Callable[[], None]) -> list[float]:
    """The least processor time of each way, in seconds."""
    for way in ways:
        way()
    seconds = [float("inf")] * len(ways)
    for repeat in range(repeats):
        # Each way goes first as often as last, as others on the machine slow down whoever comes at the wrong moment.
        for number in range(len(ways))[:: -1 if repeat % 2 else 1]:
            start = time.process_time()
            ways[number]()
            seconds[number] = min(seconds[number], time.process_time() - start)
    return seconds


def importing(repeats: int) -> tuple[float, int]:
    """Processor time of importing all that a prediction has imported at its end, over that of `LIBRARIES`.

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
    # Some modules can only be imported by the library that they belong to.
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
    repeats: Annotated[int, typer.Option(min=1, help="How often each array is resized")] = 30,
    imports: Annotated[int, typer.Option(min=1, help="How often everything is imported")] = 4,
    out: Annotated[Path | None, typer.Option(help="Report to write")] = None,
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
    """The report in Markdown."""
    found = ", ".join(
        f"{name} {number}" for name, number in versions(("torch", "torchvision", "transformers")).items()
    )
    lines = [
        "# What preparing a prediction costs",
        "",
        paragraph(
            f"Ratios of processor time in one run on {machine()}, with one thread, at commit"
            f" `{(commit() or 'unknown')[:7]}` ({found}). Command:"
        ),
        "`python -m benchmarks.overhead --out docs/results/overhead.md`",
        "",
        "## Arrays",
        "",
        paragraph(
            f"`TGDFERVideoProcessor` beside `VideoMAEVideoProcessor` with the same settings, on {FRAMES} frames that"
            f" are already in memory. The target is at most {TARGETS['resizing']}. Pictures are resized where they"
            " are, without a copy, and torchvision is fastest where the channels are last in memory."
        ),
        "",
        markdown_table(["video", "size", "time over VideoMAE's", "equal pixels"], rows),
        "",
        "## Imports",
        "",
        paragraph(
            f"All {modules} modules that `tgdfer predict` has imported at its end take {ratio:.2f} times as long to"
            " import as torch, torchvision, `CLIPModel`, cv2 and av alone. The target is at most"
            f" {TARGETS['importing']}."
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app()
