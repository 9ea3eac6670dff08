"""Segments of emotion on curves, and windows joined by time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgdfer.processing.pipeline_tgdfer import Hysteresis, argmax_segments, find_segments, stitch

RULE = Hysteresis(high=0.6, low=0.3, shortest=0.0)


def test_a_segment_must_rise_high_and_lasts_while_it_is_not_low():
    joy = [0.1, 0.4, 0.7, 0.4, 0.1, 0.4, 0.5, 0.1]
    seconds = np.arange(8) / 4
    (found,) = find_segments({"joy": joy, "neutral": [0.9] * 8}, seconds, RULE)
    assert found == {"start": 0.125, "end": 0.875, "label": "joy", "confidence": pytest.approx(0.5)}
    assert find_segments({"joy": joy}, seconds, Hysteresis(0.6, 0.3, shortest=0.8)) == []
    assert len(find_segments({"joy": joy}, seconds, Hysteresis(0.4, 0.3, 0.0))) == 2


def test_segments_end_where_the_face_was_away():
    seconds = np.array([0.0, 0.1, 0.2, 3.0, 3.1, 3.2])
    found = find_segments({"fear": [0.9] * 6}, seconds, RULE)
    assert [(round(one["start"], 3), round(one["end"], 3)) for one in found] == [(0.0, 0.25), (2.95, 3.25)]


def test_argmax_segments_are_runs_of_one_emotion():
    curves = {"anger": [0.5, 0.5, 0.1, 0.1], "neutral": [0.1, 0.1, 0.8, 0.1], "fear": [0.4, 0.4, 0.1, 0.8]}
    found = argmax_segments(curves, np.arange(4.0))
    assert [(one["label"], one["start"], one["end"]) for one in found] == [("anger", 0, 1.5), ("fear", 2.5, 3.5)]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
    st.randoms(use_true_random=False),
)
def test_segments_hold_all_high_frames_and_no_low_ones(curve, one, other, random):
    rule = Hysteresis(max(one, other), min(one, other), 0.0)
    seconds = np.cumsum([random.choice([0.04, 0.1, 0.1, 0.1, 2.0]) for _ in curve])
    found = find_segments({"joy": curve}, seconds, rule)
    inside = [any(s["start"] <= t <= s["end"] for s in found) for t in seconds]
    for value, is_in in zip(curve, inside, strict=True):
        assert is_in or value < rule.high
        assert not is_in or value >= rule.low or len(curve) == 1
    assert all(a["end"] <= b["start"] + 1e-9 for a, b in zip(found, found[1:], strict=False))
    assert all(rule.low <= s["confidence"] <= 1 for s in found)


def window(start, scores, relevance, said=0.5):
    count = len(relevance)
    return {
        "seconds": (start + np.arange(count)) / 8,
        "scores": np.array(scores),
        "frame_scores": np.tile([said, 1 - said], (count, 1)),
        "relevance": np.array(relevance),
        "track": np.full(count, start),
    }


def test_windows_are_joined_by_time():
    first, second = window(0, [0.2, 0.8], [0.1, 0.2, 0.3, 0.4], 0.2), window(2, [0.6, 0.4], [0.5, 0.5, 0, 0], 0.6)
    joined = stitch([first, second])
    assert joined["seconds"].tolist() == [0, 0.125, 0.25, 0.375, 0.5, 0.625]
    assert joined["frame_scores"][:, 0] == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.6, 0.6])
    assert joined["scores"] == pytest.approx([0.4, 0.6])
    assert joined["relevance"].sum() == pytest.approx(1)
    # The mean of both windows, each by its number of frames.
    expected = np.array([0.4, 0.8, (1.2 + 2) / 2, (1.6 + 2) / 2, 0, 0])
    assert joined["relevance"] == pytest.approx(expected / expected.sum())
    assert joined["track"].tolist() == [0, 0, 0, 0, 2, 2]


def test_a_short_window_counts_for_less():
    joined = stitch([window(0, [1.0, 0.0], [1 / 6] * 6), window(6, [0.0, 1.0], [0.5, 0.5])])
    assert joined["scores"] == pytest.approx([0.75, 0.25])
    assert joined["relevance"] == pytest.approx([1 / 8] * 8)


def test_rules_that_cannot_be():
    for values in [(0.3, 0.5, 0), (0.5, 0, 0), (1.5, 0.5, 0), (0.5, 0.5, -1)]:
        with pytest.raises(ValueError, match="Segments need 0 < low <= high <= 1"):
            Hysteresis(*values)
