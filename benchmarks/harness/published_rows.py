"""Keeps the outcomes of every test clip in the published figures, so that a report can be extended with new rows.

Rows take hours to measure. With these outcomes, a report compares new rows with published ones without measuring
those again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import GroundTruth
from benchmarks.harness.results import HELD_OUT, PER_CLIP, Results, parts_without_clips, runs_of

_STATE = ("row", "title", "config", "figures", "complete")


def published_results(results: Results) -> dict[str, Any]:
    """Returns the rows of a data set with the outcomes of their runs on each clip, as JSON values.

    People are numbers, in the order of their names, because their names are not needed.
    """
    truth, train = results.truth, results.train
    return {
        "title": results.title,
        "identity": results.identity,
        "clips": results.clips,
        "classes": truth.classes,
        "test": {"labels": _numbers(truth.labels, truth.classes), "people": _numbers(truth.people)},
        "train": {"labels": _numbers(train["labels"], truth.classes), "people": _numbers(train["people"])},
        "rows": {name: _published_row(results, name) for name in results.rows},
    }


def with_published_rows(
    results: Sequence[Results], published: Mapping[str, Any], order: Sequence[str] = (), last: Sequence[str] = ()
) -> list[Results]:
    """Adds published rows that were not measured again.

    Rows are added only if they were measured with the same clips and the same CLIP. A published data set that was not
    measured again is added as a whole. The order of the data sets stays that of the published ones.

    Args:
        results (`Sequence[Results]`): New results.
        published (`Mapping[str, Any]`): For each data set, the output of `published_results`.
        order (`Sequence[str]`, *optional*, defaults to `()`): As in `read_results`.
        last (`Sequence[str]`, *optional*, defaults to `()`): As in `read_results`.
    """
    found = {data.name: data for data in results}
    for name, facts in published.items():
        if "identity" not in facts:
            continue  # Figures of an earlier version, without the outcomes of single clips.
        if name not in found:
            found[name] = _read_results(name, facts)
        elif found[name].identity == facts["identity"]:
            rows = {**facts["rows"], **found[name].rows}
            names = [*order, *sorted(rows.keys() - {*order, *last}), *last]
            found[name] = replace(found[name], rows={row: rows[row] for row in names if row in rows})
    return [found[name] for name in dict.fromkeys([*published, *found]) if name in found]


def _published_row(results: Results, name: str) -> dict[str, Any]:
    state = results.rows[name]
    parts = parts_without_clips(state)
    outcomes, held_out = results.outcomes(name), results.held_out(name)
    for index, part in enumerate(runs_of(state)):
        values = (outcomes.right[index], outcomes.frame_ap[index], outcomes.pointing[index])
        parts[part] = parts[part] | {PER_CLIP: [_text(run) for run in values]}
        if held_out is not None:
            parts[part][HELD_OUT] = _text(held_out.right[index])
    return {field: state[field] for field in _STATE if field in state} | {"parts": parts}


def _read_results(name: str, facts: Mapping[str, Any]) -> Results:
    classes = list(facts["classes"])
    labels = {split: [classes[int(index)] for index in facts[split]["labels"].split()] for split in ("train", "test")}
    people = {split: facts[split]["people"].split() for split in ("train", "test")}
    truth = GroundTruth(classes, labels["test"], people["test"], [])
    train = {"labels": labels["train"], "people": people["train"]}
    return Results(name, facts["title"], facts["identity"], facts["clips"], truth, train, dict(facts["rows"]), [])


def _numbers(values: Sequence[str], names: Sequence[str] | None = None) -> str:
    """Returns the index of each value among the sorted or given names, as a text of numbers of equal width."""
    names = sorted(set(values)) if names is None else list(names)
    width = len(str(len(names)))
    return " ".join(f"{names.index(value):0{width}}" for value in values)


def _text(values: np.ndarray) -> str:
    """Returns numbers as a text that needs little room. Four digits are more than a report shows."""
    return " ".join(f"{value:.4g}" for value in values)
