"""The results of all folds of a data set, as the field reports them: recall of each class, UAR and WAR.

Published results are plain means over the folds. The last epoch and the best epoch are separate tables, because much
published code chooses its best epoch on the test clips. Here, validation clips choose it.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.files import write_text

# Titles of the tables, by epoch.
_TITLES = {"last": "last epoch", "best": "best epoch"}


@dataclass(frozen=True)
class FoldResult:
    """The result of a model on the test clips of a fold. Figures are from 0 to 1.

    Attributes:
        fold (`int`): Number of the fold.
        epoch (`int`): Epoch of the model, from 1.
        num_clips (`int`): Number of test clips.
        recall (`Mapping[str, float | None]`): Recall of each class. None for a class without test clips.
        uar (`float`): Mean recall of the classes.
        war (`float`): Accuracy.
        confusion_matrix (`Sequence[Sequence[int]]`): Numbers of clips. Rows are true classes, in the order of
            `recall`.
    """

    fold: int
    epoch: int
    num_clips: int
    recall: Mapping[str, float | None]
    uar: float
    war: float
    confusion_matrix: Sequence[Sequence[int]]

    @classmethod
    def from_metrics(cls, fold: int, epoch: int, metrics: Mapping[str, Any]) -> "FoldResult":
        """Takes the result from the metrics of `evaluate_model`."""
        names = ("num_clips", "recall", "uar", "war", "confusion_matrix")
        return cls(fold, epoch, **{name: metrics[name] for name in names})


@dataclass(frozen=True)
class FoldTables:
    """The results of the folds of a data set that are complete.

    Attributes:
        dataset (`str`): Name of the data set.
        num_folds (`int`): Number of all folds.
        classes (`Sequence[str]`): The classes, in the order of the tables.
        validation (`str`, *optional*): How the validation clips were chosen: "by person", "by clip" or "by split".
            None if there are none.
        last (`Sequence[FoldResult]`): Results of the last epoch.
        best (`Sequence[FoldResult]`): Results of the best epoch. Empty without validation clips.
        seconds (`float`): Training time of these folds, in seconds.
    """

    dataset: str
    num_folds: int
    classes: Sequence[str]
    validation: str | None
    last: Sequence[FoldResult]
    best: Sequence[FoldResult]
    seconds: float

    @property
    def results(self) -> dict[str, Sequence[FoldResult]]:
        """The tables that are not empty, by epoch: "last" and "best"."""
        return {name: found for name, found in {"last": self.last, "best": self.best}.items() if found}

    def title(self, epoch: str) -> str:
        """Returns the title of a table, which says how the best epoch was chosen."""
        by = {"by person": "by held-out people", "by clip": "by held-out training clips"}
        how = by.get(self.validation or "", "by the validation split")
        return _TITLES[epoch] + (f", chosen {how}, not by test clips" if epoch == "best" else "")


def summarise(results: Sequence[FoldResult], classes: Sequence[str]) -> dict[str, Any]:
    """Computes mean and spread over folds.

    Args:
        results (`Sequence[FoldResult]`): Result of each fold.
        classes (`Sequence[str]`): The classes.

    Returns:
        `mean` and `spread`, each with `uar`, `war` and the `recall` of each class. The spread is the standard
        deviation of a sample, and None for a single fold. Folds without test clips of a class do not count for it.
    """
    values = {name: [result.recall.get(name) for result in results] for name in classes}
    known = {name: [value for value in column if value is not None] for name, column in values.items()}
    figures = {name: [getattr(result, name) for result in results] for name in ("uar", "war")}

    def each(compute: Any) -> dict[str, Any]:
        recall = {name: compute(column) for name, column in known.items()}
        return {"uar": compute(figures["uar"]), "war": compute(figures["war"]), "recall": recall}

    return {
        "mean": each(lambda column: mean(column) if column else None),
        "spread": each(lambda column: stdev(column) if len(column) > 1 else None),
    }


def print_fold_tables(tables: FoldTables) -> None:
    """Prints a table for each epoch, in percent. Rows are classes, so that it fits 80 columns."""
    for epoch, results in tables.results.items():
        complete = f"{len(results)} of {tables.num_folds} folds"
        table = Table(
            title=escape(f"{tables.dataset}, {complete}: {tables.title(epoch)}"),
            caption="recall of each class, its mean (UAR) and accuracy (WAR), in percent",
        )
        for name in ("", *(str(result.fold) for result in results), "mean", "spread"):
            table.add_column(name, justify="right" if name else "left")
        summary = summarise(results, tables.classes)
        for name in tables.classes:
            cells = [result.recall.get(name) for result in results]
            cells += [summary[part]["recall"][name] for part in ("mean", "spread")]
            table.add_row(escape(name), *map(_percent, cells))
        table.add_section()
        for name in ("uar", "war"):
            cells = [getattr(result, name) for result in results]
            cells += [summary[part][name] for part in ("mean", "spread")]
            table.add_row(name.upper(), *map(_percent, cells), style="bold")
        get_console().print(table)


def write_fold_tables(folder: Path, tables: FoldTables) -> None:
    """Writes `folds.json`, `folds.csv`, `folds.md` and the confusion matrix of the last epoch over all folds.

    Args:
        folder (`Path`): Folder of the folds.
        tables (`FoldTables`): The results.
    """
    contents = {name: value for name, value in asdict(tables).items() if name not in ("last", "best")}
    for epoch, results in tables.results.items():
        contents[epoch] = {"folds": list(map(asdict, results)), **summarise(results, tables.classes)}
    plot_confusion_matrix(_pooled(tables.last, tables.classes), tables.classes, folder / "confusion_matrix.png")
    write_text(folder / "folds.csv", _csv(tables))
    write_text(folder / "folds.md", _markdown(tables))
    write_text(folder / "folds.json", json.dumps(contents, indent=2) + "\n")


def _pooled(results: Sequence[FoldResult], classes: Sequence[str]) -> list[list[int]]:
    """Returns the sum (K, K) of the confusion matrices of all folds, in the order of `classes`."""
    total = np.zeros((len(classes), len(classes)), int)
    for result in results:
        places = [classes.index(name) for name in result.recall]
        total[np.ix_(places, places)] += np.asarray(result.confusion_matrix)
    return total.tolist()


def _rows(results: Sequence[FoldResult], classes: Sequence[str]) -> list[tuple[str, list[float | None]]]:
    """Returns a row for each fold, and those of mean and spread: recall of each class, UAR, WAR."""
    rows: list[tuple[str, list[float | None]]] = [
        (str(one.fold), [*(one.recall.get(name) for name in classes), one.uar, one.war]) for one in results
    ]
    for part, figures in summarise(results, classes).items():
        rows.append((part, [*figures["recall"].values(), figures["uar"], figures["war"]]))
    return rows


def _csv(tables: FoldTables) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "fold", *tables.classes, "uar", "war"])
    for epoch, results in tables.results.items():
        for name, values in _rows(results, tables.classes):
            writer.writerow([epoch, name, *("" if value is None else f"{value:.4f}" for value in values)])
    return text.getvalue()


def _markdown(tables: FoldTables) -> str:
    """Returns the tables with the classes as columns, as papers print them."""
    lines = []
    for epoch, results in tables.results.items():
        lines += [f"{tables.dataset}, {len(results)} of {tables.num_folds} folds, {tables.title(epoch)}, in percent:"]
        lines += ["", f"| fold | {' | '.join(tables.classes)} | UAR | WAR |"]
        lines += ["| --- |" + " ---: |" * (len(tables.classes) + 2)]
        lines += [f"| {name} | {' | '.join(map(_percent, cells))} |" for name, cells in _rows(results, tables.classes)]
        lines += [""]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
