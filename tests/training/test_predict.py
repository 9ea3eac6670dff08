"""Prediction: the files it writes, what it prints, and videos that cannot be read."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from tgdfer.command_line import main
from tgdfer.processing import faces_tgdfer, video_file_tgdfer
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.predict import PredictionFiles, _output_paths, predict
from tgdfer.training.timelines import print_timelines, short_names


@pytest.fixture(scope="module")
def model_folder(clip_folder, clips_folder, descriptions_file, tmp_path_factory) -> Path:
    """An untrained model of three labels."""
    folder = tmp_path_factory.mktemp("model")
    config = TrainingConfig.from_options(
        dataset=str(clips_folder),
        model=str(clip_folder),
        descriptions=str(descriptions_file),
        num_frames=4,
        frozen_features=True,
    )
    model, processor = start_model(config.model, ["happiness", "neutral", "sadness"])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def videos(clips_folder: Path) -> list[str]:
    return [str(path) for path in sorted((clips_folder / "test").glob("*/*_0.mp4"))]


def test_predict_writes_what_it_returns(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    paths = [tmp_path / "deep" / name for name in ("t.csv", "t.json", "t.png")]
    timelines = predict(videos, model_folder, PredictionFiles(*paths))
    assert list(timelines) == videos
    assert json.loads(paths[1].read_text()) == timelines
    rows = list(csv.DictReader(paths[0].open()))
    assert [row["file"] for row in rows] == [video for video in videos for _ in range(4)]
    for row in rows:
        timeline, index = timelines[row["file"]], int(row["frame"])
        assert float(row["seconds"]) == pytest.approx(timeline["timestamps"][index], abs=1e-3)
        assert float(row["relevance"]) == pytest.approx(timeline["frame_relevance"][index], abs=1e-3)
        assert sum(float(row[name]) for name in timeline["scores"]) == pytest.approx(1, abs=1e-3)
    pictures = sorted(path.name for path in paths[2].parent.glob("*.png"))
    assert pictures == sorted(f"t-{Path(video).stem}.png" for video in videos)


def test_timelines_are_explained_in_the_words_of_the_model(
    model_folder: Path, videos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As the processor explains the outputs of the model, clip by clip."""
    timelines = predict(videos, model_folder)
    model, processor = load_trained(model_folder)
    for video in videos:
        clip = processor(videos=video, num_frames=4, return_tensors="pt")
        with torch.no_grad():
            (expected,) = processor.explain(
                model(**clip), clip["timestamps"], clip["frame_mask"], model.config.id2label
            )
        found = timelines[video]["explanation"]
        assert found["sentence"] == str(expected)
        fits = {one["text"]: one["cosine"] for one in found["descriptions"]}
        assert fits == pytest.approx({one.text: one.cosine for one in expected.descriptions}, abs=1e-5)
        assert set(fits) == set(processor.descriptions[found["label"]])
        assert found["spans"][0]["start"] == pytest.approx(expected.start)
        assert timelines[video]["timestamps"][0] <= expected.start < expected.end <= timelines[video]["timestamps"][-1]
    print_timelines(timelines)
    printed = "".join(capsys.readouterr().out.split())
    assert all(timelines[video]["label"] + "," in printed for video in videos)


