"""Faces: cut out the same way every time, and what happens where there is none."""

import json
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch
from drawn_faces import GONE, HEIGHT, TWO, WIDTH, drawn, face, make, on_canvas, seen, shades
from PIL import Image

from tgdfer.processing import detectors_tgdfer, faces_tgdfer
from tgdfer.processing.faces_tgdfer import (
    TEMPLATE,
    FaceSettings,
    NoFaceError,
    align,
    aligned_landmarks,
    crop_faces,
    is_aligned,
    locate_faces,
    similarity,
)
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError


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
    assert sorted(person.person for person in people) == [1, 2]
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
    assert row.person is None and not row.found.any() and len(row.frames) == 8
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
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: lambda picture: [looked.append(0), seen(picture)][1])
    (every,) = make(face_crop="largest").read_faces(TWO)
    (third,) = make(face_crop="largest", face_every=3).read_faces(TWO)
    assert len(looked) == 8 + 4
    assert np.allclose(third.boxes, every.boxes)


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


def test_settings_that_cannot_be(squares):
    for settings, sentence in {
        ("face_crop", "biggest"): 'face_crop must be one of none, largest, center, all, not "biggest"',
        ("face_detector", "haar"): "face_detector must be one of",
        ("no_face", "panic"): "no_face must be one of",
        ("face_every", 0): "face_every >= 1",
        ("face_margin", 9.0): "face_margin",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            make(**{"face_crop": "largest", settings[0]: settings[1]}).read_clip(TWO)


def test_a_small_person_beside_a_large_one(portrait, real_detector):
    canvas, _ = on_canvas(portrait, 1080, 1920, 212)
    small = cv2.resize(portrait, None, fx=30 / 212, fy=30 / 212, interpolation=cv2.INTER_AREA)
    canvas[700 : 700 + small.shape[0], 1500 : 1500 + small.shape[1]] = small
    clip = torch.from_numpy(canvas).permute(2, 0, 1).expand(3, -1, -1, -1)
    people = crop_faces(clip, None, replace(real_detector, crop="all"))
    assert [round(person.boxes[0, 0] / 1920) for person in people] == [0, 1]
    (largest,) = crop_faces(clip, None, real_detector)
    assert np.allclose(largest.boxes, people[0].boxes)


def test_a_still_person_stands_still(portrait, real_detector):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (12, *portrait.shape))
    clip = np.clip(portrait + noise, 0, 255).astype(np.uint8)
    (person,) = crop_faces(torch.from_numpy(clip).permute(0, 3, 1, 2), None, real_detector)
    assert person.found.all()
    # The eyes of each crop, by how far it must be shifted to lie on the first.
    grey = person.frames.float().mean(1).numpy()[:, 60:140, 40:184]
    shifts = [cv2.phaseCorrelate(grey[0], other)[0] for other in grey[1:]]
    assert np.abs(shifts).max() / 2 < 0.5, "pixels at 112"


# Faces through a video


@pytest.fixture
def locate(monkeypatch):
    """Paths in a video, 8 frames a second, in which these faces are found, and with cuts where the shade changes."""

    def paths(found, crop="largest", shades=None, **settings):
        turn = iter(found)
        monkeypatch.setattr(faces_tgdfer, "find_in_all", lambda _, pictures: [next(turn) for _ in pictures])
        monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: None)
        shades = shades if shades is not None else [0] * len(found) * settings.get("every", 1)
        frames = (
            (number, number / 8, torch.full((3, HEIGHT, WIDTH), shade, dtype=torch.uint8))
            for number, shade in enumerate(shades)
        )
        return locate_faces(frames, FaceSettings(crop=crop, detector="yunet", **settings)).paths

    return paths


NOTHING = np.zeros((0, 15))


def test_who_turns_away_is_the_same_person_when_the_face_comes_back_to_its_place(locate):
    here = face(20, 20, 40, 40)[None]
    found = [here] * 20 + [NOTHING] * 10 + [here] * 20
    for crop in ("largest", "center", "all"):
        (path,) = locate(found, crop)
        assert path.indices.tolist() == [*range(20), *range(30, 50)]
        assert path.person == 1


def test_one_person_a_shot_fills_it_most(locate):
    """Somebody small who stays while the largest face is away is another person, and is not shown instead."""
    large, small = face(60, 20, 60, 60), face(5, 5, 20, 20)
    found = [np.stack([large, small])] * 20 + [small[None]] * 20 + [NOTHING] * 2 + [large[None]] * 20
    (path,) = locate(found)
    assert path.indices.tolist() == [*range(20), *range(42, 62)]
    assert np.allclose(path.boxes[:, 2] - path.boxes[:, 0], 60)
    assert sorted(len(one.indices) for one in locate(found, crop="all")) == [40, 40]


def test_each_shot_has_its_own_largest_face(locate):
    large, small = face(60, 20, 60, 60), face(5, 5, 20, 20)
    found = [np.stack([large, small])] * 20 + [small[None]] * 20
    paths = locate(found, shades=[0] * 20 + [200] * 20)
    assert [path.indices.tolist() for path in paths] == [[*range(20)], [*range(20, 40)]]
    assert [(path.boxes[0, 2] - path.boxes[0, 0]).round() for path in paths] == [60, 20]
    central = face(70, 50, 20, 20)
    found = [np.stack([large, central])] * 20 + [np.stack([small, large])] * 20
    paths = locate(found, crop="center", shades=[0] * 20 + [200] * 20)
    assert {path.indices[0]: (path.boxes[0, 2] - path.boxes[0, 0]).round() for path in paths} == {0: 20, 20: 60}


