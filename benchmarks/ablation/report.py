"""Tables and a picture of the ablation: `docs/ablation.md`, from the results alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.ablation.rows import LADDER, WITHOUT
from benchmarks.baselines.report import Difference, Results, how_it_was_run, interval, percent, read_results
from benchmarks.explanation.report import faithful_table
from benchmarks.harness.comparison import Outcomes, mean_and_spread, paired_bootstrap
from benchmarks.harness.ground import Truth
from benchmarks.harness.runner import read_row, runs_of
from tgdfer.training.figures import save_figure
from tgdfer.training.files import write_text

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


def write_report(work: Path, path: Path) -> None:
    """Writes the report, with its picture and its figures (`.png`, `.json`) beside it.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    grounds = [_ordered(results) for results in read_results(work)]
    compared = {results.name: part_differences(results, work) for results in grounds}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(grounds, compared, path.with_suffix(".png"))
    facts = {
        results.name: {"rows": _facts(results), "full minus": compared[results.name], "gap": gap(results)}
        for results in grounds
    }
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    sections = [_head(path.with_suffix(".png").name)]
    sections += [_section(results, compared[results.name]) for results in grounds]
    write_text(path, "\n\n".join([*sections, _how(grounds)]) + "\n")


def _ordered(results: Results) -> Results:
    def place(name: str) -> tuple[int, int]:
        if name in LAST:
            return 2, 0
        return (0, ORDER.index(name)) if name in ORDER else (1, 0)

    return replace(results, rows={name: results.rows[name] for name in sorted(results.rows, key=place)})


def part_differences(results: Results, work: Path) -> dict[str, dict[str, Difference]]:
    """The full model minus every other row, with 95 % intervals over people.

    Returns:
        For each row `held_out_uar`, of the people of train while they were held out, and `uar` and `frame_ap` of
        test; without the first where a row was not chosen by cross-validation.
    """
    if FULL not in results.rows:
        return {}
    known = read_row(work / "results" / results.name / "ground.json")["train"]
    of_train = Truth(results.truth.classes, known["labels"], known["people"], [[0.0]] * len(known["labels"]))
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


def _held_out(results: Results, row: str, truth: Truth) -> Outcomes | None:
    said = [part["held_out"] for part in runs_of(results.rows[row]).values() if "held_out" in part]
    if not said:
        return None
    right = np.array([np.array(labels) == np.array(truth.labels) for labels in said], float)
    nothing = np.full_like(right, np.nan)
    return Outcomes(right, nothing, nothing)


def gap(results: Results) -> dict[str, float] | None:
    """How much of the gap in UAR between the best baseline and the oracle the full model closes.

    Returns:
        `baseline`, `oracle` and `full`, their mean UAR, and `closed`, a share; None where there is no gap to be told.
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
    """All that is known of the rows, without the answers to single clips."""
    return {
        name: {
            "title": state["title"],
            "config": state["config"],
            "figures": state["figures"],
            "parts": {
                part: {field: value for field, value in found.items() if field not in _OF_CLIPS}
                for part, found in state["parts"].items()
            },
        }
        for name, state in results.rows.items()
    }


_OF_CLIPS = ("predicted", "scores", "held_out")


def _head(picture: str) -> str:
    about = (
        "Rows from class words alone to the full network, the full network without each of its parts, and heads of"
        " other methods, all on the same frozen features. Written by `python -m benchmarks.ablation report`;"
        " change it there."
    )
    return f"# Does each part help?\n\n{fill(about, 119)}\n\n![What every part brings, with intervals]({picture})"


def _section(results: Results, compared: Mapping[str, Mapping[str, Difference]]) -> str:
    train, test = results.clips["train"], results.clips["test"]
    about = (
        f"{train['labels']} labels; {train['clips']} clips of {train['people']} people to train on, {test['clips']} of"
        f" {test['people']} other people to test on. In percent; mean ± standard deviation over seeds."
    )
    lines = [f"## {results.title.capitalize()}", "", fill(about, 119), ""]
    lines += [f"| method | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    lines += [f"| {state['title']} | {' | '.join(_cells(state))} |" for state in results.rows.values()]
    if results.unfinished:
        lines += ["", f"Not measured to the end: {', '.join(results.unfinished)}."]
    if closed := gap(results):
        lines += ["", fill(_gap_sentence(closed), 119)]
    if compared:
        names = ("held_out_uar", "uar", "frame_ap")
        lines += ["", "| TG-DFER, frozen, minus | held-out UAR | UAR | frame AP |", "| --- | ---: | ---: | ---: |"]
        for row, of_row in compared.items():
            cells = [interval(of_row.get(name)) for name in names]
            lines.append(f"| {results.rows[row]['title']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "### Without the frames that it rests on", "", faithful_table(results)])


def _gap_sentence(closed: Mapping[str, float]) -> str:
    share = f"{100 * closed['closed']:.0f} %" if closed["closed"] > 0 else "nothing"
    return (
        f"The full network ({100 * closed['full']:.1f}) closes {share} of the gap in UAR between the better of mean"
        f" and top quarter ({100 * closed['baseline']:.1f}) and the oracle ({100 * closed['oracle']:.1f})."
    )


def _cells(state: Mapping[str, Any]) -> list[str]:
    runs = list(runs_of(dict(state)).values())

    def over_runs(get: Any) -> Any:
        values = [get(run) for run in runs]
        return None if any(value is None for value in values) else mean_and_spread(values)

    cells = [percent(over_runs(lambda run: run.get("chosen", {}).get("held_out_uar")))]
    cells += [percent(state["figures"][name]) for name in ("war", "uar", "frame_ap", "pointing")]
    cells += [percent(over_runs(lambda run, order=order: run.get("drops", {}).get(order))) for order in _ORDERS]
    size = runs[0].get("trained_parameters")
    return [*cells, "" if size is None else _short(size), f"{np.mean([run['seconds'] for run in runs]):.0f}"]


_ORDERS = ("shuffled", "reversed")


def _short(size: int) -> str:
    """A number of parameters, readable."""
    return f"{size / 1e6:.2f} M" if size >= 1e5 else f"{size / 1e3:.1f} k"


def _how(grounds: Sequence[Results]) -> str:
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

{how_it_was_run(list(grounds))}"""


def draw(
    grounds: Sequence[Results], compared: Mapping[str, Mapping[str, Mapping[str, Difference]]], path: Path
) -> None:
    """Draws what the full network has above every row, in UAR of test and of held-out people, a panel a ground."""
    names = list(dict.fromkeys(name for results in grounds for name in compared[results.name]))
    figure = Figure(figsize=(3.4 * len(grounds) + 3, 0.32 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(grounds), squeeze=False, sharey=True)[0]
    titles = {name: state["title"] for results in grounds for name, state in results.rows.items()}
    for axes, results in zip(panels, grounds, strict=True):
        _draw_ground(axes, compared[results.name], names)
        axes.set(title=results.title, xlabel="UAR of TG-DFER minus it, points")
    panels[0].set_yticks(range(len(names)), [titles[name] for name in names])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)


def _draw_ground(axes: Axes, compared: Mapping[str, Mapping[str, Difference]], names: list[str]) -> None:
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
