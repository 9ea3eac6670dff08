"""Crops in training, evaluation and prediction: the settings of the crops go with the model."""

import json

import numpy as np
import pytest
import torch

from tgdfer.command_line import main
from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import FaceConfig, TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.face_crops import crop_settings_of, cut_faces
from tgdfer.training.models import face_options

from .conftest import SETTINGS, squares, write


def set_options(processor, options):
    for name, value in options.items():
        setattr(processor.video_processor, name, value)


def test_crops_are_not_cut_again_and_others_are(clips, clip_folder, tmp_path):
    out = tmp_path / "out"
    cut_faces(clips, out, SETTINGS)
    assert crop_settings_of(out)["face_size"] == 48 and crop_settings_of(clips) == {}
    processor = TGDFERProcessor.from_clip(str(clip_folder), None, num_frames=4)
    set_options(processor, face_options(FaceConfig(), str(out)))
    processor.save_pretrained(tmp_path / "model")
    reader = TGDFERProcessor.from_pretrained(tmp_path / "model").video_processor
    assert (reader.face_crop, reader.face_size, reader.face_margin) == ("largest", 48, 0.2)
    plain = TGDFERVideoProcessor(num_frames=4)
    crop = out / "train" / "joy" / "a.mp4"
    for video in (crop, crop.read_bytes()):
        assert torch.equal(reader.read_clip(video)[0], plain.read_clip(video)[0])
    recording = reader.read_recording(crop, 0.04)
    assert (recording.detector, recording.paths) == (None, [None])
    (chunk,) = recording.chunks
    given = reader([chunk.frames], num_frames=6, face_crop="none")["pixel_values_videos"]
    assert torch.equal(given, reader(crop, num_frames=6)["pixel_values_videos"])
    cut_anew, _ = reader.read_clip(clips / "train" / "joy" / "a.mp4")
    written, _ = reader.read_clip(crop)
    assert (cut_anew.float() - written.float()).abs().mean() < 6, "H.264 beside it"
    (chunk,) = reader.read_recording(clips / "train" / "joy" / "a.mp4", 0.04).chunks
    assert len(chunk.frames) == 6 and np.isfinite(chunk.boxes).all()


def test_what_is_asked_for_in_training_goes_before_what_was_done(clips, clip_folder):
    processor = TGDFERProcessor.from_clip(str(clip_folder), None)
    set_options(processor, face_options(FaceConfig(face_crop="center", no_face="full_frame"), str(clips)))
    assert (processor.video_processor.face_crop, processor.video_processor.no_face) == ("center", "full_frame")
    set_options(processor, face_options(FaceConfig(), str(clips)))
    assert processor.video_processor.face_crop == "center", "as the model that training starts from"
    with pytest.raises(UserError, match="face_crop is 'all'"):
        TrainingConfig.from_options(dataset="x", face_crop="all")


@pytest.mark.slow
def test_a_run_cuts_what_it_trained_on_wherever_it_is_used(options, tmp_path, monkeypatch):
    """Train on crops, evaluate on crops, predict on what they were cut from: the model is given the same faces."""
    clips, out, run = tmp_path / "clips", tmp_path / "crops", tmp_path / "run"
    for split, number in (("train", 4), ("test", 1)):
        for label in ("happy", "sad"):
            for index in range(number):
                write(clips / split / label / f"{index}.mp4", [True] * 6)
    assert main(["faces", str(clips), str(out), "--face-detector", "yunet", "--size", "48", "--workers", "1"]) == 0
    shared = ["--model", options["model"], "--descriptions", options["descriptions"], "--num-frames", "4"]
    words = [*shared, *["--epochs", "1", "--frozen-features", "--feature-views", "1", "--validation-fraction", "0"]]
    assert main(["train", "--dataset", str(out), "--output", str(run), *words, "--face-model", "there.onnx"]) == 0
    saved = json.loads((run / "best" / "processor_config.json").read_text())["video_processor"]
    assert (saved["face_crop"], saved["face_size"], saved["face_detector"]) == ("largest", 48, "yunet")
    assert "there.onnx" not in (run / "best" / "processor_config.json").read_text()

    asked = []
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda name, model: [asked.append(model), squares][1])
    assert main(["evaluate", str(run)]) == 0 and asked == ["there.onnx"] * len(asked)
    whole, crop = str(clips / "test" / "sad" / "0.mp4"), str(out / "test" / "sad" / "0.mp4")
    said = {}

    def person():
        (result,) = json.loads((tmp_path / "t.json").read_text())["results"]
        (one,) = result["people"]
        return one

    for video in (whole, crop):
        assert main(["predict", video, "--model", str(run), "--json", str(tmp_path / "t.json")]) == 0
        said[video] = person()
    assert said[whole]["boxes"][0] == pytest.approx([8, 8, 48, 48], abs=1)
    assert list(said[whole]["scores"].values()) == pytest.approx(list(said[crop]["scores"].values()), abs=0.01)
    words = ["predict", whole, "--model", str(run), "--face-crop", "none", "--json", str(tmp_path / "t.json")]
    assert main(words) == 0 and "boxes" not in person()
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda name, model: [asked.append((name, model)), squares][1])
    assert main([*words[:4], "--face-detector", "mtcnn"]) == 0 and asked[-1] == ("mtcnn", None)
