"""The paired comparison of two evaluations on the same clips."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.training.errors import UserError
from tgdfer.training.evaluation.result_files import Results, read_results
from tgdfer.training.files import write_text
from tgdfer.training.metrics.bootstrap import DRAWS
from tgdfer.training.metrics.intervals import METRICS, paired_differences

TITLES = {
    "uar": "UAR (mean recall)",
    "war": "WAR (accuracy)",
    "ece": "calibration error",
    "frame_ap": "frame AP",
    "pointing": "pointing",
}
# Facts of `metrics.json` that must be equal.
_SAME = {"dataset": "data set", "split": "split"}


def compare_results(first: str | Path, second: str | Path, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Computes the differences between two evaluations on the same clips, with 95% paired bootstrap intervals.

    Each draw samples people with replacement, or clips if the people are unknown, and both models use the same draws
    (Efron & Tibshirani, 1993).

    Args:
        first (`str` or `Path`): Results of a model: the folder that `tgdfer evaluate` wrote to, or its `metrics.json`
            or `predictions.csv`.
        second (`str` or `Path`): Results of the model to compare with.
        draws (`int`, *optional*, defaults to 2000): Number of draws.
        seed (`int`, *optional*, defaults to 0): Random seed of the draws.

    Returns:
        `dict[str, Any]`: `first`, `second`, `dataset`, `split`, `num_clips`, `over`, `units` and `draws`; `uar`,
        `war`, `ece`, `frame_ap` and `pointing`, each with `first`, `second`, `difference` (first minus second) and
        `interval`, or None; `recall`, the same for each class; and `num_right`, the number of clips for which `both`,
        `only_first`, `only_second` or `neither` are right.

    Raises:
        UserError: If there are no results, or they are not about the same clips with the same labels.
    """
    one, other = read_results(first), read_results(second)
    other = _aligned(one, other)
    right, others = one.outcomes.right.astype(bool), other.outcomes.right.astype(bool)
    return {
        "first": _subject(one),
        "second": _subject(other),
        **{name: one.metrics.get(name) for name in _SAME},
        "num_clips": len(one.files),
        **paired_differences(one.outcomes, other.outcomes, draws, seed),
        "num_right": {
            "both": int((right & others).sum()),
            "only_first": int((right & ~others).sum()),
            "only_second": int((~right & others).sum()),
            "neither": int((~right & ~others).sum()),
        },
    }


def _subject(results: Results) -> dict[str, Any]:
    """Returns what identifies a model."""
    facts = ("command", "weights_sha256", "model_revision")
    return {"results": results.name, **{name: results.metrics[name] for name in facts if results.metrics.get(name)}}


def _aligned(one: Results, other: Results) -> Results:
    """Returns the second results in the order of the clips of the first ones.

    Raises:
        UserError: If they are about other clips. The message names the first difference.
    """
    for name, title in _SAME.items():
        values = [results.metrics.get(name) for results in (one, other)]
        if values[0] != values[1]:
            raise UserError(
                f"{one.name} was measured on the {title} {values[0]!r}, but {other.name} on {values[1]!r}: evaluate"
                " both models on the same clips."
            )
    if one.files != other.files:
        for results, rest in ((one, other), (other, one)):
            if missing := sorted(set(results.files) - set(rest.files)):
                what = "a clip" if len(missing) == 1 else f"{len(missing)} clips"
                raise UserError(
                    f"{results.name} has {what} that {rest.name} lacks, such as {missing[0]}: evaluate both models on"
                    " the same clips."
                )
        places = {file: row for row, file in enumerate(other.files)}
        if len(places) != len(other.files) or len(other.files) != len(one.files):
            raise UserError(
                f"{one.name} and {other.name} have several clips of the same name in different orders: evaluate both"
                " models on the same data."
            )
        other = other.select([places[file] for file in one.files])
    _require_same(one, other, "the label", one.outcomes.labels, other.outcomes.labels)
    people = one.outcomes.people, other.outcomes.people
    if (people[0] is None) != (people[1] is None):
        raise UserError(
            f"Only one of {one.name} and {other.name} says who is in a clip: evaluate both models on the same data."
        )
    if people[0] is not None and people[1] is not None:
        _require_same(one, other, "the person", people[0], people[1])
    return other


def _require_same(one: Results, other: Results, what: str, first: np.ndarray, second: np.ndarray) -> None:
    """Raises a `UserError` that names the first clip (N,) in which two results differ."""
    for file, value, another in zip(one.files, first, second, strict=True):
        if value != another:
            raise UserError(
                f"{file} has {what} {value} in {one.name}, but {another} in {other.name}: evaluate both models on the"
                " same data."
            )


def write_comparison(path: Path, comparison: dict[str, Any]) -> None:
    """Writes the differences of `compare_results` to a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(comparison, indent=2) + "\n")


def print_comparison(comparison: dict[str, Any]) -> None:
    """Prints the differences of `compare_results` as a table, in percent."""
    table = Table(
        title=f"{comparison['dataset']}, {comparison['split']}: {comparison['num_clips']} clips",
        caption=f"in percent; paired bootstrap over {comparison['units']} {comparison['over']}",
    )
    for name in ("", "A", "B", "A - B", "95% interval"):
        table.add_column(name, justify="right" if name else "left")

    def add(title: str, row: dict[str, Any] | None, style: str = "") -> None:
        if row is not None:
            cells = (f"{100 * row[name]:.1f}" for name in ("first", "second"))
            interval = " to ".join(f"{100 * end:+.1f}" for end in row["interval"] or ())
            table.add_row(title, *cells, f"{100 * row['difference']:+.1f}", interval, style=style)

    for label, row in comparison["recall"].items():
        add(escape(f"recall of {label}"), row)
    table.add_section()
    for name in METRICS:
        add(TITLES[name], comparison[name], "bold")
    get_console().print(table)
    counts = comparison["num_right"]
    get_console().print(
        f"A: {comparison['first']['results']}\nB: {comparison['second']['results']}\nOnly A is right in"
        f" {counts['only_first']} clips, only B in {counts['only_second']}, both in {counts['both']}, and neither in"
        f" {counts['neither']}.",
        markup=False,
        highlight=False,
    )
