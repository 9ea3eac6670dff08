"""Measures the segments of emotion that are found in long rendered videos: `python -m benchmarks.long_videos`."""

from pathlib import Path
from typing import Annotated

import typer
from rich import get_console

from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FiguresFile,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.harness.tables import percent
from benchmarks.long_videos.report import write_segments_report
from benchmarks.long_videos.segments import LongVideos, measure_segments
from tgdfer.console import hide_loading_bars

app = new_app()


@app.command()
def segments(
    work: Annotated[Path, typer.Option(help="Folder of the videos, the clips and the model.")] = BENCHMARK,
    out: ReportFile = REPORTS / "long_videos.md",
    figures: FiguresFile = FIGURES / "long_videos.json",
    model: Annotated[
        str | None,
        typer.Option(
            help="Trained model. By default models are trained on the rendered clips, one for each of three seeds."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each video in seconds.", min=10)] = LongVideos.seconds,
    videos: Annotated[int, typer.Option(help="Number of videos.", min=1)] = LongVideos.videos,
) -> None:
    """Compare the segments that predictions find in long rendered videos with the argmax of every frame."""
    command = published_command(
        "benchmarks.long_videos",
        model=(model and Path(model).name, None),
        seconds=(f"{seconds:g}", f"{LongVideos.seconds:g}"),
        videos=(videos, LongVideos.videos),
    )
    hide_loading_bars()
    with errors_as_sentences():
        measured = measure_segments(work, model, LongVideos(seconds, videos))
        write_segments_report(measured, command, out, figures)
    for name, row in measured.figures["methods"].items():
        get_console().print(f"{name}: mean mAP {percent(row['map'])}", highlight=False)
    print_written(out)


if __name__ == "__main__":
    app()
