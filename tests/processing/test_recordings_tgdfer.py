"""Recordings: who is in a video of any length, read person by person and a few frames at a time."""

import gc
import weakref

import av
import numpy as np
import pytest
import torch
from drawn_faces import GONE, HEIGHT, TWO, WIDTH, drawn, make, seen, shades
from small_recordings import write_recording

from tgdfer.processing import detectors_tgdfer, recordings_tgdfer
from tgdfer.processing.faces_tgdfer import NoFaceError, crop_faces
from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.recordings_tgdfer import CHUNK
from tgdfer.processing.video_file_tgdfer import VideoFile
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError

from .conftest import numbered_picture


def collect(recording):
    """Of each person the places, frames and boxes of all chunks."""
    found = [([], [], []) for _ in recording.paths]
    for chunk in recording.chunks:
        assert 1 <= len(chunk.places) == len(chunk.frames) == len(chunk.boxes) <= CHUNK
        for column, values in zip(found[chunk.person], (chunk.places, chunk.frames, chunk.boxes), strict=True):
            column.extend(values)
    return [
        (np.array(places), torch.stack(frames) if frames else None, np.array(boxes)) for places, frames, boxes in found
    ]


def squares_file(path, pictures, size=(WIDTH, HEIGHT), codec="ffv1", options=None):
    """A file, 25 frames a second, of grey pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "gray" if codec == "ffv1" else "yuv420p"
        stream.options = options or {}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def passes(monkeypatch):
    """The passes over files, each the numbers of the frames that were decoded."""
    found = []
    stream = VideoFile.stream

    def counted(*args):
        found.append([])
        for number, second, picture in stream(*args):
            found[-1].append(number)
            yield number, second, picture

    monkeypatch.setattr(VideoFile, "stream", counted)
    return found


@pytest.fixture
def looks(monkeypatch):
    """Squares are faces; a list of the shapes of the pictures that the detector is given."""
    given = []
    monkeypatch.setattr(
        detectors_tgdfer, "_detector", lambda *_: lambda picture: [given.append(picture.shape), seen(picture)][1]
    )
    return given


# Videos that are taken as they are


@pytest.mark.parametrize("name", ["a.mp4", "b_frames.avi"])
def test_a_file_is_read_in_one_pass(name, tmp_path, video_writer, numbers, passes):
    path = video_writer(tmp_path / name)
    recording = TGDFERVideoProcessor(num_frames=4, do_resize=False).read_recording(path, interval=0.12)
    ((places, frames, boxes),) = collect(recording)
    expected = sample_indices(40, 14)
    assert passes == [expected.tolist()]
    assert numbers(frames) == recording.indices.tolist() == expected.tolist()
    assert places.tolist() == [*range(14)] and np.isnan(boxes).all()
    assert np.allclose(recording.seconds, expected / 25)
    assert (recording.detector, recording.paths, recording.cuts) == (None, [None], [])
    assert recording.size == (96, 64) and recording.duration == pytest.approx(1.6) and recording.timed


def test_arrays_and_short_clips(picture, video_writer, tmp_path, numbers):
    reader = TGDFERVideoProcessor(num_frames=4, do_resize=False)
    array = np.stack([picture(number) for number in range(10)])
    recording = reader.read_recording(array, interval=0.04)
    ((_, frames, _),) = collect(recording)
    assert numbers(frames) == [*range(10)]
    # Seconds at the rate that is assumed.
    assert np.allclose(recording.seconds, np.arange(10) / 25) and not recording.timed
    assert recording.duration == pytest.approx(0.4) and recording.size == (96, 64)
    short = video_writer(tmp_path / "short.mp4", num_frames=3)
    ((_, frames, _),) = collect(reader.read_recording(short, interval=0.04))
    assert numbers(frames) == [0, 1, 2]


def test_a_few_frames_are_read_at_least_and_one_of_each_interval_at_most(clip, numbers):
    reader = TGDFERVideoProcessor(num_frames=4, do_resize=False)
    ((_, frames, _),) = collect(reader.read_recording(clip, interval=10.0))
    assert numbers(frames) == [5, 15, 25, 35]
    ((_, frames, _),) = collect(reader.read_recording(clip, interval=10.0, num_frames=8))
    assert numbers(frames) == [number for number in range(2, 40, 5)]
    ((_, frames, _),) = collect(reader.read_recording(clip, interval=0.2))
    assert numbers(frames) == [number for number in range(2, 40, 5)]
    ((_, frames, _),) = collect(reader.read_recording(clip, interval=0.001))
    assert numbers(frames) == [*range(40)]
    for interval in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="interval must be above 0"):
            reader.read_recording(clip, interval=interval)


def test_pictures_that_are_taken_as_they_are_have_the_size_of_the_model_at_once(clip):
    """As few as possible fit into memory."""
    recording = make().read_recording(clip, interval=0.04)
    ((_, frames, _),) = collect(recording)
    assert frames.shape == (40, 3, 32, 48) and recording.size == (96, 64)


def test_what_cannot_be_decoded_is_left_out(tmp_path, video_writer, numbers):
    path = video_writer(tmp_path / "a.mp4", options={"movflags": "faststart"}, encoder={"g": "10"})
    data = path.read_bytes()
    reader = TGDFERVideoProcessor(num_frames=4, do_resize=False)
    recording = reader.read_recording(data[: len(data) * 2 // 3], interval=0.04)
    ((places, frames, _),) = collect(recording)
    assert 4 <= len(frames) < 40
    # The last one that is decoded is cut off.
    assert numbers(frames[:-1]) == recording.indices[places[:-1]].tolist()


@pytest.mark.parametrize("crop", ["none", "largest", "all"])
def test_a_video_without_a_frame_is_named(crop, squares, video_writer, tmp_path, monkeypatch):
    path = video_writer(tmp_path / "long.mp4")
    monkeypatch.setattr(recordings_tgdfer, "stream", lambda *_, **__: iter([]))
    with pytest.raises(VideoDecodeError, match=r"^No frame of .*long\.mp4 can be decoded[^\n]*\.$"):
        make(face_crop=crop).read_recording(path, interval=0.04)


# Faces


def test_frames_without_the_face_are_left_out_or_given_whole(squares):
    long = np.concatenate([TWO] * 4 + [np.stack([drawn()] * 64)] + [TWO] * 4)
    recording = make(face_crop="largest").read_recording(long, interval=0.04)
    people = collect(recording)
    assert recording.detector == "yunet"
    gone = np.ones(128, bool)
    for (places, frames, boxes), path in zip(people, recording.paths, strict=True):
        assert places.tolist() == path.indices.tolist()
        gone[places] = False
        assert len(frames) == len(boxes) and np.isfinite(boxes).all()
    # Faces are looked for every 6 frames, so that their end is known to within 5.
    assert np.flatnonzero(gone).min() in range(32, 38) and np.flatnonzero(gone).max() in range(90, 96)
    assert np.diff(np.flatnonzero(gone)).max() == 1
    whole = make(face_crop="largest", no_face="full_frame").read_recording(long, interval=0.04)
    for places, frames, boxes in collect(whole):
        assert places.tolist() == [*range(128)] and frames.shape == (128, 3, 48, 48)
        assert np.isnan(boxes).any() and np.isfinite(boxes).any()
    with pytest.raises(NoFaceError, match=r"no face in \d+ of 128 sampled frames"):
        make(face_crop="largest", no_face="error").read_recording(long, interval=0.04)
    for crop in ("largest", "center", "all"):
        with pytest.raises(NoFaceError, match=r'no face in any .* no_face="full_frame"'):
            make(face_crop=crop).read_recording(long[32:96], interval=0.04)
    (nobody,) = collect(make(face_crop="all", no_face="full_frame").read_recording(long[32:96], interval=0.04))
    assert len(nobody[0]) == 64 and np.isnan(nobody[2]).all()


@pytest.mark.parametrize("fits", [True, False])
def test_a_long_file_follows_one_face(squares, tmp_path, passes, monkeypatch, fits):
    """After a look at a few of its frames the file is decoded once if they fit into memory, else twice."""
    if not fits:
        monkeypatch.setattr(recordings_tgdfer, "_KEPT_BYTES", 159 * HEIGHT * WIDTH * 3)
    shown = [drawn((10 + n // 4, 20, 50, 200)) if not 40 <= n < 100 else drawn() for n in range(160)]
    path = squares_file(tmp_path / "a.mkv", shown)
    told = []
    recording = make(face_crop="largest").read_recording(path, interval=0.04, progress=told.append)
    assert told == sorted(told) and told[0] >= 0 and told[-1] < 0.5 + 1e-6, "half of it is to find them"
    people = collect(recording)
    assert told == sorted(told) and told[-1] == 1
    assert [len(numbers) for numbers in passes[2:]] == [160] * (1 if fits else 2)
    assert sum(map(len, passes[:2])) <= 1 + 48
    ((places, frames, boxes),) = people
    assert places.tolist() == recording.paths[0].indices.tolist()
    seconds = recording.seconds[places]
    assert seconds[0] == 0 and seconds[-1] == pytest.approx(159 / 25)
    gone = np.setdiff1d(recording.seconds, seconds)
    assert 1.47 <= gone.min() <= 1.73 and 3.87 <= gone.max() <= 4.13, "half a look early or late"
    there = [row for row, place in enumerate(places) if not 40 <= place < 100]
    assert shades(frames[there]) == [200] * len(there)
    for place, box in zip(places[there], boxes[there], strict=True):
        assert box[0] == pytest.approx(10 + place // 4, abs=1)


def test_several_people_are_read_side_by_side(squares):
    recording = make(face_crop="all").read_recording(np.concatenate([TWO] * 5), interval=0.04)
    large, small = collect(recording)
    assert shades(large[1]) == [200] * 40 and shades(small[1]) == [90] * 40
    assert sorted(path.person for path in recording.paths) == [1, 2]
    assert large[0].tolist() == small[0].tolist() == [*range(40)]


def test_whole_frames_do_not_stand_for_one_of_several_people(squares):
    """With "all", frames without somebody are left out of theirs: the picture would show somebody else."""
    alone = np.stack([drawn((5, 10, 50, 200))] * 100 + [drawn((5, 10, 50, 200), (100, 50, 30, 90))] * 100)
    recording = make(face_crop="all", no_face="full_frame").read_recording(alone, interval=0.04)
    large, small = collect(recording)
    assert len(large[0]) == 200 and 100 <= len(small[0]) <= 106 and np.isfinite(small[2]).all()


def test_people_of_two_shots(monkeypatch):
    """Somebody new stands where somebody else stood: the crops of neither show the other."""
    # The grounds are no faces.
    bright = lambda picture: seen(np.where(picture > 180, picture, 0).astype(np.uint8))  # noqa: E731
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: bright)
    one, other = drawn((40, 30, 50, 200)), np.maximum(drawn((40, 30, 50, 250)), 120)
    recording = make(face_crop="largest").read_recording(np.stack([one] * 31 + [other] * 40), interval=0.04)
    assert recording.cuts == [31] and recording.edges[31] == pytest.approx(30.5 / 25)
    assert [path.person for path in recording.paths] == [2, 1], "who is there for longer comes first"
    late, early = collect(recording)
    assert early[0].tolist() == [*range(31)] and shades(early[1]) == [200] * 31
    assert late[0].tolist() == [*range(31, 71)] and shades(late[1]) == [250] * 40


def test_whole_frames_go_to_the_person_of_their_shot(monkeypatch):
    bright = lambda picture: seen(np.where(picture > 180, picture, 0).astype(np.uint8))  # noqa: E731
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: bright)
    ground, one, other = drawn(), drawn((40, 30, 50, 200)), np.maximum(drawn((40, 30, 50, 250)), 120)
    # The first shot has a face at its begin, the second all the time, and the third never.
    frames = np.stack([one] * 31 + [ground] * 20 + [other] * 60 + [np.full_like(ground, 20)] * 30)
    recording = make(face_crop="largest", no_face="full_frame").read_recording(frames, interval=0.04)
    assert recording.cuts == [51, 111]
    late, early = collect(recording)
    assert early[0].tolist() == [*range(51)] and np.isnan(early[2][35:]).all()
    assert late[0].tolist() == [*range(51, 141)] and np.isnan(late[2][65:]).all()


def test_times_begin_with_the_sound(tmp_path):
    path = write_recording(tmp_path / "late.mkv", 2.0, pictures_at=1.5)
    recording = TGDFERVideoProcessor(num_frames=4, do_resize=False).read_recording(path, interval=0.1)
    assert recording.edges[[0, -1]].tolist() == pytest.approx([1.5, 3.5], abs=0.03)
    assert len(recording.seconds) == 20 and 1.5 <= recording.seconds[0] < 1.65


# How much is done


def test_a_short_video_is_decoded_once(looks, tmp_path, passes):
    path = squares_file(tmp_path / "a.mkv", TWO)
    (one,) = collect(make(face_crop="largest").read_recording(path, interval=0.04))
    assert passes == [[*range(8)]]
    assert shades(one[1]) == [200] * 8


def test_faces_are_looked_for_four_times_a_second(looks, tmp_path):
    """And are on the straight way between."""
    path = squares_file(tmp_path / "a.mkv", [drawn((10 + n // 2, 20, 50, 200)) for n in range(50)])
    (one,) = collect(make(face_crop="largest").read_recording(path, interval=0.04))
    glimpses = 8
    assert len(looks) == glimpses + len([*range(0, 50, 6), 49])
    assert np.abs(one[2][:, 0] - (10 + np.arange(50) / 2)).max() <= 0.6
    looks.clear()
    collect(make(face_crop="largest", face_every=25).read_recording(path, interval=0.04))
    assert len(looks) == glimpses + 3, "unless fewer are asked for"
    looks.clear()
    collect(make(face_crop="largest").read_recording(path, interval=0.25))
    assert len(looks) == 8 + 8, "each of the frames that are so far apart"


@pytest.mark.parametrize("count", [100, 400, 3000])
def test_no_face_is_told_after_a_bounded_number_of_looks(count, looks, tmp_path, passes):
    path = squares_file(tmp_path / "a.mp4", [drawn()] * count, codec="libx264", options={"g": "12"})
    with pytest.raises(NoFaceError, match=r"^[^\n]*a\.mp4 has no face in any of the frames that were searched;"):
        make(face_crop="largest").read_recording(path, interval=0.04)
    frames = {tuple(numbers) for numbers in passes}
    assert len(passes) == 2 and max(map(len, frames)) <= 48
    # Three views each.
    assert len(looks) <= 3 * 48
    assert sum(map(len, passes)) <= 49


def test_the_looks_are_spread_over_the_video_and_at_key_frames(looks, tmp_path, passes):
    path = squares_file(tmp_path / "a.mp4", [drawn()] * 600, codec="libx264", options={"g": "12"})
    keys = VideoFile(path).key_frames()
    assert len(keys) >= 50 and (np.diff(keys) == 12).all()
    with pytest.raises(NoFaceError):
        make(face_crop="largest").read_recording(path, interval=0.04)
    glimpses = np.array(passes[1])
    assert set(glimpses) <= set(keys.tolist())
    assert glimpses[0] == 0 and glimpses[-1] >= 580 and np.diff(glimpses).max() <= 2 * 600 / 48


def test_where_key_frames_are_rare_other_frames_are_looked_at_too(looks, tmp_path, passes):
    """A face that is there between two key frames is not overlooked."""
    shown = [drawn((40, 30, 40, 200)) if 150 <= n < 350 else drawn() for n in range(500)]
    path = squares_file(tmp_path / "a.mp4", shown, codec="libx264", options={"g": "1000", "sc_threshold": "0"})
    assert VideoFile(path).key_frames().tolist() == [0]
    with pytest.MonkeyPatch.context() as patch:
        bright = lambda picture: seen(np.where(picture > 128, 200, 0).astype(np.uint8))  # noqa: E731
        patch.setattr(detectors_tgdfer, "_detector", lambda *_: bright)
        (one,) = collect(make(face_crop="largest").read_recording(path, interval=0.04))
    assert len(passes[1]) > 40
    assert 200 <= len(one[0]) <= 212


def test_no_key_frames_are_told_where_nothing_tells_them(tmp_path, video_writer):
    assert VideoFile(video_writer(tmp_path / "b.avi")).key_frames().tolist() == [], "B frames in AVI"
    every = VideoFile(video_writer(tmp_path / "a.mp4", encoder={"g": "10", "sc_threshold": "0"})).key_frames()
    assert every.tolist() == [0, 10, 20, 30]


def test_few_frames_of_a_long_video_are_in_memory(squares, tmp_path, monkeypatch):
    """Neither while faces are looked for, nor while they are cut out."""
    path = squares_file(tmp_path / "a.mkv", [drawn((40, 30, 40, 200))] * 400)
    monkeypatch.setattr(recordings_tgdfer, "_KEPT_BYTES", 0)
    alive, most = [0], [0]
    stream = VideoFile.stream

    def gone():
        alive[0] -= 1

    def watched(*args):
        for number, second, picture in stream(*args):
            # A tensor of an array keeps the array as long as anybody has its pixels.
            pixels = np.array(picture.permute(1, 2, 0))
            weakref.finalize(pixels, gone)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield number, second, torch.from_numpy(pixels).permute(2, 0, 1)

    monkeypatch.setattr(VideoFile, "stream", watched)
    recording = make(face_crop="largest").read_recording(path, interval=0.04)
    assert sum(len(chunk.frames) for chunk in recording.chunks) == 400
    gc.collect()
    assert alive[0] == 0
    assert most[0] <= 20, "one batch that is searched"


def test_a_short_video_of_large_pictures_is_not_kept(squares, tmp_path, monkeypatch, passes):
    path = squares_file(tmp_path / "a.mkv", TWO)
    monkeypatch.setattr(recordings_tgdfer, "_KEPT_BYTES", 3 * HEIGHT * WIDTH * 3)
    (one,) = collect(make(face_crop="largest").read_recording(path, interval=0.04))
    assert shades(one[1]) == [200] * 8
    assert [len(numbers) for numbers in passes] == [5, 8, 8, 8]


def test_kept_and_streamed_videos_give_the_same(squares, tmp_path, monkeypatch):
    path = squares_file(tmp_path / "a.mkv", [drawn((10 + n, 20, 50, 200), (5, 80, 30, 90)) for n in range(50)])
    kept = collect(make(face_crop="all").read_recording(path, interval=0.04))
    monkeypatch.setattr(recordings_tgdfer, "_KEPT_BYTES", 0)
    streamed = collect(make(face_crop="all").read_recording(path, interval=0.04))
    assert len(kept) == len(streamed) == 2
    for one, other in zip(kept, streamed, strict=True):
        assert one[0].tolist() == other[0].tolist() and torch.equal(one[1], other[1])
        assert np.array_equal(one[2], other[2])


def test_a_recording_of_a_file_object_or_bytes_is_that_of_its_path(squares, tmp_path):
    path = squares_file(tmp_path / "a.mkv", TWO)
    expected = collect(make(face_crop="largest").read_recording(path, interval=0.04))
    with path.open("rb") as file:
        for video in (path.read_bytes(), file, str(path)):
            found = collect(make(face_crop="largest").read_recording(video, interval=0.04))
            assert torch.equal(found[0][1], expected[0][1])


# Crops that need no cropping


def test_an_aligned_video_passes_unchanged(tmp_path, portrait, real_detector, video_writer):
    """By its look, whatever its size; its own frames are given, at the size that they have."""
    clip = torch.tensor(portrait).permute(2, 0, 1).expand(2, -1, -1, -1)
    (face,) = crop_faces(clip, None, real_detector)
    crop = face.frames[0].permute(1, 2, 0).numpy()
    path = video_writer(tmp_path / "a.mkv", codec="ffv1", pix_fmt="bgr0", num_frames=10, draw=lambda _: crop)
    for size in (224, 112):
        reader = TGDFERVideoProcessor(
            face_crop="largest", face_size=size, face_detector=real_detector.detector, face_model=real_detector.model
        )
        recording = reader.read_recording(path, interval=0.04)
        assert (recording.detector, recording.paths, recording.size) == (None, [None], (224, 224))
        ((places, frames, boxes),) = collect(recording)
        assert places.tolist() == [*range(10)] and np.isnan(boxes).all()
        assert np.abs(frames[0].permute(1, 2, 0).numpy().astype(int) - crop).max() <= 1


def test_crops_at_hand_are_not_cropped_again(looks):
    """Frames of the size of the crop."""
    crops = np.stack([numbered_picture(number)[:48, :48] for number in range(6)])
    recording = make(face_crop="largest").read_recording(crops, interval=0.04)
    ((_, frames, _),) = collect(recording)
    assert torch.equal(frames, torch.tensor(crops).permute(0, 3, 1, 2)) and not looks and recording.detector is None


def test_gone_and_back_within_a_clip(squares):
    """What `read_recording` and `read_clip` cut out of a short clip is the same face."""
    recording = make(face_crop="largest", face_every=1).read_recording(np.repeat(GONE, 6, 0), interval=0.04)
    ((places, frames, _),) = collect(recording)
    inside = [row for row, place in enumerate(places) if 12 <= place < 36]
    assert 21 <= len(inside) <= 24 and shades(frames[inside]) == [200] * len(inside), "half a look early or late"


def test_an_aligned_video_with_a_frame_that_cannot_be_decoded(squares, monkeypatch):
    def without_the_third(*arguments, **options):
        yield from (one for one in original(*arguments, **options) if one[0] != 2)

    original = recordings_tgdfer.stream
    monkeypatch.setattr(recordings_tgdfer, "stream", without_the_third)
    monkeypatch.setattr(recordings_tgdfer, "is_aligned", lambda *_: True)
    recording = make(face_crop="largest").read_recording(np.concatenate([TWO] * 2), interval=0.04)
    ((places, frames, _),) = collect(recording)
    assert 2 not in recording.indices and len(frames) == len(recording.seconds) == len(recording.indices)
    assert places.tolist() == [*range(len(frames))]
