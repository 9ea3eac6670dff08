"""Tables and a picture of what was measured: `docs/baselines.md`, from the results alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.comparison import FIGURES, Outcomes, outcomes, paired_bootstrap
from benchmarks.harness.ground import Truth
from benchmarks.harness.runner import read_row, runs_of
from tgdfer.training.errors import UserError
from tgdfer.training.figures import save_figure
from tgdfer.training.files import write_text

TITLES = {"war": "WAR", "uar": "UAR", "frame_ap": "frame AP", "pointing": "pointing"}
BASELINE, OURS = "frozen-mean", "tgdfer"
# In the order of the tables; what is not listed follows by name.
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

Difference = tuple[float, float, float] | None


@dataclass(frozen=True)
class Results:
    """What was measured on a ground.

    Attributes:
        name: of its folder.
        title: for people.
        clips: clips, people and labels of "train" and "test".
        truth: of the test clips.
        rows: state of every finished row, by name, in the order of the tables.
        unfinished: titles of rows that are begun.
    """

    name: str
    title: str
    clips: dict[str, dict[str, int]]
    truth: Truth
    rows: dict[str, dict[str, Any]]
    unfinished: list[str]

    def outcomes(self, row: str) -> Outcomes:
        return outcomes(list(runs_of(self.rows[row]).values()), self.truth)


def read_results(work: Path) -> list[Results]:
    """The results of every ground; rows that were measured on other clips or another CLIP than the last are left out.

    Raises:
        UserError: if there are none, or a file cannot be read.
    """
    found = []
    for about in sorted((work / "results").glob("*/ground.json"), key=lambda path: path.parent.name != "rendered"):
        ground = read_row(about)
        states = [read_row(path) for path in sorted(about.parent.glob("*.json")) if path != about]
        states = [state for state in states if state["identity"] == ground["identity"]]
        states.sort(key=lambda state: ORDER.index(state["row"]) if state["row"] in ORDER else len(ORDER))
        truth = Truth(*(ground[name] for name in ("classes", "labels", "people", "intensity")))
        rows = {state["row"]: state for state in states if state["complete"]}
        unfinished = [state["title"] for state in states if not state["complete"]]
        if rows:
            found.append(Results(about.parent.name, ground["title"], ground["clips"], truth, rows, unfinished))
    if not found:
        raise UserError(f"There are no finished rows in {work}: measure some with `run` first, or name its --work.")
    return found


def differences(results: Results) -> dict[str, dict[str, dict[str, Difference]]]:
    """Of every row: its difference to the baseline (`baseline`), and that of TG-DFER to it (`ours`)."""
    found: dict[str, dict[str, dict[str, Difference]]] = {}
    seen = {name: results.outcomes(name) for name in results.rows}
    for name, of_row in seen.items():
        found[name] = {}
        if BASELINE in seen and name != BASELINE:
            found[name]["baseline"] = paired_bootstrap(of_row, seen[BASELINE], results.truth)
        if OURS in seen and name != OURS:
            found[name]["ours"] = paired_bootstrap(seen[OURS], of_row, results.truth)
    return found


def write_report(work: Path, path: Path) -> None:
    """Writes the report, with its picture and its figures (`.png`, `.json`) beside it.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    grounds = read_results(work)
    compared = {results.name: differences(results) for results in grounds}
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(grounds, path.with_suffix(".png"))
    write_text(path.with_suffix(".json"), json.dumps(_facts(grounds, compared), indent=1) + "\n")
    sections = [_head(grounds, path.with_suffix(".png").name)]
    sections += [_section(results, compared[results.name]) for results in grounds]
    write_text(path, "\n\n".join([*sections, _how(grounds)]) + "\n")


def _facts(grounds: list[Results], compared: Mapping[str, Any]) -> dict[str, Any]:
    """All that the report says, without the predictions of single clips."""
    kept = ("title", "key", "config", "figures")
    of_runs = ("figures", "chosen", "tried", "audit", "seconds", "command", "commit", "machine", "versions")
    return {
        results.name: {
            "clips": results.clips,
            "rows": {
                name: {field: state[field] for field in kept}
                | {
                    "parts": {
                        part: {field: value for field, value in found.items() if field not in ("predicted", "scores")}
                        if "predicted" not in found
                        else {field: found[field] for field in of_runs if field in found}
                        for part, found in state["parts"].items()
                    },
                    "differences": compared[results.name][name],
                }
                for name, state in results.rows.items()
            },
        }
        for results in grounds
    }


