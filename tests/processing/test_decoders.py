"""Decoders: torchcodec beside PyAV, and decoders that are handed over."""

import os

import datasets
import numpy as np
import pytest
import torch

from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.video_file_tgdfer import VideoFile, _torchcodec
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

from .conftest import moving_picture, write_video
from .test_video_decoding import ENCODINGS

# What torchcodec decodes itself. The others it gets wrong, or shows as they are stored.
ITS_OWN = {
    "plain.mp4",
    "plain.mkv",
    "plain.flv",
    "one_key.mp4",
    "open_group.mov",
    "hevc.mkv",
    "vp8.webm",
    "vp9.webm",
    "av1.mp4",
    "mjpeg.mov",
}
ODD = {
    "ten_bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le", "encoder": {"x265-params": "log-level=0"}},
    "wide_pixels.mp4": {"aspect": 2},
    "interlaced.mp4": {"encoder": {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}},
    "variable.mkv": {"times": [*range(0, 1000, 50), *range(1000, 6000, 500)]},
    "late.mkv": {"times": list(range(7000, 8600, 40))},
}


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=16)


@pytest.fixture(scope="module")
def torchcodec():
    decoder = _torchcodec()
    if decoder is None:
        pytest.skip("torchcodec is not installed, or finds no FFmpeg")
    return decoder


def segments(seconds, total, duration):
    return sample_indices(total, 8, seconds, duration)


@pytest.mark.parametrize("name", [*ENCODINGS, *ODD])
def test_both_decoders_give_the_same_frames_at_the_same_times(name, tmp_path, torchcodec):
    options = ODD.get(name) or {"codec": ENCODINGS[name][1], "encoder": ENCODINGS[name][2]}
    options = {"pix_fmt": "yuvj420p" if options.get("codec") == "mjpeg" else "yuv420p", **options}
    path = write_video(tmp_path / name, draw=moving_picture, **options)
    expected, found = VideoFile(path).read(segments), VideoFile(path, backend="torchcodec").read(segments)
    assert found.backend == ("torchcodec" if name in ITS_OWN | {"variable.mkv", "late.mkv"} else "pyav")
    assert torch.equal(found.frames, expected.frames)
    assert np.array_equal(found.seconds, expected.seconds) and np.array_equal(found.indices, expected.indices)
    data = path.read_bytes()
    assert torch.equal(VideoFile(data, backend="torchcodec").read(segments).frames, expected.frames)


def test_where_torchcodec_does_not_work_pyav_decodes(clip, reader, monkeypatch):
    monkeypatch.setattr("tgdfer.processing.video_file_tgdfer._torchcodec", lambda: None)
    batch = reader(clip, video_backend="torchcodec", return_metadata=True)
    assert batch["video_metadata"][0].video_backend == "pyav"
    assert torch.equal(batch["pixel_values_videos"], reader(clip)["pixel_values_videos"])
    with pytest.raises(ValueError, match='must be one of pyav, torchcodec, not "opencv"'):
        reader(clip, video_backend="opencv")


def test_the_decoder_is_no_setting_of_a_model(clip, tmp_path, torchcodec):
    reader = TGDFERVideoProcessor(num_frames=4, video_backend="torchcodec")
    assert reader(clip, return_metadata=True)["video_metadata"][0].video_backend == "torchcodec"
    reader.save_pretrained(tmp_path)
    assert TGDFERVideoProcessor.from_pretrained(tmp_path).video_backend == "pyav"


def test_columns_of_videos(clip, reader):
    """Undecoded values here; decoded ones are decoders, below."""
    column = datasets.Dataset.from_dict({"video": [str(clip)]}).cast_column("video", datasets.Video(decode=False))
    expected, seconds = reader.read_clip(clip)
    for value in (column[0]["video"], {"bytes": clip.read_bytes(), "path": None}):
        frames, times = reader.read_clip(value)
        assert torch.equal(frames, expected) and torch.equal(times, seconds)


