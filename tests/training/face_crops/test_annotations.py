"""Lists of clips."""

import pytest

from tgdfer.training.errors import UserError
from tgdfer.training.face_crops import cut_faces, read_annotations

from .conftest import SETTINGS, write


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
        ("a.csv", "label,clip,frames\n1\n", "row '1' lacks the name of its clip or a column"),
        ("a.csv", "clip,frames\na.mp4\n", "row 'a.mp4' lacks"),
        ("a.csv", "clip,frames\n,12\n", "row ',12' lacks"),
        ("a.csv", "clip,frames\na.mp4,12.5\n", "'12.5' is not a number of frames"),
        ("a.csv", "clip,frames\na.mp4,many\n", "'many' is not a number of frames"),
        ("a.csv", f"clip\ta,b\n{'x' * 200_000}\t1\n", "field larger than field limit"),
        ("a.jsonl", '{"label": "joy"}\n', "names no clip"),
        ("a.jsonl", '["a.mp4", 12]\n', "names no clip"),
        ("a.jsonl", '{"clip": "a", "frames": [1, 2]}\n', r"\[1, 2\] is not a number of frames"),
        ("a.jsonl", '{"clip": "a"\n', "is not a list of clips"),
    ],
)
def test_lists_that_cannot_be_read_are_one_sentence(name, text, reason, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(
        UserError,
        match=rf"{name} [^\n]*{reason}[^\n]*: give a CSV file, JSON lines, or a text file with one clip per line\.$",
    ):
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
