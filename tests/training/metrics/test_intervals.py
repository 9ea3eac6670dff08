"""Intervals of metrics, each on what is known by hand."""

from dataclasses import replace

import numpy as np
import pytest

from tgdfer.training.metrics import class_figures, expected_calibration_error
from tgdfer.training.metrics.bootstrap import (
    bootstrap_values,
    bootstrap_weights,
    weighted_mean,
    with_error_interval,
    with_interval,
    with_share_interval,
)
from tgdfer.training.metrics.intervals import ClipOutcomes, metric_intervals, paired_differences
from tgdfer.training.metrics.shares import share_interval


def outcomes(right, labels=None, people=None, frame_ap=None) -> ClipOutcomes:
    number = len(right)
    unknown = np.full(number, np.nan)
    return ClipOutcomes(
        labels=np.array(labels or ["a"] * number),
        right=np.array(right, float),
        confidence=np.linspace(0.4, 0.9, number),
        frame_ap=unknown if frame_ap is None else np.array(frame_ap, float),
        pointing=unknown,
        people=None if people is None else np.array(people),
    )


def test_draws_in_parts_are_those_of_all_weights_at_once(monkeypatch):
    monkeypatch.setattr("tgdfer.training.metrics.bootstrap._CHUNK", 7 * 12)
    values, units = np.arange(12.0), np.arange(12)
    found = bootstrap_values(lambda weights: {"mean": weighted_mean(values, units, weights)}, 12, draws=50, seed=3)
    assert found["mean"].tolist() == weighted_mean(values, units, bootstrap_weights(12, 50, 3)).tolist()


def test_interval_over_clips_is_that_of_a_binomial_share():
    found = metric_intervals(outcomes([True] * 60 + [False] * 40))
    assert (found["over"], found["units"]) == ("clips", 100)
    low, high = found["war"]
    assert low == pytest.approx(0.6 - 1.96 * 0.049, abs=0.015) and high == pytest.approx(0.6 + 1.96 * 0.049, abs=0.015)
    assert found["recall"] == {"a": found["uar"]} and found["frame_ap"] is None and found["pointing"] is None


def test_interval_over_people_is_wider():
    """Ten clips of each person are all right or all wrong, so they count as one."""
    right = [True] * 60 + [False] * 40
    people = [f"p{number // 10}" for number in range(100)]
    low, high = metric_intervals(outcomes(right, people=people))["war"]
    assert high - low == pytest.approx(2 * 1.96 * (0.24 / 10) ** 0.5, rel=0.12)


def test_all_right_is_no_proof():
    """The interval is that of a share of the people with clips of the class, because the draws do not vary."""
    found = metric_intervals(outcomes([True] * 6, ["a"] * 4 + ["b"] * 2, people=list("ppqqrr"), frame_ap=[1] * 6))
    assert found["recall"]["a"] == pytest.approx(share_interval(2, 2)) and found["recall"]["a"][0] < 0.5
    assert found["recall"]["b"] == pytest.approx(share_interval(1, 1))
    assert found["war"] == found["uar"] == found["frame_ap"] == pytest.approx(share_interval(3, 3))
    wrong = metric_intervals(outcomes([False] * 8))
    assert wrong["war"] == pytest.approx(share_interval(0, 8))
    assert with_share_interval(np.array([0.5, 0.4, 0.6]), 3) == with_interval(np.array([0.5, 0.4, 0.6]))


def test_interval_of_the_calibration_error_contains_it():
    """Without the correction it would not, because draws repeat clips."""
    rng = np.random.default_rng(0)
    right = rng.random(60) < np.linspace(0.4, 0.9, 60)
    one = outcomes(right)
    low, high = metric_intervals(one)["ece"]
    assert low <= expected_calibration_error(one.confidence, one.right) <= high
    assert with_error_interval(np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx((0.1, 0.005, 0.195))


def test_differences_are_paired():
    first, second = outcomes([True, True, False, True]), outcomes([True, False, False, True])
    found = paired_differences(first, second)
    assert found["war"]["difference"] == 0.25 and found["war"]["interval"][0] == 0
    same = paired_differences(first, first)
    assert same["war"]["interval"] == same["ece"]["interval"] == [0, 0]


def test_one_person_has_no_interval():
    one = outcomes([True, False, True], people=["anna"] * 3)
    found = metric_intervals(one)
    assert found["units"] == 1 and found["war"] is found["uar"] is found["ece"] is found["recall"]["a"] is None
    assert paired_differences(one, one)["war"] == {"first": 2 / 3, "second": 2 / 3, "difference": 0, "interval": None}


def test_a_class_of_one_person_has_no_interval():
    """Every draw gives the same value. A share of 0 or 1 has the interval of a share."""
    labels = np.array(["a"] * 6 + ["b"] * 2)
    one = outcomes([True, False, True, True, True, False, True, False], people=[*"uvwxyz", "s", "s"])
    one = replace(one, labels=labels)
    found = metric_intervals(one)
    assert found["recall"]["b"] is None and found["recall"]["a"][0] < found["recall"]["a"][1]
    assert paired_differences(one, one)["recall"]["b"]["interval"] is None
    low, high = metric_intervals(replace(one, right=np.ones(8)))["recall"]["b"]
    assert low < 0.5 and high == 1


def test_class_figures_by_hand():
    found = class_figures([[3, 1, 0], [1, 0, 0], [0, 0, 0]], ["a", "b", "c"])
    assert found["a"] == {"num_clips": 4, "num_answers": 4, "recall": 0.75, "precision": 0.75, "f1": 0.75}
    assert found["b"] == {"num_clips": 1, "num_answers": 1, "recall": 0.0, "precision": 0.0, "f1": 0.0}
    assert found["c"] == {"num_clips": 0, "num_answers": 0, "recall": None, "precision": None, "f1": None}
