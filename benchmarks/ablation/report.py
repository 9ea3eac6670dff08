"""The report of the ablation, written from the results alone: tables, differences with intervals, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.ablation.rows import ORDERS
from benchmarks.ablation.variants import LADDER, WITHOUT
from benchmarks.harness.benchmark_dataset import GroundTruth
from benchmarks.harness.comparison import Difference, Outcomes, mean_and_spread, paired_bootstrap
from benchmarks.harness.results import Results, parts_without_clips, read_results, runs_of
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
from tgdfer.training.figures.saving import save_figure

FULL = "full"
ORDER = ("frozen-mean", "frozen-top", *(variant.name for variant in LADDER + WITHOUT))
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
    "parameters",
    "seconds",
)


def write_ablation_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report, with its picture beside it, and its figures.

    Args:
        work: folder of the results.
        path: the Markdown file.
        figures: the JSON file.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    results = read_results(work, ORDER, LAST)
    compared = {one.name: part_differences(one) for one in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(results, compared, path.with_suffix(".png"))
    facts = {one.name: {"rows": _facts(one), "full minus": compared[one.name], "gap": gap(one)} for one in results}
    sections = [_head(path.with_suffix(".png").name)]
    sections += [_section(one, compared[one.name]) for one in results]
    write_report(path, [*sections, _how(results)], figures, facts)


def part_differences(results: Results) -> dict[str, dict[str, Difference]]:
    """The full model minus every other row, with 95 % intervals over people.

    Returns:
        For each row `held_out_uar` on people of train while they were held out, and `uar` and `frame_ap` on test. Rows
        without cross-validation lack the first.
    """
    if FULL not in results.rows:
        return {}
    known = results.train
    of_train = GroundTruth(results.truth.classes, known["labels"], known["people"], [[0.0]] * len(known["labels"]))
    found: dict[str, dict[str, Difference]] = {}
    full, held_out = results.outcomes(FULL), _held_out(results, FULL, of_train)
    for name in results.rows:
        if name == FULL:
            continue
        found[name] = paired_bootstrap(full, results.outcomes(name), results.truth)
        other = _held_out(results, name, of_train)
        if held_out is not None and other is not None:
            found[name]["held_out_uar"] = paired_bootstrap(held_out, other, of_train)["uar"]
    return found


def _held_out(results: Results, row: str, truth: GroundTruth) -> Outcomes | None:
    said = [part["held_out"] for part in runs_of(results.rows[row]).values() if "held_out" in part]
    if not said:
        return None
    right = np.array([np.array(labels) == np.array(truth.labels) for labels in said], float)
    nothing = np.full_like(right, np.nan)
    return Outcomes(right, nothing, nothing)


def gap(results: Results) -> dict[str, float] | None:
    """The share of the gap in UAR between the best baseline and the oracle that the full model closes.

    Returns:
        `baseline`, `oracle` and `full`, their mean UAR, and the share `closed`; None if there is no gap.
    """
    rows = results.rows
    if FULL not in rows or "oracle" not in rows or not any(name in rows for name in BASELINES):
        return None
    baseline = max(rows[name]["figures"]["uar"][0] for name in BASELINES if name in rows)
    oracle, full = rows["oracle"]["figures"]["uar"][0], rows[FULL]["figures"]["uar"][0]
    if oracle <= baseline:
        return None
    return {"baseline": baseline, "oracle": oracle, "full": full, "closed": (full - baseline) / (oracle - baseline)}


def _facts(results: Results) -> dict[str, Any]:
    """Everything that is known of the rows, without the values of single clips."""
    return {
        name: {field: state[field] for field in ("title", "config", "figures")} | {"parts": parts_without_clips(state)}
        for name, state in results.rows.items()
    }


def _head(picture: str) -> str:
    about = (
        "Rows from class words alone to the full network, the full network without each of its parts, and heads of"
        " other methods, all on the same frozen features. Written by `python -m benchmarks.ablation report`;"
        " change it there."
    )
    return f"# Does each part help?\n\n{paragraph(about)}\n\n![What every part brings, with intervals]({picture})"


def _section(results: Results, compared: Mapping[str, Mapping[str, Difference]]) -> str:
    rows = [[state["title"], *_cells(state)] for state in results.rows.values()]
    lines = [f"## {results.title.capitalize()}", "", describe_clips(results, "seeds"), ""]
    lines += [markdown_table(["method", *COLUMNS], rows), *unfinished_rows(results)]
    if closed := gap(results):
        lines += ["", paragraph(_gap_sentence(closed))]
    if compared:
        names = ("held_out_uar", "uar", "frame_ap")
        rows = [
            [results.rows[row]["title"], *(interval(of_row.get(name)) for name in names)]
            for row, of_row in compared.items()
        ]
        lines += ["", markdown_table(["TG-DFER, frozen, minus", "held-out UAR", "UAR", "frame AP"], rows)]
    return "\n".join([*lines, "", "### Without the frames that it rests on", "", faithfulness_table(results)])


def _gap_sentence(closed: Mapping[str, float]) -> str:
    share = f"{100 * closed['closed']:.0f} %" if closed["closed"] > 0 else "nothing"
    return (
        f"The full network ({100 * closed['full']:.1f}) closes {share} of the gap in UAR between the better of mean"
        f" and top quarter ({100 * closed['baseline']:.1f}) and the oracle ({100 * closed['oracle']:.1f})."
    )


def _cells(state: Mapping[str, Any]) -> list[str]:
    runs = list(runs_of(state).values())

    def over_runs(get: Any) -> Any:
        values = [get(run) for run in runs]
        return None if any(value is None for value in values) else mean_and_spread(values)

    cells = [percent(over_runs(lambda run: run.get("chosen", {}).get("held_out_uar")))]
    cells += [percent(state["figures"][name]) for name in ("war", "uar", "frame_ap", "pointing")]
    cells += [percent(over_runs(lambda run, order=order: run.get("drops", {}).get(order))) for order in ORDERS]
    size = runs[0].get("trained_parameters")
    return [*cells, "" if size is None else _short(size), f"{np.mean([run['seconds'] for run in runs]):.0f}"]


def _short(size: int) -> str:
    """A number of parameters in thousands or millions."""
    return f"{size / 1e6:.2f} M" if size >= 1e5 else f"{size / 1e3:.1f} k"


def _how(results: Sequence[Results]) -> str:
    return f"""## How it is measured