def _head(grounds: list[Results], picture: str) -> str:
    names = " and ".join(results.title for results in grounds)
    about = (
        "Every claim about TG-DFER stands beside these rows: methods from random scores to fine-tuning, and the"
        f" network as it is, on the same clips, frames and CLIP; on {names}. A clip carries one label, and its frames"
        " none. The oracle alone is told which frames carry the emotion: it shows what there is to win."
    )
    return f"""# What simple methods reach

Written by `python -m benchmarks.harness report` from the results; change it there.

{fill(about, 119)}

![UAR and frame AP of every row; bars are the spread over seeds or folds]({picture})"""


def _section(results: Results, compared: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> str:
    train, test = results.clips["train"], results.clips["test"]
    about = (
        f"{train['labels']} labels; {train['clips']} clips of {train['people']} people to train on, {test['clips']} of"
        f" {test['people']} other people to test on. In percent; mean ± standard deviation over seeds, or folds with"
        " LoRA."
    )
    lines = [
        f"## {results.title.capitalize()}",
        "",
        fill(about, 119),
        "",
        "| method | " + " | ".join(TITLES.values()) + " |",
        "| --- | " + " | ".join("---:" for _ in TITLES) + " |",
    ]
    for state in results.rows.values():
        cells = [percent(state["figures"][figure]) for figure in FIGURES]
        lines.append(f"| {state['title']} | {' | '.join(cells)} |")
    if "position" in results.rows and "random" in results.rows:
        lines += ["", _audit(results)]
    if results.unfinished:
        lines += ["", f"Not measured to the end: {', '.join(results.unfinished)}."]
    lines += ["", *_difference_table(results, compared)]
    return "\n".join(lines)


def percent(figure: Any) -> str:
    """Mean and spread of a figure, from 0 to 1; nothing where there is none."""
    if figure is None:
        return ""
    mean, spread = figure
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ±{100 * spread:.1f}")


def _audit(results: Results) -> str:
    audit = results.rows["position"]["parts"]["once"]["audit"]
    random = results.rows["random"]["figures"]["frame_ap"]
    known = {name: values["frame_ap"] for name, values in audit.items() if values["frame_ap"] is not None}
    if random is None or not known:
        return "No clip has frames with and without its emotion, so frames are not measured."
    said = ", ".join(f"{name} {100 * (value - random[0]):+.1f}" for name, value in known.items())
    return fill(
        f"Frame AP above random, in points, of rankings that know nothing but the place of a frame: {said}.", 119
    )


def _difference_table(results: Results, compared: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> list[str]:
    """Differences in points with 95 % intervals, as far as the rows that they are taken from are measured."""
    columns = {"baseline": f"minus {_title(results, BASELINE)}", "ours": f"{_title(results, OURS)} minus it"}
    shown = [name for name in columns if any(name in of_row for of_row in compared.values())]
    if not shown:
        return []
    heads = [f"{figure}, {columns[name]}" for name in shown for figure in ("UAR", "frame AP")]
    lines = [f"| method | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for row, of_row in compared.items():
        cells = [interval(of_row.get(name, {}).get(figure)) for name in shown for figure in ("uar", "frame_ap")]
        lines.append(f"| {results.rows[row]['title']} | {' | '.join(cells)} |")
    return lines


def _title(results: Results, row: str) -> str:
    return results.rows[row]["title"] if row in results.rows else row


def interval(difference: Difference) -> str:
    """A difference and the ends of its interval, in points."""
    if difference is None:
        return ""
    value, low, high = (100 * number for number in difference)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _how(grounds: list[Results]) -> str:
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

{how_it_was_run(grounds)}"""


def how_it_was_run(grounds: list[Results]) -> str:
    """Commands, commits, machines and minutes of all rows."""
    parts = [part for results in grounds for state in results.rows.values() for part in state["parts"].values()]
    commands = in_words(f"`{part['command']}`" for part in parts)
    commits = in_words(f"`{part['commit']}`" for part in parts if part["commit"]) or "unknown"
    machines = in_words(part["machine"] for part in parts)
    minutes = sum(part["seconds"] for part in parts) / 60
    return f"Command: {commands}. Commit: {commits}. Machine: {machines}; {minutes:.0f} minutes in all."


def in_words(values: Any) -> str:
    """Values without doubles, between commas."""
    return ", ".join(dict.fromkeys(values))


def draw(grounds: list[Results], path: Path) -> None:
    """Draws UAR against frame AP with the spread of both, a panel a ground."""
    names = list(dict.fromkeys(name for results in grounds for name in results.rows))
    names.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    figure = Figure(figsize=(4.6 * len(grounds) + 2.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(grounds), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axes, results in zip(panels, grounds, strict=True):
        _draw_ground(axes, results, names, handles)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw_ground(axes: Axes, results: Results, names: list[str], handles: dict[str, Any]) -> None:
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
