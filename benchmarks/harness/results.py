"""Finished rows as they are on disk: read by data set, in the order of the tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark_dataset import Truth
from benchmarks.harness.comparison import Figure, Outcomes, mean_and_spread, outcomes
from tgdfer.training.errors import UserError

# Fields of a part with a value for each clip. Reports leave them out.
OF_CLIPS = ("predicted", "scores", "held_out", "sentences", "probabilities", "confidence", "right")


@dataclass(frozen=True)
class Results:
    """The rows that were measured on a data set.

    Attributes:
        name: name of the data set, which is that of its folder of results.
        title: name of the data set in reports.
        clips: number of clips, people and labels of "train" and "test".
        truth: truth about the test clips.
        train: `labels` and `people` of the training clips.
        rows: state of every finished row by name, in the order of the tables.
        unfinished: titles of the rows that have begun and are not finished.
    """

    name: str
    title: str
    clips: dict[str, dict[str, int]]
    truth: Truth
    train: dict[str, list[str]]
    rows: dict[str, dict[str, Any]]
    unfinished: list[str]

    def outcomes(self, row: str) -> Outcomes:
        """Outcomes of the runs of a row on the test clips."""
        return outcomes(list(runs_of(self.rows[row]).values()), self.truth)


def read_results(work: Path, order: Sequence[str] = (), last: Sequence[str] = ()) -> list[Results]:
    """Reads the results on every data set, rendered faces first.

    Rows that were measured on other clips or with another CLIP than the last run are left out.

    Args:
        work: folder of the benchmark.
        order: names of the first rows of the tables; the others follow by name.
        last: names of the last rows of the tables.

    Raises:
        UserError: if there are no finished rows, or a file cannot be read.
    """

    def place(state: Mapping[str, Any]) -> int:
        name = state["row"]
        return order.index(name) if name in order else len(order) + (name in last)

    found = []
    for about in sorted((work / "results").glob("*/dataset.json"), key=lambda path: path.parent.name != "rendered"):
        dataset = read_state(about)
        states = [read_state(path) for path in sorted(about.parent.glob("*.json")) if path != about]
        states = sorted((state for state in states if state["identity"] == dataset["identity"]), key=place)
        truth = Truth(*(dataset[name] for name in ("classes", "labels", "people", "intensity")))
        rows = {state["row"]: state for state in states if state["complete"]}
        unfinished = [state["title"] for state in states if not state["complete"]]
        if rows:
            about_clips = (dataset["title"], dataset["clips"], truth, dataset["train"])
            found.append(Results(about.parent.name, *about_clips, rows, unfinished))
    if not found:
        raise UserError(f"There are no finished rows in {work}: measure some with `run` first, or name its --work.")
    return found


def read_state(path: Path) -> dict[str, Any]:
    """Reads a file of results.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, and its row is run again.") from error


def runs_of(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a row that predict the test clips, by name."""
    return {name: part for name, part in state["parts"].items() if "predicted" in part}


def parts_without_clips(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a row by name, without the values of single clips."""
    return {
        part: {field: value for field, value in found.items() if field not in OF_CLIPS}
        for part, found in state["parts"].items()
    }


def published_facts(
    results: Sequence[Results], field: str, of_rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything that a report says, without the values of single clips.

    Args:
        results: of every data set.
        field: name of what the report adds to each row.
        of_rows: that addition, by the names of data set and row.
    """
    kept = ("title", "key", "config", "figures")
    return {
        one.name: {
            "clips": one.clips,
            "rows": {
                name: {key: state[key] for key in kept}
                | {"parts": parts_without_clips(state), field: of_rows[one.name][name]}
                for name, state in one.rows.items()
            },
        }
        for one in results
    }


def means_over_runs(state: Mapping[str, Any], group: str) -> dict[str, Figure]:
    """Mean and spread over the runs of every figure of a group; empty if the row does not have the group."""
    runs = [run[group] for run in runs_of(state).values() if group in run]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: mean_and_spread([run.get(name) for run in runs]) for name in names}
