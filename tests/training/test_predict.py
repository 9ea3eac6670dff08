"""Prediction: the files it writes, what it prints, and videos that cannot be read."""

import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_faces import face_at, two_faces
from PIL import Image
from rich.console import Console

import tgdfer.training.predict as predict_module
from tgdfer.command_line import main
from tgdfer.processing import detectors_tgdfer, video_source_tgdfer
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.shots_tgdfer import CutFinder
from tgdfer.training.colours import class_colours, to_bytes
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.hardware import Hardware
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.outputs import PredictionFiles, Shard, print_results
from tgdfer.training.outputs.joining import join
from tgdfer.training.predict import Batch, PredictionOptions, predict


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


def files(folder: Path, *endings: str) -> PredictionFiles:
    """Outputs that are called `t`."""
    kinds = {"csv": "csv", "json": "json", "png": "plot", "mp4": "annotate", "vtt": "subtitles"}
    return PredictionFiles(**{kinds[ending]: folder / f"t.{ending}" for ending in endings})


def results_of(path: Path) -> dict[str, dict]:
    """The results of a JSON file, without their names."""
    results = json.loads(path.read_text())["results"]
    return {result.pop("file"): result for result in results}


def test_predict_writes_what_it_returns(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    results = predict(videos, model_folder, files(deep, "csv", "json", "png"))
    assert list(results) == videos
    assert results_of(deep / "t.json") == results
    rows = list(csv.DictReader((deep / "t.csv").open()))
    assert [row["file"] for row in rows] == [video for video in videos for _ in range(4)]
    for row in rows:
        (timeline,), index = results[row["file"]]["people"], int(row["frame"])
        assert float(row["seconds"]) == pytest.approx(timeline["timestamps"][index], abs=1e-3)
        assert float(row["relevance"]) == pytest.approx(timeline["frame_relevance"][index], abs=1e-3)
        assert sum(float(row[name]) for name in timeline["scores"]) == pytest.approx(1, abs=1e-3)
    pictures = sorted(path.name for path in deep.glob("*.png"))
    assert pictures == sorted(f"t-{Path(video).stem}.png" for video in videos)


def test_timelines_are_explained_in_the_words_of_the_model(
    model_folder: Path, videos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As the processor explains the outputs of the model, clip by clip."""
    results = predict(videos, model_folder)
    model, processor = load_trained(model_folder)
    for video in videos:
        clip = processor(videos=video, num_frames=4, return_tensors="pt")
        with torch.no_grad():
            (expected,) = processor.post_process_explanation(
                model(**clip), clip["timestamps"], clip["frame_mask"], model.config.id2label
            )
        (person,) = results[video]["people"]
        found = person["explanation"]
        assert found["sentence"] == str(expected)
        fits = {one["text"]: one["cosine"] for one in found["descriptions"]}
        assert fits == pytest.approx({one.text: one.cosine for one in expected.descriptions}, abs=1e-5)
        assert set(fits) == set(processor.descriptions[found["label"]])
        assert found["spans"][0]["start"] == pytest.approx(expected.start)
        assert person["timestamps"][0] <= expected.start < expected.end <= person["timestamps"][-1]
    print_results(results)
    printed = "".join(capsys.readouterr().out.split())
    assert all(segment["label"] in printed for video in videos for segment in results[video]["people"][0]["segments"])


def test_unsure_answers_are_shown_everywhere(
    model_folder: Path,
    videos: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tgdfer.training.outputs.terminal.get_console", lambda: Console(width=200))
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    never = {text: [1.0, 0.1] for text in ("a smile", "cheeks up", "a frown", "tears", "at rest", "still")}
    config |= {"temperature": 2.0, "unsure_below": 1.0}
    config["description_references"] = {label: never for label in ("happiness", "neutral", "sadness")}
    (folder / "config.json").write_text(json.dumps(config))
    results = predict(videos[:1], folder, files(tmp_path, "csv", "json", "png", "mp4"))
    (found,) = results[videos[0]]["people"]
    first, second = sorted(found["scores"], key=found["scores"].get, reverse=True)[:2]
    assert found["label"] == "unsure" and found["candidates"] == [first, second] and results[videos[0]]["calibrated"]
    explanation = found["explanation"]
    assert explanation["candidates"] == [first, second] and explanation["score"] == found["score"]
    assert explanation["sentence"].startswith(f"unsure ({first} or {second}), ")
    assert ":" not in explanation["sentence"], "no description exceeds what it usually has"
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert {row["label"] for row in rows} == {"unsure"} and float(rows[0]["score"]) == round(found["score"], 4)
    assert results_of(tmp_path / "t.json") == results
    assert (tmp_path / "t.png").is_file() and (tmp_path / "t.mp4").is_file()
    found["segments"] *= 13  # If there are many, the answer for the whole video is printed.
    print_results(results)
    printed = capsys.readouterr().out
    assert "".join(f"unsure ({first} or {second})".split()) in "".join(printed.split())
    assert "not calibrated" not in printed
    print_results(predict(videos[:1], model_folder))
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
    assert list(results_of(tmp_path / "t.json")) == videos[:2]
    (error,) = json.loads((tmp_path / "t.json").read_text())["errors"]
    assert error["file"] == str(broken) and "is not a video" in error["error"]


def test_the_exit_code_says_whether_some_or_all_videos_are_bad(
    model_folder: Path, videos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in broken:
        path.write_bytes(b"no video")

    def run(*files: str | Path) -> tuple[int, str]:
        code = main(
            [
                "predict",
                *map(str, files),
                "--model",
                str(model_folder),
                "--csv",
                str(tmp_path / "t.csv"),
                "--face-crop",
                "none",
            ]
        )
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
    outputs = PredictionFiles(tmp_path / "t.csv", subtitles=tmp_path / "t.vtt", plot=tmp_path / "picture" / "t.png")
    (person,) = predict([str(tmp_path)], model_folder, outputs)[str(tmp_path)]["people"]
    assert person["timestamps"] == pytest.approx([index / 25 for index in range(len(frames))])
    assert person["warnings"] == ["The frames have no timestamps: 25 frames per second are assumed."]
    assert (tmp_path / "t.vtt").is_file()
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [float(row["seconds"]) for row in rows] == person["timestamps"]
    assert (tmp_path / "picture" / "t.png").is_file()


def test_a_long_folder_of_frames(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is taken to have 25 frames a second: in the table, the segments and the picture."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(400):
        Image.new("RGB", (16, 16), (index % 256, 0, 0)).save(frames / f"{index}.bmp")
    results = predict([str(frames)], model_folder, PredictionFiles(plot=tmp_path / "t.png"))
    (person,) = results[str(frames)]["people"]
    assert 15.5 < person["timestamps"][-1] < 16
    print_results(results)
    assert "frames" in capsys.readouterr().out and (tmp_path / "t.png").is_file()


def test_the_progress_bar_names_file_position_and_speed(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that rich reads as markup are shown as they are: an end without a beginning, and a style."""
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr("tgdfer.training.outputs.progress.get_console", lambda: console)
    names = ["[/a].mp4", "[red]/a].mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(Path(videos[0]).read_bytes())
    called, begin = predict_module.EmotionTimelinePipeline.__call__, predict_module.PredictionProgress.begin
    bars = []

    def begin_and_note(self, *args):
        bars.append(self.bar)
        return begin(self, *args)

    def run(*args, **kwargs):
        kwargs["progress"](0.5)
        bars[-1].refresh()  # Otherwise it is drawn ten times a second.
        return called(*args, **kwargs)

    monkeypatch.setattr(predict_module.PredictionProgress, "begin", begin_and_note)
    monkeypatch.setattr(predict_module.EmotionTimelinePipeline, "__call__", run)
    predict([str(tmp_path / name) for name in names], model_folder)
    printed = said.getvalue()
    assert f"Predicting {names[-1]} (2 of 2)" in printed
    assert "0:00.2 of 0:00.3" in printed and "s of video per second" in printed


def test_a_long_video_has_segments_and_a_picture(
    model_folder: Path, clip_writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = clip_writer(tmp_path / "long.mp4", num_frames=25 * 16)
    results = predict([str(long)], model_folder, files(tmp_path, "csv", "png"))
    (timeline,) = results[str(long)]["people"]
    assert len(timeline["timestamps"]) > 100 and timeline["timestamps"][-1] > 15.5
    assert len(list(csv.DictReader((tmp_path / "t.csv").open()))) == len(timeline["timestamps"])
    assert (tmp_path / "t.png").is_file()
    timeline["segments"] = [
        {"start": 61.0, "end": 63.5, "label": "happiness", "score": 0.8, "candidates": ["happiness"], "person": None}
    ]
    print_results({"long.mp4": results[str(long)]})
    printed = capsys.readouterr().out
    assert "1:01.0" in printed and "1:03.5" in printed and "80%" in printed


def test_what_is_behind_a_url_is_fetched_once(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the limits of the processor, for the answer, the picture and the annotated video alike."""
    fetched = []

    def fetch(url: str, timeout: float, max_bytes: int, allow_private: bool) -> io.BytesIO:
        fetched.append((url, timeout, max_bytes, allow_private))
        return io.BytesIO(Path(videos[0]).read_bytes())

    monkeypatch.setattr(video_source_tgdfer, "_fetch", fetch)
    url = "https://example.org/clip.mp4"
    found = predict([url], model_folder, PredictionFiles(plot=tmp_path / "t.png", annotate=tmp_path / "t.mp4"))
    assert fetched == [(url, 60.0, 2**30, False)]
    assert (tmp_path / "t.png").is_file() and (tmp_path / "t.mp4").is_file()
    again = predict(videos[:1], model_folder)[videos[0]]
    assert found[url]["people"][0]["scores"] == again["people"][0]["scores"]


def test_a_picture_shows_the_frames_that_had_a_face(
    model_folder: Path, clip_writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most frames have none."""
    video = str(clip_writer(tmp_path / "cuts.mp4", num_frames=60))
    looks = []

    def seen(picture: np.ndarray) -> np.ndarray:
        looks.append(picture.shape)
        # The clips of these tests grow darker or lighter, so that this is true of some frames alone.
        return np.array([face_at(2, 2, 18)] if picture.mean() > middle else []).reshape(-1, 15)

    frames, _ = TGDFERProcessor.from_pretrained(model_folder).video_processor.read_clip(video, 60)
    middle = float(np.sort(frames.float().mean((1, 2, 3)).numpy())[40])
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: seen)
    picture = tmp_path / "t.png"
    options = PredictionOptions({"face_crop": "largest", "face_detector": "yunet"}, interval=0.04)
    (found,) = predict([video], model_folder, PredictionFiles(plot=picture), options)[video]["people"]
    assert looks and found["without_face"] and 0 < len(found["frame_relevance"]) < 40
    assert picture.is_file()


def test_faces_are_found_in_prediction_as_well(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people in every frame: each has a timeline, rows, a picture and a box in the annotated video."""
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: two_faces)
    # The clips of these tests change their brightness so fast that a shot seems to begin.
    monkeypatch.setattr(CutFinder, "cuts", lambda self: [])
    faces = {"face_crop": "all", "face_detector": "yunet", "face_model": None, "no_face": None}
    options = PredictionOptions(faces, interval=0.08)
    results = predict(videos[:1], model_folder, files(tmp_path, "csv", "json", "png", "mp4"), options)
    people = results[videos[0]]["people"]
    assert [one["boxes"][0] for one in people] == [[2, 2, 20, 20], [18, 18, 30, 30]]
    assert results_of(tmp_path / "t.json") == results
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["person"] for row in rows] == [str(one["person"]) for one in people for _ in range(4)]
    assert [float(rows[0][side]) for side in ("left", "top", "right", "bottom")] == [2, 2, 20, 20]
    assert (tmp_path / "t.png").is_file(), "one picture for all people"
    frames, seconds = TGDFERProcessor.from_pretrained(model_folder).video_processor.read_clip(tmp_path / "t.mp4", 8)
    assert len(frames) == 8 and seconds is not None and seconds.tolist() == pytest.approx(np.arange(8) / 25, abs=1e-3)
    # Twelve times as large, with a panel below; the box has the colour of the label of that moment.
    assert frames.shape[2] > frames.shape[3] >= 360
    scale = frames.shape[3] / 32
    left_edge = frames[4, :, round(11 * scale), round(2 * scale) - 2 : round(2 * scale) + 4].float()
    colour = torch.tensor(to_bytes(class_colours([people[0]["segments"][0]["label"]]).popitem()[1]))
    assert (left_edge - colour[:, None]).abs().sum(0).min() < 90


@pytest.mark.parametrize("name", ["t", "t.png"])
def test_annotated_videos_have_the_name_of_a_video(model_folder: Path, videos: list[str], name: str) -> None:
    with pytest.raises(UserError, match="is not a file name for a video"):
        predict(videos, model_folder, PredictionFiles(annotate=Path(name)))


def test_a_model_is_relabelled_by_words_and_is_then_not_calibrated(model_folder: Path, videos: list[str]) -> None:
    words = {"boredom": ["half-closed eyes", "a slack mouth"], "joy": ["a broad smile"]}
    found = predict(videos[:1], model_folder, options=PredictionOptions(descriptions=words))[videos[0]]
    assert set(found["people"][0]["scores"]) == set(words) and not found["calibrated"]
    with pytest.raises(UserError, match='The descriptions cannot be used: The class "joy" has an empty description'):
        predict(videos[:1], model_folder, options=PredictionOptions(descriptions={"joy": [" "], "sorrow": ["tears"]}))


def test_number_formats_and_devices(model_folder: Path, videos: list[str]) -> None:
    options = PredictionOptions(hardware=Hardware("cpu", "bfloat16", 2))
    half = predict(videos[:1], model_folder, options=options)[videos[0]]["people"][0]["scores"]
    full = predict(videos[:1], model_folder)[videos[0]]["people"][0]["scores"]
    assert half == pytest.approx(full, abs=0.02) and half != full
    with pytest.raises(UserError, match="There is no device 'abacus' on this machine"):
        predict(videos[:1], model_folder, options=PredictionOptions(hardware=Hardware("abacus")))
    with pytest.raises(UserError, match="dtype is 'int4', but must be one of auto, float32, bfloat16, float16"):
        predict(videos[:1], model_folder, options=PredictionOptions(hardware=Hardware(dtype="int4")))


def test_the_same_model_has_the_same_fingerprint(model_folder: Path, tmp_path: Path) -> None:
    def run(folder: Path = model_folder, **options):
        return predict_module.load(folder, PredictionOptions(**options))[2]

    shutil.copytree(model_folder, tmp_path / "copy")
    assert run().fingerprint == run(tmp_path / "copy").fingerprint == run(hardware=Hardware("cpu")).fingerprint
    changed = {"interval": 0.5}, {"descriptions": {"a": ["a smile"], "b": ["tears"]}}, {"faces": {"no_face": "error"}}
    prints = [run(**options).fingerprint for options in (*changed, {"hardware": Hardware(dtype="bfloat16")})]
    assert len({run().fingerprint, *prints}) == 5
    config = json.loads((tmp_path / "copy" / "config.json").read_text()) | {"temperature": 2.0}
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    assert run(tmp_path / "copy").fingerprint != run().fingerprint


@pytest.mark.parametrize("changes", [{"frame_interval": 0.5}, {"mil_pooling": "mean"}, {"image_mean": [0.1] * 3}])
def test_settings_that_change_answers_change_the_fingerprint(
    model_folder: Path, tmp_path: Path, changes: dict
) -> None:
    """Otherwise results of the former settings would be taken for results of the new ones."""
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    before = predict_module.load(copy, PredictionOptions())[2].fingerprint
    if "image_mean" in changes:
        processor = TGDFERProcessor.from_pretrained(copy)
        processor.video_processor.image_mean = changes["image_mean"]
        processor.save_pretrained(copy)
    else:
        path = copy / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert predict_module.load(copy, PredictionOptions())[2].fingerprint != before


# Long lists


def stop_at(monkeypatch: pytest.MonkeyPatch, place: int, error: type[BaseException] = KeyboardInterrupt) -> list[str]:
    """Has the reading of a video fail; gives the list of the videos that are read."""
    called, read = predict_module.EmotionTimelinePipeline.__call__, []

    def run(pipeline, source, *args, **kwargs):
        read.append(source.name)
        if len(read) == place:
            raise error
        return called(pipeline, source, *args, **kwargs)

    monkeypatch.setattr(predict_module.EmotionTimelinePipeline, "__call__", run)
    return read


def test_an_interrupted_list_is_resumed(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    everything = [videos[0], str(broken), *videos[1:]]
    found, csv_file = tmp_path / "found.jsonl", tmp_path / "t.csv"
    arguments = ["predict", *everything, "--model", str(model_folder), "--face-crop", "none"]
    arguments += ["--jsonl", str(found), "--csv", str(csv_file), "--plot", str(tmp_path / "t.png")]
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert main(arguments) == 130
    said = capsys.readouterr().out
    assert (
        f"Interrupted: 2 of 4 videos have their results in {found}. Resume with the same command and --resume" in said
    )
    assert {row["file"] for row in csv.DictReader(csv_file.open())} == {videos[0], videos[1]}
    assert main(arguments) == 2 and "already exists; add --resume" in capsys.readouterr().err
    with found.open("a") as file:
        file.write('{"file": "cut o')
    (tmp_path / f"t-{Path(videos[1]).stem}.png").unlink()
    with monkeypatch.context() as patch:
        read = stop_at(patch, 0)
        assert main([*arguments, "--resume"]) == 3, "the broken video is still broken"
    assert read == [str(broken), videos[1], videos[2]], "what failed, what lacks its picture, and what is new"
    assert list(dict.fromkeys(row["file"] for row in csv.DictReader(csv_file.open()))) == videos
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(f"t-{Path(one).stem}.png" for one in videos)
    broken.write_bytes(Path(videos[0]).read_bytes())
    with monkeypatch.context() as patch:
        read = stop_at(patch, 0)
        assert main([*arguments, "--resume"]) == 0
    assert read == [str(broken)]


def test_an_error_that_nobody_foresaw_concerns_one_video(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 2, ZeroDivisionError)
    with pytest.raises(PartialResultError) as raised:
        predict(videos, model_folder, files(tmp_path, "csv", "json"))
    assert list(results_of(tmp_path / "t.json")) == [videos[0], videos[2]] and (tmp_path / "t.csv").is_file()
    assert raised.value.unusable == {
        videos[1]: f"{videos[1]} cannot be analysed (ZeroDivisionError); convert it, or report this error."
    }


def test_sigterm_keeps_what_is_done_and_says_so(
    model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    called = predict_module.EmotionTimelinePipeline.__call__

    def run(pipeline, source, *args, **kwargs):
        if source.name == videos[1]:
            os.kill(os.getpid(), signal.SIGTERM)
        return called(pipeline, source, *args, **kwargs)

    monkeypatch.setattr(predict_module.EmotionTimelinePipeline, "__call__", run)
    arguments = ["predict", *videos, "--model", str(model_folder), "--face-crop", "none"]
    arguments += ["--csv", str(tmp_path / "t.csv"), "--subtitles", str(tmp_path / "t.vtt")]
    assert main(arguments) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    said = capsys.readouterr().out
    assert "Interrupted: 1 of 3 videos have their results" in said and "%" in said, "and the answer is printed"
    assert {row["file"] for row in csv.DictReader((tmp_path / "t.csv").open())} == {videos[0]}
    assert len(list(tmp_path.glob("t-*.vtt"))) == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "subtitles", "elan", "textgrid", "plot", "annotate"])
def test_a_full_disk_names_the_place_and_the_answers_are_printed(
    kind: str, model_folder: Path, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    ending = {"subtitles": "vtt", "elan": "eaf", "textgrid": "TextGrid", "plot": "png", "annotate": "mp4"}
    full = tmp_path / "full" / f"t.{ending.get(kind, kind)}"

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if kind == "jsonl":
        monkeypatch.setattr(predict_module.ResultLog, "add", fail)
    else:
        replace = os.replace
        monkeypatch.setattr(os, "replace", lambda a, b: fail() if Path(b).parent == full.parent else replace(a, b))
    arguments = ["predict", videos[0], "--model", str(model_folder), "--face-crop", "none"]
    assert main([*arguments, f"--{kind}", str(full), "--segments-csv", str(tmp_path / "s.csv")]) == 2
    said = capsys.readouterr()
    assert f"error: Cannot write {full}: No space left on device in {full.parent}; make room" in said.err
    assert "%" in said.out, "the answer"
    assert (tmp_path / "s.csv").is_file(), "what can be written is"
    assert [path.name for path in full.parent.iterdir()] == (["t.jsonl"] if kind == "jsonl" else [])


def test_options_of_long_lists_that_do_not_fit(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    def refused(sentence: str, batch: Batch, outputs: PredictionFiles | None = None) -> None:
        with pytest.raises(UserError, match=sentence):
            predict(videos, model_folder, outputs, batch=batch)

    found = tmp_path / "found.jsonl"
    refused("--resume needs the file to continue", Batch(resume=True))
    refused("A part of a list needs a file for its results", Batch(shard=Shard(1, 2)))
    refused("t.csv would contain all videos", Batch(found, shard=Shard(1, 2)), files(tmp_path, "csv"))
    refused("is a folder; name the file to write", Batch(tmp_path))
    refused("is read as well, and would be overwritten", Batch(Path(videos[0])))
    refused("is read as well", Batch(tmp_path / "t.json"), files(tmp_path, "json"))
    assert list(tmp_path.iterdir()) == []


def test_outputs_never_replace_videos(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    own = shutil.copy(videos[0], tmp_path / "t.mp4")
    other = shutil.copy(videos[1], tmp_path / "t-other.mp4")
    shutil.copy(videos[1], tmp_path / "other.mp4")
    for given in ([own], [str(own), str(tmp_path / "other.mp4"), str(other)]):
        with pytest.raises(UserError, match=r"t(-other)?\.mp4 is read as well, and would be overwritten"):
            predict(list(map(str, given)), model_folder, files(tmp_path, "mp4"))
    assert own.read_bytes() == Path(videos[0]).read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1, "b": [2, 3]}',  # without a line end, so that nothing of it is a complete line
        '{"kind": "ruin',
        '{"kind": "run", "schema_version": 1}\n',
        '{"kind": "again"}\n{"file": "a.mp4", "result": {}}\n',
    ],
)
def test_a_file_of_something_else_is_not_resumed(
    model_folder: Path, videos: list[str], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mine\.json"):
        predict(videos[:1], model_folder, batch=Batch(path, resume=True))
    assert path.read_text() == content


def test_a_log_that_was_cut_off_in_its_first_line_is_resumed(
    model_folder: Path, videos: list[str], tmp_path: Path
) -> None:
    predict(videos[:1], model_folder, batch=Batch(tmp_path / "whole.jsonl"))
    for size in (5, 30, 60):
        path = tmp_path / f"cut-{size}.jsonl"
        path.write_bytes((tmp_path / "whole.jsonl").read_bytes()[:size])
        assert list(predict(videos[:1], model_folder, batch=Batch(path, resume=True))) == videos[:1]


def test_parts_are_not_overwritten_by_what_is_joined(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    part = tmp_path / "part.jsonl"
    predict(videos[:1], model_folder, batch=Batch(part))
    before = part.read_bytes()
    with pytest.raises(UserError, match="is read as well"):
        join([part], PredictionFiles(json=part))
    assert part.read_bytes() == before


def test_pictures_are_not_written_among_the_frames_that_are_read(model_folder: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number,) * 3).save(frames / f"{number}.png")
    with pytest.raises(UserError, match="would become a frame of"):
        predict([str(frames)], model_folder, PredictionFiles(plot=frames / "plot.png"))
    assert len(list(frames.iterdir())) == 3


def test_files_of_parts_have_names_of_the_whole_list(model_folder: Path, videos: list[str], tmp_path: Path) -> None:
    names = set()
    for number in (1, 2, 3):
        batch = Batch(tmp_path / "found.jsonl", shard=Shard(number, 3))
        predict(videos, model_folder, files(tmp_path, "vtt"), PredictionOptions({"face_crop": "none"}), batch)
        new = {path.name for path in tmp_path.glob("t*.vtt")} - names
        assert len(new) == 1 and "t.vtt" not in new
        names |= new
    whole = tmp_path / "whole"
    predict(videos, model_folder, files(whole, "vtt"), PredictionOptions({"face_crop": "none"}))
    assert {path.name for path in whole.glob("t*.vtt")} == names


RUN_CLI = "import sys; from tgdfer.command_line import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["two processes", "accelerate"])
def test_parts_of_two_processes_are_joined(
    launch: str, model_folder: Path, clips_folder: Path, videos: list[str], tmp_path: Path
) -> None:
    everything = sorted(str(path) for path in clips_folder.glob("test/*/*.mp4"))
    found = tmp_path / "found.jsonl"
    predicting = ["predict", str(clips_folder / "test"), "--model", str(model_folder), "--face-crop", "none"]
    predicting += ["--jsonl", str(found)]
    if launch == "accelerate":
        # On a machine without GPUs, this flag alone makes it start several processes.
        launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
        subprocess.run([sys.executable, *launcher, "-m", "tgdfer", *predicting], check=True)
    else:
        commands = [[sys.executable, "-c", RUN_CLI, *predicting, "--shard", f"{number}/2"] for number in (1, 2)]
        processes = [subprocess.Popen(command) for command in commands]
        assert [process.wait() for process in processes] == [0, 0]
    parts = sorted(tmp_path.glob("found-*.jsonl"))
    assert [path.name for path in parts] == ["found-00001-of-00002.jsonl", "found-00002-of-00002.jsonl"]
    joined, alone = tmp_path / "joined.json", tmp_path / "alone.json"
    assert main(["join", *map(str, parts), "--json", str(joined)]) == 0
    predict(everything, model_folder, PredictionFiles(json=alone), PredictionOptions({"face_crop": "none"}))
    together, one = results_of(joined), results_of(alone)
    assert set(together) == set(one) == set(everything)
    for video in everything:
        assert together[video]["people"][0]["scores"] == pytest.approx(one[video]["people"][0]["scores"], abs=1e-5)


@pytest.mark.slow
def test_a_killed_list_is_resumed(model_folder: Path, clips_folder: Path, tmp_path: Path) -> None:
    """The process is killed as the system does it, without a chance to clean up."""
    found = tmp_path / "found.jsonl"
    arguments = ["predict", str(clips_folder), "--model", str(model_folder), "--face-crop", "none"]
    arguments += ["--jsonl", str(found), "--json", str(tmp_path / "t.json")]
    process = subprocess.Popen([sys.executable, "-c", RUN_CLI, *arguments])
    while process.poll() is None and (not found.exists() or found.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = found.read_bytes()
    assert not (tmp_path / "t.json").exists() and before.count(b"\n") >= 4
    assert main([*arguments, "--resume"]) == 0
    after = found.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1]) and after.count(b"\n") == 31
    assert len(results_of(tmp_path / "t.json")) == 30
