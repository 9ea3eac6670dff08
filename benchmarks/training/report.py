"""Report on the options of training, written from the stored results: tables, differences with intervals, a chart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.comparison import mean_and_spread, paired_bootstrap
from benchmarks.harness.results import Results, published_facts, read_results, runs_of
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
from benchmarks.training.photograph_folder import NUMBERS
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.metrics.bootstrap import Interval

BASELINE = "frozen"
ORDER = (BASELINE, "stills", "ema", "mixup", "weights", "sampler", "adjustment", "lora")
# Names of chosen options in the table.
_OPTIONS = {"ema": "--ema", "mixup": "--mixup", "stills_epochs": "--stills-epochs"}


def write_training_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report, its chart and its figures.

    Args:
        work (`Path`): Folder of the results.
        path (`Path`): Path of the Markdown file. The chart is written beside it.
        figures (`Path`): Path of the JSON file.

    Raises:
        UserError: If nothing has been measured yet, or the results cannot be read.
    """
    results = read_results(work, ORDER)
    compared = {dataset.name: differences(dataset) for dataset in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    draw(results, compared, picture)
    sections = [_introduction(results, picture.name)]
    sections += [_section(dataset, compared[dataset.name]) for dataset in results]
    write_report(path, [*sections, _methods(results)], figures, published_facts(results, "minus frozen", compared))


def differences(results: Results) -> dict[str, dict[str, Interval]]:
    """Computes for each row its UAR and frame AP minus those of the baseline, with 95% intervals over people."""
    if BASELINE not in results.rows:
        return {name: {} for name in results.rows}
    baseline = results.outcomes(BASELINE)
    return {
        name: {} if name == BASELINE else paired_bootstrap(results.outcomes(name), baseline, results.truth)
        for name in results.rows
    }


def chosen_options(state: Mapping[str, Any]) -> str:
    """Describes the options that were chosen on held-out people, such as "--ema 0.99 (2 of 3 seeds)"."""
    runs = [part["chosen"] for part in runs_of(state).values()]
    texts = [" ".join(f"{_OPTIONS[name]} {run[name]:g}" for name in _OPTIONS if name in run) for run in runs]
    texts = [text or "default" for text in texts]
    if set(texts) == {"default"}:
        return ""
    counts = {text: texts.count(text) for text in dict.fromkeys(texts)}
    return ", ".join(
        f"`{text}`" + ("" if count == len(texts) else f" ({count} of {len(texts)} seeds)")
        for text, count in sorted(counts.items(), key=lambda item: -item[1])
    )


def _introduction(results: Sequence[Results], picture: str) -> str:
    names = " and on ".join(dataset.title for dataset in results)
    introduction = (
        f"This page shows what the options of `tgdfer train` change on {names}. Each row is the first row with one"
        " option added. Values of the option are chosen on people who are held out of the training split. The test"
        " split is read once for each run, after all choices."
    )
    return f"""# What the options of training bring

`python -m benchmarks.training report` generates this page. Change the text there.
[Options of training](../guides/training_options.md) explains the options.

{paragraph(introduction)}

![Difference in UAR of every row to the first one, with intervals]({picture})"""


def _section(results: Results, compared: Mapping[str, Mapping[str, Interval]]) -> str:
    has_frames = any(state["figures"]["frame_ap"] for state in results.rows.values())
    head = ["method", "chosen", "held-out UAR", "WAR", "UAR", *(["frame AP"] if has_frames else []), "seconds"]
    head += ["UAR minus the first row", *(["frame AP minus the first row"] if has_frames else [])]
    rows = [_table_row(state, compared[name], has_frames) for name, state in results.rows.items()]
    lines = [f"## {results.title.capitalize()}", "", _describe(results), "", markdown_table(head, rows)]
    return "\n".join([*lines, *unfinished_rows(results)])


def _table_row(state: Mapping[str, Any], compared: Mapping[str, Interval], has_frames: bool) -> list[str]:
    runs = list(runs_of(state).values())
    held_out = mean_and_spread([run["chosen"]["held_out_uar"] for run in runs])
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    figures = ("war", "uar", "frame_ap") if has_frames else ("war", "uar")
    cells = [state["title"], chosen_options(state), percent(held_out)]
    cells += [percent(state["figures"][name]) for name in figures]
    return [*cells, f"{seconds:.0f}", *(interval(compared.get(name)) for name in figures[1:])]


def _describe(results: Results) -> str:
    if results.name != "photographs":
        return describe_clips(results, "seeds")
    train, test = results.clips["train"], results.clips["test"]
    return paragraph(
        f"{train['labels']} labels. Training uses {train['clips']:,} photographs of FER+, drawn from its training"
        f" split, and testing uses all {test['clips']:,} photographs of its test split with a clear majority for one"
        f" of these labels. {NUMBERS['validation']:,} photographs of its validation split choose epoch and option."
        " The classes are as frequent as in FER+, so most photographs are neutral or happy. `clip-tiny-faces` was"
        " trained on the training split, so little is left to gain. Every photograph counts as a person. Values are"
        " in percent, as mean ± standard deviation over seeds."
    )


def _methods(results: Sequence[Results]) -> str:
    return f"""## Methods

- All rows start from `clip-tiny-faces` and train with `tgdfer train`. The rows on a frozen CLIP train 20 epochs on
  cached features. **LoRA** goes on from the model of the first row, for 5 epochs on the videos or photographs
  themselves.
- The model of the best epoch is tested. Epoch and option are those with the highest **held-out UAR**: on clips, a
  fifth of the people of the training split are held out. For equal UAR the lower loss decides.
- **Photographs first:** the head is first trained on {NUMBERS["train"]:,} photographs of FER+ with seven labels, and
  then on the clips. The difference from the first row is due to the start of the head, because CLIP stays frozen.
- **Balancing:** the real clips have equally many clips of each label, so balancing changes nothing there.
- **Seconds** are the mean time of a run with all its choices, on one thread.
- **Intervals** are 95% intervals from 2,000 paired bootstrap draws of test people with all of their clips. The figure
  of a row is the mean over its runs.

{how_it_was_run(results)}"""


def draw(results: Sequence[Results], compared: Mapping[str, Mapping[str, Mapping[str, Interval]]], path: Path) -> None:
    """Draws the differences in UAR to the first row with their intervals, one panel per data set."""
    figure = Figure(figsize=(4.4 * len(results) + 1, 3.4), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, dataset in zip(panels, results, strict=True):
        _draw_dataset(axes, dataset, compared[dataset.name])
    save_figure(figure, path)


def _draw_dataset(axes: Axes, results: Results, compared: Mapping[str, Mapping[str, Interval]]) -> None:
    found = {name: difference for name, row in compared.items() if (difference := row.get("uar")) is not None}
    for height, (value, low, high) in enumerate(found.values()):
        excludes_zero = low > 0 or high < 0
        axes.errorbar(
            100 * value,
            height,
            xerr=[[100 * (value - low)], [100 * (high - value)]],
            fmt="o",
            color="C0" if excludes_zero else "0.55",
            capsize=3,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), [results.rows[name]["title"] for name in found])
    axes.set_ylim(max(len(found), 1) - 0.5, -0.5)
    axes.set(title=results.title, xlabel="change of UAR in points")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
