"""Windows and crops of clips, and the mean of their logits."""

import logging

import numpy as np
import pytest
import torch

from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.evaluation.views import EvaluationViews, crops_of, window_indices, with_views
from tgdfer.training.measure import predict_clips
from tgdfer.training.models import load_trained


@pytest.mark.parametrize(
    ("read", "num_frames", "windows", "sampling", "expected"),
    [
        (8, 4, 2, "segments", [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (8, 4, 2, "dense", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (6, 4, 2, "segments", [[0, 1, 3, 4], [1, 2, 4, 5]]),  # too short for windows without common frames
        (6, 4, 2, "dense", [[0, 1, 2, 3], [2, 3, 4, 5]]),
        (3, 4, 2, "segments", [[0, 1, 2], [0, 1, 2]]),
        (5, 5, 1, "segments", [[0, 1, 2, 3, 4]]),
    ],
)
def test_frames_of_windows(read, num_frames, windows, sampling, expected):
    assert [window.tolist() for window in window_indices(read, num_frames, windows, sampling)] == expected


@pytest.mark.parametrize("read", range(1, 40))
def test_windows_have_different_frames_in_order(read):
    for window in window_indices(read, 8, 3, "segments"):
        assert len(window) == min(read, 8) and (np.diff(window) > 0).all() and window[-1] < read


def test_crops_are_corners_and_centre_and_their_mirror_images():
    frames = torch.arange(256.0).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert crops_of(frames, 1)[0] is frames
    five, ten = crops_of(frames, 5), crops_of(frames, 10)
    assert [crop.shape[-2:] for crop in five] == [(14, 14)] * 5
    assert [int(crop[0, 0, 0, 0]) for crop in five[:4]] == [0, 2, 32, 34]
    assert all(torch.equal(one, other) for one, other in zip(five, ten[:5], strict=True))
    left_and_right = [1, 0, 3, 2, 4]  # The left corner of a mirror image shows the right corner of the frame.
    assert all(torch.equal(five[place].flip(-1), ten[5 + other]) for place, other in enumerate(left_and_right))


def test_a_single_view_is_the_ordinary_prediction(random_model, clips_folder):
    model, processor = load_trained(random_model)
    clips = load_clips(str(clips_folder), "test")
    plain = predict_clips(model, processor.video_processor, clips)
    seen = with_views(plain, model, processor.video_processor, clips, EvaluationViews(), batch_size=4)
    for one, other in zip(plain, seen, strict=True):
        assert one.label == other.label and one.logits == pytest.approx(other.logits, abs=1e-4)


def test_logits_are_the_mean_over_windows_and_crops(random_model, clips_folder):
    model, processor = load_trained(random_model)
    clips = load_clips(str(clips_folder), "test").select([0, 7])
    plain = predict_clips(model, processor.video_processor, clips)
    found = with_views(plain, model, processor.video_processor, clips, EvaluationViews(2, 10), batch_size=3)
    frames, seconds = processor.video_processor.read_clip(clips.video(1), 8)
    logits = []
    for start in (0, 1):
        for crop in crops_of(frames[start::2], 10):
            inputs = processor.video_processor([crop], timestamps=[seconds[start::2]], return_tensors="pt")
            with torch.inference_mode():
                logits.append(model(**inputs).logits[0])
    assert found[1].logits == pytest.approx(torch.stack(logits).mean(0).tolist(), abs=1e-4)
    assert found[1].relevance == plain[1].relevance and found[1].logits != pytest.approx(plain[1].logits, abs=1e-4)
    assert found[1].score == pytest.approx(float(torch.tensor(found[1].logits).softmax(0).max()), abs=1e-5)


def test_views_are_in_the_metrics_and_the_command(random_model, clips_folder):
    metrics = evaluate_model(random_model, EvaluationData(str(clips_folder)), views=EvaluationViews(2), errors=0)
    assert metrics["views"] == {"windows": 2, "crops": 1} and metrics["command"].endswith(" --windows 2")


def test_views_that_cannot_be(random_model):
    with pytest.raises(UserError, match="crops is 3, but must be one of 1, 5, 10"):
        EvaluationViews(crops=3)
    with pytest.raises(UserError, match="windows is 0"):
        EvaluationViews(windows=0)
    processor = load_trained(random_model)[1].video_processor
    processor.sampling = "fps"
    EvaluationViews(crops=5).require_possible(processor)
    with pytest.raises(UserError, match="samples frames by 'fps', which has no windows"):
        EvaluationViews(windows=2).require_possible(processor)


def test_a_clip_whose_further_frames_cannot_be_read_has_no_windows(random_model, clips_folder, monkeypatch, caplog):
    model, processor = load_trained(random_model)
    clips = load_clips(str(clips_folder), "test").select([0, 7])
    plain = predict_clips(model, processor.video_processor, clips)
    read = type(processor.video_processor).read_clip

    def damaged(self, video, num_frames=None, *others):
        if video == clips.video(1) and num_frames == 8:
            raise VideoDecodeError("The frame 7.jpg cannot be read.")
        return read(self, video, num_frames, *others)

    monkeypatch.setattr(type(processor.video_processor), "read_clip", damaged)
    with caplog.at_level(logging.WARNING, "tgdfer"):
        found = with_views(plain, model, processor.video_processor, clips, EvaluationViews(2))
    assert found[1].logits == pytest.approx(plain[1].logits, abs=1e-4)
    assert found[0].logits != pytest.approx(plain[0].logits, abs=1e-4)
    assert f"{clips.files[1]} has no windows, because more frames of it cannot be read: The frame 7" in caplog.text
