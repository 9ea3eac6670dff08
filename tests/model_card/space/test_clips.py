"""The functions behind the page, without Gradio."""

import copy
import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import webvtt

from tgdfer.model_card.space import limits as space_limits
from tgdfer.model_card.space.clips import (
    MAX_CLASSES,
    STRIP,
    Limits,
    files_of,
    read_classes,
    strip_seconds,
)
from tgdfer.model_card.space.limits import limits_of
from tgdfer.training.errors import UserError
from tgdfer.training.outputs import load_schema
from tgdfer.training.predict import predict
from tgdfer.training.saved_weights import weights_sha256

EXAMPLES = Path(__file__).parents[3] / "model_card" / "space" / "examples"
OWN = "joy: a broad smile\nboredom: half-closed eyes; a slack mouth"


def answers(analysis):
    return [(one["person"], one["label"], one["scores"], one["segments"]) for one in analysis.result["people"]]


@pytest.mark.slow
def test_a_clip_is_answered_as_by_tgdfer_predict(analysis):
    path = str(EXAMPLES / "several_expressions.mp4")
    (expected,) = predict([path]).values()
    assert analysis.name == "several_expressions.mp4"
    found = json.loads(files_of(analysis)["several_expressions.json"])["results"][0]
    assert found == {"file": "several_expressions.mp4", **expected}


def test_the_pictures_are_frames_of_the_strip(analysis):
    (person,) = analysis.shown_people
    seconds = strip_seconds(person)
    assert len(seconds) <= STRIP and seconds == sorted(seconds) and set(seconds) == set(analysis.pictures)
    assert person["timestamps"][int(np.argmax(person["frame_relevance"]))] in seconds
    pictures = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in analysis.pictures.values()]
    assert {picture.shape for picture in pictures} == {(240, 240, 3)}
    assert max(len(one) for one in analysis.pictures.values()) < 50_000


@pytest.mark.slow
def test_every_example_shows_something_else(recogniser, analysis):
    single = recogniser.analyse(EXAMPLES / "one_expression.mp4")
    several = recogniser.analyse(EXAMPLES / "two_people.mp4")
    assert [one["label"] for one in single.result["people"]] == ["happiness"]
    assert sorted(one["label"] for one in several.result["people"]) == ["happiness", "surprise"]
    assert [one["label"] for one in analysis.result["people"]] == ["unsure"]


def test_other_classes_need_no_video_and_leave_the_model_as_it_was(recogniser, analysis):
    before = answers(analysis)
    own = recogniser.relabel(analysis, OWN)
    assert own.relabelled and not own.result["calibrated"]
    assert set(own.result["people"][0]["scores"]) == {"joy", "boredom"}
    assert own.run.labels == ["boredom", "joy"] and own.run.options["descriptions"]["joy"] == ["a broad smile"]
    assert answers(analysis) == before
    assert answers(recogniser.analyse(EXAMPLES / "several_expressions.mp4")) == before
    assert "joy" not in recogniser.network.config.label2id and "joy" not in recogniser.processor.descriptions


def test_other_classes_are_those_of_tgdfer_predict(recogniser, analysis):
    from tgdfer.training.predict import PredictionOptions

    options = PredictionOptions(descriptions=read_classes(OWN))
    (expected,) = predict([str(EXAMPLES / "several_expressions.mp4")], options=options).values()
    found = recogniser.relabel(analysis, OWN).result["people"]
    assert [one["label"] for one in found] == [one["label"] for one in expected["people"]]
    for mine, theirs in zip(found, expected["people"], strict=True):
        assert mine["scores"] == pytest.approx(theirs["scores"], abs=1e-6)


def test_the_files_are_those_of_tgdfer_predict(recogniser, analysis):
    files = files_of(recogniser.relabel(analysis, OWN))
    assert list(files) == [f"several_expressions.{suffix}" for suffix in ("csv", "json", "vtt")]
    rows = list(csv.DictReader(io.StringIO(files["several_expressions.csv"])))
    assert {"joy", "boredom", "relevance"} <= set(rows[0]) and len(rows) == len(analysis.result["timestamps"])
    jsonschema.validate(json.loads(files["several_expressions.json"]), load_schema())
    captions = webvtt.from_string(files["several_expressions.vtt"]).captions
    assert captions and all("joy" in one.text or "boredom" in one.text for one in captions)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The number of classes is 0"),
        ("joy: a smile", "The number of classes is 1"),
        ("\n".join(f"c{n}: words {n}" for n in range(MAX_CLASSES + 1)), f"The number of classes is {MAX_CLASSES + 1}"),
        ("joy a smile", 'The line "joy a smile" names no class'),
        (": a smile", 'The line ": a smile" names no class'),
        ("joy: ; ;", 'The line "joy: ; ;" names no class'),
        ("joy: a\njoy: b", 'The class "joy" is there twice'),
        ("joy: " + "; ".join("abcdefghi") + "\nsad: x", 'The class "joy" has 9 descriptions'),
        ("joy: " + "a" * 201 + "\nsad: x", 'A description of "joy" has more than 200 letters'),
        ("joy: \ud800\nsad: x", "The text has characters that are not valid Unicode"),
        ("j: " + "a" * 4000, "The text has 4003 letters"),
    ],
)
def test_classes_that_cannot_be_read_give_a_sentence(text, problem):
    with pytest.raises(UserError) as error:
        read_classes(text)
    assert str(error.value).startswith(problem) and str(error.value).endswith(".")


