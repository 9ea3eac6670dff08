"""Methods that are compared on made-up videos, the interval of the difference, and the report."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.long_videos import __main__ as command
from benchmarks.long_videos import report, segments
from benchmarks.long_videos.segments import (
    ARGMAX,
    NEVER_UNSURE,
    PREDICTED,
    LongVideo,
    LongVideos,
    SegmentResults,
    argmax_segments,
    bootstrap_maps,
    compare_methods,
    count_correct,
    difference,
    measure_segments,
    never_unsure,
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


def result_of(curves, seconds, cuts=(), step=1.0):
    """The result for a video whose frames all show the person."""
    person = {"frame_scores": curves, "timestamps": seconds}
    return {"people": [person], "timestamps": seconds, "cuts": list(cuts), "duration": seconds[-1] + step / 2}


def counted(figures):
    """For each method the number of emotional segments, and the shares of correct ones and of those that are found."""
    names = ("found", "precision", "recall")
    return {method: tuple(row[name][0] for name in names) for method, row in figures["methods"].items()}


def told(found):
    return [(one["label"], round(one["start"], 3), round(one["end"], 3)) for one in found]


def test_argmax_segments_are_runs_of_one_class():
    curves = {"anger": [0.5, 0.5, 0.1, 0.1], "neutral": [0.1, 0.1, 0.8, 0.1], "fear": [0.4, 0.4, 0.1, 0.8]}
    found = argmax_segments(result_of(curves, [0.0, 1.0, 2.0, 3.0]))
    assert told(found) == [("anger", 0, 1.5), ("neutral", 1.5, 2.5), ("fear", 2.5, 3.5)]
    assert [one["confidence"] for one in found] == [pytest.approx(0.5), pytest.approx(0.8), pytest.approx(0.8)]


def test_argmax_segments_end_at_cuts_and_where_the_person_is_away():
    seconds = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    result = result_of({"fear": [0.9] * 6, "joy": [0.1] * 6}, seconds, cuts=[1.5])
    assert told(argmax_segments(result)) == [("fear", 0, 1.5), ("fear", 1.5, 5.5)]
    result["people"] = [{"frame_scores": {"fear": [0.9] * 3, "joy": [0.1] * 3}, "timestamps": [2.0, 4.0, 5.0]}]
    assert told(argmax_segments(result)) == [("fear", 1.5, 2.5), ("fear", 3.5, 5.5)]


def test_segments_of_a_model_that_is_never_unsure():
    """Two frames of fear are too short, and neutral is the label of the rest although it is never probable."""
    fear = [0.45 if frame in (5, 6) else 0.2 for frame in range(20)]
    curves = {"fear": fear, "joy": [0.15] * 20, "neutral": [0.85 - value for value in fear]}
    result = result_of(curves, [0.1 * frame for frame in range(20)], step=0.1)
    found = never_unsure(result)
    assert told(found) == [("neutral", 0, 1.95)] and found[0]["candidates"] == ["neutral"]
    assert len(argmax_segments(result)) == 3


def test_segments_are_counted_as_correct_with_the_right_label_and_half_of_the_union():
    other = {"label": "joy", "start": 6.0, "end": 8.0}
    found = [predicted("fear", 3.5, 5, 1), predicted("fear", 2, 3.4, 1), predicted("fear", 6, 8, 1)]
    assert count_correct(found, [TRUE, other]) == 1, "too short, and another emotion"
    assert count_correct([predicted("fear", 2, 8, 1)], [TRUE]) == 1
    assert count_correct([predicted("fear", 2, 8.1, 1)], [TRUE]) == 0, "too long"
    assert count_correct([predicted("fear", 2, 2, 1)], [TRUE | {"end": 2.0}]) == 0, "nothing"


def test_segments_of_the_pipeline_are_compared_with_the_runs_of_frames():
    """A flicker in the middle, which the segments of the pipeline bridge, cuts the run of frames in two."""
    whole = [predicted("neutral", 0, 2, 0.8), predicted("fear", 2, 5, 0.9), predicted("neutral", 5, 10, 0.8)]
    figures = compare_methods([[video(*whole, flicker=[40])] * 3], draws=20)
    assert figures["segments"] == 3 and figures["unsure"] == {"emotion": 0, "rest": 0}
    assert counted(figures) == {PREDICTED: (3, 1, 1), NEVER_UNSURE: (3, 1, 1), ARGMAX: (6, 0.5, 1)}
    assert figures["methods"][PREDICTED]["map"] == (pytest.approx(1.0), None), "no spread over one seed"
    baseline = {name: mean for name, (mean, _) in figures["methods"][ARGMAX].items()}
    assert 0.5 <= baseline["map_50"] < 1, "the longer piece overlaps by two thirds, the other one is wrong"
    assert baseline["map_70"] == 0
    assert figures["differences"][PREDICTED] == pytest.approx([1 - baseline["map"]] * 3, abs=0.1)


def test_figures_are_means_over_seeds():
    """The first model finds the segment. The second one finds nothing, and is unsure all the time."""
    first = [video(predicted("fear", 2, 5, 0.9))] * 2
    second = [video(predicted("unsure", 0, 10, 0.4, "fear", "neutral"))] * 2
    located = {"other": [[[TRUE | {"confidence": 0.9}]] * 2, [[]] * 2]}
    figures = compare_methods([first, second], located, draws=20)
    spread = pytest.approx(0.5**0.5)
    assert figures["methods"][PREDICTED]["recall"] == figures["methods"]["other"]["recall"] == (0.5, spread)
    assert figures["methods"][PREDICTED]["precision"] == (1.0, None), "only one has segments"
    assert figures["methods"][PREDICTED]["map"] == (pytest.approx(0.5), spread)
    assert figures["unsure"] == {"emotion": 0.5, "rest": 0.5}
    assert figures["differences"]["other"] == pytest.approx([-0.5] * 3)


def test_unsure_segments_name_no_emotion():
    unsure = [
        predicted("neutral", 0, 2, 0.8),
        predicted("unsure", 2, 4, 0.45, "fear", "neutral"),
        predicted("fear", 4, 5, 0.9),
        predicted("unsure", 5, 10, 0.6, "neutral", "fear"),
    ]
    figures = compare_methods([[video(*unsure)] * 2], draws=20)
    assert figures["unsure"] == {"emotion": pytest.approx(2 / 3), "rest": pytest.approx(5 / 7)}
    assert counted(figures) == {PREDICTED: (2, 0, 0), NEVER_UNSURE: (2, 1, 1), ARGMAX: (2, 1, 1)}
    assert figures["methods"][PREDICTED]["map_30"][0] == pytest.approx(1.0)
    assert figures["methods"][PREDICTED]["map_50"][0] == 0.0
    assert figures["methods"][NEVER_UNSURE]["map"][0] == pytest.approx(1.0)


def test_segments_are_ranked_by_their_score():
    wrong = predicted("fear", 7, 9, 0.6)
    low, high = (compare_methods([[video(predicted("fear", 2, 5, score), wrong)]], draws=1) for score in (0.5, 0.7))
    assert low["methods"][PREDICTED]["map"][0] == pytest.approx(0.5)
    assert high["methods"][PREDICTED]["map"][0] == pytest.approx(1.0)


def test_difference_is_over_videos_and_paired():
    found = [{**TRUE, "confidence": 0.9}]
    truths = [[TRUE]] * 6
    # Whether the second half of the videos is found depends on the draw, but the difference of equal methods does not.
    half, all_of_them = (bootstrap_maps([one], truths, 20) for one in ([found] * 3 + [[]] * 3, [found] * 6))
    assert len(half) == 21 and half[0] == pytest.approx(0.5, abs=0.02) and half[1:].std() > 0.05
    assert difference(half, half) == [0.0, 0.0, 0.0]
    value, low, high = difference(all_of_them, bootstrap_maps([[[]] * 6], truths, 20))
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
    assert counted(measured.figures)[PREDICTED] == (2, 1, 1)
    assert measured.figures["methods"][PREDICTED]["map"] == (1.0, None)
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


@pytest.mark.parametrize("has_unsure", [False, True])
def test_command_writes_report_and_figures_apart(has_unsure, tmp_path, monkeypatch):
    means = {"map_30": [0.7, 0.01], "map_50": [0.6, None], "map_70": [0.4, None], "map": [0.5666, 0.02]}
    precise = {"found": [8.4, 0.5], "precision": [0.75, 0.1], "recall": [0.6, 0.0]} | means
    nothing = {"found": [0, 0], "precision": None, "recall": [0.0, 0.0]} | means
    figures = {
        "videos": {"seconds": 12.0, "videos": 2, "seed": 1},
        "segments": 10,
        "unsure": {"emotion": 0.251, "rest": 0.8} if has_unsure else {"emotion": 0.0, "rest": 0.0},
        "methods": {PREDICTED: precise, NEVER_UNSURE: nothing, ARGMAX: precise | {"found": [20, 0]}},
        "differences": {PREDICTED: [0.026, -0.009, 0.051], NEVER_UNSURE: [0.03, 0.01, 0.05]},
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
    shown = "75.0 ±10.0 | 60.0 ±0.0 | 70.0 ±1.0 | 60.0 | 40.0 | 56.7 ±2.0"
    assert f"| {PREDICTED} | 8 | {shown} | +2.6 [-0.9, +5.1] |" in text
    assert f"| {ARGMAX} | 20 | {shown} |  |" in text and f"`{published}`" in text
    assert (f"| {NEVER_UNSURE} | 0 |  | 0.0 ±0.0 |" in text) == ("cover 25 % of the time" in text) == has_unsure
    assert "](long.png)" in text and (out.parent / "long.png").is_file()
    assert drawn[0][0]["people"][0]["segments"] == example.segments and drawn[0][1] == {"truth": [TRUE]}
    written = json.loads(facts.read_text())
    assert written | figures == written and written["command"] == published and written["machine"]
