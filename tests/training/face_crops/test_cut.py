"""Cutting the faces out of a data set: crops, metadata, interrupted runs and mistakes."""

import errno
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tgdfer.command_line import main
from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.face_crops import cut as faces
from tgdfer.training.face_crops import cut_clip, cut_faces
from tgdfer.training.face_crops.sources import find_jobs

from .conftest import SETTINGS, squares, write


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
    out, cut = tmp_path / "out", faces.cut_clip
    done = []

    def stops(job):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(job.file)
        return cut(job)

    monkeypatch.setattr(faces, "cut_clip", stops)
    with pytest.raises(KeyboardInterrupt):
        cut_faces(clips, out, SETTINGS)
    with (out / "clips.jsonl").open("a") as log:
        log.write('{"file": "train/jo')  # the line at which it was cut off
    monkeypatch.setattr(faces, "cut_clip", lambda job: [done.append(job.file), cut(job)][1])
    report = cut_faces(clips, out, SETTINGS)
    assert sorted(done) == ["train/fear/c.mp4", "train/joy/a.mp4", "train/joy/b.avi"]
    assert cut_faces(clips, out, SETTINGS) == report and len(done) == 3
    # What has changed, or whose crop is gone, is done anew.
    write(clips / "train" / "joy" / "a.mp4", [True] * 8)
    (out / "train" / "joy" / "b.mp4").unlink()
    assert cut_faces(clips, out, SETTINGS)["frames"] == 20 and len(done) == 5


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


def test_an_error_that_nobody_foresaw_concerns_one_clip(clips, tmp_path, monkeypatch):
    """The clip is tried again the next time; a full disk concerns all clips and ends the run."""
    out, read = tmp_path / "out", cut_clip.open_video

    def fails(error):
        def open_or_fail(source):
            if source.name == "a.mp4":
                raise error
            return read(source)

        return open_or_fail

    for error, told in [
        (ZeroDivisionError("by\nnothing"), "ZeroDivisionError: by nothing"),
        (MemoryError(), "MemoryError"),
        (PermissionError(13, "Permission denied", str(clips / "a.mp4")), "PermissionError: .* Permission denied.*"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(cut_clip, "open_video", fails(error))
            with pytest.raises(PartialResultError) as raised:
                cut_faces(clips, out, SETTINGS)
        (sentence,) = raised.value.unusable.values()
        assert re.fullmatch(rf"train/joy/a.mp4 cannot be cut \({told}\); convert it, or report this error.", sentence)
        assert (out / "train" / "joy" / "b.mp4").is_file() and not (out / "train" / "joy" / "a.mp4").exists()
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device", str(out / "train" / "joy" / "a.mp4"))
        patch.setattr(cut_clip, "open_video", fails(full))
        with pytest.raises(OSError, match="No space left"):
            cut_faces(clips, out, SETTINGS)
    assert cut_faces(clips, out, SETTINGS)["unreadable"] == {}


def test_a_clip_that_disappears_concerns_no_other(clips, tmp_path):
    jobs = find_jobs(clips, tmp_path / "out", SETTINGS)
    jobs[0].source.unlink()
    row = cut_clip.cut_clip(jobs[0])
    assert row["source"] is None and "does not exist; check the path" in row["error"]


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


def test_several_people_have_a_file_each(tmp_path, monkeypatch):
    def two(picture):
        (one,) = squares(picture)
        other = one.copy()
        other[0] += 70
        other[2:4] /= 2
        other[4:14:2] += 70
        return np.stack([other, one])

    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda name, model: two)
    write(tmp_path / "clips" / "a.mp4", [True] * 4)
    (tmp_path / "clips" / "metadata.jsonl").write_text('{"file_name": "a.mp4", "intensity": [0, 1, 2, 3]}\n')
    cut_faces(tmp_path / "clips", tmp_path / "out", FaceSettings(crop="all", detector="yunet", size=48))
    lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file_name": f"a-{number}.mp4", "intensity": [0, 1, 2, 3]} for number in (1, 2)
    ]
    large, small = (TGDFERVideoProcessor().read_clip(tmp_path / "out" / f"a-{number}.mp4")[0] for number in (1, 2))
    assert large[:, :, 24, 24].float().mean() > 200 > small[:, :, 24, 24].float().mean()


