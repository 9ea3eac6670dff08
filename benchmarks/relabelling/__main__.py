"""Measures the recognition of emotions that the model knows only from texts: `python -m benchmarks.relabelling`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness.benchmark_dataset import Settings, rendered_dataset
from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FaceModel,
    FiguresFile,
    RenderedClips,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.real_faces.photographs import PhotographDataset
from benchmarks.relabelling.left_out_emotions import measure_relabelling
from benchmarks.relabelling.left_out_photographs import measure_photographs
from benchmarks.relabelling.report import photograph_figures, rendered_figures, write_relabelling_report
from tgdfer.console import hide_loading_bars

app = new_app()

WORK = Path("runs/relabelling")


@app.command()
def relabel(
    clips: RenderedClips = BENCHMARK,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file of photographs, as in benchmarks.real_faces. They replace the rendered clips."
        ),
    ] = None,
    face_model: FaceModel = None,
    work: Annotated[Path, typer.Option(help="Folder of the features of the photographs.")] = WORK,
    out: ReportFile = REPORTS / "relabelling.md",
    figures: FiguresFile = FIGURES / "relabelling.json",
) -> None:
    """Exclude each emotion from training, and recognise it by its words alone.

    The figures of the other data set in the file of figures are kept.
    """
    hide_loading_bars()
    command = published_command("benchmarks.relabelling", photographs=("FILE" if photographs else None, None))
    measured: dict[str, Any]
    with errors_as_sentences():
        if photographs is None:
            dataset = rendered_dataset(Settings(), clips)
            measured = rendered_figures(dataset, measure_relabelling(dataset), command)
        else:
            faces = PhotographDataset(photographs, Settings(), work, face_model)
            measured = {"photographs": photograph_figures(faces, measure_photographs(faces), command)}
        write_relabelling_report(measured, out, figures)
    print_written(out)


if __name__ == "__main__":
    app()
