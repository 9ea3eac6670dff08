"""Weak points and intervals of the results on a data set."""

import pytest
from scipy.stats import binomtest

from tgdfer.model_card.measured import DatasetResults
from tgdfer.model_card.weak_points import weak_points
from tgdfer.training.metrics.shares import mean_interval, share_interval


def results(matrix: list[list[int]], **metrics: object) -> DatasetResults:
    labels = ["anger", "happiness", "neutral"][: len(matrix)]
    return DatasetResults({"labels": labels, "confusion_matrix": matrix, "war": 0.5, "uar": 0.5, **metrics})


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 20), (3, 7), (40, 40), (811, 936)])
def test_interval_of_a_share_is_that_of_wilson(count, total):
    exact = binomtest(count, total).proportion_ci(method="wilson")
    assert share_interval(count, total) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_interval_of_a_mean_covers_it_as_often_as_it_says():
    import numpy as np

    rng, shares, numbers = np.random.default_rng(0), np.array([0.9, 0.5, 0.7]), [40, 30, 50]
    counts = rng.binomial(numbers, shares, (4000, 3))
    limits = [mean_interval([*zip(row.tolist(), numbers, strict=True)]) for row in counts]
    covered = np.mean([low <= shares.mean() <= high for low, high in limits])
    assert 0.935 < covered < 0.965
    assert mean_interval([(4, 10)]) == pytest.approx(share_interval(4, 10))
    assert mean_interval([(10, 10), (10, 10)])[1] == 1.0


def test_classes_that_are_missed_are_named_with_their_numbers():
    found = weak_points(results([[30, 5, 5], [0, 40, 0], [28, 0, 12]]))
    assert found[0].startswith("It finds 30% (12 of 40) of the neutral clips (95% interval 18.1% to 45.4%).")
    assert found[0].endswith("Its most frequent mistake calls 70% (28 of 40) of them anger.")
    assert "Of the clips that it calls anger, 52% (30 of 58) are anger." in found
    assert not any("finds" in point for point in found[1:]) and not any("happiness" in point for point in found)


def test_an_interval_that_the_evaluation_calls_undefined_is_not_computed_from_the_counts():
    found = results([[30, 10], [0, 40]], intervals={"recall": {"anger": None, "happiness": [0.9, 1.0]}})
    assert found.recall_interval("anger") is None and found.recall_interval("happiness") == (0.9, 1.0)
    assert "| anger | 40 | 75.0% |  |" in str(found.recall_table())
    low = results([[10, 30], [0, 40]], intervals={"recall": {"anger": None, "happiness": [0.9, 1.0]}})
    sentence = "It finds 25% (10 of 40) of the anger clips, which show too few people for an interval."
    assert weak_points(low)[0].startswith(sentence)


def test_the_lowest_recall_is_named_of_a_good_model():
    (only,) = weak_points(results([[39, 1, 0], [0, 40, 0], [0, 0, 40]]))
    assert only == "It finds 98% (39 of 40) of the anger clips (95% interval 87.1% to 99.6%)."


def test_what_is_hardly_known_is_named():
    found = weak_points(results([[9, 1, 0], [0, 40, 0], [0, 0, 0]]))
    assert "These classes have fewer than 30 clips, so their recall is hardly known: anger (10)." in found
    assert "These classes have no clips, so nothing is known about them here: neutral." in found


def test_probabilities_and_groups():
    groups = {
        "age": {"child": {"uar": 0.4}, "adult": {"uar": 0.52}},
        "glasses": {"no": {"uar": 0.5}, "yes": {"uar": 0.52}},
    }
    found = weak_points(results([[40, 0], [0, 40]], ece=0.14, coverage=0.6, groups=groups))
    assert 'It answers "unsure" for 40% of the clips.' in found
    assert "Its probabilities differ from the share of correct answers by 14 points on average." in found
    assert "By `age`, the UAR is lowest for child (40%) and highest for adult (52%)." in found
    assert not any("glasses" in point for point in found)
    assert len(weak_points(results([[40, 0], [0, 40]], ece=0.04, coverage=0.9))) == 1


def test_nothing_is_claimed_without_counts():
    assert weak_points(DatasetResults({"war": 0.5, "uar": 0.5})) == []
