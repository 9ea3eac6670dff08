"""Measures the recognition of emotions that the model knows only from texts: `python -m benchmarks.relabelling`."""

from benchmarks.harness.benchmark_dataset import Settings, rendered_dataset
from benchmarks.harness.command_options import (
    BENCHMARK,
    FIGURES,
    REPORTS,
    FiguresFile,
    RenderedClips,
    ReportFile,
    errors_as_sentences,
    new_app,
    print_written,
    published_command,
)
from benchmarks.relabelling.left_out_emotions import measure_relabelling
from benchmarks.relabelling.report import write_relabelling_report
from tgdfer.console import hide_loading_bars

app = new_app()


@app.command()
def relabel(
    clips: RenderedClips = BENCHMARK,
    out: ReportFile = REPORTS / "relabelling.md",
    figures: FiguresFile = FIGURES / "relabelling.json",
) -> None:
    """Exclude each emotion from training, and rank the test clips by its descriptions alone."""
    hide_loading_bars()
    with errors_as_sentences():
        dataset = rendered_dataset(Settings(), clips)
        areas = measure_relabelling(dataset)
        write_relabelling_report(dataset, areas, out, figures, published_command("benchmarks.relabelling"))
    print_written(out)


if __name__ == "__main__":
    app()
