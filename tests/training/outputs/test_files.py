"""The files of predictions, read back by libraries that read them."""

import csv
import errno
import io
import json
import os
import sys
import unicodedata
from pathlib import Path

import jsonschema
import pysubs2
import pytest
import webvtt
from made_up_predictions import of_frames, person, prediction, segment, two_people
from praatio import textgrid
from pympi import Eaf

from tgdfer.training.errors import UserError
from tgdfer.training.files import printable, write_text
from tgdfer.training.outputs import PredictionFiles, Run, load_schema, output_paths, short_names
from tgdfer.training.outputs.annotations import write_elan, write_textgrid
from tgdfer.training.outputs.document import document, json_text
from tgdfer.training.outputs.names import format_time
from tgdfer.training.outputs.subtitles import subtitles
from tgdfer.training.outputs.tables import frame_table, segment_table

RUN = Run("tgdfer-tiny", "abc", ["happiness", "neutral", "sadness"], {"interval": None})
RESULTS = {"a/grün 1.mp4": two_people(), "frames": of_frames()}
# A label that means something to XML, to a style and to a browser.
ODD = prediction(person(1, [segment('a "sly" <b>& {\\i1}smile', 0.0, 1.5)]))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_for_each_frame() -> None:
    found = rows(frame_table(RESULTS))
    people = [one for result in RESULTS.values() for one in result["people"]]
    assert len(found) == sum(len(one["frame_relevance"]) for one in people)
    assert [row["person"] for row in found[-2:]] == ["", ""] and found[-1]["left"] == ""
    assert [row["seconds"] for row in found[-2:]] == ["0.000", "0.040"]
    first = found[0]
    assert (first["file"], first["person"], first["label"], first["score"]) == (
        "a/grün 1.mp4",
        "1",
        "happiness",
        "0.8700",
    )
    assert [first[side] for side in ("left", "top", "right", "bottom")] == ["10.0", "20.0", "50.0", "60.5"]
    assert first["happiness"] == "0.3333"


def test_a_row_for_each_segment() -> None:
    found = rows(segment_table(RESULTS))
    assert [(row["person"], row["start"], row["end"], row["label"]) for row in found] == [
        ("1", "0.000", "1.800", "happiness"),
        ("1", "1.800", "4.100", "neutral"),
        ("1", "6.000", "9.250", "sadness"),
        ("2", "4.100", "5.000", "unsure"),
        ("2", "5.000", "12.400", "happiness"),
        ("", "0.000", "0.080", "happiness"),
    ]
    assert found[3]["candidates"] == "happiness or sadness"
    assert found[0]["sentence"] == "happiness, 0.0 s to 1.8 s: a sign of happiness"


