"""Report on the ablation, written from the stored results: tables, differences with intervals, and a chart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.ablation.neighbours import NEIGHBOURS
from benchmarks.ablation.rows import ORDERS
from benchmarks.ablation.variants import LADDER, WITH, WITHOUT
from benchmarks.harness.command_options import FIGURES
from benchmarks.harness.comparison import mean_and_spread, paired_bootstrap
from benchmarks.harness.published_rows import published_results, with_published_rows
from benchmarks.harness.results import Results, read_results, runs_of
from benchmarks.harness.tables import (
    describe_clips,
    faithfulness_table,
    how_it_was_run,
    interval,
    markdown_table,
    paragraph,
    percent,
    unfinished_rows,
    write_report,
)
from benchmarks.real_faces.photograph_bags import BAGS, SHOWN, SIZE
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.files import read_json
from tgdfer.training.metrics.bootstrap import Interval

FULL = "full"
ORDER = ("frozen-mean", "frozen-top", *(variant.name for variant in LADDER + WITHOUT + WITH), "context", "lora")
ORDER += tuple(one.name for one in NEIGHBOURS)
LAST = ("oracle",)
BASELINES = ("frozen-mean", "frozen-top")
COLUMNS = (
    "held-out UAR",
    "WAR",
    "UAR",
    "frame AP",
    "pointing",
    "lost if shuffled",
    "lost if reversed",
    "pairs",
    "parameters",
    "seconds",
)
# Parts of a frame that linear probes read, by their names in the results.
PROBED = {
    "frames": "whole frames",
    "emotion": "emotion part",
    "residue": "residue",
    "chance": "random answers",
}
# What the probes recognise, with the reason if the person cannot be probed.
_PROBES = {
    True: "the person in clips of labels that they have not seen, and the label in people that they have not seen.",
    False: "the label in people that they have not seen. The probes cannot be tested on the person, because some"
    " people have clips of one label only.",
}
# Figures of the benchmark of pairs of clips, which are rendered faces too.
PAIRS_OF, PAIRS = "rendered", FIGURES / "temporal.json"

# Part of the methods if rows with LoRA were measured.
LORA = paragraph(
    "**LoRA:** adapters on the attention of the last two vision blocks of CLIP with dropout 0.1, and a head that is"
    " first trained on frozen features. The runs are five folds with one seed. They train on a fifth fewer clips, and"
    " each is evaluated once on the test split.",
    "- ",
    "  ",
)


def write_ablation_report(work: Path, path: Path, figures: Path) -> None:
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
    results = with_published_rows(read_results(work, ORDER, LAST), published, ORDER, LAST)
    compared = {dataset.name: part_differences(dataset) for dataset in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(results, compared, path.with_suffix(".png"))
    contents = {
        dataset.name: {
            **published_results(dataset),
            "full minus": compared[dataset.name],
            "gap": gap(dataset),
        }
        for dataset in results
    }
    sections = [_introduction(path.with_suffix(".png").name)]
    pairs = read_json(PAIRS) if PAIRS.is_file() else {}
    sections += [_section(data, compared[data.name], pairs if data.name == PAIRS_OF else {}) for data in results]
    write_report(path, [*sections, _methods(results)], figures, contents)


def part_differences(results: Results) -> dict[str, dict[str, Interval]]:
    """Computes the full model minus every other row, with 95% intervals over people.

    Returns:
        `dict[str, dict[str, Interval]]`: For each row, the differences in `uar` and `frame_ap` on the test split.
        Rows with cross-validation also have `held_out_uar`, the difference in UAR on the training clips while they are
        held out.
    """
    if FULL not in results.rows:
        return {}
    differences: dict[str, dict[str, Interval]] = {}
    full, held_out = results.outcomes(FULL), results.held_out(FULL)
    for name in results.rows:
        if name == FULL:
            continue
        differences[name] = paired_bootstrap(full, results.outcomes(name), results.truth)
        other = results.held_out(name)
        if held_out is not None and other is not None:
            differences[name]["held_out_uar"] = paired_bootstrap(held_out, other, results.train_truth)["uar"]
    return differences


def gap(results: Results) -> dict[str, float] | None:
    """Computes how much of the gap in UAR between the best baseline and the oracle is closed by the full model.

    Returns:
        `dict[str, float] | None`: The mean UAR of `baseline`, `oracle` and `full`, and the share `closed` of the gap.
        None if there is no gap.
    """
    rows = results.rows
    if FULL not in rows or "oracle" not in rows or not any(name in rows for name in BASELINES):
        return None
    baseline = max(rows[name]["figures"]["uar"][0] for name in BASELINES if name in rows)
    oracle, full = rows["oracle"]["figures"]["uar"][0], rows[FULL]["figures"]["uar"][0]
    if oracle <= baseline:
        return None
    return {"baseline": baseline, "oracle": oracle, "full": full, "closed": (full - baseline) / (oracle - baseline)}


def _introduction(picture: str) -> str:
    introduction = (
        "The first rows add one part after the other, from class words to the full network. Other rows are the full"
        " network without one of its parts, and heads of other methods. All rows use the same frozen features."
        " `python -m benchmarks.ablation report` generates this page. Change the text there."
    )
    chart = f"![Contribution of each part, with intervals]({picture})"
    return f"# Does each part help?\n\n{paragraph(introduction)}\n\n{chart}"


def _section(
    results: Results, compared: Mapping[str, Mapping[str, Interval]], pairs: Mapping[str, Mapping[str, Any]]
) -> str:
    rows = [
        [state["title"], *_cells(state, pairs.get(name, {}).get("accuracies", {}).get("all"))]
        for name, state in results.rows.items()
    ]
    description = _describe_bags(results) if results.name == BAGS else describe_clips(results, "seeds")
    lines = [f"## {results.title.capitalize()}", "", description, ""]
    lines += [markdown_table(["method", *COLUMNS], rows), *unfinished_rows(results)]
    if closed := gap(results):
        lines += ["", paragraph(_gap_sentence(closed))]
    if compared:
        names = ("held_out_uar", "uar", "frame_ap")
        rows = [
            [results.rows[row]["title"], *(interval(differences.get(name)) for name in names)]
            for row, differences in compared.items()
        ]
        lines += ["", markdown_table(["TG-DFER, frozen, minus", "held-out UAR", "UAR", "frame AP"], rows)]
    lines += probes_table(results)
    return "\n".join([*lines, "", "### Do the predictions depend on the top frames?", "", faithfulness_table(results)])


def probes_table(results: Results) -> list[str]:
    """Formats what linear probes find in the parts of a frame. Without a row that was probed, there are no lines."""
    lines = []
    for state in results.rows.values():
        runs = [run["probes"] for run in runs_of(state).values() if "probes" in run]
        if not runs:
            continue
        knows_person = all(run[part]["person"] is not None for run in runs for part in PROBED)
        targets = ["person", "label"] if knows_person else ["label"]
        rows = [
            [title, *(percent(mean_and_spread([run[part][target] for run in runs])) for target in targets)]
            for part, title in PROBED.items()
        ]
        heading = f"### What linear probes read: {state['title'].removeprefix('+ ')}"
        lines += [
            "",
            heading,
            "",
            paragraph(
                "Logistic regressions on the mean frame of each test clip recognise"
                f" {_PROBES[knows_person]} Values are accuracies in percent, as mean ± standard deviation over seeds."
            ),
            "",
            markdown_table(["part of a frame", *targets], rows),
        ]
    return lines


def _describe_bags(results: Results) -> str:
    train, test = results.clips["train"], results.clips["test"]
    return paragraph(
        f"{train['labels']} labels. A bag contains {SIZE} photographs of FER+ in random order, {SHOWN} of the label"
        f" and {SIZE - SHOWN} neutral ones. They show different people, so these figures say nothing about time."
        f" Training uses {train['clips']} bags of the training split, without near duplicates of test photographs."
        f" They form {train['people']} groups without common photographs, which take the place of people in"
        " cross-validation and in the intervals of the held-out UAR. Testing uses"
        f" {test['clips']} bags of the test split, and the intervals are over bags. Bags share photographs, so the"
        " intervals do not cover the choice of the photographs. `clip-tiny-faces` was trained on the training split,"
        " so its held-out UAR is higher than on new photographs. Values are in percent, as mean ± standard deviation"
        " over seeds."
    )


def _gap_sentence(closed: Mapping[str, float]) -> str:
    share = f"{100 * closed['closed']:.0f}%" if closed["closed"] > 0 else "nothing"
    return (
        f"The UAR of the full network is {100 * closed['full']:.1f}. This closes {share} of the gap between the better"
        f" linear baseline ({100 * closed['baseline']:.1f}) and the oracle ({100 * closed['oracle']:.1f})."
    )


def _cells(state: Mapping[str, Any], pairs: tuple[float, float] | None) -> list[str]:
    runs = list(runs_of(state).values())

    def over_runs(get: Any) -> Any:
        values = [get(run) for run in runs]
        return None if any(value is None for value in values) else mean_and_spread(values)

    cells = [percent(over_runs(lambda run: run.get("chosen", {}).get("held_out_uar")))]
    cells += [percent(state["figures"][name]) for name in ("war", "uar", "frame_ap", "pointing")]
    cells += [percent(over_runs(lambda run, order=order: run.get("drops", {}).get(order))) for order in ORDERS]
    cells.append(percent(pairs))
    size = runs[0].get("trained_parameters")
    return [*cells, "" if size is None else _format_size(size), f"{np.mean([run['seconds'] for run in runs]):.0f}"]


def _format_size(size: int) -> str:
    """Formats a number of parameters in thousands or millions."""
    return f"{size / 1e6:.2f} M" if size >= 1e5 else f"{size / 1e3:.1f} k"


def _methods(results: Sequence[Results]) -> str:
    lora = f"{LORA}\n" if any("lora" in dataset.rows for dataset in results) else ""
    return f"""## Methods

