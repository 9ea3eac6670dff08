"""The moments of a person."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgdfer.processing.segments_tgdfer import Presence, find_moments

NAMES = ["fear", "joy", "neutral"]


def presence(count, places=None, cuts=()):
    """Of somebody in the frames of a video that last a tenth of a second."""
    return Presence(np.arange(count) if places is None else np.array(places), np.arange(count + 1) / 10, cuts)


def told(moments):
    return [(one["label"], round(one["start"], 3), round(one["end"], 3)) for one in moments]


def test_every_moment_has_a_label():
    joy = [0.1, 0.1, 0.1, 0.1, 0.6, 0.7, 0.7, 0.6, 0.1, 0.1, 0.1, 0.4, 0.4, 0.4]
    fear = [0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.45, 0.45, 0.45]
    scores = np.stack([fear, joy, 1 - np.array(joy) - np.array(fear)], 1)
    found = find_moments(scores, NAMES, presence(14), unsure_below=0.5)
    assert told(found) == [("neutral", 0, 0.4), ("joy", 0.4, 0.8), ("neutral", 0.8, 1.1), ("unsure", 1.1, 1.4)]
    assert found[1]["score"] == pytest.approx(0.65) and found[1]["candidates"] == ["joy"]
    assert found[3]["candidates"] == ["fear", "joy"] and found[3]["score"] == pytest.approx(0.45)
    assert [one["frames"] for one in found] == [[0, 3], [4, 7], [8, 10], [11, 13]]
    never = find_moments(scores, NAMES, presence(14))
    assert told(never)[-1] == ("fear", 1.1, 1.4), "a model that is not calibrated is never unsure"


def test_a_moment_that_is_too_short_goes_to_the_more_probable_side():
    joy = [0.8] * 5 + [0.3] + [0.1] * 5
    scores = np.stack([np.zeros(11), joy, 1 - np.array(joy)], 1)
    scores[5] = [0.5, 0.4, 0.1]
    assert told(find_moments(scores, NAMES, presence(11), 0.5)) == [("joy", 0, 0.6), ("neutral", 0.6, 1.1)]
    short = find_moments(scores[:2], NAMES, presence(2), 0.5)
    assert told(short) == [("joy", 0, 0.2)], "a person who is there for a moment has an answer"


def test_moments_end_at_gaps_and_cuts():
    scores = np.tile([0.0, 1.0, 0.0], (6, 1))
    found = find_moments(scores, NAMES, presence(9, [0, 1, 2, 6, 7, 8], cuts=[7]))
    assert told(found) == [("joy", 0, 0.3), ("joy", 0.6, 0.7), ("joy", 0.7, 0.9)]


def test_moments_end_at_gaps_in_the_time_stamps():
    """Somebody is in all frames, but for eight seconds there are none."""
    seconds = np.array([0.0, 0.1, 0.2, 0.3, 8.3, 8.4, 8.5, 8.6])
    edges = np.concatenate([[0.0], (seconds[1:] + seconds[:-1]) / 2, [8.7]])
    there = Presence(np.arange(8), edges, (), seconds)
    for row, threshold in (([0.1, 0.8, 0.1], None), ([0.4, 0.3, 0.3], 0.9)):
        found = find_moments(np.array([row] * 8), NAMES, there, threshold)
        assert [(round(one["start"], 2), round(one["end"], 2)) for one in found] == [(0.0, 0.35), (8.25, 8.7)]
        assert [one["frames"] for one in found] == [[0, 3], [4, 7]]
    even = Presence(np.arange(8), np.arange(9) / 1.0, (), np.arange(8) / 1.0)
    assert len(find_moments(np.array([[0.1, 0.8, 0.1]] * 8), NAMES, even)) == 1, "one frame a second is no gap"
    single = Presence(np.arange(1), np.array([0.0, 0.1]), (), np.zeros(1))
    assert len(find_moments(np.array([[0.1, 0.8, 0.1]]), NAMES, single)) == 1


def test_moments_are_unsure_where_nothing_is_probable_enough():
    scores = np.array([[0.6, 0.3, 0.1]] * 3 + [[0.1, 0.3, 0.6]] * 3)
    assert told(find_moments(scores, NAMES, presence(6), 0.5)) == [("fear", 0, 0.3), ("neutral", 0.3, 0.6)]
    (unsure,) = find_moments(scores, NAMES, presence(6), 0.7)
    assert (unsure["label"], unsure["start"], unsure["end"]) == ("unsure", 0, pytest.approx(0.6))
    assert unsure["score"] == pytest.approx(0.35) and len(unsure["candidates"]) == 2
    cut = find_moments(scores, NAMES, presence(6, cuts=[3]), 0.7)
    assert [one["candidates"] for one in cut] == [["fear", "joy"], ["neutral", "joy"]]
    nameless = find_moments(scores[:, :2] / scores[:, :2].sum(1, keepdims=True), ["a", "b"], presence(6))
    assert [one["label"] for one in nameless] == ["a", "b"], "a set of labels need not have a neutral one"


@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_moments_never_overlap_and_cover_the_presence(pattern, random):
    places = np.cumsum([random.choice([1, 1, 1, 4]) for _ in pattern]) - 1
    total = int(places[-1]) + 1
    cuts = sorted(random.sample(range(1, total), min(2, total - 1))) if total > 1 else []
    rows = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25]])
    there = presence(total, places, cuts)
    found = find_moments(rows[pattern], NAMES, there, 0.5)
    assert [frame for one in found for frame in range(one["frames"][0], one["frames"][1] + 1)] == [
        *range(len(pattern))
    ]
    for one in found:
        inside = places[one["frames"][0] : one["frames"][1] + 1]
        assert (np.diff(inside) == 1).all(), "no gap within"
        assert not any(inside[0] < cut <= inside[-1] for cut in cuts), "no cut within"
        assert one["start"] == pytest.approx(inside[0] / 10) and one["end"] == pytest.approx((inside[-1] + 1) / 10)
