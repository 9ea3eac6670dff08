"""The report of the baselines, written from the results alone: tables, differences with intervals, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.comparison import FIGURES, Difference, paired_bootstrap
from benchmarks.harness.results import Results, published_facts, read_results
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
from tgdfer.training.figures.saving import save_figure

TITLES = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing"}
BASELINE, OURS = "frozen-mean", "tgdfer"
# The order of the tables; other rows follow by name.
ORDER = (
    "random",
    "position",
    "words",
    "descriptions",
    "frozen-mean",
    "frozen-top",
    "lora-mean",
    "lora-top",
    "tgdfer",
    "tgdfer-lora",
    "oracle",
)
MARKERS = "xX^vosDdP*h<>p"


def differences(results: Results) -> dict[str, dict[str, dict[str, Difference]]]:
    """For every row the row minus the baseline (`baseline`), and TG-DFER minus the row (`ours`)."""
    found: dict[str, dict[str, dict[str, Difference]]] = {}
    seen = {name: results.outcomes(name) for name in results.rows}
    for name, of_row in seen.items():
        found[name] = {}
        if BASELINE in seen and name != BASELINE:
            found[name]["baseline"] = paired_bootstrap(of_row, seen[BASELINE], results.truth)
        if OURS in seen and name != OURS:
            found[name]["ours"] = paired_bootstrap(seen[OURS], of_row, results.truth)
    return found


def write_baselines_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report, with its picture beside it, and its figures.

    Args:
        work: folder of the results.
        path: the Markdown file.
        figures: the JSON file.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    results = read_results(work, ORDER)
    compared = {one.name: differences(one) for one in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(results, path.with_suffix(".png"))
    sections = [_head(results, path.with_suffix(".png").name)]
    sections += [_section(one, compared[one.name]) for one in results]
    write_report(path, [*sections, _how(results)], figures, published_facts(results, "differences", compared))


def _head(results: Sequence[Results], picture: str) -> str:
    names = " and ".join(one.title for one in results)
    about = (
        "Every claim about TG-DFER stands beside these rows: methods from random scores to fine-tuning, and the"
        f" network as it is, on the same clips, frames and CLIP; on {names}. A clip carries one label, and its frames"
        " none. The oracle alone is told which frames carry the emotion: it shows what there is to win."
    )
    return f"""# What simple methods reach

Written by `python -m benchmarks.baselines report` from the results; change it there.

{paragraph(about)}

![UAR and frame AP of every row; bars are the spread over seeds or folds]({picture})"""


def _section(results: Results, compared: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> str:
    rows = [
        [state["title"], *(percent(state["figures"][figure]) for figure in FIGURES)] for state in results.rows.values()
    ]
    lines = [
        f"## {results.title.capitalize()}",
        "",
        describe_clips(results, "seeds, or folds with LoRA"),
        "",
        markdown_table(["method", *TITLES.values()], rows),
    ]
    if "position" in results.rows and "random" in results.rows:
        lines += ["", _audit(results)]
    return "\n".join([*lines, *unfinished_rows(results), "", _difference_table(results, compared)])


def _audit(results: Results) -> str:
    audit = results.rows["position"]["parts"]["once"]["audit"]
    random = results.rows["random"]["figures"]["frame_ap"]
    known = {name: values["frame_ap"] for name, values in audit.items() if values["frame_ap"] is not None}
    if random is None or not known:
        return "No clip has frames with and without its emotion, so frames are not measured."
    said = ", ".join(f"{name} {100 * (value - random[0]):+.1f}" for name, value in known.items())
    return paragraph(
        f"Frame AP above random, in points, of rankings that know nothing but the place of a frame: {said}."
    )


def _difference_table(results: Results, compared: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> str:
    """Differences in points with 95 % intervals; empty if neither row that they refer to is finished."""
    columns = {"baseline": f"minus {_title(results, BASELINE)}", "ours": f"{_title(results, OURS)} minus it"}
    shown = [name for name in columns if any(name in of_row for of_row in compared.values())]
    if not shown:
        return ""
    head = ["method", *(f"{figure}, {columns[name]}" for name in shown for figure in ("UAR", "frame AP"))]
    rows = [
        [
            results.rows[row]["title"],
            *(interval(of_row.get(name, {}).get(figure)) for name in shown for figure in ("uar", "frame_ap")),
        ]
        for row, of_row in compared.items()
    ]
    return markdown_table(head, rows)


def _title(results: Results, row: str) -> str:
    return results.rows[row]["title"] if row in results.rows else row


def _how(results: Sequence[Results]) -> str:
    return f"""## How it is measured

- WAR is accuracy, UAR the mean of the classes' recalls. Frame AP: for each clip that is not neutral and has frames of
  both kinds, the average precision of the frame scores for the true class against intensity of at least 0.5; mean over
  clips. Pointing: the share of those clips whose top frame has it.
- A clip is 16 frames, evenly spaced.
- Frame scores: log-probability of the true class in the frame; of TG-DFER its relevance for that class; of position
  only, closeness to the middle. Figures of random rows are exact expectations.
- Zero-shot: mean over the frames of the cosines to the class texts, which are the label, or its built-in descriptions,
  after the context phrase.
- Frozen mean: logistic regression on the mean of the frames in several augmented views, its penalty chosen by
  five-fold cross-validation over people in train. Frozen top quarter: a linear layer on every frame; a class's score
  is the mean of the highest quarter of its frames' scores; AdamW, rate and epochs chosen in the same way. The seed
  decides views, folds and order.
- LoRA: on the attention of CLIP's last two vision blocks, its input dropped at 0.1, over a linear layer that is first
  trained on frozen frames. Five folds over people in train with one seed; the epoch is chosen on the fold's held-out
  people, the rate on the first fold; every fold reads test once.
- TG-DFER: the training loop with its defaults; the best epoch on people held out of train.
- Oracle: frozen mean, trained and tested on frames of intensity of at least 0.5 and on all frames of neutral clips. It
  alone is trained on frame truth; nothing is chosen by it.
- Intervals: 95 %, 2,000 paired bootstrap draws of test people with all of their clips; a row is the mean of its runs.

{how_it_was_run(results)}"""


def draw(results: Sequence[Results], path: Path) -> None:
    """Draws UAR against frame AP with the spread of both, one panel per data set."""
    names = list(dict.fromkeys(name for one in results for name in one.rows))
    names.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    figure = Figure(figsize=(4.6 * len(results) + 2.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axes, one in zip(panels, results, strict=True):
        _draw_dataset(axes, one, names, handles)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw_dataset(axes: Axes, results: Results, names: list[str], handles: dict[str, Any]) -> None:
    for name, state in results.rows.items():
        if state["figures"]["frame_ap"] is None:
            continue
        place = names.index(name)
        x, y = (
            (100 * v, None if s is None else 100 * s) for v, s in (state["figures"][k] for k in ("uar", "frame_ap"))
        )
        ours = name.startswith(OURS)
        handles[state["title"]] = axes.errorbar(
            x[0],
            y[0],
            xerr=x[1],
            yerr=y[1],
            fmt=MARKERS[place % len(MARKERS)],
            color="black" if ours else f"C{place % 10}",
            markersize=9 if ours else 7,
            linewidth=1,
            capsize=2,
        )
    axes.set(title=results.title, xlabel="UAR in percent", ylabel="frame AP in percent")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
