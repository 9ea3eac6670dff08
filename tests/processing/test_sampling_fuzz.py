"""The arithmetic of sampling, for any numbers."""

import numpy as np
import pytest
import torch

from tgdfer.processing.video_reading_tgdfer import dense_indices, sample_indices, windows

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
@hypothesis.given(TOTALS, COUNTS, st.integers(1, 50), st.data())
def test_windows_cover_every_frame_of_the_grid(total, count, stride, data):
    hop = data.draw(st.none() | st.integers(1, count))
    plan = list(windows(total, count, stride, hop))
    grid = np.arange(0, total, stride)
    assert np.array_equal(np.unique(np.concatenate(plan)), grid)
    assert all(len(window) == min(count, len(grid)) for window in plan)
    starts = [window[0] for window in plan]
    assert starts == sorted(set(starts))


@hypothesis.settings(deadline=None)
@hypothesis.given(COUNTS, st.lists(st.floats(1e-3, 10), min_size=1, max_size=300), st.floats(1e-2, 20), st.data())
def test_windows_by_time_cover_the_video(count, gaps, interval, data):
    hop = data.draw(st.none() | st.integers(1, count))
    seconds = np.cumsum(gaps) - gaps[0]
    plan = list(windows(len(seconds), count, 1, hop, seconds, interval))
    grid = np.unique(np.concatenate(plan))
    assert grid[0] >= 0 and grid[-1] < len(seconds)
    assert all(len(window) == min(count, len(grid)) and (np.diff(window) > 0).all() for window in plan)
    # What is left out is shown for no longer than an interval.
    left_out = np.setdiff1d(np.arange(len(seconds)), grid)
    assert (np.diff(seconds)[left_out[left_out < len(seconds) - 1]] <= interval + 1e-6).all()
    assert seconds[-1] - seconds[grid[-1]] <= interval
