"""Segments, dense windows and frames a second: which frames are looked at."""

import numpy as np
import pytest
import torch

from tgdfer.processing.video_file_tgdfer import VideoFile
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.processing.video_reading_tgdfer import dense_indices, sample_indices, windows


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=4)


@pytest.mark.parametrize(
    "call, culprit",
    [
        (lambda: sample_indices(9, 0), "num_frames"),
        (lambda: dense_indices(9, 0), "num_frames"),
        (lambda: dense_indices(9, 4, 0), "stride"),
        (lambda: list(windows(9, 4, 1, 5)), "hop"),
        (lambda: list(windows(9, 4, 1, 0)), "hop"),
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
    with pytest.raises(ValueError, match="give `fps`"):
        TGDFERVideoProcessor()(clip, sampling="fps")
    with pytest.raises(ValueError, match='not "often"'):
        TGDFERVideoProcessor()(clip, sampling="often")


@pytest.mark.parametrize("name", ["a.mp4", "b_frames.avi"])
def test_windows_of_a_file_come_from_one_pass(name, tmp_path, reader, video_writer, numbers, monkeypatch):
    path = video_writer(tmp_path / name)
    passes = []
    stream = VideoFile.stream
    monkeypatch.setattr(VideoFile, "stream", lambda *args: [passes.append(args), stream(*args)][1])
    found = list(reader.read_windows(path, stride=3, hop=2))
    assert len(passes) == 1
    expected = [window.tolist() for window in windows(40, 4, 3, 2)]
    assert [numbers(window.frames) for window in found] == expected
    assert torch.allclose(torch.stack([window.seconds for window in found]), torch.tensor(expected) / 25)


def test_windows_of_arrays_and_short_clips(reader, picture, video_writer, tmp_path, numbers):
    array = np.stack([picture(number) for number in range(10)])
    assert [numbers(window.frames) for window in reader.read_windows(array, hop=3)] == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
    ]
    short = video_writer(tmp_path / "short.mp4", num_frames=3)
    assert [numbers(window.frames) for window in reader.read_windows(short)] == [[0, 1, 2]]


def test_windows_leave_out_what_cannot_be_decoded(tmp_path, reader, video_writer, numbers):
    path = video_writer(tmp_path / "a.mp4", options={"movflags": "faststart"}, encoder={"g": "10"})
    data = path.read_bytes()
    found = list(reader.read_windows(data[: len(data) * 2 // 3]))
    assert found and all(len(window.frames) == len(window.seconds) for window in found)
    assert numbers(found[0].frames) == [0, 1, 2, 3]


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
