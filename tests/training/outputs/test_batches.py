"""Long lists: JSON lines that survive a kill, parts of a list, and how parts are joined."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_predictions import two_people

from tgdfer.training.errors import UserError
from tgdfer.training.outputs import PredictionFiles, ResultLog, Run, Shard, join, read_part

RUN = Run("tgdfer-tiny", "abc", ["happiness", "neutral", "sadness"], {"interval": None})


@pytest.fixture
def videos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "videos" / f"{number}.mp4" for number in range(1, 12)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(b"video")
    return [str(path) for path in paths]


def log(path: Path, videos: list[str], run: Run = RUN, resume: bool = True) -> ResultLog:
    return ResultLog(path, run, Shard(), videos, len(videos), resume)


def test_each_result_is_there_as_soon_as_it_is_added(videos: list[str], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "found.jsonl"
    kept = log(path, videos, resume=False)
    for number, video in enumerate(videos[:2], 1):
        kept.add(video, two_people())
        assert list(read_part(path).results) == videos[:number]
    kept.add_error(videos[2], "it is empty")
    part = read_part(path)
    assert part.run == RUN and part.errors == {videos[2]: "it is empty"} and part.videos == videos
    assert part.results[videos[0]] == two_people()


def test_a_torn_line_is_cut_off_wherever_it_was_torn(videos: list[str], tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    kept = log(path, videos)
    kept.add(videos[0], two_people())
    whole = path.stat().st_size
    kept.add(videos[1], two_people())
    data = path.read_bytes()
    for end in (whole, whole + 1, whole + 70, len(data) - 1):
        path.write_bytes(data[:end])
        assert list(read_part(path).results) == videos[:1]
        again = log(path, videos)
        assert list(again.part.results) == videos[:1] and path.read_bytes() == data[:whole]
        again.add(videos[1], two_people())
        assert path.read_bytes() == data
    path.write_bytes(data[:30])  # not even the first line
    assert read_part(path).run is None and log(path, videos).part.results == {}
    assert read_part(path).run == RUN
    long = data + b"x" * 200_000
    path.write_bytes(long)
    log(path, videos)
    assert path.read_bytes() == data


def test_a_result_counts_for_the_same_file_model_and_options(videos: list[str], tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    kept = log(path, videos)
    for video in videos[:3]:
        kept.add(video, two_people())
    kept.add_error(videos[3], "it is empty")
    assert list(log(path, videos).part.lines) == videos[:3], "errors are tried again"
    Path(videos[0]).write_bytes(b"longer video")
    os.utime(videos[1], (1, 1))
    assert list(log(path, videos).part.lines) == videos[2:3]
    renamed = replace(RUN, model="/another/path/of/it")
    assert list(log(path, videos, renamed).part.lines) == videos[2:3]
    assert list(read_part(path).lines) == videos[2:3], "the part is not finished before the others are done again"
    for other in (replace(RUN, weights="def"), replace(RUN, options={"interval": 0.5})):
        assert log(path, videos, other).part.lines == {} == read_part(path).lines
    log(path, videos[1:]).add(videos[5], two_people())
    part = read_part(path)
    assert (part.videos, list(part.lines), part.run) == (videos[1:], [videos[5]], RUN)


def test_a_file_is_not_written_over(videos: list[str], tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    log(path, videos)
    with pytest.raises(UserError, match="found.jsonl already exists; add --resume"):
        log(path, videos, resume=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hello\n", "contains a line that is not valid JSON"),
        ("[1]\n", "contains a line that is not valid JSON"),
        ('{"a": 1}\n', "Line 1 of .* is not a result of tgdfer predict --jsonl"),
        ('{"kind": "run", "schema_version": 9}\n', "has the schema version 9"),
    ],
)
def test_other_files_are_left_alone(text: str, sentence: str, videos: list[str], tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        log(path, videos)
    assert path.read_text() == text


def test_parts_do_not_overlap_and_miss_nothing(videos: list[str]) -> None:
    parts = [Shard(number, 3).of(videos[::-1]) for number in (1, 2, 3)]
    assert sorted(video for part in parts for video in part) == sorted(videos)
    assert parts[0] == [videos[0], videos[3], videos[6], videos[9]], "sorted: 2 comes before 10"
    assert Shard().of(videos[::-1]) == videos[::-1]
    assert Shard(3, 16).path(Path("a/found.jsonl")) == Path("a/found-00003-of-00016.jsonl")


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/2"])
def test_misspelt_parts(text: str) -> None:
    with pytest.raises(UserError, match="must be like 3/16"):
        Shard.parse(text)


def test_part_of_a_process() -> None:
    assert Shard.parse("3/16") == Shard(3, 16)
    assert Shard.from_environment({"RANK": "2", "WORLD_SIZE": "4"}) == Shard(3, 4)
    assert Shard.from_environment({}) == Shard() and not Shard().is_part


def write_parts(folder: Path, videos: list[str], count: int = 3, run: Run = RUN) -> list[Path]:
    paths = []
    for number in range(1, count + 1):
        shard = Shard(number, count)
        own, path = shard.of(videos), shard.path(folder / "found.jsonl")
        kept = ResultLog(path, run, shard, own, len(videos))
        for video in own:
            if video == videos[4]:
                kept.add_error(video, f"{video} is empty")
            else:
                kept.add(video, two_people())
        paths.append(path)
    return paths


def test_parts_are_joined_as_if_there_were_one(videos: list[str], tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path / "t.csv", json=tmp_path / "t.json", subtitles=tmp_path / "t.srt")
    results, errors = join(write_parts(tmp_path, videos)[::-1], files)
    assert list(results) == videos[:4] + videos[5:] and list(errors) == [videos[4]]
    document = json.loads((tmp_path / "t.json").read_text())
    assert [one["file"] for one in document["results"]] == list(results)
    assert document["errors"] == [{"file": videos[4], "error": f"{videos[4]} is empty"}]
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert list(dict.fromkeys(row["file"] for row in rows)) == list(results)
    assert len(list(tmp_path.glob("t-*.srt"))) == 10


def change(path: Path, **values: Any) -> None:
    head, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(head), **values}) + "\n" + "".join(rest))


def test_parts_that_do_not_fit_are_refused_in_one_sentence(videos: list[str], tmp_path: Path) -> None:
    first, second, third = write_parts(tmp_path, videos)
    nothing = PredictionFiles(csv=tmp_path / "t.csv")

    def refused(sentence: str, *paths: Path) -> None:
        with pytest.raises(UserError, match=sentence) as error:
            join(paths, nothing)
        assert "\n" not in str(error.value) and not (tmp_path / "t.csv").exists()

    refused("These of the 3 parts are missing: 2; ", first, third)
    refused(r"found-00001-of-00003.jsonl and .* are both part 1; ", first, second, third, first)
    other = tmp_path / "other"
    other.mkdir()
    (weights,) = write_parts(other, videos, 1, replace(RUN, weights="def"))
    refused("are of different models", first, weights)
    weights.unlink()
    (options,) = write_parts(other, videos, 1, replace(RUN, options={"interval": 1.0}))
    refused("were made with different options", first, options)
    options.unlink()
    (whole,) = write_parts(other, videos, 1)
    refused("are parts of different lists", first, second, third, whole)
    text = second.read_text()
    second.write_text("".join(text.splitlines(keepends=True)[:-1]))
    refused(r"found-00002-of-00003.jsonl has 3 of its 4 videos: finish it with --resume", first, second, third)
    second.write_text("")
    refused("found-00002-of-00003.jsonl is empty: finish this part", first, second, third)
    second.write_text(text.replace(videos[1], videos[0]))
    refused(f"both have {videos[0]}", first, second, third)
    refused("Cannot read .*none.jsonl: No such file", tmp_path / "none.jsonl")
