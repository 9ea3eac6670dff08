"""The clips of the benchmarks: their truth, what is refused, and when they are rendered again."""

import json
from dataclasses import replace

import pytest
import torch
from made_up_results import pixels

from benchmarks.harness.benchmark_dataset import frames_with_emotion, real_dataset, rendered_dataset
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import EMOTIONS


def test_truth_is_that_of_the_frames_that_are_looked_at(dataset):
    expected = pixels(dataset)["intensity"]
    torch.testing.assert_close(torch.tensor(dataset.truth.intensity), expected)


def test_true_frames_of_every_view(dataset):
    """The apex of the clips is blue, red or grey as their label says: the frames that are so must be the true ones."""
    seen = dataset.features("train")
    masks = frames_with_emotion(seen, dataset.train)
    for index, label in enumerate(dataset.train.labels):
        frames = (seen.timestamps[:, index] * 25).round().long()
        apex = (frames >= 2) & (frames < 5)
        assert apex.any(1).all()
        assert torch.equal(masks[:, index], torch.ones_like(apex) if label == "neutral" else apex)


def test_clip_whose_frames_miss_the_emotion_keeps_the_nearest(dataset, monkeypatch):
    clips = dataset.train
    weak = [[0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.0]] * len(clips)
    monkeypatch.setitem(dataset.__dict__, "train", type(clips)(**vars(clips) | {"intensity": weak}))
    masks = frames_with_emotion(dataset.features("train"), dataset.train)[0]
    counts = dict(zip(dataset.train.labels, masks.sum(1).tolist(), strict=True))
    assert counts == {"happiness": 1, "neutral": 4, "sadness": 1}


@pytest.mark.parametrize("missing", ["person", "intensity"])
def test_clips_without_their_truth_are_refused(missing, tmp_path, dataset, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=1)
    for path in folder.glob("*/metadata.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != missing}) + "\n" for row in rows))
    with pytest.raises(UserError, match=f"train does not give the {missing} of every clip.*metadata.jsonl"):
        real_dataset(dataset.settings, folder).train  # noqa: B018


def test_people_in_both_parts_are_refused(tmp_path, dataset, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    path = folder / "test" / "metadata.jsonl"
    path.write_text(path.read_text().replace("test-1", "train-1"))
    with pytest.raises(UserError, match="1 people are in both train and test of .*'train-1'"):
        real_dataset(dataset.settings, folder).test  # noqa: B018


def test_other_bytes_or_another_truth_are_another_dataset(tmp_path, dataset, folder_writer, clip_writer):
    folder = folder_writer(tmp_path / "clips", people=2)

    def fingerprint():
        return real_dataset(dataset.settings, folder).fingerprint

    first = fingerprint()
    (folder / "train").rename(folder / "other"), (folder / "other").rename(folder / "train")
    assert fingerprint() == first
    clip_writer(folder / "train" / "happy" / "happy_0.mp4", (0, 250, 0), seed=9)
    second = fingerprint()
    path = folder / "test" / "metadata.jsonl"
    path.write_text(path.read_text().replace("1.0", "0.9"))
    assert len({first, second, fingerprint()}) == 3


def test_validation_split_that_one_method_alone_would_use_is_refused(tmp_path, dataset):
    (tmp_path / "validation").mkdir()
    with pytest.raises(UserError, match="validation split"):
        real_dataset(dataset.settings, tmp_path)


def test_empty_intensity_is_refused_like_none(tmp_path, dataset, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    path = folder / "test" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["intensity"] = []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="test does not give the intensity of every clip"):
        real_dataset(dataset.settings, folder).test  # noqa: B018


def test_clips_are_rendered_once_and_again_when_their_numbers_change(settings, tmp_path):
    few = replace(settings, clips=1)
    folder = rendered_dataset(few, tmp_path).folder
    video = min(folder.rglob("*.mp4"))
    before = video.stat().st_mtime_ns
    rendered_dataset(few, tmp_path)
    assert video.stat().st_mtime_ns == before
    dataset = rendered_dataset(replace(few, test_clips=2), tmp_path)
    assert len(list((folder / "test").rglob("*.mp4"))) == 2 * len(EMOTIONS)
    assert set(dataset.train.people).isdisjoint(dataset.test.people)


def test_folder_of_something_else_is_not_touched(settings, tmp_path):
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="rendered holds files that .*--work"):
        rendered_dataset(settings, tmp_path)
