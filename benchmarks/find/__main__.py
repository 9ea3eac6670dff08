"""Measures how well phrases find moments in videos, and how long a search takes: `python -m benchmarks.find`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.find.long_search import measure_time
from benchmarks.find.measure import (
    interval_of_mean,
    means,
    moment_precision,
    pair_retrievals,
    retrievals,
    unit_scores,
)
from benchmarks.find.photographs import photograph_retrievals
from benchmarks.find.phrases import UNITS
from benchmarks.find.report import Measured, unit_table, write_find_report
from benchmarks.find.videos import Videos, index_videos, people_of, render
from benchmarks.harness.benchmark_dataset import weights_hash
from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FaceModel,
    FiguresFile,
    Photographs,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from tgdfer.console import hide_loading_bars, print_once
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained
from tgdfer.training.rendered_faces import ACTION_UNITS
from tgdfer.weights import DEFAULT_MODEL

app = new_app()


@app.command()
def find(
    work: Annotated[Path, typer.Option(help="Folder of the videos and of the computed files.")] = BENCHMARK,
    photographs: Photographs = None,
    face_model: FaceModel = None,
    out: ReportFile = REPORTS / "find.md",
    figures: FiguresFile = FIGURES / "find.json",
    model: Annotated[str, typer.Option(help="Trained model: a name, a folder or a Hub id.")] = DEFAULT_MODEL,
    seconds: Annotated[float, typer.Option(help="Length of each video in seconds.", min=10)] = Videos.seconds,
    videos: Annotated[int, typer.Option(help="Number of videos.", min=2)] = Videos.videos,
    hours: Annotated[float, typer.Option(help="Length of the recordings of the timed search.", min=0.01)] = 10.0,
) -> None:
    """Search rendered videos and photographs for phrases, and measure the time of a search."""
    command = published_command(
        "benchmarks.find",
        photographs=("FILE" if photographs else None, None),
        model=(Path(model).name, DEFAULT_MODEL),
        seconds=(f"{seconds:g}", f"{Videos.seconds:g}"),
        videos=(videos, Videos.videos),
        hours=(f"{hours:g}", "10"),
    )
    hide_loading_bars()
    with errors_as_sentences():
        network, processor = load_trained(model)
        if processor.search_reference is None:
            raise UserError(f"{model} has no reference faces; choose a model that was saved with them.")
        search = EmotionSearchPipeline(model=network, processor=processor, device=network.device)
        if face_model is not None:
            search.video_processor.face_model = str(face_model)
        settings = Videos(seconds, videos)
        weights = weights_hash(network, processor)
        indexed = index_videos(search, render(work, settings), weights, work)
        scores, right = unit_scores(search, indexed)
        units = retrievals(scores, right, {name: UNITS[name] for name in ACTION_UNITS})
        print_once(unit_table(units))
        pairs, lower = pair_retrievals(search, indexed)
        measured = Measured(
            Path(model).name,
            settings,
            units,
            interval_of_mean(scores, right, people_of(indexed)),
            pairs,
            lower,
            moment_precision(search, indexed),
            photograph_retrievals(search, photographs, work / "find_photographs", face_model) if photographs else {},
            measure_time(search, [video.index for video in indexed], hours, work),
        )
        print_once(str(means(units)))
        write_find_report(measured, command, out, figures)
        print_written(out)


if __name__ == "__main__":
    app()