def test_unsure_answers_are_shown_everywhere(
    model_folder: Path, videos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    never = {text: [1.0, 0.1] for text in ("a smile", "cheeks up", "a frown", "tears", "at rest", "still")}
    config |= {"temperature": 2.0, "unsure_below": 1.0}
    config["description_references"] = {label: never for label in ("happiness", "neutral", "sadness")}
    (folder / "config.json").write_text(json.dumps(config))
    paths = [tmp_path / name for name in ("t.csv", "t.json", "t.png", "t.mp4")]
    timelines = predict(videos[:1], folder, PredictionFiles(*paths))
    found = timelines[videos[0]]
    first, second = sorted(found["scores"], key=found["scores"].get, reverse=True)[:2]
    assert found["label"] == "unsure" and found["candidates"] == [first, second] and found["calibrated"]
    explanation = found["explanation"]
    assert explanation["candidates"] == [first, second] and explanation["score"] == found["score"]
    assert explanation["sentence"].startswith(f"unsure ({first} or {second}), ")
    assert ":" not in explanation["sentence"], "no description exceeds what it usually has"
    rows = list(csv.DictReader(paths[0].open()))
    assert {row["label"] for row in rows} == {"unsure"} and float(rows[0]["score"]) == round(found["score"], 4)
    assert json.loads(paths[1].read_text()) == timelines and paths[2].is_file() and paths[3].is_file()
    print_timelines(timelines)
    printed = capsys.readouterr().out
    assert "".join(f"unsure ({first} or {second})".split()) in "".join(printed.split())
    assert "not calibrated" not in printed
    print_timelines(predict(videos[:1], model_folder))
    assert "not calibrated" in capsys.readouterr().out


def test_one_video_has_the_picture_of_that_name(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    predict(videos[:1], model_folder, PredictionFiles(plot=tmp_path / "one.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_videos_of_one_name_have_pictures_of_their_own(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    same = [tmp_path / folder / "clip.mp4" for folder in "ab"]
    for path, video in zip(same, videos, strict=False):
        path.parent.mkdir()
        path.write_bytes(Path(video).read_bytes())
    predict([str(path) for path in same], model_folder, PredictionFiles(plot=tmp_path / "t.png"))
    assert {path.name for path in tmp_path.glob("*.png")} == {"t-a-clip.png", "t-b-clip.png"}


def test_a_broken_video_loses_nothing_of_the_others(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(PartialResultError, match="1 of 3 videos cannot be used") as error:
        predict([videos[0], str(broken), videos[1]], model_folder, PredictionFiles(json=tmp_path / "t.json"))
    assert list(error.value.unusable) == [str(broken)]
    assert list(json.loads((tmp_path / "t.json").read_text())) == videos[:2]


def test_the_exit_code_says_whether_some_or_all_videos_are_bad(
    model_folder: Path, videos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in broken:
        path.write_bytes(b"no video")

    def run(*files: str | Path) -> tuple[int, str]:
        code = main(["predict", *map(str, files), "--model", str(model_folder), "--csv", str(tmp_path / "t.csv")])
        return code, capsys.readouterr().err

    code, said = run(broken[0], videos[0], broken[1])
    assert code == 3 and [f"- {path} is not a video" in said for path in broken] == [True, True]
    assert {row["file"] for row in csv.DictReader((tmp_path / "t.csv").open())} == {videos[0]}
    assert run(videos[0])[0] == 0
    code, said = run(*broken)
    assert code == 2 and all(f"{path} is not a video" in said for path in broken)


def test_an_output_that_is_a_folder(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        predict(videos, model_folder, PredictionFiles(csv=tmp_path))


def test_frames_without_times(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    frames, _ = TGDFERProcessor.from_pretrained(model_folder).video_processor.read_clip(videos[0])
    for index, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / f"{index:03d}.png")
    timelines = predict(
        [str(tmp_path)], model_folder, PredictionFiles(tmp_path / "t.csv", plot=tmp_path / "picture" / "t.png")
    )
    assert timelines[str(tmp_path)]["timestamps"] is None
    assert ", frame" in timelines[str(tmp_path)]["explanation"]["sentence"]
    assert {row["seconds"] for row in csv.DictReader((tmp_path / "t.csv").open())} == {""}
    assert (tmp_path / "picture" / "t.png").is_file()


def test_a_long_folder_of_frames(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is taken to have 25 frames a second: in the table, the segments and the picture."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(400):
        Image.new("RGB", (16, 16), (index % 256, 0, 0)).save(frames / f"{index}.bmp")
    timelines = predict([str(frames)], model_folder, PredictionFiles(plot=tmp_path / "t.png"))
    assert 15.5 < timelines[str(frames)]["timestamps"][-1] < 16
    print_timelines(timelines)
    assert "segments" in capsys.readouterr().out and (tmp_path / "t.png").is_file()


def test_model_of_one_class_has_no_runner_up(capsys: pytest.CaptureFixture[str]) -> None:
    timeline = {"label": "smile", "scores": {"smile": 1.0}, "timestamps": None, "calibrated": True}
    print_timelines({"clip.mp4": {**timeline, "explanation": {"sentence": "smile, frames 2 to 3"}}})
    assert "smile, frames 2 to 3" in capsys.readouterr().out


def test_names_with_brackets_are_printed_as_they_are(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rich reads as markup: an end without a beginning, and a style."""
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=200, color_system=None)
    for module in ("predict", "timelines"):
        monkeypatch.setattr(f"tgdfer.training.{module}.get_console", lambda: console)
    names = ["[/a].mp4", "[red]/a].mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(Path(videos[0]).read_bytes())
    timelines = predict([str(tmp_path / name) for name in names], model_folder)
    for timeline in timelines.values():
        timeline["explanation"]["sentence"] = "[/joy], because of [bold]"
        timeline["timestamps"][-1] = 60.0
        timeline["segments"] = [{"start": 1.0, "end": 2.0, "label": "[/joy]", "confidence": 0.9}]
    print_timelines(timelines)
    printed = said.getvalue()
    assert f"Predicting {names[-1]}" in printed
    assert all(f"{name},1segments" in "".join(printed.split()) for name in names)
    assert printed.count("[/joy], because of [bold]") == 2 and printed.count("[/joy] ") == 2


def test_short_names_tell_videos_apart() -> None:
    assert short_names(["x/fear/1.mp4"]) == {"x/fear/1.mp4": "1.mp4"}
    assert short_names(["x/fear/1.mp4", "x/anger/1.mp4"]) == {
        "x/fear/1.mp4": "fear/1.mp4",
        "x/anger/1.mp4": "anger/1.mp4",
    }
    assert len(set(_output_paths(["a/1.mp4", "a/1.avi"], Path("t.png")).values())) == 2


def test_a_long_video_has_segments_and_a_picture(
    model_folder: Path, clip_writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = clip_writer(tmp_path / "long.mp4", num_frames=25 * 16)
    timeline = predict([str(long)], model_folder, PredictionFiles(tmp_path / "t.csv", plot=tmp_path / "t.png"))[
        str(long)
    ]
    assert len(timeline["timestamps"]) > 100 and timeline["timestamps"][-1] > 15.5
    assert len(list(csv.DictReader((tmp_path / "t.csv").open()))) == len(timeline["timestamps"])
    assert (tmp_path / "t.png").is_file()
    timeline["segments"] = [{"start": 61.0, "end": 63.5, "label": "happiness", "confidence": 0.8}]
    print_timelines({"long.mp4": timeline})
    printed = capsys.readouterr().out
    assert "1:01.0" in printed and "1:03.5" in printed and "80%" in printed


def test_what_is_behind_a_url_is_fetched_once(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the limits of the processor, for the answer, the picture and the annotated video alike."""
    fetched = []

    def fetch(url: str, timeout: float, max_bytes: int) -> io.BytesIO:
        fetched.append((url, timeout, max_bytes))
        return io.BytesIO(Path(videos[0]).read_bytes())

    monkeypatch.setattr(video_file_tgdfer, "_fetch", fetch)
    url = "https://example.org/clip.mp4"
    found = predict([url], model_folder, PredictionFiles(plot=tmp_path / "t.png", annotate=tmp_path / "t.mp4"))
    assert fetched == [(url, 60.0, 2**30)]
    assert (tmp_path / "t.png").is_file() and (tmp_path / "t.mp4").is_file()
    assert found[url]["scores"] == predict(videos[:1], model_folder)[videos[0]]["scores"]


def test_a_picture_shows_the_frames_that_had_a_face(
    model_folder: Path, clip_writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most frames have none: the picture reads the video again, and must find the same frames."""
    marks = (np.array([[38, 52], [74, 52], [56, 72], [42, 92], [70, 92]]) - 20) / 72 * 18 + 2
    video = str(clip_writer(tmp_path / "cuts.mp4", num_frames=60))
    looks = []

    def seen(picture: np.ndarray) -> np.ndarray:
        looks.append(picture.shape)
        # The clips of these tests grow darker or lighter, so that this is true of some frames alone.
        return np.array([[2, 2, 18, 18, *marks.ravel(), 0.9]] if picture.mean() > middle else []).reshape(-1, 15)

    frames, _ = TGDFERProcessor.from_pretrained(model_folder).video_processor.read_clip(video, 60)
    middle = float(np.sort(frames.float().mean((1, 2, 3)).numpy())[40])
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda *_: seen)
    picture = tmp_path / "t.png"
    found = predict([video], model_folder, PredictionFiles(plot=picture), {"face_crop": "largest"})[video]
    assert looks and found["without_face"] and len(found["frame_relevance"]) < 4
    assert picture.is_file()


def test_faces_are_found_in_prediction_as_well(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people in every frame: each has a timeline, rows, a picture and a box in the annotated video."""
    marks = (np.array([[38, 52], [74, 52], [56, 72], [42, 92], [70, 92]]) - 20) / 72

    def seen(picture: np.ndarray) -> np.ndarray:
        return np.array(
            [[x, y, side, side, *(marks * side + [x, y]).ravel(), 0.9] for x, y, side in ((2, 2, 18), (18, 18, 12))]
        )

    monkeypatch.setattr(faces_tgdfer, "_detector", lambda *_: seen)
    faces = {"face_crop": "all", "face_model": None, "no_face": None}
    paths = [tmp_path / name for name in ("t.csv", "t.json", "t.png", "t.mp4")]
    people = predict(videos[:1], model_folder, PredictionFiles(*paths), faces)[videos[0]]
    assert [one["boxes"][0] for one in people] == [[2, 2, 20, 20], [18, 18, 30, 30]]
    assert json.loads(paths[1].read_text()) == {videos[0]: people}
    rows = list(csv.DictReader(paths[0].open()))
    assert [row["track"] for row in rows] == [str(one["track"]) for one in people for _ in range(4)]
    assert [float(rows[0][side]) for side in ("left", "top", "right", "bottom")] == [2, 2, 20, 20]
    assert (tmp_path / "t-face2.png").is_file()
    frames, seconds = TGDFERProcessor.from_pretrained(model_folder).video_processor.read_clip(paths[3], 8)
    assert len(frames) == 8 and seconds is not None and seconds.tolist() == pytest.approx(np.arange(8) / 25, abs=1e-3)
    # Twelve times as large, below it two bars; the box of the first face is blue, and white words are on blue above.
    assert frames.shape[2] > frames.shape[3] >= 360
    scale = frames.shape[3] / 32
    left_edge = frames[4, :, round(11 * scale), round(2 * scale) - 2 : round(2 * scale) + 4].float()
    assert (left_edge[2] - left_edge[0]).max() > 60


@pytest.mark.parametrize("name", ["t", "t.png"])
def test_annotated_videos_have_the_name_of_a_video(model_folder: Path, videos: list[str], name: str) -> None:
    with pytest.raises(UserError, match="is not the name of a video to write"):
        predict(videos, model_folder, PredictionFiles(annotate=Path(name)))
