"""The report of the temporal benchmark: a table, and a picture of two pairs and of the accuracies."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.harness.comparison import Figure, mean_and_spread, paired_bootstrap
from benchmarks.harness.results import Results, parts_without_clips, read_results, runs_of
from benchmarks.harness.tables import (
    how_it_was_run,
    interval,
    markdown_table,
    paragraph,
    percent,
    unfinished_rows,
    write_report,
)
from benchmarks.temporal.pairs import FRAMES, INTERVAL, KINDS, Pair, sample_pairs
from benchmarks.temporal.rows import FROM_ABLATION
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.metrics.bootstrap import Interval
from tgdfer.training.rendered_faces.parameters import RenderedFaces

FULL, SINGLE_FRAME, POSSIBLE = "full", ("frozen-top", "no-short"), "curves"
CHANCE = 0.5
# Names of the rows in this report, where those of the ablation would not be understood.
TITLES = {
    FULL: "TG-DFER",
    "no-short": "TG-DFER without its short-term grain",
    "long": "TG-DFER with the long-range grain",
    "long-only": "TG-DFER with the long-range instead of the short-term grain",
}
NEUTRAL = {"smile": "posed smile", "lids": "blinks"}
FELT = {"smile": "felt smile", "lids": "lids that close slowly"}


def write_temporal_report(work: Path, path: Path, figures: Path, pairs: Sequence[Pair]) -> None:
    """Writes the report, with its picture beside it, and its figures.

    Args:
        work (`Path`): Folder of the results.
        path (`Path`): The Markdown file.
        figures (`Path`): The JSON file.
        pairs (`Sequence[Pair]`): Pairs of the test split.

    Raises:
        UserError: If nothing is measured yet, or the results cannot be read.
    """
    (results,) = read_results(work, FROM_ABLATION, (POSSIBLE,))
    kinds = [pair.kind for pair in pairs for _ in pair.clips]
    found = {name: accuracies(results, name, kinds) for name in results.rows}
    compared = differences(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    draw(results, found, picture)
    facts = {
        name: {"title": state["title"], "config": state["config"], "accuracies": found[name]}
        | {"minus single frames": compared.get(name), "parts": parts_without_clips(state)}
        for name, state in results.rows.items()
    }
    write_report(path, [*_sections(results, found, compared, picture.name), _how(results)], figures, facts)


def accuracies(results: Results, row: str, kinds: Sequence[str]) -> dict[str, Figure]:
    """Accuracies (0 to 1) of a row over its seeds: `all` clips, those of each kind, `shuffled` and `reversed`.

    Args:
        results (`Results`): The results.
        row (`str`): Name of the row.
        kinds (`Sequence[str]`): Kind of the pair of each test clip.
    """
    right = results.outcomes(row).right  # (S, N)
    chosen = {"all": np.ones(len(kinds), bool)} | {kind: np.array(kinds) == kind for kind in KINDS}
    values = {name: mean_and_spread(right[:, clips].mean(1).tolist()) for name, clips in chosen.items()}
    runs = list(runs_of(results.rows[row]).values())
    for order in ("shuffled", "reversed"):
        values[order] = mean_and_spread([run.get("war_in_order", {}).get(order) for run in runs])
    return values


def share_gained(found: Mapping[str, Mapping[str, Figure]], row: str) -> float | None:
    """The share of the distance from chance to the accuracy with the true curves that a row covers."""
    possible, accuracy = (found[name]["all"] if name in found else None for name in (POSSIBLE, row))
    if possible is None or accuracy is None or possible[0] <= CHANCE:
        return None
    return (accuracy[0] - CHANCE) / (possible[0] - CHANCE)


def differences(results: Results) -> dict[str, Interval]:
    """The accuracy of every row minus that of the better row of single frames, with 95 % intervals over people."""
    known = [name for name in SINGLE_FRAME if name in results.rows]
    if not known:
        return {}
    best = max(known, key=lambda name: results.rows[name]["figures"]["war"][0])
    single = results.outcomes(best)
    return {
        name: paired_bootstrap(results.outcomes(name), single, results.truth, figures=("war",))["war"]
        for name in results.rows
        if name not in SINGLE_FRAME
    }


def _sections(
    results: Results,
    found: Mapping[str, Mapping[str, Figure]],
    compared: Mapping[str, Interval],
    picture: str,
) -> list[str]:
    train, test = results.clips["train"], results.clips["test"]
    about = (
        "Each pair has two rendered clips of the same frames in another order. One shows a felt smile (happiness) or"
        " lids that close slowly (sadness). The other shows a posed smile, which appears and disappears from one frame"
        " to the next, or blinks (both neutral). A model that looks at single frames and pools them gives both clips"
        f" of a pair the same answer, so it is right in at most {100 * CHANCE:.0f} % of the clips. Written by"
        " `python -m benchmarks.temporal report`; change it there."
    )
    clips = (
        f"{train['clips']} clips of {train['people']} people to train on, {test['clips']} of {test['people']} other"
        f" people to test on; {FRAMES} frames, {INTERVAL:g} seconds apart. Accuracy in percent; mean ± standard"
        " deviation over seeds."
    )
    rows = []
    for name, state in results.rows.items():
        gained = share_gained(found, name)
        cells = [percent(found[name][one]) for one in ("all", *KINDS, "shuffled", "reversed")]
        cells += ["" if gained is None else f"{100 * max(0.0, gained):.0f} %", interval(compared.get(name))]
        rows.append([_title(state), *cells])
    head = ["method", "accuracy", "smiles", "lids", "shuffled", "reversed", "gained", "minus single frames"]
    columns = (
        "Shuffled and reversed: accuracy when the frames of the test clips come in another order at the same seconds."
        f" Gained: share of the distance from {100 * CHANCE:.0f} % to the accuracy of a classifier that is given the"
        " true intensity of every frame. Minus single frames: difference to the better of the two rows of single"
        " frames, in points, with its 95 % interval over people."
    )
    return [
        f"# Does the order of the frames matter?\n\n{paragraph(about)}\n\n![Two pairs, and accuracies]({picture})",
        paragraph(clips),
        "\n".join([markdown_table(head, rows), *unfinished_rows(results)]),
        paragraph(columns),
    ]


def _title(state: Mapping[str, Any]) -> str:
    return TITLES.get(state["row"], state["title"])


def _how(results: Results) -> str:
    text = (
        "Every row is trained on the frozen features of `clip-tiny-faces`. Its rate and its number of epochs are"
        " chosen by five-fold cross-validation over people inside the training part, and the test part is read"
        f" once a seed. {how_it_was_run([results])}"
    )
    return f"## How it is measured\n\n{paragraph(text)}"


def draw(results: Results, found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draws one pair of each kind as film strips, and the accuracies of all rows below."""
    picture = Picture(figsize=(10, 8.2), layout="constrained")
    strips, bars = picture.subfigures(2, 1, height_ratios=[1.25, 1], squeeze=False)[:, 0]
    panels = strips.subplots(2 * len(KINDS), 1)
    for index, pair in enumerate(next(_of_kind(kind)) for kind in KINDS):
        frames = pair.draw(RenderedFaces())
        titles = FELT[pair.kind], NEUTRAL[pair.kind]
        for axes, (label, order), title in zip(panels[2 * index : 2 * index + 2], pair.clips, titles, strict=True):
            axes.imshow(np.hstack(frames[order]))
            axes.set_axis_off()
            axes.set_title(f"{title} ({label})", fontsize=9, loc="left", pad=2)
    _draw_bars(bars.subplots(), results, found)
    save_figure(picture, path)


def _of_kind(kind: str) -> Iterator[Pair]:
    return (pair for pair in sample_pairs("train", 3, 1) if pair.kind == kind)


def _draw_bars(axes: Axes, results: Results, found: Mapping[str, Mapping[str, Any]]) -> None:
    names = list(results.rows)
    for offset, order, title, color in ((-0.18, "all", "in order", "C0"), (0.18, "shuffled", "shuffled", "0.7")):
        values = [found[name][order] for name in names]
        known = [(place + offset, value) for place, value in enumerate(values) if value is not None]
        widths = [100 * value[0] for _, value in known]
        spreads = [100 * (value[1] or 0.0) for _, value in known]
        axes.barh([place for place, _ in known], widths, 0.34, xerr=spreads, label=title, color=color)
    axes.axvline(100 * CHANCE, color="black", linewidth=0.8, linestyle="--", label="the most for single frames")
    axes.set_yticks(range(len(names)), [_title(results.rows[name]) for name in names])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="accuracy, percent")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, 1.16), ncols=3)