def test_spaces_and_empty_lines_do_not_matter():
    assert read_classes("\n  so   sad :  a   frown ;; tears ; \n\n joy: a smile: broad \n") == {
        "so sad": ["a frown", "tears"],
        "joy": ["a smile: broad"],
    }


@pytest.mark.parametrize("words", ["a smile\nsad: a smile", "\x00\nsad: \u202e", "🙂\nsad: " + "word " * 39])
def test_classes_that_the_model_refuses_give_a_sentence_or_an_answer(recogniser, analysis, words):
    try:
        assert recogniser.relabel(analysis, f"joy: {words}").relabelled
    except UserError as error:
        assert str(error).startswith(("The classes cannot be used: ", "The number of classes", "several_expressions"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "clip.mp4 is empty"), (b"no video " * 200, "clip.mp4"), (None, "clip.mp4 is not there any more")],
)
def test_a_file_that_cannot_be_read_gives_a_sentence_without_its_folder(recogniser, tmp_path, content, problem):
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(UserError) as error:
        recogniser.analyse(tmp_path / "clip.mp4")
    assert str(error.value).startswith(problem) and str(tmp_path) not in str(error.value)


def test_a_clip_without_a_face_gives_a_sentence_or_an_answer(recogniser, rendered_recording):
    path = rendered_recording("nobody").path
    try:
        recogniser.analyse(path)
    except UserError as error:
        assert str(error).startswith(path.name)


def limited(recogniser, limits):
    """The same model with other limits."""
    other = copy.copy(recogniser)
    other.limits = limits
    return other


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(megabytes=0), "several_expressions.mp4 has 0 MB, and at most 0 MB are accepted;"),
        (Limits(seconds=5.0), "several_expressions.mp4 is 6 seconds long, and at most 5 seconds are accepted;"),
        (Limits(patience=0.0), "several_expressions.mp4 takes longer than 0 seconds to analyse;"),
    ],
)
def test_size_length_and_time_are_limited(recogniser, limits, problem):
    with pytest.raises(UserError) as error:
        limited(recogniser, limits).analyse(EXAMPLES / "several_expressions.mp4")
    assert str(error.value).startswith(problem)


def test_the_length_of_a_recording_without_one_in_its_header_is_limited(recogniser, tmp_path):
    """Browsers write the header of a recording before they know its length."""
    import av

    path = tmp_path / "recording.webm"
    with path.open("wb") as file, av.open(file, "w", format="webm", container_options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=10, width=64, height=64, pix_fmt="yuv420p")
        for _ in range(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r"recording.webm is 10 seconds long, and at most 8 seconds are accepted"):
        limited(recogniser, Limits(seconds=8.0)).analyse(path)


def test_the_progress_is_reported(recogniser):
    seen = []
    recogniser.analyse(EXAMPLES / "one_expression.mp4", seen.append)
    assert seen and seen[-1] == 1.0 and all(0 <= one <= 1 for one in seen)


def test_a_clip_without_a_face_gives_advice_that_visitors_can_follow(recogniser, clip_file):
    with pytest.raises(UserError, match="^clip.mp4 shows no face that can be found; upload a clip with a larger or"):
        recogniser.analyse(clip_file)


def test_the_limits_of_a_model_are_what_was_measured(tmp_path):
    limits = limits_of("tgdfer-tiny")
    assert "what a face shows" in limits.general[0] and len(limits.remarks) == 4
    assert limits.weak[0] == (
        "In FER2013 with the votes of FER+, the model named the right expression only for 43% of 7 for disgust and 58%"
        " of 50 for fear."
    )
    assert limits_of(tmp_path) == replace(limits, weak=[], remarks=[])
    (tmp_path / "metrics.json").write_text("[]")
    assert limits_of(tmp_path).weak == []


def test_the_limits_are_those_of_the_weights(tmp_path):
    """They are also found for a folder of a run, and not shown for weights that were not measured."""
    measured = {"labels": ["fear"], "recall": {"fear": 0.5}, "confusion_matrix": [[4]], "also_measured": None}
    for name in ("best", "last"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text(name)
    measured["weights_sha256"] = weights_sha256(tmp_path / "last")
    (tmp_path / "metrics.json").write_text(json.dumps(measured | {"training": {"limits": None}}))
    sentence = "In its test, the model named the right expression only for 50% of 4 for fear."
    assert limits_of(tmp_path / "last") == replace(limits_of(tmp_path), weak=[sentence])
    assert limits_of(tmp_path).weak == limits_of(tmp_path / "best").weak == []
    (tmp_path / "metrics.json").write_text(json.dumps(measured | {"seen_in_training": True}))
    assert limits_of(tmp_path / "last").weak == [
        sentence.replace("test,", "test, which has clips that the model was trained on,")
    ]


def test_the_limits_are_those_of_the_revision(tmp_path, monkeypatch):
    (tmp_path / "metrics.json").write_text(
        json.dumps({"labels": ["fear"], "recall": {"fear": 0.5}, "confusion_matrix": [[4]]})
    )

    def cached(model, name, revision=None, **_):
        return str(tmp_path / name) if (model, name, revision) == ("user/model", "metrics.json", "v1") else None

    monkeypatch.setattr(space_limits, "cached_file", cached)
    assert limits_of("user/model@v1").weak == [
        "In its test, the model named the right expression only for 50% of 4 for fear."
    ]
    assert limits_of("user/model").weak == []


@pytest.mark.slow
def test_the_functions_do_not_import_gradio():
    code = (
        "import sys; import tgdfer.model_card.space, tgdfer.model_card.space.clips, tgdfer.model_card.space.views;"
        " assert 'gradio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
