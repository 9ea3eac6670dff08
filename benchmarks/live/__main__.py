"""Speed, latency and memory of the live page: `python -m benchmarks.live`."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FaceModel,
    FiguresFile,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.harness.provenance import machine, versions
from benchmarks.live.measure import measure_memory, measure_pace, render
from benchmarks.live.report import report
from tgdfer.training.files import write_text
from tgdfer.training.provenance import commit

app = new_app("Measure `tgdfer live`: frames per second, latency and memory, in headless Chromium.")

SECONDS, MINUTES = 30.0, 30.0
Recording = Annotated[
    Path | None,
    typer.Option(envvar="TGDFER_RECORDING", help="A real recording, which is measured besides a rendered video."),
]


@app.command()
def pace(
    recording: Recording = None,
    face_model: FaceModel = None,
    seconds: Annotated[float, typer.Option(help="Seconds that each row is measured.", min=5)] = SECONDS,
    out: ReportFile = REPORTS / "live.md",
    figures: FiguresFile = FIGURES / "live.json",
) -> None:
    """Measure frames per second and latency, with the camera of the browser and with a file in real time."""
    with errors_as_sentences(), TemporaryDirectory() as folder:
        videos = [render(Path(folder)), *([recording] if recording else [])]
        detectors = {"mtcnn": ["--face-detector", "mtcnn"]}
        if face_model is not None:
            detectors = {"yunet": ["--face-detector", "yunet", "--face-model", str(face_model)], **detectors}
        here = _provenance()
        rows = measure_pace(videos, detectors, seconds)
        command = published_command(
            "benchmarks.live",
            "pace",
            recording=(recording and recording.name, None),
            face_model=(face_model and face_model.name, None),
            seconds=(seconds, SECONDS),
        )
        _write(out, figures, "pace", {"rows": rows, "seconds": seconds, "command": command, **here})


@app.command()
def memory(
    recording: Recording = None,
    face_model: FaceModel = None,
    minutes: Annotated[float, typer.Option(help="Minutes that are measured.", min=0.2)] = MINUTES,
    log: Annotated[Path, typer.Option(help="CSV file of the measurements.")] = BENCHMARK / "live-memory.csv",
    out: ReportFile = REPORTS / "live.md",
    figures: FiguresFile = FIGURES / "live.json",
) -> None:
    """Measure the memory while a file is played, and the classes change every minute."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with errors_as_sentences(), TemporaryDirectory() as folder:
        arguments = [] if face_model is None else ["--face-detector", "yunet", "--face-model", str(face_model)]
        here = _provenance()
        measured = measure_memory(recording or render(Path(folder)), arguments, minutes, log)
        measured["command"] = published_command(
            "benchmarks.live",
            "memory",
            recording=(recording and recording.name, None),
            face_model=(face_model and face_model.name, None),
            minutes=(minutes, MINUTES),
        )
        _write(out, figures, "memory", measured | here)


def _provenance() -> dict[str, Any]:
    """Describes machine and code. The code may change while it is measured."""
    return {"machine": machine(), "commit": commit(), "versions": versions(("torch", "opencv-python-headless"))}


def _write(out: Path, figures: Path, part: str, measured: dict[str, Any]) -> None:
    """Replaces one part of the figures, and writes the report about both."""
    known = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    known[part] = measured
    write_text(figures, json.dumps(known, indent=2) + "\n")
    write_text(out, report(known))
    print_written(out)


if __name__ == "__main__":
    app()
