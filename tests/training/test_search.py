"""Search in videos: the cache of indexes, the files, the table and the figure."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tgdfer.command_line import main
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import SearchReference
from tgdfer.training.cache import cached_files
from tgdfer.training.config import ModelConfig
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.figures.moments import draw_strips, face_picture
from tgdfer.training.models import start_model
from tgdfer.training.moment_pictures import MAX_PICTURES, footnote, read_pictures, strips_of
from tgdfer.training.outputs.moments import MomentFiles, MomentResults, moment_subtitles, print_moments
from tgdfer.training.search import Query, find

PHRASES = ["raised brows", "eyes closed"]


@pytest.fixture(scope="module")
def model_folder(clip_folder, descriptions_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    options = {"model": str(clip_folder), "descriptions": str(descriptions_file), "num_frames": 4}
    model, processor = start_model(ModelConfig(**options, frozen_features=True), ["happiness", "neutral", "sadness"])
    processor.search_reference = SearchReference.fit(torch.randn(100, 16)).to_dict()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def videos(clips_folder, tmp_path, monkeypatch) -> list[str]:
    """Two videos, and an empty cache."""
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "cache"))
    found = []
    for number, path in enumerate(sorted((clips_folder / "test").rglob("*.mp4"))[:2]):
        found.append(str(shutil.copy(path, tmp_path / f"video{number}.mp4")))
    return found


@pytest.fixture
def reads(monkeypatch) -> list:
    """Counts how often a video is read."""
    calls, index = [], EmotionSearchPipeline.index
    monkeypatch.setattr(
        EmotionSearchPipeline, "index", lambda self, *args, **kw: calls.append(1) or index(self, *args, **kw)
    )
    return calls


def query(**options) -> Query:
    return Query(PHRASES, **{"min_score": -9.0, **options})


def test_a_video_is_read_once(model_folder, videos, reads):
    first = find(videos, query(), model_folder)
    assert len(reads) == 2 and len(cached_files()) == 2
    assert find(videos, query(), model_folder).phrases == first.phrases and len(reads) == 2
    # Another phrase does not read the videos again, but a changed video is read.
    find(videos, Query(["a smile"]), model_folder)
    assert len(reads) == 2
    shutil.copy(videos[1], videos[0])
    changed = find(videos, query(), model_folder)
    assert len(reads) == 3 and changed.phrases != first.phrases
    # Damaged files are replaced.
    for file in cached_files():
        file.path.write_bytes(b"x" * 100)
    assert find(videos, query(), model_folder).phrases == changed.phrases and len(reads) == 5


def test_a_cache_that_cannot_be_written_is_only_slow(model_folder, videos, reads, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "file"))
    found = find(videos, query(), model_folder)
    assert find(videos, query(), model_folder).phrases == found.phrases and len(reads) == 4


def test_files_have_the_moments(model_folder, videos, tmp_path):
    files = MomentFiles(*(tmp_path / f"t.{ending}" for ending in ("csv", "json", "vtt", "png")))
    found = find(videos, query(limit=3), model_folder, files)
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["phrases"] == found.phrases and document["schema_version"] == 1
    assert [video["file"] for video in document["videos"]] == videos and document["errors"] == []
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    moments = [(result["phrase"], moment) for result in found.phrases for moment in result["moments"]]
    assert len(rows) == len(moments) == 4
    for row, (phrase, moment) in zip(rows, moments, strict=True):
        assert (row["phrase"], row["file"]) == (phrase, moment["file"])
        assert float(row["score"]) == moment["score"] and float(row["start"]) == moment["start"]
    for number in range(2):
        subtitles = (tmp_path / f"t-video{number}.vtt").read_text()
        assert subtitles.startswith("WEBVTT") and "raised brows (" in subtitles and "eyes closed (" in subtitles
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_good_videos_are_searched_in_spite_of_bad_ones(model_folder, videos, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    files = MomentFiles(json=tmp_path / "t.json", subtitles=tmp_path / "t.vtt")
    with pytest.raises(PartialResultError, match=r"1 of 3 videos cannot be used.*\n.*bad.mp4"):
        find([*videos, str(bad)], query(), model_folder, files)
    with pytest.raises(PartialResultError):
        find([videos[0], str(bad)], query(), model_folder, MomentFiles(subtitles=files.subtitles))
    assert len(list(tmp_path.glob("t-*.vtt"))) >= 2 and not (tmp_path / "t.vtt").exists()
    document = json.loads((tmp_path / "t.json").read_text())
    assert len(document["videos"]) == 2 and document["errors"][0]["file"] == str(bad)
    with pytest.raises(UserError, match="bad.mp4"):
        find([str(bad)], query(), model_folder)


def test_a_model_without_a_reference_says_so(model_folder, videos, tmp_path, caplog):
    folder = shutil.copytree(model_folder, tmp_path / "old")
    config = json.loads((folder / "processor_config.json").read_text())
    del config["search_reference"]
    (folder / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="at least 32 frames"):
        find(videos, query(), folder)
    assert "has no reference faces" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (MomentFiles(csv=Path("a"), json=Path("a")), "is named for two outputs"),
        (MomentFiles(subtitles=Path("a.txt")), "must end in .vtt or .srt"),
        (MomentFiles(plot=Path("a.txt")), "is not a file name for a figure"),
        (MomentFiles(csv=Path(".")), "is a folder"),
    ],
)
def test_outputs_are_checked_before_videos_are_read(files, message, model_folder):
    with pytest.raises(UserError, match=message):
        find(["missing.mp4"], query(), model_folder, files)
    with pytest.raises(UserError, match="Standard input can be read only once"):
        find(["-"], query(), model_folder, MomentFiles(plot=Path("a.png")))


def test_outputs_never_replace_videos_and_pipes_have_no_pictures(model_folder, videos, tmp_path):
    own = str(shutil.copy(videos[0], tmp_path / "own.mp4"))
    with pytest.raises(UserError, match="own.mp4 is read as well, and would be overwritten"):
        find([own], query(), model_folder, MomentFiles(csv=Path(own)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe can be read only once, so --plot needs a file"):
        find([str(tmp_path / "pipe")], query(), model_folder, MomentFiles(plot=tmp_path / "a.png"))


def test_the_command_prints_moments_and_no_match(model_folder, videos, capsys):
    arguments = ["find", *videos, *PHRASES, "--model", str(model_folder)]
    assert main([*arguments, "--min-score", "-9", "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "raised brows" in shown and "video0.mp4" in shown + "video0.mp4" and "no match" not in shown
    assert main([*arguments, "--min-score", "99"]) == 0
    assert "no match" in capsys.readouterr().out


# Without a model


def results(moments: list[dict], phrase: str = "a {smile} <b>", files: tuple[str, ...] = ("v.mp4",)) -> MomentResults:
    best = max(moments, key=lambda one: one["score"], default=None)
    phrases = [{"phrase": phrase, "moments": moments, "best": best}]
    return MomentResults(phrases, dict.fromkeys(files, 9.0), {}, None, 1.5)  # type: ignore[arg-type]


def moment(score: float = 2.0, person: int | None = 1, **changes) -> dict:
    facts = {"file": "v.mp4", "score": score, "person": person, "time": 1.5, "frame": 30, "box": [2, 2, 12, 12]}
    return facts | {"start": 1.0, "end": 2.0} | changes


def test_phrases_cannot_change_the_format_of_subtitles():
    assert "person 1: a (smile) &lt;b&gt; (2.0)" in moment_subtitles(results([moment()]), "v.mp4", ".vtt")
    assert "a (smile) (b) (2.0)" in moment_subtitles(results([moment(person=None)]), "v.mp4", ".srt")


def test_the_table_names_people_only_where_there_are_some(capsys):
    print_moments(results([moment(), moment(1.7, 2)], "[/] smile"))
    shown = capsys.readouterr().out
    assert "person" in shown and "[/] smile" in shown and "1.7" in shown
    print_moments(results([moment(person=None)]))
    assert "person" not in capsys.readouterr().out
    print_moments(results([]))
    assert "No phrase reaches the minimum score of 1.5" in capsys.readouterr().out


def test_the_figure_has_a_picture_of_each_moment():
    many = [moment(9 - number / 10, frame=number) for number in range(MAX_PICTURES + 3)]
    picture = np.full((20, 20, 3), 200, np.uint8)
    found = results(many)
    figure = draw_strips(strips_of(found, {("v.mp4", 0, 1): picture}), footnote(found))
    assert len(figure.axes) == MAX_PICTURES
    assert figure.axes[0].images[0].get_array().max() == 200
    texts = " ".join(text.get_text() for text in figure.texts)
    assert "3 more moments not drawn" in texts and "9.0 · person 1" in texts and "0:01.0 to 0:02.0" in texts
    assert "no match" in " ".join(text.get_text() for text in draw_strips(strips_of(results([]), {})).texts)


def test_the_picture_of_a_face_is_the_square_around_its_box():
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[40:60, 150:170] = 255
    assert face_picture(picture, [150, 40, 170, 60])[60:100, 60:100].min() > 240
    assert face_picture(picture, [150, 40, 170, 60])[:20].max() < 20
    assert face_picture(picture, None).max() == 0  # the central square


def test_a_video_that_has_disappeared_has_no_picture():
    assert read_pictures(results([moment(file="/gone.mp4")]), lambda opened: opened) == {}