def test_what_cannot_be_is_one_sentence(clips, tmp_path):
    for source, output, settings, sentence in [
        (tmp_path / "none", "out", SETTINGS, "none does not exist"),
        (clips, "clips/out", SETTINGS, "contains the other"),
        (clips, "out", FaceSettings(crop="none"), 'are "none": choose largest'),
        (clips, "out", FaceSettings(detector="yunet", size=49), "must be even"),
    ]:
        with pytest.raises(UserError, match=sentence):
            cut_faces(source, tmp_path / output, settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no videos"):
        cut_faces(tmp_path / "empty", tmp_path / "out", SETTINGS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match="is not empty and contains no crops"):
        cut_faces(clips, tmp_path / "full", SETTINGS)
    cut_faces(clips, tmp_path / "crops", SETTINGS)
    with pytest.raises(UserError, match="has crops with other settings"):
        cut_faces(clips, tmp_path / "crops", FaceSettings(detector="yunet", size=64))


def test_crops_of_several_people_have_names_of_their_own(tmp_path):
    """Those of a.mp4 would otherwise be a-1.mp4 and a-2.mp4."""
    for name in ("a", "a-1", "a-2b", "c"):
        write(tmp_path / "clips" / f"{name}.mp4", [True])

    def outputs(crop):
        jobs = find_jobs(tmp_path / "clips", tmp_path / "out", replace(SETTINGS, crop=crop))
        return [job.output for job in jobs]

    assert outputs("all") == ["a-1.mp4", "a-2b.mp4", "a.mp4.mp4", "c.mp4"]
    assert outputs("largest") == ["a-1.mp4", "a-2b.mp4", "a.mp4", "c.mp4"]


def test_metadata_as_in_training(tmp_path):
    """With a mark at its start, a blank line, a line separator in a text, and a name in the other normal form."""
    write(tmp_path / "clips" / "caf\u00e9.mp4", [True] * 3)
    text = '\ufeff{"file_name": "cafe\u0301.mp4", "label": "joy", "note": "a\u2028b"}\n\n'
    (tmp_path / "clips" / "metadata.jsonl").write_text(text, encoding="utf-8")
    report = cut_faces(tmp_path / "clips", tmp_path / "out", SETTINGS)
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().split("\n") if line)
    assert row == {"file_name": "caf\u00e9.mp4", "label": "joy", "note": "a\u2028b"}
    assert report["mismatches"] == {"missing": [], "unlisted": [], "frames": {}}


def test_metadata_of_other_formats(tmp_path):
    write(tmp_path / "clips" / "a.mp4", [True] * 3)
    (tmp_path / "clips" / "metadata.csv").write_text("file_name,label,person\na.mp4,joy,p1\n")
    cut_faces(tmp_path / "clips", tmp_path / "out", SETTINGS)
    row = json.loads((tmp_path / "out" / "metadata.jsonl").read_text())
    assert row == {"file_name": "a.mp4", "label": "joy", "person": "p1"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("{", "cannot be read"), ('{"label": "joy"}', "has no file_name"), ('{"file_name": "a", "frames": "x"}', "not")],
)
def test_metadata_are_checked_before_anything_is_cut(line, sentence, tmp_path):
    write(tmp_path / "clips" / "a.mp4", [True] * 3)
    (tmp_path / "clips" / "metadata.jsonl").write_text(line)
    with pytest.raises(UserError, match=sentence):
        cut_faces(tmp_path / "clips", tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out" / "a.mp4").exists()
