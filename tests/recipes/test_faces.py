"""Which photographs `clip-tiny-faces` learns from, and how they are cropped."""

import json

import cv2
import numpy as np
import pytest
from datasets import Dataset, Features, Image, Sequence, Value

from recipes.clip_tiny_faces import ferplus
from recipes.clip_tiny_faces.captions import FACTS
from recipes.clip_tiny_faces.ferplus import CLASSES, crop_face, enlarge, load_ferplus, prepare_ferplus
from recipes.clip_tiny_faces.photographs import facts_of_photograph, facts_with_action_units, load_photographs
from recipes.clip_tiny_faces.train_teacher import draw_balanced, draw_crops
from tgdfer.processing.faces_tgdfer import TEMPLATE
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import EMOTIONS

# neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face
ROWS = [
    ("train", [0, 8, 2, 0, 0, 0, 0, 0, 0, 0], "happiness", ""),
    ("train", [4, 0, 0, 4, 0, 0, 0, 0, 2, 0], "", ""),
    ("train", [0, 0, 0, 0, 9, 0, 0, 0, 0, 1], "anger", "test"),
    ("train", [0, 0, 0, 0, 9, 0, 0, 0, 0, 1], "anger", "realclips"),
    ("train", [1, 0, 0, 0, 0, 0, 0, 0, 0, 9], "", ""),
    ("train", [0, 0, 0, 0, 0, 0, 0, 0, 9, 0], "", ""),
    ("validation", [0, 0, 0, 0, 0, 0, 0, 9, 0, 0], "contempt", ""),
    ("test", [9, 0, 0, 0, 0, 0, 0, 0, 0, 0], "neutral", "realclips"),
]
# Of a picture of 192 pixels, as a detector finds it.
POINTS = TEMPLATE * 0.8 + 30


def detector(picture):
    """Finds a face in every picture that is not black."""
    if not picture.max():
        return np.zeros((0, 15))
    return np.array([[40.0, 40, 100, 110, *POINTS.ravel(), 0.9]])


@pytest.fixture
def parquet(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 255, (48, 48), np.uint8) for _ in ROWS]
    images[1][:] = 0
    columns = dict(zip(("split", "votes", "label", "near"), map(list, zip(*ROWS, strict=True)), strict=True))
    features = {name: Value("string") for name in ("split", "label", "near")}
    features |= {"image": Image(), "votes": Sequence(Value("int8"), length=10)}
    Dataset.from_dict({"image": images, **columns}, features=Features(features)).to_parquet(tmp_path / "f.parquet")
    return tmp_path / "f.parquet", images


@pytest.fixture
def prepared(parquet, tmp_path, monkeypatch):
    monkeypatch.setattr(ferplus, "load_detector", lambda name, model: (name, detector))
    prepare_ferplus(parquet[0], tmp_path / "faces.safetensors")
    return tmp_path / "faces.safetensors"


