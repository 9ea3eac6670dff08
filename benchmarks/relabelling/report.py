"""Report on relabelling."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.comparison import mean_and_spread
from benchmarks.harness.provenance import commit, machine
from benchmarks.harness.tables import markdown_table, paragraph, percent, write_report
from benchmarks.relabelling.left_out_emotions import RECIPE

COLUMNS = {
    "untrained": "CLIP, not trained",
    "others": "trained on the other six",
    "all": "trained on all seven",
}


def write_relabelling_report(
    dataset: BenchmarkDataset,
    areas: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    figures: Path,
    command: str,
) -> None:
    """Writes the report and its figures.

    Args:
        dataset (`BenchmarkDataset`): The clips.
        areas (`Mapping[str, Mapping[str, Sequence[float]]]`): Result of `measure_relabelling`.
        path (`Path`): Path of the Markdown file.
        figures (`Path`): Path of the JSON file.
        command (`str`): Command line that is written into both files.
    """
    run = {"command": command, "commit": commit(), "machine": machine()}
    means = {
        name: [float(np.mean(run)) for run in zip(*(label[name] for label in areas.values()), strict=True)]
        for name in COLUMNS
    }
    rows = [
        [label, *(percent(mean_and_spread(list(columns[name]))) for name in COLUMNS)]
        for label, columns in [*areas.items(), ("mean", means)]
    ]
    introduction = (
        "`set_classes` gives a trained model new classes by their descriptions. Here TG-DFER is trained on rendered"
        " faces of six emotions, and the seventh is added only by its descriptions. The table shows how well the model"
        f" ranks the {len(dataset.test.labels)} test clips by the probability of that emotion. The people in the test"
        " clips are not in the training clips. Values are the area under the ROC curve in percent, as mean ± standard"
        " deviation over seeds. Chance is 50."
    )
    method = (
        f"The models are trained on frozen features with AdamW at a learning rate of {RECIPE.rate:g} for"
        f" {RECIPE.epochs} epochs. These options were fixed in advance. The parameters of the added class are the mean"
        f" over the trained classes. Command: `{command}`. Commit: `{run['commit']}`. Machine: {run['machine']}."
    )
    head = "# An emotion given by words alone\n\nThe command below generates this page. Change the text in its code."
    table = markdown_table(["emotion", *COLUMNS.values()], rows)
    contents = {"areas": areas, "recipe": asdict(RECIPE), "identity": dataset.identity, **run}
    write_report(path, [head, paragraph(introduction), table, paragraph(method)], figures, contents)
