"""Report on relabelling."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.comparison import mean_and_spread
from benchmarks.harness.provenance import machine
from benchmarks.harness.results import read_state
from benchmarks.harness.tables import interval, markdown_table, paragraph, percent, write_report
from benchmarks.real_faces.photographs import PhotographDataset
from benchmarks.relabelling.left_out_emotions import RECIPE
from benchmarks.relabelling.left_out_photographs import PER_LABEL, SHUFFLES, Answers
from benchmarks.relabelling.word_figures import PAIRS, word_figures
from tgdfer.training.provenance import commit

COLUMNS = {
    "untrained": "CLIP, not trained",
    "others": "trained on the other six",
    "all": "trained on all seven",
}
# Titles of the kinds of models on photographs.
KINDS = {
    "shuffled": "wrong descriptions",
    "untrained": "CLIP, not trained",
    "words": "class word",
    "descriptions": "descriptions",
    "context": "descriptions, learned context",
    "all": "trained on all six",
}
FIGURE_TITLES = {"auc": "AUC", "recall": "recall", "false_alarms": "false alarms"}


def rendered_figures(
    dataset: BenchmarkDataset, areas: Mapping[str, Mapping[str, Sequence[float]]], command: str
) -> dict[str, Any]:
    """Returns the figures of rendered clips for the JSON file.

    Args:
        dataset (`BenchmarkDataset`): The clips.
        areas (`Mapping[str, Mapping[str, Sequence[float]]]`): Result of `measure_relabelling`.
        command (`str`): Command line.
    """
    return {"areas": areas, "test_clips": len(dataset.test.labels), **_facts(dataset.identity, command)}


def photograph_figures(dataset: PhotographDataset, answers: Answers, command: str) -> dict[str, Any]:
    """Returns the figures of photographs for the JSON file.

    Args:
        dataset (`PhotographDataset`): The photographs.
        answers (`Answers`): Result of `measure_photographs`.
        command (`str`): Command line.
    """
    counts = {label: answers.labels.count(label) for label in answers.classes}
    return {
        **word_figures(answers),
        "test_photographs": counts,
        "seeds": len(dataset.settings.seeds),
        **_facts(dataset.identity, command),
    }


def _facts(identity: str, command: str) -> dict[str, Any]:
    return {
        "recipe": asdict(RECIPE),
        "identity": identity,
        "command": command,
        "commit": commit(),
        "machine": machine(),
    }


def write_relabelling_report(measured: Mapping[str, Any], path: Path, figures: Path) -> None:
    """Writes the report and its figures. Figures of the file that were not measured again are kept.

    Args:
        measured (`Mapping[str, Any]`): Result of `rendered_figures`, or of `photograph_figures` under the key
            "photographs".
        path (`Path`): Path of the Markdown file.
        figures (`Path`): Path of the JSON file.

    Raises:
        UserError: If the JSON file cannot be read.
    """
    contents = {**(read_state(figures) if figures.is_file() else {}), **measured}
    head = "# An emotion given by words alone\n\nThe commands below generate this page. Change the text in its code."
    sections = [head]
    if "areas" in contents:
        sections += _rendered_section(contents)
    if "photographs" in contents:
        sections += _photograph_section(contents["photographs"])
    write_report(path, sections, figures, contents)


def _rendered_section(facts: Mapping[str, Any]) -> list[str]:
    areas = facts["areas"]
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
        f" ranks the {facts['test_clips']} test clips by the probability of that emotion. The people in the test"
        " clips are not in the training clips. Values are the area under the ROC curve in percent, as mean ± standard"
        " deviation over seeds. Chance is 50."
    )
    method = (
        f"The models are trained on frozen features with AdamW at a learning rate of {facts['recipe']['rate']:g} for"
        f" {facts['recipe']['epochs']} epochs. These options were fixed in advance. The parameters of the added class"
        f" are the mean over the trained classes. {_provenance(facts)}"
    )
    table = markdown_table(["emotion", *COLUMNS.values()], rows)
    return ["## Rendered faces", paragraph(introduction), table, paragraph(method)]


def _photograph_section(facts: Mapping[str, Any]) -> list[str]:
    counts, figures = facts["test_photographs"], facts["figures"]
    chance = 100 / len(counts)
    introduction = (
        "Here TG-DFER is trained on photographs of FER+ of five emotions, and the sixth is added only by its words:"
        " the name of the class, its descriptions, or its descriptions with the context that was learned on the other"
        f" five. The {sum(counts.values()):,} test photographs are those of the labels with at least 50 of them. Each"
        " is a clip of one frame. **AUC** is the area under the ROC curve of the probability of the emotion, against"
        " all other photographs (chance: 50). **Recall** is the share of the photographs of the emotion that get its"
        f" label among the six (chance: {chance:.1f}), and **false alarms** are the share of the other photographs"
        " that get it. Values are in percent, as means over seeds with 95% intervals from 2,000 bootstrap draws of"
        " photographs."
    )
    caveat = (
        "**The dual encoder has seen all six emotions.** `clip-tiny-faces` was trained on photographs of FER+ of all"
        " emotions together with their words. Only the part of TG-DFER that is trained here, including the learned"
        " context, has never seen the emotion that is added. These figures therefore show whether this part keeps and"
        " uses what the dual encoder knows about the words. They do not show that an emotion is recognised that no"
        " part of the model has seen. The test photographs and their near duplicates were not used in any training."
    )
    compared = [
        [
            f"{KINDS[first]} − {KINDS[second]}",
            *(interval(facts["differences"][f"{first} - {second}"][figure]["mean"]) for figure in FIGURE_TITLES),
        ]
        for first, second in PAIRS
    ]
    method = (
        f"Every seed trains on {PER_LABEL} training photographs of each label, drawn at random, with the options"
        " of the rendered faces, which were fixed in advance. “Class word” is also trained with class words. “Wrong"
        " descriptions” are the models of “descriptions”, but the emotion is added by as many descriptions of other"
        f" emotions, chosen at random {SHUFFLES} times with every seed. “CLIP, not trained” and “trained on all six”"
        f" use descriptions. {_provenance(facts)}"
    )
    return [
        "## Photographs",
        paragraph(introduction),
        paragraph(caveat),
        *(_figure_table(figure, title, counts, figures) for figure, title in FIGURE_TITLES.items()),
        "Differences of the means, with paired intervals:",
        markdown_table(["", *FIGURE_TITLES.values()], compared),
        paragraph(method),
    ]


def _figure_table(figure: str, title: str, counts: Mapping[str, int], figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a table of a figure: one row for each emotion and their mean, and one column for each kind of model."""
    rows = [
        [
            f"{label} ({counts[label]})" if label in counts else label,
            *(_with_interval(figures[kind][figure][label]) for kind in KINDS),
        ]
        for label in [*counts, "mean"]
    ]
    return markdown_table([f"{title}, emotion (photographs)", *KINDS.values()], rows)


def _with_interval(values: Sequence[float]) -> str:
    value, low, high = (100 * number for number in values)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _provenance(facts: Mapping[str, Any]) -> str:
    return f"Command: `{facts['command']}`. Commit: `{facts['commit']}`. Machine: {facts['machine']}."