def test_the_json_is_valid_by_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())
    text = json_text(document(RESULTS, {"b.mp4": "b.mp4 is empty"}, RUN))
    found = json.loads(text)
    jsonschema.Draft202012Validator(load_schema()).validate(found)
    assert found["schema_version"] == 1 and found["run"]["labels"] == RUN.labels
    assert [one["file"] for one in found["results"]] == list(RESULTS)
    assert {name: found["results"][0][name] for name in two_people()} == two_people()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.update(schema_version=2),
        lambda found: found["results"][0].pop("people"),
        lambda found: found["results"][0]["people"][0].update(score=1.2),
        lambda found: found["results"][0]["people"][0]["segments"][0].pop("label"),
        lambda found: found["results"][0]["people"][0]["explanation"].pop("spans"),
    ],
)
def test_the_schema_refuses_something_else(spoil) -> None:
    found = json.loads(json_text(document(RESULTS, {}, RUN)))
    spoil(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(load_schema()).validate(found)


def test_names_of_files_that_are_no_unicode(tmp_path: Path) -> None:
    """Linux takes any bytes, which Python keeps as surrogates."""
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    files = PredictionFiles(tmp_path / "t.csv", tmp_path / "s.csv", tmp_path / "t.json")
    files.write({name: two_people()}, {}, RUN, [name])
    assert json.loads((tmp_path / "t.json").read_text())["results"][0]["file"] == name
    assert rows((tmp_path / "s.csv").read_text())[0]["file"] == r"caf\udce9.mp4"


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mred\n\x9b.mp4") == "a\\x1b[31mred\\n\\x9b.mp4"
    assert printable("é 😀 caf\udce9") == "é 😀 caf\\udce9"


def test_webvtt(tmp_path: Path) -> None:
    path = tmp_path / "t.vtt"
    path.write_text(subtitles(two_people(), ".vtt"), encoding="utf-8")
    captions = webvtt.read(str(path)).captions
    assert [(one.start, one.end, one.text) for one in captions] == [
        ("00:00:00.000", "00:00:01.800", "person 1: happiness (83%)"),
        ("00:00:01.800", "00:00:04.100", "person 1: neutral (83%)"),
        ("00:00:04.100", "00:00:05.000", "person 2: unsure (happiness or sadness) (45%)"),
        ("00:00:05.000", "00:00:12.400", "person 2: happiness (83%)"),
        ("00:00:06.000", "00:00:09.250", "person 1: sadness (83%)"),
    ]
    assert 'a "sly" &lt;b&gt;&amp; (/i1)smile' in subtitles(ODD, ".vtt")


def test_srt() -> None:
    read = pysubs2.SSAFile.from_string(subtitles(two_people(), ".srt"), "srt")
    assert [(one.start, one.end, one.plaintext) for one in read][:2] == [
        (0, 1800, "person 1: happiness (83%)"),
        (1800, 4100, "person 1: neutral (83%)"),
    ]
    assert [one.plaintext for one in pysubs2.SSAFile.from_string(subtitles(ODD, ".srt"), "srt")] == [
        'person 1: a "sly" (b)& (/i1)smile (83%)'
    ]


def test_elan(tmp_path: Path) -> None:
    video = tmp_path / "grün.mp4"
    video.touch()
    path = tmp_path / "t.eaf"
    for _ in range(2):  # The library would rename a file that is there already.
        write_elan(two_people(), path, str(video))
    assert sorted(tmp_path.iterdir()) == sorted([video, path])
    read = Eaf(str(path))
    assert sorted(read.get_tier_names()) == sorted(
        f"person {number} {kind}" for number in (1, 2) for kind in ("expression", "probability")
    )
    assert sorted(read.get_annotation_data_for_tier("person 1 expression")) == [
        (0, 1800, "happiness"),
        (1800, 4100, "neutral"),
        (6000, 9250, "sadness"),
    ]
    assert sorted(read.get_annotation_data_for_tier("person 2 probability"))[0] == (4100, 5000, "0.45")
    (linked,) = read.get_linked_files()
    assert linked["MEDIA_URL"] == video.as_uri() and linked["RELATIVE_MEDIA_URL"] == "grün.mp4"
    write_elan(ODD, path)
    (annotation,) = Eaf(str(path)).get_annotation_data_for_tier("person 1 expression")
    assert annotation == (0, 1500, ODD["people"][0]["segments"][0]["label"])


def test_textgrid(tmp_path: Path) -> None:
    path = tmp_path / "t.TextGrid"
    write_textgrid(two_people(), path)
    assert list(tmp_path.iterdir()) == [path]
    read = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert (read.minTimestamp, read.maxTimestamp) == (0, 12.4)
    assert [tuple(one) for one in read.getTier("person 1 expression").entries] == [
        (0.0, 1.8, "happiness"),
        (1.8, 4.1, "neutral"),
        (6.0, 9.25, "sadness"),
    ]
    assert [one.label for one in read.getTier("person 2 probability").entries] == ["0.45", "0.83"]
    write_textgrid(ODD, path)
    read = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert [one.label for one in read.getTier("person 1 expression").entries] == [
        ODD["people"][0]["segments"][0]["label"]
    ]


def test_segments_without_a_length(tmp_path: Path) -> None:
    """A photograph is a clip of one frame."""
    found = prediction(person(1, [segment("neutral", 0.0, 0.0), segment("sadness", 0.0, 0.0)]), duration=0.0)
    write_elan(found, tmp_path / "t.eaf")
    assert sorted(Eaf(str(tmp_path / "t.eaf")).get_annotation_data_for_tier("person 1 expression")) == [
        (0, 1, "neutral"),
        (1, 2, "sadness"),
    ]
    write_textgrid(found, tmp_path / "t.TextGrid")
    assert textgrid.openTextgrid(str(tmp_path / "t.TextGrid"), False).maxTimestamp == 0.002
    assert len(pysubs2.SSAFile.from_string(subtitles(found, ".srt"), "srt")) == 2


def test_each_of_several_videos_has_its_own_files(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    files = PredictionFiles(subtitles=deep / "t.vtt", elan=deep / "t.eaf", textgrid=deep / "t.TextGrid")
    files.require_writable()
    files.write(RESULTS, {}, RUN, list(RESULTS))
    names = {f"t-{name}{suffix}" for name in ("grün 1", "frames") for suffix in (".vtt", ".eaf", ".TextGrid")}
    assert {path.name for path in deep.iterdir()} == names


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("subtitles", "t.txt", "t.txt is not a file name for subtitles: it must end in .vtt or .srt."),
        ("elan", "t.xml", "t.xml is not a file name for an ELAN file: it must end in .eaf."),
        ("textgrid", "t.txt", "t.txt is not a file name for a TextGrid: it must end in .TextGrid."),
        ("annotate", "t.png", "t.png is not a file name for a video: it must end in .mp4 or .mkv."),
        ("plot", "t.txt", "t.txt is not a file name for a figure: it must end in .png"),
        ("regions", "t.mp4", "t.mp4 is not a file name for a figure: it must end in .png"),
    ],
)
def test_endings(kind: str, name: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        PredictionFiles(**{kind: Path(name)}).require_writable()
    assert str(error.value).startswith(sentence)


def test_two_outputs_of_one_name() -> None:
    with pytest.raises(UserError, match="t.csv is named for two outputs"):
        PredictionFiles(csv=Path("t.csv"), segments_csv=Path("t.csv")).require_writable()


@pytest.mark.parametrize(
    ("module", "kind", "name"), [("pysubs2", "subtitles", "t.srt"), ("pympi.Elan", "elan", "t.eaf")]
)
def test_a_library_that_is_missing_is_one_sentence_before_anything_is_read(
    module: str, kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"needs the library \S+: `pip install \S+`\.$"):
        PredictionFiles(**{kind: tmp_path / name}).require_writable()


def test_a_file_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Eaf, "to_file", lambda self, path: Path(path).write_text("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_elan(two_people(), tmp_path / "t.eaf")
    assert list(tmp_path.iterdir()) == []


def test_names_of_outputs_do_not_depend_on_the_order() -> None:
    videos = ["b/clip.mp4", "b/clip.mov", "a/b.mp4"]
    assert output_paths(videos, Path("t.vtt")) == output_paths(videos[::-1], Path("t.vtt"))


def test_names_of_outputs_are_taken_by_every_file_system() -> None:
    videos = [
        "x/A.mp4",
        "x/a.mp4",
        "x/caf\udce9.mp4",
        "x/a:b?.mp4",
        "x/ge\u0302ne.mp4",
        "x/g\u00eane.mp4",
        "x/con.mp4",
    ]
    paths = output_paths(videos, Path("t.png"))
    names = [path.name for path in paths.values()]
    assert names[:2] == ["t-A.png", "t-a-2.png"] and names[2].encode() and names[3] == "t-a-b-.png"
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(videos)


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u60b2", "\U0001f600"])
def test_long_names_leave_room_for_what_is_added(letter: str, tmp_path: Path) -> None:
    """The longest name of a video is as long as its file system allows, and so is that of the output."""
    long = letter * (251 // len(letter.encode()))
    paths = output_paths([f"a/{long}.mp4", f"b/{long}.mp4"], tmp_path / f"{long}.vtt")
    for path in paths.values():
        write_text(path, "x")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / f"{long}.csv", "x")


def test_a_name_that_is_too_long_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the name is too long; give a shorter one"):
        PredictionFiles(csv=tmp_path / f"{'x' * 300}.csv").require_writable()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_place_that_is_full_or_closed_is_named_and_keeps_no_temporary_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError) as refused:
        write_text(tmp_path / "t.csv", "x")
    assert refused.value.filename == str(tmp_path / "t.csv") and list(tmp_path.iterdir()) == []


def test_short_names_tell_videos_apart() -> None:
    assert short_names(["x/fear/1.mp4"]) == {"x/fear/1.mp4": "1.mp4"}
    assert short_names(["x/fear/1.mp4", "x/anger/1.mp4"]) == {
        "x/fear/1.mp4": "fear/1.mp4",
        "x/anger/1.mp4": "anger/1.mp4",
    }
    assert len(set(output_paths(["a/1.mp4", "a/1.avi"], Path("t.png")).values())) == 2
    assert short_names(["-"]) == {"-": "standard input"}


def test_moments_are_told_to_a_tenth() -> None:
    assert [format_time(seconds) for seconds in (0, 1.9000000953674316, 59.96, 63.5, 3723.04)] == [
        "0:00.0",
        "0:01.9",
        "1:00.0",
        "1:03.5",
        "1:02:03.0",
    ]
