"""Compares an ONNX export with PyTorch in speed, size and agreement: `python -m benchmarks.onnx`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich import get_console

from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FiguresFile,
    RealClips,
    RenderedClips,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.harness.provenance import machine, versions
from benchmarks.onnx.agreement import largest_errors, same_labels
from benchmarks.onnx.report import report
from tgdfer.console import hide_loading_bars
from tgdfer.model_card.export.onnx_files import export_onnx
from tgdfer.training.files import write_text
from tgdfer.training.models import load_trained
from tgdfer.training.provenance import commit
from tgdfer.training.rendered_faces import write_dataset
from tgdfer.weights import DEFAULT_MODEL

app = new_app()

ROOT = Path(__file__).resolve().parents[2]
THREADS = (1, 2)
TEST_CLIPS = 40
REPEATS = 30


@app.command()
def onnx(
    model: Annotated[str, typer.Option(envvar="TGDFER_TRAINED", help="Trained model: name, folder or Hub id.")] = (
        DEFAULT_MODEL
    ),
    rendered: RenderedClips = BENCHMARK / "onnx-rendered",
    realclips: RealClips = None,
    test_clips: Annotated[int, typer.Option(help="Number of rendered clips per label.", min=1)] = TEST_CLIPS,
    repeats: Annotated[int, typer.Option(help="How often each candidate is timed.", min=1)] = REPEATS,
    out: ReportFile = REPORTS / "onnx.md",
    figures: FiguresFile = FIGURES / "onnx.json",
) -> None:
    """Export a model, compare its outputs and labels with PyTorch, and time both on one and two threads."""
    hide_loading_bars()
    with errors_as_sentences():
        measured = measure(model, rendered, realclips, test_clips, repeats)
        measured["command"] = published_command(
            "benchmarks.onnx",
            model=(Path(model).name if Path(model).is_dir() else model, DEFAULT_MODEL),
            test_clips=(test_clips, TEST_CLIPS),
            repeats=(repeats, REPEATS),
        )
        write_text(figures, json.dumps(measured, indent=2) + "\n")
        write_text(out, report(measured))
        print_written(out)


def measure(model: str, rendered: Path, realclips: Path | None, test_clips: int, repeats: int) -> dict[str, Any]:
    """Measures everything in the report."""
    network, processor = load_trained(model)
    side = int(processor.video_processor.crop_size["height"])
    if not rendered.is_dir():
        get_console().print(f"Rendering clips to {rendered}", highlight=False)
        write_dataset(rendered, clips={"test": test_clips}, people={"test": test_clips})
    clips = {"rendered": sorted((rendered / "test").rglob("*.mp4"))}
    if realclips is not None:
        clips["real"] = sorted((realclips / "test").rglob("*.mp4"))
    with TemporaryDirectory() as folder:
        export = export_onnx(model, Path(folder) / "onnx", int8=True)
        seconds = {str(threads): _times(threads, model, export, repeats) for threads in THREADS}
        torch.set_num_threads(1)
        errors = largest_errors(network, export, side)
        labels = {name: same_labels(network, processor, export, videos) for name, videos in clips.items()}
        sizes = {path.name: path.stat().st_size for path in sorted(export.glob("*.onnx"))}
    return {
        "model": model if not Path(model).is_dir() else Path(model).name,
        "pytorch_bytes": sum(parameter.numel() * 4 for parameter in network.parameters()),
        "sizes": sizes,
        "errors": errors,
        "labels": labels,
        "seconds": seconds,
        "machine": machine(),
        "commit": commit(),
        "versions": versions(("torch", "onnxruntime")),
    }


def _times(threads: int, model: str, folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Times all candidates in a new process, because the number of threads of PyTorch is best set at its start."""
    command = [sys.executable, "-m", "benchmarks.onnx.timing", str(threads), model, str(folder), str(repeats)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    app()
