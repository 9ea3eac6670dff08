"""The tables over folds, recomputed by hand."""

import csv
import json

import pytest
from matplotlib.image import imread

from tgdfer.training.evaluation.fold_tables import (
    FoldResult,
    FoldTables,
    _pooled,
    print_fold_tables,
    summarise,
    write_fold_tables,
)

CLASSES = ("happiness", "anger")


def fold(number, recall, uar, war, matrix, epoch=9):
    return FoldResult(number, epoch, sum(map(sum, matrix)), recall, uar, war, matrix)


# The classes of a model are in alphabetical order, and the table has the published order.
FIRST = fold(1, {"anger": 0.5, "happiness": 0.8}, 0.65, 0.7, [[1, 1], [1, 4]])
SECOND = fold(2, {"anger": 0.7, "happiness": 0.4}, 0.55, 0.5, [[7, 3], [6, 4]], epoch=4)
NO_ANGER = fold(3, {"anger": None, "happiness": 0.6}, 0.6, 0.6, [[0, 0], [2, 3]])


def tables(**changes):
    given = {"dataset": "dfew", "num_folds": 5, "classes": CLASSES, "validation": "by person", "seconds": 1.0}
    return FoldTables(**given | {"last": [FIRST, SECOND], "best": [SECOND]} | changes)


def test_mean_and_spread_by_hand():
    found = summarise([FIRST, SECOND], CLASSES)
    assert (found["mean"]["uar"], found["mean"]["war"]) == pytest.approx((0.6, 0.6))
    assert found["mean"]["recall"] == pytest.approx({"happiness": 0.6, "anger": 0.6})
    # Two values that differ by d have the standard deviation d / sqrt(2).
    assert found["spread"]["uar"] == pytest.approx(0.1 / 2**0.5)
    assert found["spread"]["recall"]["happiness"] == pytest.approx(0.4 / 2**0.5)
    assert list(found["mean"]["recall"]) == list(CLASSES)


def test_a_class_without_test_clips_in_a_fold_does_not_count_there():
    found = summarise([FIRST, NO_ANGER], CLASSES)
    assert found["mean"]["recall"] == pytest.approx({"happiness": 0.7, "anger": 0.5})
    assert found["spread"]["recall"]["anger"] is None and found["mean"]["uar"] == pytest.approx(0.625)


def test_files_have_the_same_figures(tmp_path):
    write_fold_tables(tmp_path, tables())
    rows = list(csv.DictReader((tmp_path / "folds.csv").read_text().splitlines()))
    assert [(row["epoch"], row["fold"]) for row in rows] == [
        ("last", "1"), ("last", "2"), ("last", "mean"), ("last", "spread"),
        ("best", "2"), ("best", "mean"), ("best", "spread"),
    ]  # fmt: skip
    assert list(rows[0]) == ["epoch", "fold", *CLASSES, "uar", "war"]
    assert [rows[0][name] for name in (*CLASSES, "uar", "war")] == ["0.8000", "0.5000", "0.6500", "0.7000"]
    assert rows[6]["uar"] == "", "one fold has no spread"
    text = (tmp_path / "folds.md").read_text()
    assert "| 1 | 80.0 | 50.0 | 65.0 | 70.0 |" in text and "| mean | 60.0 | 60.0 | 60.0 | 60.0 |" in text
    assert "dfew, 1 of 5 folds, best epoch, chosen by held-out people, not by test clips" in text
    contents = json.loads((tmp_path / "folds.json").read_text())
    assert contents["last"]["mean"]["uar"] == pytest.approx(0.6) and contents["best"]["folds"][0]["epoch"] == 4
    # happiness: 4 + 4 right, 1 + 6 wrong; anger: 1 + 7 right, 1 + 3 wrong.
    assert _pooled([FIRST, SECOND], CLASSES) == [[8, 7], [4, 8]]
    assert imread(tmp_path / "confusion_matrix.png").std() > 0.05


def test_table_on_the_terminal(capsys):
    print_fold_tables(tables(validation="by clip"))
    shown = capsys.readouterr().out
    assert "dfew, 2 of 5 folds: last epoch" in shown and "held-out training clips" in shown
    line = next(line for line in shown.splitlines() if "UAR" in line and "│" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["UAR", "65.0", "55.0", "60.0", "7.1"]
    assert max(map(len, shown.splitlines())) <= 80


def test_without_validation_clips_there_is_no_best_epoch(tmp_path, capsys):
    write_fold_tables(tmp_path, tables(best=[], validation=None))
    print_fold_tables(tables(best=[], validation=None))
    assert "best" not in (tmp_path / "folds.md").read_text() + capsys.readouterr().out
    assert "best" not in json.loads((tmp_path / "folds.json").read_text())
