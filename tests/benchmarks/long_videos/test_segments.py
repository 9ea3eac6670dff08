"""Methods that are compared on made-up videos, the interval of the difference, and the report."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.long_videos import __main__ as command
from benchmarks.long_videos import report, segments
from benchmarks.long_videos.segments import (
    ARGMAX,
    FIRST_CANDIDATES,
    PREDICTED,
    LongVideo,
    LongVideos,
    SegmentResults,
    argmax_segments,
    compare_methods,
    difference,
    measure_segments,
)
from tgdfer.training.errors import UserError

SECONDS = [0.1 * frame for frame in range(100)]
TRUE = {"label": "fear", "start": 2.0, "end": 5.0}


def predicted(label, start, end, score, *candidates):
    return {"label": label, "start": start, "end": end, "score": score, "candidates": list(candidates or [label])}


def video(*found, flicker=()):
    """Fear that is probable in its segment, except in frames that flicker, and the segments of the pipeline."""
    fear = [0.9 if TRUE["start"] <= second <= TRUE["end"] else 0.2 for second in SECONDS]
    for frame in flicker:
        fear[frame] = 0.3
    scores = {"fear": fear, "neutral": [1 - value for value in fear]}
    person = {
        "person": None,
        "label": "neutral",
        "score": 0.7,
        "candidates": ["neutral"],
        "scores": {"fear": 0.3, "neutral": 0.7},
        "warnings": [],
        "without_face": [],
        "timestamps": SECONDS,
        "frame_scores": scores,
        "frame_relevance": [0.01] * 100,
        "segments": list(found),
        "thumbnails": np.zeros((4, 96, 96, 3), np.uint8),
        "thumbnail_seconds": [1.0, 3.0, 5.0, 7.0],
    }
    result = {"people": [person], "duration": 10.0, "width": 96, "height": 96, "timestamps": SECONDS, "cuts": []}
    return LongVideo(result, [TRUE])


def test_argmax_segments_are_runs_of_one_class():
    curves = {"anger": [0.5, 0.5, 0.1, 0.1], "neutral": [0.1, 0.1, 0.8, 0.1], "fear": [0.4, 0.4, 0.1, 0.8]}
    found = argmax_segments({"people": [{"frame_scores": curves, "timestamps": [0.0, 1.0, 2.0, 3.0]}]})
    assert [(one["label"], one["start"], one["end"]) for one in found] == [
        ("anger", 0, 1.5),
        ("neutral", 1.5, 2.5),
        ("fear", 2.5, 3),
    ]
    assert [one["confidence"] for one in found] == [pytest.approx(0.5), pytest.approx(0.8), pytest.approx(0.8)]


def test_runs_of_one_person_do_not_continue_in_those_of_another():
    person = {"frame_scores": {"joy": [0.9, 0.9]}, "timestamps": [0.0, 1.0]}
    later = {**person, "timestamps": [5.0, 6.0]}
    found = argmax_segments({"people": [person, later]})
    assert [(one["start"], one["end"]) for one in found] == [(0.0, 1.0), (5.0, 6.0)]


def test_segments_of_the_pipeline_are_compared_with_the_runs_of_frames():
    """A flicker in the middle, which the segments of the pipeline bridge, cuts the run of frames in two."""
    whole = [predicted("neutral", 0, 2, 0.8), predicted("fear", 2, 5, 0.9), predicted("neutral", 5, 10, 0.8)]
    figures = compare_methods([video(*whole, flicker=[40])] * 3, draws=20)
    assert figures["segments"] == 3 and figures["unsure"] == 0 and figures["unsure_share"] == 0
    assert figures["found"] == {PREDICTED: 3, FIRST_CANDIDATES: 3, ARGMAX: 6}
    assert figures["methods"][PREDICTED]["map"] == pytest.approx(1.0)
    baseline = figures["methods"][ARGMAX]
    assert 0.5 <= baseline["map_50"] < 1, "the longer piece overlaps by two thirds, the other one is wrong"
    assert baseline["map_70"] == 0
    assert figures["differences"][PREDICTED] == pytest.approx([1 - baseline["map"]] * 3, abs=0.1)


def test_unsure_segments_name_no_emotion_but_have_a_first_candidate():
    unsure = [predicted("neutral", 0, 2, 0.8), predicted("unsure", 2, 5, 0.45, "fear", "neutral")]
    figures = compare_methods([video(*unsure)] * 2, draws=20)
    assert figures["unsure"] == 2 and figures["unsure_share"] == pytest.approx(0.6)
    assert figures["found"] == {PREDICTED: 0, FIRST_CANDIDATES: 2, ARGMAX: 2}
    assert figures["methods"][PREDICTED]["map"] == 0.0
    assert figures["methods"][FIRST_CANDIDATES]["map"] == pytest.approx(1.0)


def test_segments_are_ranked_by_their_score():
    wrong = predicted("fear", 7, 9, 0.6)
    low, high = (compare_methods([video(predicted("fear", 2, 5, score), wrong)], draws=1) for score in (0.5, 0.7))
    assert low["methods"][PREDICTED]["map"] == pytest.approx(0.5)
    assert high["methods"][PREDICTED]["map"] == pytest.approx(1.0)


def test_difference_is_over_videos_and_paired():
    found = [{**TRUE, "confidence": 0.9}]
    truths = [[TRUE]] * 6
    assert difference([found] * 6, [found] * 6, truths, draws=20) == [0.0, 0.0, 0.0]
    value, low, high = difference([found] * 6, [[]] * 6, truths, draws=20)
    assert value == low == high == pytest.approx(1.0)


def test_pipeline_is_measured_with_its_default_settings(tmp_path, monkeypatch):
    """The only option is for the picture, and the segments are those of the pipeline."""
    calls = []

    class Pipeline:
        def __init__(self, model, video_processor):
            assert (model, video_processor) == ("network", "video processor")

        def __call__(self, path, **options):
            calls.append((path, options))
            return video(predicted("fear", 2, 5, 0.9)).result

    class Processor:
        video_processor = "video processor"

    def write(folder, seconds, **options):
        assert (seconds, options["videos"], options["people"]) == (12.0, {"test": 2}, {"test": 2})
        (folder / "test").mkdir(parents=True)
        rows = [{"file_name": name, "segments": [TRUE]} for name in ("0000.mp4", "0001.mp4")]
        (folder / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr(segments, "write_long_videos", write)
    monkeypatch.setattr(segments, "EmotionTimelinePipeline", Pipeline)
    monkeypatch.setattr(segments, "model_source", lambda name: name)
    monkeypatch.setattr(segments, "load_trained", lambda name: ("network", Processor()))
    measured = measure_segments(tmp_path, "some-model", LongVideos(12.0, 2))
    paths = [str(tmp_path / "long" / "test" / name) for name in ("0000.mp4", "0001.mp4")]
    assert calls == [(path, {"thumbnails": 24}) for path in paths]
    assert measured.figures["videos"] == {"seconds": 12.0, "videos": 2, "seed": 1}
    assert measured.figures["found"][PREDICTED] == 2 and measured.figures["methods"][PREDICTED]["map"] == 1.0
    assert measured.example.segments == [predicted("fear", 2, 5, 0.9)]


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="choose another --work folder"):
        measure_segments(tmp_path, "some-model", LongVideos(12.0, 2))


def test_picture_shows_the_first_seconds(tmp_path):
    later = predicted("neutral", 5, 10, 0.8)
    whole = video(predicted("neutral", 0, 2, 0.8), predicted("fear", 2, 5, 0.9), later)
    whole.result["cuts"] = [2.5, 8.0]
    beginning = report.first_seconds(whole, 4.0)
    (person,) = beginning.result["people"]
    assert person["timestamps"] == beginning.result["timestamps"] == SECONDS[:40]
    assert len(person["frame_relevance"]) == len(person["frame_scores"]["fear"]) == 40
    assert person["segments"] == [predicted("neutral", 0, 2, 0.8), predicted("fear", 2, 4.0, 0.9)]
    assert person["thumbnail_seconds"] == [1.0, 3.0] and len(person["thumbnails"]) == 2
    assert (beginning.result["duration"], beginning.result["cuts"]) == (4.0, [2.5])
    assert beginning.truth == [TRUE | {"end": 4.0}]
    assert whole.segments[-1] == later and whole.truth == [TRUE], "the video itself stays whole"
    report.plot_timeline(beginning.result, tmp_path / "a.png", truth=beginning.truth)
    same = report.first_seconds(whole, 45.0)
    assert same.result["people"][0]["timestamps"] == SECONDS and same.result["duration"] == 10.0


def test_people_who_come_later_are_not_in_the_picture():
    both = video(predicted("fear", 2, 5, 0.9))
    later = {**both.result["people"][0], "timestamps": [50 + second for second in SECONDS]}
    both.result["people"].append(later)
    assert len(report.first_seconds(both, 45.0).result["people"]) == 1


@pytest.mark.parametrize("unsure", [0, 40])
def test_command_writes_report_and_figures_apart(unsure, tmp_path, monkeypatch):
    means = {"map_30": 0.7, "map_50": 0.6, "map_70": 0.4, "map": 0.5666}
    figures = {
        "videos": {"seconds": 12.0, "videos": 2, "seed": 1},
        "segments": 7,
        "unsure": unsure,
        "unsure_share": 0.251 if unsure else 0.0,
        "methods": {PREDICTED: means, FIRST_CANDIDATES: means, ARGMAX: means},
        "found": {PREDICTED: 8, FIRST_CANDIDATES: 9, ARGMAX: 20},
        "differences": {PREDICTED: [0.026, -0.009, 0.051], FIRST_CANDIDATES: [0.03, 0.01, 0.05]},
    }
    example = video(predicted("fear", 2, 5, 0.9))
    drawn = []
    monkeypatch.setattr(command, "measure_segments", lambda *a: SegmentResults(figures, example))
    monkeypatch.setattr(
        report, "plot_timeline", lambda *a, **options: drawn.append((a[0], options)) or a[1].write_bytes(b"picture")
    )
    out, facts = tmp_path / "docs" / "long.md", tmp_path / "figures" / "long.json"
    arguments = ["--out", str(out), "--figures", str(facts), "--seconds", "12", "--videos", "2"]
    answer = CliRunner().invoke(command.app, [*arguments, "--work", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    text, published = out.read_text(), "python -m benchmarks.long_videos --seconds 12 --videos 2"
    assert f"| {PREDICTED} | 8 | 70.0 | 60.0 | 40.0 | 56.7 |" in text and f"`{published}`" in text
    assert f"| {ARGMAX} | 20 |" in text and "+2.6" in text
    assert (f"| {FIRST_CANDIDATES} | 9 |" in text) == ("+3.0" in text) == ("40 segments, with 25 %" in text)
    assert (f"| {FIRST_CANDIDATES} | 9 |" in text) == bool(unsure)
    assert "](long.png)" in text and (out.parent / "long.png").is_file()
    assert drawn[0][0]["people"][0]["segments"] == example.segments and drawn[0][1] == {"truth": [TRUE]}
    assert json.loads(facts.read_text()) == {"command": published, **figures}