- Learning rate and epochs of every row are selected by five-fold cross-validation over people of the training split.
  The learning rate is selected with the first seed, and the epochs with every seed. **Held-out UAR** is the UAR of the
  selected epoch on the held-out people. The row is then trained on the whole training split, and evaluated once per
  seed on the test split. The intensity of the frames is used only for measuring.
- **Intervals** are 95% intervals from 2,000 paired bootstrap draws of people with all of their clips. The figure of a
  row is the mean over its seeds.
- The **frame score** is the relevance for the true class. Heads without relevance use the log-probability of the true
  class in the frame.
- **Lost if shuffled** and **lost if reversed** are the loss in UAR if the frames of the test clips are in another
  order, at the same times. **Seconds** is the time per seed, including cross-validation.
- **Pairs** is the accuracy on pairs of rendered clips that differ only in the order of their frames, for the rows that
  [the benchmark of order](temporal.md) trains on such pairs. Without knowledge of the order, it is at most 50.
- **Given features** are features of another network, without texts. The class vectors are learned. Only heads are
  measured on them.
{lora}
{how_it_was_run(results)}"""


def draw(results: Sequence[Results], compared: Mapping[str, Mapping[str, Mapping[str, Interval]]], path: Path) -> None:
    """Draws the difference in UAR of the full network and every row, on both splits, one panel per data set."""
    found = dict.fromkeys(name for dataset in results for name in compared[dataset.name])
    others = [name for name in found if name not in ORDER + LAST]
    names = [name for name in (*ORDER, *others, *LAST) if name in found]
    figure = Figure(figsize=(3.4 * len(results) + 3, 0.32 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    titles = {name: state["title"] for dataset in results for name, state in dataset.rows.items()}
    for axes, dataset in zip(panels, results, strict=True):
        _draw_dataset(axes, compared[dataset.name], names)
        axes.set(title=dataset.title, xlabel="UAR of TG-DFER minus this row, points")
    panels[0].set_yticks(range(len(names)), [titles[name] for name in names])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)


def _draw_dataset(axes: Axes, compared: Mapping[str, Mapping[str, Interval]], names: list[str]) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    for offset, figure, title, color in (
        (-0.14, "held_out_uar", "held-out training split", "0.55"),
        (0.14, "uar", "test split", "C0"),
    ):
        known = [(index, compared.get(name, {}).get(figure)) for index, name in enumerate(names)]
        points = [(index + offset, *(100 * value for value in values)) for index, values in known if values]
        if not points:
            continue
        y, middle, low, high = (np.array(values) for values in zip(*points, strict=True))
        axes.errorbar(
            middle,
            y,
            xerr=[middle - low, high - middle],
            fmt="o",
            markersize=4,
            linewidth=1.2,
            color=color,
            label=title,
        )
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
