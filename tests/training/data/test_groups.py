"""The groups of a data set, and the results by them."""

import math

import datasets
import pytest

from tgdfer.training.data.groups import group_members, read_groups
from tgdfer.training.data.tables import Table
from tgdfer.training.measure import ClipPrediction, measure_groups


def table(**columns: list) -> Table:
    rows = datasets.Dataset.from_dict({"video": [""] * len(next(iter(columns.values())))})
    return Table(rows, columns)


@pytest.mark.parametrize(
    ("columns", "groups"),
    [
        ({"age": ["child", "adult", None]}, {"age": ["child", "adult", ""]}),
        ({"Gender": [0, 1, 1]}, {"Gender": ["0", "1", "1"]}),
        ({"glasses": [True, False, True]}, {"glasses": ["True", "False", "True"]}),
        ({"age": [1.0, math.nan, 2.0]}, {"age": ["1", "", "2"]}),
        ({"age": ["adult", "adult", None]}, None),  # One group is no comparison.
        ({"age": list(range(13))}, None),
        ({"person": ["a", "b", "c"], "label": ["x", "y", "z"]}, None),
    ],
)
def test_columns_with_groups(columns, groups):
    assert read_groups("Split", table(**columns)) == groups


def test_members_of_groups_are_sorted_and_known():
    assert group_members({"age": ["b", "", "a", "b"]}) == {"age": {"a": [2], "b": [0, 3]}}


def test_results_by_group():
    predictions = [ClipPrediction(label, 0.9, [1.0], [1.0], [0.0]) for label in ("joy", "joy", "fear", "joy")]
    truth = ["joy", "fear", "fear", "joy"]
    results = measure_groups(truth, predictions, ["fear", "joy"], {"age": ["child", "child", "adult", ""]})
    assert results["age"]["child"] == {
        "num_clips": 2,
        "war": 0.5,
        "uar": 0.5,
        "recall": {"fear": 0.0, "joy": 1.0},
        "intervals": {"over": "clips", "units": 2, "war": [0.0, 1.0], "uar": [0.0, 1.0]},
    }
    assert results["age"]["adult"]["uar"] == 1.0 and results["age"]["adult"]["recall"]["joy"] is None
    assert measure_groups(truth, predictions, ["fear", "joy"], None) == {}
