"""The zero-shot result of an untrained CLIP is what its cosines say."""

import pytest
import torch

from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.evaluation.zero_shot import zero_shot_model
from tgdfer.training.measure import predict_clips


def test_logits_are_the_mean_cosines_with_the_class_texts(clip_folder, clips_folder, descriptions_file):
    clips = load_clips(str(clips_folder), "test").select([0, 5, 10])
    labels = ["happiness", "neutral", "sadness"]
    model, processor = zero_shot_model(str(clip_folder), labels, str(clips_folder), str(descriptions_file))
    with torch.no_grad():  # Another scale than at the start of training.
        model.tgdfer.clip.logit_scale.fill_(3.0)
        model.log_scale.fill_(3.0)
    found = predict_clips(model, processor.video_processor, clips)
    for index, prediction in enumerate(found):
        inputs = processor.video_processor(clips.video(index), num_frames=16, return_tensors="pt")
        with torch.no_grad():
            frames = model.get_frame_features(inputs["pixel_values_videos"])[0]
            texts = model.get_text_features().pooler_output
        frames = frames / frames.norm(dim=-1, keepdim=True)
        mask = inputs["frame_mask"][0].bool()
        expected = torch.tensor(3.0).exp() * (frames @ texts.T)[mask].mean(0)
        assert prediction.logits == pytest.approx(expected.tolist(), abs=1e-3)


def test_one_command_measures_a_clip(clip_folder, clips_folder, descriptions_file, tmp_path):
    data = EvaluationData(str(clips_folder))
    metrics = evaluate_model(clip_folder, data, output=tmp_path / "out", descriptions=descriptions_file, errors=0)
    assert metrics["zero_shot"]["descriptions"]["happiness"] == ["a smile", "cheeks up"]
    assert not metrics["calibrated"] and list(metrics["temperature_scaling"]) == ["before", "cross_fitted"]
    assert metrics["temperature_scaling"]["before"]["ece"] == pytest.approx(metrics["ece"], abs=1e-6)
    assert f"--descriptions {descriptions_file}" in metrics["command"]
    assert (tmp_path / "out" / "predictions.csv").is_file()


def test_own_scale_of_the_clip_is_used(clip_folder, clips_folder, descriptions_file):
    labels = ["happiness", "neutral", "sadness"]
    model, _ = zero_shot_model(str(clip_folder), labels, str(clips_folder), str(descriptions_file))
    scale = model.log_scale.exp().item()
    assert (
        scale == pytest.approx(model.tgdfer.clip.logit_scale.exp().item()) != pytest.approx(model.config.initial_scale)
    )


def test_descriptions_are_for_an_untrained_clip(random_model, clips_folder, descriptions_file):
    with pytest.raises(UserError, match="descriptions are for an untrained CLIP"):
        evaluate_model(random_model, EvaluationData(str(clips_folder)), descriptions=descriptions_file)
