"""Rendered faces: what moves, what is known about it, and what reaches the disk."""

import dataclasses
import json

import av
import numpy as np
import pytest
from datasets import Video, load_dataset

from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    PROTOTYPES,
    FacePainter,
    RenderedFaces,
    Setting,
    action_unit_vector,
    apex,
    contact_sheet,
    sample_course,
    sample_person,
    write_dataset,
)

FACES = RenderedFaces(noise=(0.0, 0.0))


def plain_painter(number: int = 0) -> FacePainter:
    """A painter of an even-lit person without anything that hides the face."""
    person = sample_person(0, "test", number)
    person = dataclasses.replace(person, glasses=False, beard="none", hair_style="short", age=0.3)
    setting = Setting.sample(np.random.default_rng(number), FACES)
    return FacePainter(person, dataclasses.replace(setting, blur=0.0, brightness=1.0), FACES)


def test_faces_differ_between_people_and_emotions():
    sheet = contact_sheet(FACES, people=3, seed=5)
    assert sheet.shape == (3 * 112, len(EMOTIONS) * 112, 3) and sheet.dtype == np.uint8
    painter = plain_painter(4)
    drawn = [painter.draw(action_unit_vector(PROTOTYPES[label][0])).astype(int) for label in EMOTIONS]
    for i in range(len(drawn)):
        for j in range(i):
            assert np.abs(drawn[i] - drawn[j]).mean() > 0.5


@pytest.mark.parametrize("label", EMOTIONS)
def test_the_course_of_a_clip(label):
    shares, first, last = [], 0, 0
    for seed in range(60):
        course = sample_course(label, FACES, np.random.default_rng(seed))
        frames = len(course.intensity)
        assert FACES.frames[0] <= frames <= FACES.frames[1]
        assert course.action_units.shape == (frames, len(ACTION_UNITS)) and len(course.poses) == frames
        assert course.action_units.min() >= 0 and course.action_units.max() <= 1
        if label == "neutral":
            assert not course.intensity.any()
            assert course.action_units.max() > 0.2, "neutral clips move too"
            continue
        assert course.intensity.max() == pytest.approx(1)
        strong = course.intensity >= 0.5
        shares.append(strong.mean())
        first, last = first + strong[0], last + strong[-1]
        assert course.action_units[strong].max() > 0.3
    if label != "neutral":
        assert min(shares) > 0.1 and max(shares) < 0.7
        assert first > 3 and last > 3, "the apex reaches both ends"


def test_where_the_emotion_is_cannot_be_guessed_from_the_position():
    shares = np.zeros(10)
    for seed in range(1500):
        strong = sample_course("anger", FACES, np.random.default_rng(seed)).intensity >= 0.5
        shares += [part.mean() for part in np.array_split(strong, 10)]
    shares /= 1500
    assert shares.max() < 1.4 * shares.min()


def test_movement_between_frames_is_alike_with_and_without_emotion():
    def movement(label: str) -> float:
        courses = [sample_course(label, FACES, np.random.default_rng(seed)) for seed in range(200)]
        return float(np.mean([np.abs(np.diff(c.action_units, axis=0)).sum(1).mean() for c in courses]))

    assert movement("neutral") > 0.5 * movement("happiness")


def test_apex_varies_within_its_prototype():
    rng = np.random.default_rng(0)
    for label in EMOTIONS:
        allowed = {name for variant in PROTOTYPES[label] for name in variant}
        units = np.stack([apex(label, rng) for _ in range(20)])
        assert {name for i, name in enumerate(ACTION_UNITS) if units[:, i].any()} <= allowed
        assert label == "neutral" or len(np.unique(units, axis=0)) == 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    seen = []
    folder = write_dataset(
        tmp_path_factory.mktemp("rendered") / "faces",
        clips={"train": 3, "test": 2},
        people={"train": 2, "test": 2},
        seed=3,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i + 1, 35) for i in range(35)]
    return folder


def rows(folder, split):
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text("utf-8").splitlines()]


def decode(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_people_never_cross_splits(folder):
    train, test = ({row["person"] for row in rows(folder, split)} for split in ("train", "test"))
    assert len(train) == len(test) == 2 and not train & test
    drawn = [sample_person(3, split, n) for split in ("train", "test") for n in range(2)]
    assert len({person.head_width for person in drawn}) == 4


def test_load_dataset_reads_it(folder):
    data = load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))
    assert set(data) == {"train", "test"} and len(data["train"]) == 21 and len(data["test"]) == 14
    row = data["test"].cast_column("video", Video(decode=False))[0]
    assert row["label"] in EMOTIONS and row["person"].startswith("test-")
    assert len(row["intensity"]) == len(row["action_units"]["AU12"])


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(folder):
    again = write_dataset(folder.parent / "again", clips={"test": 2}, people={"test": 2}, seed=3)
    files = sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert len(files) == 15
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes()
    other = write_dataset(folder.parent / "other", clips={"test": 1}, people={"test": 2}, seed=4)
    assert (other / "test/anger/0000.mp4").read_bytes() != (again / "test/anger/0000.mp4").read_bytes()


def test_nothing_is_left_of_a_data_set_that_failed(tmp_path):
    with pytest.raises(ValueError, match="not empty"):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        write_dataset(tmp_path / "full")
    with pytest.raises(ValueError, match="'train' needs at least one clip"):
        write_dataset(tmp_path / "none", clips={"train": 0})

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "cut", clips={"train": 1}, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
