"""Segments, dense windows and frames a second: which frames are looked at."""

import numpy as np
import pytest
import torch

from tgdfer.processing.frame_sampling_tgdfer import Sampling, dense_indices, find_gaps, sample_indices, windows
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=4)


@pytest.mark.parametrize(
    "call, culprit",
    [
        (lambda: sample_indices(9, 0), "num_frames"),
        (lambda: dense_indices(9, 0), "num_frames"),
        (lambda: dense_indices(9, 4, 0), "stride"),
        (lambda: list(windows(9, 0)), "num_frames"),
    ],
)
def test_senseless_numbers_are_named(call, culprit):
    with pytest.raises(ValueError, match=f"{culprit} must be"):
        call()


def test_a_processor_that_samples_densely(clip, numbers, tmp_path):
    TGDFERVideoProcessor(num_frames=4, sampling="dense", stride=3).save_pretrained(tmp_path)
    reader = TGDFERVideoProcessor.from_pretrained(tmp_path)
    assert numbers(reader.read_clip(clip)[0]) == [15, 18, 21, 24]
    drawn = {numbers(reader.read_clip(clip, generator=torch.Generator().manual_seed(i))[0])[0] for i in range(12)}
    assert len(drawn) > 6 and max(drawn) <= 30
    batch = reader(clip, stride=2, return_metadata=True)
    assert batch["video_metadata"][0].frames_indices == [16, 18, 20, 22]
    assert torch.allclose(batch["timestamps"], torch.tensor([[16, 18, 20, 22]]) / 25)
    assert reader(clip, sampling="segments", return_metadata=True)["video_metadata"][0].frames_indices == [
        5,
        15,
        25,
        35,
    ]


def test_frames_a_second(clip, reader, numbers):
    assert reader(clip, fps=5)["timestamps"].shape == (1, 8)
    reader.fps = 5.0
    assert numbers(reader.read_clip(clip)[0]) == [2, 7, 12, 17, 22, 27, 32, 37]
    assert len(reader.read_clip(clip, num_frames=3)[0]) == 3
    with pytest.raises(ValueError, match="set `fps`"):
        TGDFERVideoProcessor()(clip, sampling="fps")
    with pytest.raises(ValueError, match='not "often"'):
        TGDFERVideoProcessor()(clip, sampling="often")


def test_a_given_number_of_frames_is_sampled_in_segments_if_the_processor_samples_by_rate(clip):
    rate = TGDFERVideoProcessor(num_frames=4, sampling="fps", fps=5.0)
    segments = TGDFERVideoProcessor(num_frames=4)
    assert rate(clip)["timestamps"].shape == (1, 8) and len(rate.read_clip(clip)[0]) == 8
    expected = segments(clip, num_frames=3)["timestamps"]
    assert torch.equal(rate(clip, num_frames=3)["timestamps"], expected)
    assert torch.equal(rate.read_clip(clip, 3)[1], expected[0])
    assert rate(clip, do_sample_frames=False)["timestamps"].shape == (1, 40)
    with pytest.raises(ValueError, match="set `fps`"):
        rate(clip, sampling="fps", num_frames=3)


def test_a_clip_that_is_sampled_at_its_own_rate_keeps_all_frames():
    for rate in (24.0, 25.0, 30.0, 29.97):
        for total in range(1, 200):
            seconds = np.arange(total) / rate
            duration = seconds[-1] * total / max(1, total - 1)
            assert len(Sampling("fps", fps=rate).indices(total, seconds, duration)) == total


def test_a_single_frame_is_taken_at_any_rate(reader):
    frame = np.zeros((1, 40, 56, 3), np.uint8)
    for options in ({}, {"timestamps": [[0.0]]}):
        assert reader(frame, fps=5, **options)["frame_mask"].tolist() == [[True]]


def test_windows_overlap_by_half_and_end_with_the_last_frame():
    assert [window.tolist() for window in windows(10, 4)] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert [window.tolist() for window in windows(7, 4)] == [[0, 1, 2, 3], [2, 3, 4, 5], [3, 4, 5, 6]]
    assert [window.tolist() for window in windows(3, 4)] == [[0, 1, 2]]
    assert [window.tolist() for window in windows(3, 1)] == [[0], [1], [2]]


def test_the_same_seed_draws_the_same_frames_in_every_worker(clip, reader):
    def draw(seed):
        return reader.read_clip(clip, generator=torch.Generator().manual_seed(seed))[1]

    class Draws(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return draw(index)

    alone = torch.stack([draw(index) for index in range(6)])
    for workers in (0, 2):
        loaded = torch.cat([*torch.utils.data.DataLoader(Draws(), batch_size=2, num_workers=workers)])
        assert torch.equal(loaded, alone)
    assert len({tuple(times.tolist()) for times in alone}) > 3


@pytest.mark.parametrize("hole", [4.0, 60.0, 3600.0])
def test_a_hole_in_the_time_stamps_takes_no_frames(hole):
    """Thirty seconds before and after a hole get the same number of frames, at the same distance."""
    seconds = np.arange(1500) / 25.0
    seconds[750:] += hole
    duration = 60.0 + hole
    for indices in (
        sample_indices(1500, 120, seconds, duration),
        Sampling("fps", fps=2.0).indices(1500, seconds, duration),
    ):
        assert len(indices) == 120 and (indices < 750).sum() == 60
        steps = np.diff(seconds[indices])
        assert find_gaps(seconds[indices]).sum() == 1
        assert np.delete(steps, 59) == pytest.approx(0.5, abs=0.041)