- Rates and epochs of every row are chosen by five-fold cross-validation over people inside train: the rate with the
  first seed, the epochs with every seed. Held-out UAR is what the chosen epoch has on these people. Then the row is
  trained on all of train and reads test once a seed. The intensity of frames is for measuring alone.
- Intervals: 95 %, 2,000 paired bootstrap draws of people with all of their clips; a row is the mean of its seeds.
- Frame scores: relevance for the true class; of heads that give each frame logits, the log-probability of it.
- Lost if shuffled, if reversed: UAR minus the UAR when the frames of the test clips come in another order at the same
  seconds. Seconds: of a seed, with its cross-validation.
- Given features: of another net, without texts; class vectors are learnt. It measures heads alone.
- LoRA: on the attention of CLIP's last two vision blocks, its input dropped at 0.1, from a head that is first trained
  on frozen frames. Its runs are the five folds with one seed: they train on a fifth fewer clips, and each reads test
  once.

{how_it_was_run(results)}"""


def draw(
    results: Sequence[Results], compared: Mapping[str, Mapping[str, Mapping[str, Difference]]], path: Path
) -> None:
    """Draws the full network minus every row, in UAR on test and on held-out people, one panel per data set."""
    names = list(dict.fromkeys(name for one in results for name in compared[one.name]))
    figure = Figure(figsize=(3.4 * len(results) + 3, 0.32 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    titles = {name: state["title"] for one in results for name, state in one.rows.items()}
    for axes, one in zip(panels, results, strict=True):
        _draw_dataset(axes, compared[one.name], names)
        axes.set(title=one.title, xlabel="UAR of TG-DFER minus it, points")
    panels[0].set_yticks(range(len(names)), [titles[name] for name in names])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)


def _draw_dataset(axes: Axes, compared: Mapping[str, Mapping[str, Difference]], names: list[str]) -> None:
    axes.axvline(0, color="black", linewidth=0.8)
    for offset, figure, title, color in (
        (-0.14, "held_out_uar", "held-out people of train", "0.55"),
        (0.14, "uar", "test people", "C0"),
    ):
        known = [(place, compared.get(name, {}).get(figure)) for place, name in enumerate(names)]
        points = [(place + offset, *(100 * value for value in found)) for place, found in known if found]
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
