"""The report of the relabelling benchmark."""

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
    "others": "trained on the six others",
    "all": "trained on all seven",
}


def write_relabelling_report(
    dataset: BenchmarkDataset,
    found: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    figures: Path,
    command: str,
) -> None:
    """Writes the report and its figures.

    Args:
        dataset: the clips.
        found: areas of `measure_relabelling`.
        path: the Markdown file.
        figures: the JSON file.
        command: the command, which is written into both.
    """
    run = {"command": command, "commit": commit(), "machine": machine()}
    means = {
        name: [float(np.mean(run)) for run in zip(*(of[name] for of in found.values()), strict=True)]
        for name in COLUMNS
    }
    rows = [
        [label, *(percent(mean_and_spread(list(of[name]))) for name in COLUMNS)]
        for label, of in [*found.items(), ("mean", means)]
    ]
    about = (
        "`set_classes` re-labels a model by words. Here TG-DFER is trained on rendered faces of six emotions, and then"
        f" told the seventh by its descriptions alone. How well does it rank the {len(dataset.test.labels)} test"
        " clips, of people who are in no training clip, by the probability of that emotion? Area under the ROC curve"
        " in percent, 50 by chance; mean ± standard deviation over seeds."
    )
    how = (
        f"Frozen features, AdamW at {RECIPE.rate:g} for {RECIPE.epochs} epochs, set beforehand. The parameters of a"
        f" class start at the mean of the others for the seventh. Command: `{command}`. Commit: `{run['commit']}`."
        f" Machine: {run['machine']}."
    )
    head = "# An emotion given by words alone\n\nWritten by the command below; change it there."
    table = markdown_table(["emotion", *COLUMNS.values()], rows)
    facts = {"areas": found, "recipe": asdict(RECIPE), "identity": dataset.identity, **run}
    write_report(path, [head, paragraph(about), table, paragraph(how)], figures, facts)