def test_a_track_never_crosses_a_cut(locate):
    """Two actors at one place, one after the other, are two people."""
    here = face(20, 20, 40, 40)[None]
    for crop in ("largest", "center", "all"):
        paths = locate([here] * 40, crop, shades=[0] * 15 + [200] * 25)
        assert sorted(path.indices.tolist() for path in paths) == [[*range(15)], [*range(15, 40)]]
        assert sorted(path.person for path in paths) == [1, 2]
        assert len(paths[0].indices) == 25, "who fills most of the video comes first"


@pytest.mark.parametrize("cut", range(9, 17))
def test_places_are_never_interpolated_across_a_cut(locate, cut):
    """A face is looked for in every fourth frame; the frames between belong to the shot that they are of."""
    left, right = face(5, 20, 40, 40), face(100, 20, 40, 40)
    found = [(left if place < cut else right)[None] for place in [*range(0, 24, 4), 23]]
    paths = sorted(locate(found, shades=[0] * cut + [200] * (24 - cut), every=4), key=lambda path: path.indices[0])
    assert np.concatenate([path.indices for path in paths]).tolist() == [*range(24)]
    assert [path.indices[0] for path in paths] == [0, cut]
    assert np.allclose(paths[0].boxes[:, 0], 5) and np.allclose(paths[1].boxes[:, 0], 100)


def test_a_shot_between_two_looks_has_nobody(locate):
    """Nobody has looked at it."""
    here = face(20, 20, 40, 40)[None]
    shades = [0] * 9 + [200] * 2 + [90] * 13
    paths = locate([here] * 7, shades=shades, every=4)
    assert sorted(path.indices.tolist() for path in paths) == [[*range(9)], [*range(11, 24)]]


# Pictures that are aligned already


def aligned_squares(size=48, count=8, margin=0.2, shift=0.0):
    """Pictures (T, S, S, 3) of one face that lies where alignment would bring it, and what a detector says of them."""
    points = aligned_landmarks(size, margin) + shift * size
    box = [*points.min(0) - size / 8, *np.ptp(points, axis=0) + size / 4]
    row = np.array([*box, *points.ravel(), 0.9])
    return np.full((count, size, size, 3), 90, np.uint8), row[None]


@pytest.mark.parametrize(
    "shift, margin, size, expected",
    [
        (0.0, 0.2, 48, True),
        (0.0, 0.2, 300, True),
        (0.03, 0.2, 48, True),
        (0.1, 0.2, 48, False),
        (0.0, 0.9, 48, False),
    ],
)
def test_a_face_that_is_aligned_is_known_by_its_landmarks(monkeypatch, shift, margin, size, expected):
    pictures, row = aligned_squares(size, margin=margin, shift=shift)
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: None)
    monkeypatch.setattr(faces_tgdfer, "find_in_all", lambda _, several: [row for _ in several])
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    settings = FaceSettings(detector="yunet", size=64)
    located = locate_faces(((n, n / 25, frame) for n, frame in enumerate(frames)), settings)
    assert is_aligned(located, settings) is expected
    seconds = torch.arange(8) / 25
    (clip,) = crop_faces(frames, seconds, settings)
    assert torch.equal(clip.frames, frames) is expected
    if expected:
        assert clip.person is None and torch.equal(clip.seconds, seconds) and not len(clip.missing)
    else:
        assert clip.person == 1 and clip.frames.shape == (8, 3, 64, 64)


def test_what_is_no_crop_of_one_face_is_not_aligned(monkeypatch):
    """Two people, wide pictures, or a face in less than half of the pictures."""
    pictures, row = aligned_squares()
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    settings = FaceSettings(crop="all", detector="yunet", size=64)
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: None)

    def aligned(found, frames=frames):
        turn = iter(found)
        monkeypatch.setattr(faces_tgdfer, "find_in_all", lambda _, several: [next(turn) for _ in several])
        located = locate_faces(((n, n / 25, frame) for n, frame in enumerate(frames)), settings)
        return is_aligned(located, settings)

    assert aligned([row] * 8)
    beside = row + np.array([40, 0, 0, 0, *[40, 0] * 5, 0])
    assert not aligned([np.concatenate([row, beside])] * 8)
    assert aligned([row] * 4 + [NOTHING] * 4) and not aligned([row] * 3 + [NOTHING] * 5)
    assert not aligned([NOTHING] * 8)
    assert not aligned([row] * 8, torch.zeros(8, 3, 48, 52, dtype=torch.uint8))


def test_crops_are_not_cropped_again(portrait, real_detector):
    """What `crop_faces` gives it takes as it is, by the real detectors."""
    clip = torch.tensor(portrait).permute(2, 0, 1).expand(4, -1, -1, -1)
    (first,) = crop_faces(clip, None, real_detector)
    assert first.person == 1
    (second,) = crop_faces(first.frames, None, replace(real_detector, size=64))
    assert torch.equal(second.frames, first.frames) and second.person is None
