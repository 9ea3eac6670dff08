"""What the report of the crops says, and what is printed."""

import pytest

from tgdfer.command_line import main
from tgdfer.training.errors import UserError
from tgdfer.training.face_crops import cut_faces

from .conftest import SETTINGS, write


def test_videos_of_other_names_are_reported(clips, tmp_path, capsys):
    for name in ("x.divx", "train/y.RM", ".hidden.divx", "notes.txt"):
        (clips / name).write_bytes(b"")
    assert cut_faces(clips, tmp_path / "out", SETTINGS)["skipped"] == ["train/y.RM", "x.divx"]
    main(["faces", str(clips), str(tmp_path / "out"), "--face-detector", "yunet", "--size", "48"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "Files skipped because they do not have the suffix of a video (2): train/y.RM, x.divx" in printed
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.divx").write_bytes(b"")
    with pytest.raises(UserError, match=r"only files such as a\.divx: name the folder"):
        cut_faces(tmp_path / "only", tmp_path / "other", SETTINGS)


def test_data_sets_that_are_aligned_already_are_told(tmp_path):
    for number in range(3):
        write(tmp_path / "clips" / f"{number}.mp4", [True] * 3, width=112, height=112, side=100)
    report = cut_faces(tmp_path / "clips", tmp_path / "out", SETTINGS)
    assert report["aligned"] == 3 and 'face_crop "none"' in report["advice"]


def test_the_command(clips, tmp_path, capsys):
    out = tmp_path / "[/out]"
    words = ["faces", str(clips), str(out), "--face-detector", "yunet", "--size", "48", "--workers", "1"]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "[/out], the report in" in printed
    assert "3 clips with 18 frames, 8 of them without a face" in printed
    assert "Clips without a face (1): train/fear/c.mp4" in printed and "report.json" in printed
