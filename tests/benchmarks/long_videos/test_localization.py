"""Labels of frames from segments, segments from frames, and the methods in the comparison."""

import json

import numpy as np
import pytest
import torch

from benchmarks.harness.benchmark_dataset import rendered_dataset
from benchmarks.long_videos.localization import (
    WEAK,
    WITH_SEGMENTS,
    LocalizationClips,
    labels_of_frames,
    localized_segments,
    segments_of,
)
from tgdfer.processing.search_tgdfer import FaceIndex


@pytest.fixture(scope="module")
def dataset(settings, tmp_path_factory):
    return rendered_dataset(settings, tmp_path_factory.mktemp("clips"))


@pytest.mark.slow
def test_frames_in_segments_have_their_label(dataset):
    features = dataset.features("train")
    labels = labels_of_frames(dataset, features)
    assert labels.shape == features.frame_mask.shape
    neutral, rows = dataset.classes.index("neutral"), {}
    for line in (dataset.folder / "train" / "metadata.jsonl").read_text().splitlines():
        rows[f"train/{json.loads(line)['file_name']}"] = json.loads(line)["segments"]
    for clip, file in enumerate(dataset.train.files):
        allowed = {neutral, *(dataset.classes.index(segment["label"]) for segment in rows[file])}
        assert set(labels[:, clip].flatten().tolist()) <= allowed
    shown = (labels != neutral).any(-1)[0]
    emotional = torch.tensor([label != "neutral" for label in dataset.train.labels])
    assert not shown[~emotional].any() and shown[emotional].float().mean() > 0.5


def test_items_have_the_labels_of_their_view(dataset):
    features = dataset.features("train")
    numbers = torch.arange(2).view(2, 1, 1) * 100 + features.timestamps
    clips = LocalizationClips(features, torch.zeros(len(dataset.train), dtype=torch.long), numbers, seed=0)
    for epoch in range(3):
        clips.set_epoch(epoch)
        for index in range(5):
            item = clips[index]
            torch.testing.assert_close(item["labels"] % 100, item["timestamps"], atol=1e-4, rtol=0)


class Localizer:
    """Fear in frames 6 to 11."""

    class config:
        class_names = ("fear", "neutral")

    def __call__(self, frame_features, timestamps):
        shown = (torch.arange(frame_features.shape[1]) // 6 == 1).float()
        return type("Output", (), {"frame_logits": 6 * torch.stack([shown, 1 - shown], -1).unsqueeze(0)})


def test_segments_are_runs_of_frames():
    seconds = np.arange(18, dtype=np.float32) / 4
    spans = np.stack([seconds - 0.125, seconds + 0.125], 1).astype(np.float32)
    blank = np.zeros(18, np.int32)
    boxes = np.full((18, 4), np.nan, np.float16)
    index = FaceIndex(np.zeros((18, 3), np.float16), spans, seconds, blank, blank, boxes, 4.5)
    found = segments_of(Localizer(), index)
    assert [(one["label"], one["start"], one["end"]) for one in found] == [
        ("neutral", -0.125, 1.375),
        ("fear", 1.375, 2.875),
        ("neutral", 2.875, 4.375),
    ]
    assert found[1]["confidence"] == pytest.approx(1 / (1 + np.exp(-6)), rel=1e-4)


@pytest.mark.slow
def test_both_trainings_find_segments(dataset):
    files = sorted((dataset.folder / "test" / "fear").glob("*.mp4"))
    found = localized_segments(dataset, files, seeds=(0, 1))
    assert set(found) == {WEAK, WITH_SEGMENTS}
    for runs in found.values():
        assert len(runs) == 2 and runs[0] != runs[1]
        for segments in runs:
            assert len(segments) == len(files) and all(one["end"] > one["start"] for one in segments[0])
