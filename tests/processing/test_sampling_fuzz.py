"""The arithmetic of sampling, for any numbers."""

import math

import numpy as np
import pytest
import torch

from tgdfer.processing.frame_sampling_tgdfer import close_gaps, dense_indices, find_gaps, sample_indices, windows
from tgdfer.processing.recordings_tgdfer import Recording, _Plan

hypothesis = pytest.importorskip("hypothesis", reason="the sampling arithmetic is fuzzed by hypothesis")
st = hypothesis.strategies

COUNTS = st.integers(1, 40)
TOTALS = st.integers(1, 3000)
GENERATORS = st.none() | st.integers(0, 2**40).map(lambda seed: torch.Generator().manual_seed(seed))


@hypothesis.settings(deadline=None)
@hypothesis.given(COUNTS, st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=80), GENERATORS)
def test_segments_of_frames_at_any_times(count, gaps, generator):
    seconds = np.cumsum(gaps) - gaps[0]
    for duration in (None, float(seconds[-1] + gaps[-1])):
        indices = sample_indices(len(seconds), count, seconds, duration, generator)
        assert len(indices) == min(len(seconds), count)
        assert indices[0] >= 0 and indices[-1] < len(seconds) and (np.diff(indices) > 0).all()


@hypothesis.settings(deadline=None)
@hypothesis.given(TOTALS, COUNTS, GENERATORS)
def test_segments_each_have_their_frame(total, count, generator):
    hypothesis.assume(total >= count)
    indices = sample_indices(total, count, generator=generator)
    borders = np.arange(count + 1) * total / count
    assert (indices + 1 > borders[:-1]).all() and (indices < borders[1:]).all()


@hypothesis.settings(deadline=None)
@hypothesis.given(TOTALS, COUNTS, st.integers(1, 50), GENERATORS)
def test_dense_windows_lie_within_the_clip(total, count, stride, generator):
    indices = dense_indices(total, count, stride, generator)
    assert 1 <= len(indices) <= count and (np.diff(indices) == stride).all()
    assert indices[0] >= 0 and indices[-1] < total
    if (count - 1) * stride < total:
        assert len(indices) == count
        if generator is None:
            assert abs((indices[0] + indices[-1]) - (total - 1)) <= 1, "it is in the middle"


@hypothesis.settings(deadline=None)
@hypothesis.given(TOTALS, COUNTS)
def test_windows_cover_every_frame_of_a_stretch(total, count):
    plan = list(windows(total, count))
    assert np.array_equal(np.unique(np.concatenate(plan)), np.arange(total))
    assert all(len(window) == min(count, total) and (np.diff(window) == 1).all() for window in plan)
    starts = [int(window[0]) for window in plan]
    assert starts == sorted(set(starts)), "no window comes twice"
    assert all(after - before <= max(1, count // 2) for before, after in zip(starts, starts[1:], strict=False))


@hypothesis.settings(deadline=None)
@hypothesis.given(st.integers(1, 40), st.lists(st.floats(1e-3, 10), min_size=1, max_size=300), st.floats(1e-2, 20))
def test_frames_of_a_recording_stand_for_all_of_it(least, gaps, interval):
    """One frame of each interval; where frames are further apart than that, each of them. Gaps take no frames."""
    seconds = np.cumsum(gaps) - gaps[0]
    duration = float(seconds[-1] + gaps[0])
    plan = _Plan(interval, least)
    chosen = plan(seconds, len(seconds), duration)
    assert (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < len(seconds)
    without_gaps, shown_for = close_gaps(seconds, duration)
    assert len(chosen) == min(len(seconds), max(least, math.ceil(shown_for / interval - 1e-6)))
    # What is left out is shown for about an interval at most. Frames at an even pace are counted, not timed.
    shown = np.diff([*without_gaps, shown_for])
    left_out = np.setdiff1d(np.arange(len(seconds)), chosen)
    assert (shown[left_out] <= 2 * shown_for / len(chosen) + 1e-6).all()
    assert plan.timed and np.array_equal(plan.seconds, seconds[chosen])
    recording = Recording(plan.seconds, chosen, 0.0, duration, (0, 0), None, [], [None], True, False, ())
    edges = recording.edges
    assert len(edges) == len(chosen) + 1 and (np.diff(edges) >= 0).all()
    assert edges[0] == 0 and edges[-1] == pytest.approx(duration)
    assert ((edges[:-1] <= plan.seconds) & (plan.seconds <= edges[1:])).all()
    steps = plan.steps_within(0.25)
    assert steps == 1 or steps * shown_for / len(chosen) <= 0.25 + 1e-3


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=300))
def test_closing_gaps_keeps_the_order_and_all_other_steps(gaps):
    seconds = np.cumsum(gaps) - gaps[0]
    duration = float(seconds[-1] + gaps[0])
    closed, shown_for = close_gaps(seconds, duration)
    steps, before, after = find_gaps(seconds), np.diff(seconds), np.diff(closed)
    assert len(closed) == len(seconds) and closed[0] == seconds[0]
    assert after[~steps] == pytest.approx(before[~steps], abs=1e-6) and (after > -1e-9).all()
    assert after[steps] == pytest.approx(np.full(steps.sum(), np.median(before) if len(before) else 0), abs=1e-6)
    assert shown_for - closed[-1] == pytest.approx(duration - seconds[-1], abs=1e-6)