def test_decoded_columns_of_videos_are_read_as_their_files(tmp_path, reader, torchcodec):
    path = write_video(tmp_path / "a.mp4", aspect=2)
    rows = [{"path": str(path), "bytes": None}, {"path": None, "bytes": path.read_bytes()}]
    column = datasets.Dataset.from_dict({"video": rows}).cast_column("video", datasets.Video())
    expected, seconds = reader.read_clip(path)
    for row in column:
        assert isinstance(row["video"], torchcodec)
        frames, times = reader.read_clip(row["video"])
        assert torch.equal(frames, expected) and torch.equal(times, seconds)
        assert frames.shape[3] == 192, "its pixels are not square, which the decoder does not see"
    open_still = column[0]["video"]
    os.remove(path)
    assert reader.read_clip(open_still)[0].shape[3] == 96, "only the decoder is left"


def test_a_decoder_as_input(clip, tmp_path, reader, torchcodec, numbers):
    expected, seconds = reader.read_clip(clip)
    for options, error in (({}, 0), ({"dimension_order": "NHWC"}, 0), ({"output_dtype": torch.float32}, 2)):
        frames, times = reader.read_clip(torchcodec(str(clip), **options))
        assert (frames.int() - expected.int()).abs().max() <= error
        assert torch.allclose(times, seconds, atol=1e-4)
    times = [*range(0, 1000, 50), *range(1000, 6000, 500)]
    path = write_video(tmp_path / "variable.mkv", times=times)
    frames, seconds = reader.read_clip(torchcodec(str(path)), num_frames=6)
    assert torch.allclose(seconds, torch.tensor([times[number] for number in numbers(frames)]) / 1000, atol=2e-3)
    middles = torch.arange(6) + 0.5
    assert ((seconds <= middles + 0.13) & (seconds > middles - 0.63)).all(), "it is sampled by time"


def test_a_decoder_is_asked_for_the_sampled_frames_alone(reader, picture):
    """The interface of torchcodec's decoder, for machines that lack its FFmpeg."""

    class Decoder:
        class metadata:  # noqa: N801
            average_fps, begin_stream_seconds = 10.0, 2.0

        def __len__(self):
            return 40

        def get_frames_at(self, indices):
            class Batch:
                data = torch.stack([torch.from_numpy(picture(index)).permute(2, 0, 1) for index in indices])
                pts_seconds = torch.tensor(indices, dtype=torch.float64) / 10 + 2

            return Batch

    batch = reader([Decoder()], num_frames=4, do_resize=False, do_center_crop=False, return_metadata=True)
    assert batch["video_metadata"][0].frames_indices == [5, 15, 25, 35]
    assert torch.allclose(batch["timestamps"], torch.tensor([[0.5, 1.5, 2.5, 3.5]]))
    assert reader([Decoder()], fps=2)["timestamps"].shape == (1, 8)


def test_a_recording_of_a_decoder_with_a_frame_that_is_shown_for_long(picture):
    """Frame 5 is shown from 0.5 s to 3 s, so it is the frame at most of the sampled times."""
    shown = np.concatenate([np.arange(6) / 10, 3 + np.arange(34) / 10])

    class Decoder:
        class metadata:  # noqa: N801
            average_fps, begin_stream_seconds = 40 / 6.4, 0.0

        def __len__(self):
            return 40

        def get_frames_at(self, indices):
            class Batch:
                data = torch.stack([torch.from_numpy(picture(index)).permute(2, 0, 1) for index in indices])
                pts_seconds = torch.from_numpy(shown[indices])

            return Batch

        def get_frames_played_at(self, seconds):
            return self.get_frames_at((np.searchsorted(shown, seconds, side="right") - 1).tolist())

    recording = TGDFERVideoProcessor(num_frames=4, do_resize=False).read_recording(Decoder(), interval=0.1)
    chunks = list(recording.chunks)
    frames, places = torch.cat([chunk.frames for chunk in chunks]), np.concatenate([chunk.places for chunk in chunks])
    assert 8 < len(frames) < len(recording.indices) and (np.diff(places) > 0).all()
    assert (frames.flatten(1).diff(dim=0) != 0).any(1).all(), "each frame comes once"