def test_votes_are_soft_targets_and_what_is_near_or_no_face_is_left_out(prepared):
    train, validation, test = (load_ferplus(prepared, split) for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (2, 1, 1)
    assert train.votes[0, CLASSES.index("happiness")] == pytest.approx(0.8)
    assert train.votes[1, CLASSES.index("sadness")] == pytest.approx(0.5), "who does not know says nothing"
    assert np.allclose(train.votes.sum(1), 1)
    assert train.labels.tolist() == [EMOTIONS.index("happiness"), -1]
    # Contempt is learned, and is none of the seven emotions that are measured.
    assert validation.labels.tolist() == [7] and not len(validation.majority_indices())
    # Nothing is trained on test, so that it keeps all of its pictures.
    assert test.majority_indices().tolist() == [0]


def test_crops_have_the_geometry_of_prediction(prepared, parquet):
    faces, large = load_ferplus(prepared, "train"), enlarge(parquet[1][0], 192)
    assert np.array_equal(faces.plain[0], parquet[1][0]) and faces.found.tolist() == [True, False]
    assert np.array_equal(faces.aligned[1], enlarge(parquet[1][1], 112)), "the whole picture where there is no face"
    # The middle of the landmarks lies where the template has it, at its scale less the margin.
    matrix = cv2.getRotationMatrix2D(tuple(POINTS.mean(0)), 0, 1 / 0.8 / 1.2)
    matrix[:, 2] += ((TEMPLATE - 56) / 1.2 + 56).mean(0) - POINTS.mean(0)
    expected = cv2.warpAffine(large, matrix, (112, 112), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(faces.aligned[0].astype(int) - expected).mean() < 2
    assert crop_face(np.zeros((48, 48), np.uint8), detector) is None


def test_prepared_photographs_are_kept_until_their_source_changes(prepared, parquet):
    before = prepared.stat().st_mtime_ns
    prepare_ferplus(parquet[0], prepared)
    assert prepared.stat().st_mtime_ns == before
    Dataset.from_parquet(str(parquet[0])).select(range(1, len(ROWS))).to_parquet(parquet[0])
    prepare_ferplus(parquet[0], prepared)
    assert len(load_ferplus(prepared, "train")) == 1
    with pytest.raises(UserError, match="run `prepare` first"):
        load_ferplus(prepared.with_name("none.safetensors"), "train")
    with pytest.raises(UserError, match="not a file"):
        prepare_ferplus(prepared.with_name("none.parquet"), prepared)
    Dataset.from_dict({"votes": [[1]]}).to_parquet(parquet[0])
    with pytest.raises(UserError, match="cannot be read as a parquet file with image, votes"):
        prepare_ferplus(parquet[0], prepared)


def test_plain_and_aligned_crops_are_both_drawn(prepared):
    faces = load_ferplus(prepared, "train")
    crops = draw_crops(faces, np.zeros(200, int), 0.6, np.random.default_rng(0))
    aligned = (crops == faces.aligned[0]).all((1, 2))
    assert 0.5 < aligned.mean() < 0.7
    assert all(np.array_equal(crop, enlarge(faces.plain[0], 112)) for crop in crops[~aligned])


@pytest.fixture
def stills(tmp_path):
    pictures = [np.full((60, 60), 10 * i, np.uint8) for i in range(5)]
    rows = {
        "image": pictures,
        "label": ["happy", "", "anger", "sadness", "fear"],
        "split": ["train"] * 3 + ["test", "train"],
        "person": ["a", "b", "c", "d", "e"],
    }
    features = Features({"image": Image(), **{name: Value("string") for name in ("label", "split", "person")}})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "stills.parquet")
    return tmp_path / "stills.parquet", rows, features


def test_photographs_come_from_a_file_without_the_labels_of_hidden_splits(stills, tmp_path):
    photographs = load_photographs(stills[0])
    assert photographs.images.shape == (5, 112, 112) and photographs.images[2].max() == 20
    expected = [EMOTIONS.index("happiness"), -1, EMOTIONS.index("anger"), -1, EMOTIONS.index("fear")]
    assert photographs.labels.tolist() == expected
    with pytest.raises(UserError, match="not a file"):
        load_photographs(tmp_path / "none.parquet")
    Dataset.from_dict({**stills[1], "label": ["boredom"] * 5}, features=stills[2]).to_parquet(tmp_path / "o.parquet")
    with pytest.raises(UserError, match="boredom"):
        load_photographs(tmp_path / "o.parquet")


def test_people_who_are_measured_give_no_label_and_those_of_test_no_picture(stills, tmp_path):
    clips = tmp_path / "clips"
    for split, people in (("train", "ax"), ("test", "cy")):
        (clips / split).mkdir(parents=True)
        lines = (json.dumps({"file_name": "a.mp4", "person": person}) for person in people)
        (clips / split / "metadata.jsonl").write_text("\n".join(lines))
    photographs = load_photographs(stills[0], clips=clips)
    assert photographs.images.max((1, 2)).tolist() == [0, 10, 30, 40], "person c is in test"
    assert photographs.labels.tolist() == [-1, -1, -1, EMOTIONS.index("fear")], "person a is in train"
    (clips / "test/metadata.jsonl").write_text('{"file_name": "a.mp4"}')
    with pytest.raises(UserError, match="which person"):
        load_photographs(stills[0], clips=clips)
    with pytest.raises(UserError, match=r"no metadata\.jsonl"):
        load_photographs(stills[0], clips=tmp_path)


def test_a_photograph_denies_what_its_emotion_never_shows():
    certain, possible = (
        {FACTS[i] for i in np.flatnonzero(v)} for v in facts_of_photograph(EMOTIONS.index("happiness"))
    )
    assert certain == {"happiness"}
    assert {"AU12", "no AU12", "glasses", "turned left", "AU25"} <= possible
    assert not possible & {"sadness", "neutral", "contempt", "AU15", "AU09"}
    assert not facts_of_photograph(-1)[0].any() and facts_of_photograph(-1)[1].all()


def test_captions_may_name_the_signs_of_an_emotion():
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        named = {FACTS[i] for i in np.flatnonzero(facts_with_action_units(label, rng))}
        possible = {FACTS[i] for i in np.flatnonzero(facts_of_photograph(label)[1])}
        assert name in named and named <= possible
    assert "AU12" in {FACTS[i] for i in np.flatnonzero(facts_with_action_units(EMOTIONS.index("happiness"), rng))}


def test_rare_emotions_are_drawn_as_often_as_others():
    labels = np.array([3] * 900 + [0] * 90 + [5] * 10 + [-1] * 500)
    drawn = labels[draw_balanced(labels, 6000, 1.0, np.random.default_rng(0))]
    assert np.bincount(drawn, minlength=7)[[0, 3, 5]] == pytest.approx([2000] * 3, rel=0.1)
    assert (drawn >= 0).all()
