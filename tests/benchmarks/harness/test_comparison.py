"""Figures of a row and intervals of differences, each on what is known by hand."""

import pytest
from sklearn.metrics import recall_score

from benchmarks.harness.benchmark_dataset import GroundTruth
from benchmarks.harness.comparison import (
    CHANCE,
    RANDOM,
    bootstrap,
    figures_of,
    mean_and_spread,
    outcomes,
    paired_bootstrap,
    restrict_to_labels,
)

TRUTH = GroundTruth(
    classes=["happiness", "neutral", "sadness"],
    labels=["happiness", "happiness", "neutral", "sadness", "sadness", "sadness"],
    people=["a", "b", "a", "a", "b", "c"],
    intensity=[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]],
)
FIRST = [[1.0, 0.0]] * 6


def test_figures_by_hand():
    predicted = ["happiness", "sadness", "neutral", "sadness", "sadness", "neutral"]
    figures = figures_of(outcomes([{"predicted": predicted, "scores": FIRST}], TRUTH), TRUTH)
    assert figures["war"] == [pytest.approx(4 / 6)]
    assert figures["uar"] == [pytest.approx(recall_score(TRUTH.labels, predicted, average="macro"))]
    # Of the six clips one is neutral and one all apex; first is right in two of the other four.
    assert figures["frame_ap"] == [pytest.approx((1 + 0.5 + 1 + 0.5) / 4)] and figures["pointing"] == [0.5]


def test_chance_random_and_nothing():
    figures = figures_of(outcomes([{"predicted": CHANCE, "scores": RANDOM}], TRUTH), TRUTH)
    assert figures["uar"] == [pytest.approx(1 / 3)] and figures["frame_ap"] == [pytest.approx(0.75)]
    figures = figures_of(outcomes([{"predicted": CHANCE, "scores": None}], TRUTH), TRUTH)
    assert figures["frame_ap"] == [None] and mean_and_spread(figures["frame_ap"]) is None
    assert mean_and_spread([0.25]) == (0.25, None)
    assert mean_and_spread([0.0, 1.0]) == (0.5, pytest.approx(0.5**0.5))


def constructed(people: int, helped: int) -> tuple[GroundTruth, list[str], list[str]]:
    """Two clips of each person, of which one method has none right and another both, for some people."""
    labels = ["happiness", "sadness"] * people
    who = [f"p{index // 2}" for index in range(2 * people)]
    wrong = ["sadness", "happiness"] * people
    truth = GroundTruth(["happiness", "sadness"], labels, who, [[0.0, 1.0]] * 2 * people)
    return truth, wrong, labels[: 2 * helped] + wrong[2 * helped :]


def test_bootstrap_draws_people_and_not_clips():
    """The share of helped people is drawn from 40: a binomial share, whose interval is known."""
    truth, wrong, better = constructed(people=40, helped=10)
    last = [[0.0, 1.0]] * 80
    one = outcomes([{"predicted": better, "scores": last}], truth)
    other = outcomes([{"predicted": wrong, "scores": [[1.0, 0.0]] * 80}], truth)
    found = paired_bootstrap(one, other, truth)
    value, low, high = found["uar"]
    error = (0.25 * 0.75 / 40) ** 0.5  # of clips it would be smaller by a factor of the root of two
    assert value == pytest.approx(0.25)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert found["frame_ap"] == (0.5, 0.5, 0.5), "the same in every clip, whoever is drawn"


def test_bootstrap_is_paired_and_means_over_runs():
    truth, wrong, better = constructed(people=20, helped=7)
    row = outcomes([{"predicted": answer, "scores": None} for answer in (better, wrong)], truth)
    assert paired_bootstrap(row, row, truth) == {"uar": (0.0, 0.0, 0.0), "frame_ap": None}
    single = outcomes([{"predicted": better, "scores": None}], truth)
    value, low, high = paired_bootstrap(single, row, truth)["uar"]
    assert value == pytest.approx(0.175) and 0 < low < value < high
    again = paired_bootstrap(single, row, truth)["uar"]
    assert again == (value, low, high)


def test_class_of_which_nobody_is_drawn_does_not_count():
    right = outcomes([{"predicted": TRUTH.labels, "scores": None}], TRUTH)
    wrong = outcomes([{"predicted": ["neutral"] * 6, "scores": None}], TRUTH)
    value, low, high = paired_bootstrap(right, wrong, TRUTH)["uar"]
    assert value == pytest.approx(2 / 3) and low == pytest.approx(2 / 3) and high == 1


def test_figures_of_one_row_have_the_intervals_of_its_difference_to_a_row_that_is_always_wrong():
    truth, wrong, better = constructed(people=40, helped=10)
    row = outcomes([{"predicted": better, "scores": None}], truth)
    nothing = outcomes([{"predicted": wrong, "scores": None}], truth)
    figures = ("war", "uar", "pointing")
    found = bootstrap(row, truth, figures=figures)
    assert found == paired_bootstrap(row, nothing, truth, figures=figures)
    assert found["war"][0] == 0.25 and found["war"][1] < 0.25 < found["war"][2] and found["pointing"] is None


def test_clips_of_some_labels():
    predicted = ["happiness", "neutral", "neutral", "sadness", "happiness", "happiness"]
    found = outcomes([{"predicted": predicted, "scores": FIRST}], TRUTH)
    part, truth = restrict_to_labels(found, TRUTH, ["happiness", "sadness"])
    assert truth.labels == ["happiness", "happiness", "sadness", "sadness", "sadness"]
    assert truth.people == ["a", "b", "a", "b", "c"]
    figures = figures_of(part, truth)
    assert figures["uar"] == [pytest.approx((1 / 2 + 1 / 3) / 2)] and figures["war"] == [0.4]
