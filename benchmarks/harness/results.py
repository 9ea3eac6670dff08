"""Reads the stored results of finished rows, by data set and in the order of the tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import GroundTruth
from benchmarks.harness.comparison import Figure, Outcomes, mean_and_spread, outcomes
from tgdfer.training.errors import UserError

# Fields of a part with one value per clip. The published figures omit them.
PER_CLIP_FIELDS = ("predicted", "scores", "held_out", "sentences", "probabilities", "confidence", "right")
# Fields of a published part, which has outcomes instead of predictions: see `published_rows`.
PER_CLIP, HELD_OUT = "right, frame AP and pointing of each clip", "right while held out"


@dataclass(frozen=True)
class Results:
    """The rows that were measured on a data set.

    Attributes:
        name (`str`): Name of the data set and of its folder of results.
        title (`str`): Name of the data set in reports.
        identity (`str`): Hash of the clips, the CLIP and the descriptions.
        clips (`dict[str, dict[str, int]]`): Number of clips, people and labels of "train" and "test".
        truth (`GroundTruth`): Ground truth of the test clips.
        train (`dict[str, list[str]]`): `labels` and `people` of the training clips.
        rows (`dict[str, dict[str, Any]]`): Stored state of each finished row, by the name of the row and in the order
            of the tables.
        unfinished (`list[str]`): Titles of the rows that were started and are not finished.
    """

    name: str
    title: str
    identity: str
    clips: dict[str, dict[str, int]]
    truth: GroundTruth
    train: dict[str, list[str]]
    rows: dict[str, dict[str, Any]]
    unfinished: list[str]
    # A report needs the outcomes of a row several times, and each time would take seconds.
    _outcomes: dict[str, Outcomes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def outcomes(self, row: str) -> Outcomes:
        """Returns the outcomes of the runs of a row on the test clips."""
        if row not in self._outcomes:
            runs = list(runs_of(self.rows[row]).values())
            if all(PER_CLIP in run for run in runs):
                columns = zip(*(run[PER_CLIP] for run in runs), strict=True)
                self._outcomes[row] = Outcomes(*(np.array([_values(text) for text in texts]) for texts in columns))
            else:
                self._outcomes[row] = outcomes(runs, self.truth)
        return self._outcomes[row]

    def held_out(self, row: str) -> Outcomes | None:
        """Returns the outcomes of a row on the training clips while held out, or None without cross-validation."""
        runs = list(runs_of(self.rows[row]).values())
        right = [_values(run[HELD_OUT]) for run in runs if HELD_OUT in run]
        right += [np.array(run["held_out"]) == np.array(self.train["labels"]) for run in runs if "held_out" in run]
        if not right:
            return None
        undefined = np.full((len(right), len(right[0])), np.nan)
        return Outcomes(np.array(right, float), undefined, undefined)

    @property
    def train_truth(self) -> GroundTruth:
        """Ground truth of the training clips, without the intensity of their frames."""
        labels = self.train["labels"]
        return GroundTruth(self.truth.classes, labels, self.train["people"], [[0.0]] * len(labels))


def read_results(work: Path, order: Sequence[str] = (), last: Sequence[str] = ()) -> list[Results]:
    """Reads the results on every data set, rendered faces first.

    Rows are skipped if the last run used other clips or another CLIP.

    Args:
        work (`Path`): Folder of the benchmark.
        order (`Sequence[str]`, *optional*, defaults to `()`): Names of the first rows of the tables. The other rows
            follow by name.
        last (`Sequence[str]`, *optional*, defaults to `()`): Names of the last rows of the tables.

    Raises:
        UserError: If there are no finished rows, or a file cannot be read.
    """

    def sort_key(state: Mapping[str, Any]) -> int:
        name = state["row"]
        return order.index(name) if name in order else len(order) + (name in last)

    results = []
    for file in sorted((work / "results").glob("*/dataset.json"), key=lambda path: path.parent.name != "rendered"):
        dataset = read_state(file)
        states = [read_state(path) for path in sorted(file.parent.glob("*.json")) if path != file]
        states = sorted((state for state in states if state["identity"] == dataset["identity"]), key=sort_key)
        truth = GroundTruth(*(dataset[name] for name in ("classes", "labels", "people", "intensity")))
        rows = {state["row"]: state for state in states if state["complete"]}
        unfinished = [state["title"] for state in states if not state["complete"]]
        if rows:
            description = (dataset["title"], dataset["identity"], dataset["clips"], truth, dataset["train"])
            results.append(Results(file.parent.name, *description, rows, unfinished))
    if not results:
        raise UserError(
            f"There are no finished rows in {work}: measure rows with `run` first, or give another --work."
        )
    return results


def read_state(path: Path) -> dict[str, Any]:
    """Reads a file of results.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it to run its row again.") from error


def runs_of(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the parts of a row that predict the test clips, by name."""
    return {name: part for name, part in state["parts"].items() if "predicted" in part or PER_CLIP in part}


def parts_without_clips(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the parts of a row by name, without the fields with one value per clip."""
    return {
        name: {field: value for field, value in part.items() if field not in PER_CLIP_FIELDS}
        for name, part in state["parts"].items()
    }


def published_facts(results: Sequence[Results], field: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the figures of a report for publication, without the fields with one value per clip.

    Args:
        results (`Sequence[Results]`): Results on every data set.
        field (`str`): Name of a field that the report adds to each row.
        values (`Mapping[str, Mapping[str, Any]]`): Values of this field, by the names of data set and row.
    """
    kept = ("title", "key", "config", "figures")
    return {
        dataset.name: {
            "clips": dataset.clips,
            "rows": {
                name: {key: state[key] for key in kept}
                | {"parts": parts_without_clips(state), field: values[dataset.name][name]}
                for name, state in dataset.rows.items()
            },
        }
        for dataset in results
    }


def _values(text: str) -> np.ndarray:
    return np.array(text.split(), float)


def means_over_runs(state: Mapping[str, Any], group: str) -> dict[str, Figure]:
    """Returns mean and standard deviation over the runs for each figure of a group, such as "faithful".

    The result is empty if the row does not have the group.
    """
    runs = [run[group] for run in runs_of(state).values() if group in run]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: mean_and_spread([run.get(name) for run in runs]) for name in names}
