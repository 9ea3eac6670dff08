"""Report on the baselines, written from the stored results: tables, differences with intervals, and a chart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.comparison import FIGURES, paired_bootstrap
from benchmarks.harness.published_rows import published_results, with_published_rows
from benchmarks.harness.results import Results, read_results
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
from tgdfer.training.files import read_json
from tgdfer.training.metrics.bootstrap import Interval

TITLES = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing"}
BASELINE, OURS = "frozen-mean", "tgdfer"
# Order of the rows in the tables. Other rows follow by name.
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


def differences(results: Results) -> dict[str, dict[str, dict[str, Interval]]]:
    """Computes for every row the row minus the baseline (`baseline`), and TG-DFER minus the row (`ours`)."""
    compared: dict[str, dict[str, dict[str, Interval]]] = {}
    outcomes = {name: results.outcomes(name) for name in results.rows}
    for name, row in outcomes.items():
        compared[name] = {}
        if BASELINE in outcomes and name != BASELINE:
            compared[name]["baseline"] = paired_bootstrap(row, outcomes[BASELINE], results.truth)
        if OURS in outcomes and name != OURS:
            compared[name]["ours"] = paired_bootstrap(outcomes[OURS], row, results.truth)
    return compared


def write_baselines_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report, its chart and its figures.

    Rows that are in the published figures and were not measured again are kept.

    Args:
        work (`Path`): Folder of the results.
        path (`Path`): Path of the Markdown file. The chart is written beside it.
        figures (`Path`): Path of the JSON file.

    Raises:
        UserError: If nothing has been measured yet, or the results cannot be read.
    """
    published = read_json(figures) if figures.is_file() else {}
    results = with_published_rows(read_results(work, ORDER), published, ORDER)
    compared = {dataset.name: differences(dataset) for dataset in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(results, path.with_suffix(".png"))
    sections = [_introduction(results, path.with_suffix(".png").name)]
    sections += [_section(dataset, compared[dataset.name]) for dataset in results]
    contents = {data.name: {**published_results(data), "differences": compared[data.name]} for data in results}
    write_report(path, [*sections, _methods(results)], figures, contents)


def _introduction(results: Sequence[Results], picture: str) -> str:
    names = " and ".join(dataset.title for dataset in results)
    introduction = (
        "This page compares TG-DFER with simpler methods, from random scores to fine-tuning. All methods use the same"
        f" clips, frames and CLIP, on {names}. Each clip has one label, and its frames have no labels. Only the oracle"
        " is given the frames that show the emotion. It shows how much could be gained by finding these frames."
    )
    return f"""# What simple methods reach

`python -m benchmarks.baselines report` generates this page. Change the text there.

{paragraph(introduction)}

![UAR and frame AP of every row, with the standard deviation over seeds or folds]({picture})"""


def _section(results: Results, compared: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> str:
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
        return "Frames are not measured, because no clip has frames both with and without its emotion."
    gains = ", ".join(f"{name} {100 * (value - random[0]):+.1f}" for name, value in known.items())
    return paragraph(
        "Scores that depend only on the position of a frame have the following frame AP, as a difference to random in"
        f" percentage points: {gains}."
    )


def _difference_table(results: Results, compared: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> str:
    """Formats the differences in percentage points with 95% intervals.

    The result is empty if neither the baseline nor TG-DFER is finished.
    """
    titles = {
        "baseline": f"this row minus {_title(results, BASELINE)}",
        "ours": f"{_title(results, OURS)} minus this row",
    }
    columns = [name for name in titles if any(name in row for row in compared.values())]
    if not columns:
        return ""
    head = ["method", *(f"{figure}: {titles[name]}" for name in columns for figure in ("UAR", "frame AP"))]
    rows = [
        [
            results.rows[name]["title"],
            *(interval(row.get(column, {}).get(figure)) for column in columns for figure in ("uar", "frame_ap")),
        ]
        for name, row in compared.items()
    ]
    return markdown_table(head, rows)


def _title(results: Results, row: str) -> str:
    return results.rows[row]["title"] if row in results.rows else row


def _methods(results: Sequence[Results]) -> str:
    return f"""## Methods

- **WAR** is accuracy. **UAR** is the mean of the recalls of the classes. **Frame AP** is the average precision of the
  frame scores for the true class, where frames with an intensity of at least 0.5 are the positives. It is averaged
  over the clips that are not neutral and have frames both with and without the emotion. **Pointing** is the share of
  these clips whose frame with the highest score shows the emotion.
- Each clip has 16 evenly spaced frames.
- The **frame score** is the log-probability of the true class in the frame. For TG-DFER it is the relevance for that
  class, and for "position only" it is the closeness to the middle of the clip. The figures of random rows are exact
  expected values.
- **Zero-shot:** mean over the frames of the cosines to the class texts. A class text is the context phrase, followed
  by the label or by a built-in description.
- **Frozen mean:** logistic regression on the mean of the frames, in several augmented views. The penalty is selected
  by five-fold cross-validation over people of the training split. The seed determines the views, the folds and the
  order.
- **Frozen top quarter:** a linear layer on every frame. The score of a class is the mean of its highest quarter of
  frame scores. It is trained with AdamW. Learning rate and epochs are selected by the same cross-validation.
- **LoRA:** adapters on the attention of the last two vision blocks of CLIP with dropout 0.1, and a linear layer that
  is first trained on frozen features. There are five folds over people of the training split, with one seed. The epoch
  is selected on the held-out people of the fold, and the learning rate on the first fold. Each fold is evaluated once
  on the test split.
- **TG-DFER:** trained with the default settings. The best epoch is selected on people held out of the training split.
- **Oracle:** like frozen mean, but trained and tested on frames with an intensity of at least 0.5, and on all frames
  of neutral clips. It is the only row that is trained with the ground truth of frames, and it is not used to select
  anything.
- **Intervals** are 95% intervals from 2,000 paired bootstrap draws of test people with all of their clips. The figure
  of a row is the mean over its runs.

{how_it_was_run(results)}"""


def draw(results: Sequence[Results], path: Path) -> None:
    """Draws UAR against frame AP with the standard deviation of both, one panel per data set."""
    names = list(dict.fromkeys(name for dataset in results for name in dataset.rows))
    names.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    figure = Figure(figsize=(4.6 * len(results) + 2.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axes, dataset in zip(panels, results, strict=True):
        _draw_dataset(axes, dataset, names, handles)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw_dataset(axes: Axes, results: Results, names: list[str], handles: dict[str, Any]) -> None:
    for name, state in results.rows.items():
        if state["figures"]["frame_ap"] is None:
            continue
        index = names.index(name)
        x, y = (
            (100 * v, None if s is None else 100 * s) for v, s in (state["figures"][k] for k in ("uar", "frame_ap"))
        )
        ours = name.startswith(OURS)
        handles[state["title"]] = axes.errorbar(
            x[0],
            y[0],
            xerr=x[1],
            yerr=y[1],
            fmt=MARKERS[index % len(MARKERS)],
            color="black" if ours else f"C{index % 10}",
            markersize=9 if ours else 7,
            linewidth=1,
            capsize=2,
        )
    axes.set(title=results.title, xlabel="UAR in percent", ylabel="frame AP in percent")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
