"""The picture of where in the face descriptions are seen: what `tgdfer predict --regions` draws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_faces import two_faces

from tgdfer.command_line import main
from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.explanation_tgdfer import Description, explain_timeline
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.shots_tgdfer import CutFinder
from tgdfer.training.config import TrainingConfig
from tgdfer.training.figures.regions import FaceRegions, plot_regions
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.outputs import PredictionFiles
from tgdfer.training.predict import PredictionOptions, load, predict
from tgdfer.training.regions import face_regions


@pytest.fixture(scope="module")
def model_folder(clip_folder, clips_folder, descriptions_file, tmp_path_factory) -> Path:
    """An untrained model of two labels."""
    folder = tmp_path_factory.mktemp("model")
    config = TrainingConfig.from_options(
        dataset=str(clips_folder),
        model=str(clip_folder),
        descriptions=str(descriptions_file),
        num_frames=4,
        frozen_features=True,
    )
    for part in start_model(config.model, ["happiness", "sadness"]):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def videos(clips_folder: Path) -> list[str]:
    return [str(path) for path in sorted((clips_folder / "test").glob("*/*_0.mp4"))]


def test_regions_are_those_of_the_most_relevant_frames(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is drawn from what the model says about the same pixels, for the named descriptions."""
    drawn = {}

    def draw(faces: list[FaceRegions], path: Path, title: str) -> None:
        drawn[path] = faces
        plot_regions(faces, path, title)

    monkeypatch.setattr("tgdfer.training.figures.regions.plot_regions", draw)
    results = predict(videos[:2], model_folder, PredictionFiles(regions=tmp_path / "deep" / "r.png"))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == sorted(path.name for path in drawn)
    model, processor = load_trained(model_folder)
    for video, (face,) in zip(videos, drawn.values(), strict=False):
        (person,) = results[video]["people"]
        best = int(np.argmax(person["frame_relevance"]))
        clip = processor(videos=video, num_frames=4, return_tensors="pt")
        pixels = clip["pixel_values_videos"]
        relevance = model.get_region_relevance(pixels)[0, best, model.config.label2id[person["candidates"][0]]]
        named = [Description(**one) for one in person["explanation"]["descriptions"]]
        assert list(face.regions) == ([one.text for one in named if one.is_shown] or [named[0].text])[:2]
        for text, values in face.regions.items():
            index = processor.descriptions[person["candidates"][0]].index(text)
            np.testing.assert_allclose(values, relevance[index].numpy(), atol=1e-5)
        assert face.title.endswith(f", {person['timestamps'][best]:.1f} s")
        frames = processor.video_processor
        mean, std = (torch.tensor(values) for values in (frames.image_mean, frames.image_std))
        shown = (torch.from_numpy(face.face) / 255 - mean) / std
        torch.testing.assert_close(shown.permute(2, 0, 1), pixels[0, best], atol=0.02, rtol=0)


def test_regions_of_several_people(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Each of two people has an own face, and a missing picture is drawn again when a list is resumed."""
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: two_faces)
    monkeypatch.setattr(CutFinder, "cuts", lambda self: [])
    network, processor, _ = load(model_folder, PredictionOptions({"face_crop": "all", "face_detector": "yunet"}))
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    result = explain_timeline(pipeline(videos[0], interval=0.08), processor.descriptions, network.config)
    first, second = face_regions(pipeline, processor, videos[0], result, 0.08)
    assert first.title.startswith("Person 1: ") and second.title.startswith("Person 2: ")
    assert first.face.shape == second.face.shape and not np.array_equal(first.face, second.face)

    picture, found = tmp_path / "r.png", tmp_path / "found.jsonl"
    arguments = ["predict", videos[0], "--model", str(model_folder), "--face-crop", "none"]
    arguments += ["--jsonl", str(found), "--regions", str(picture)]
    assert main(arguments) == 0 and picture.is_file()
    picture.unlink()
    assert main([*arguments, "--resume"]) == 0 and picture.is_file()
    assert main([*arguments[:-1], str(tmp_path), "--resume"]) == 2
    assert f"{tmp_path} is a folder; name the file to write." in " ".join(capsys.readouterr().err.split())
