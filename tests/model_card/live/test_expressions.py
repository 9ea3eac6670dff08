"""The window that slides over the faces, with tgdfer-tiny."""

import math

import numpy as np
import pytest
import torch

from tgdfer.model_card.live.expressions import HISTORY
from tgdfer.processing.faces_tgdfer import align
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.training.errors import UserError

OWN = {"bored": ["half-closed eyes", "a slack mouth"], "smiling": ["a broad smile"]}


@pytest.fixture(scope="session")
def crops(pictures, still_faces) -> list[torch.Tensor]:
    """For each person, their crops (T, 3, 112, 112) in the frames of the example."""
    points = still_faces[:, 4:14].reshape(-1, 5, 2)
    return [
        torch.from_numpy(np.stack([align(one, place, 112, 0.2) for one in pictures])).permute(0, 3, 1, 2)
        for place in points
    ]


def test_the_answers_are_those_of_the_pipeline(expressions, loaded, crops):
    """Once all windows are predicted again, they are the windows of the pipeline."""
    network, processor = loaded
    frames = crops[0][:40]
    for number, crop in enumerate(frames):
        expressions.add(number / 25, {1: crop})
    expressions.forget_classes()
    (person,) = expressions.result()["people"]
    pipeline = EmotionTimelinePipeline(network, video_processor=processor.video_processor, device=network.device)
    (expected,) = pipeline(frames, face_crop="none", interval=1 / 25)["people"]
    for label, scores in expected["frame_scores"].items():
        assert person["frame_scores"][label] == pytest.approx(scores, abs=1e-4)
    assert [one["label"] for one in person["segments"]] == [one["label"] for one in expected["segments"]]
    assert person["label"] == expected["segments"][-1]["label"]


def test_all_faces_are_encoded_however_the_processor_samples_clips(expressions, crops, monkeypatch):
    pipeline = expressions.pipeline
    expected = pipeline.encode(crops[0][:5])
    monkeypatch.setattr(pipeline.video_processor, "sampling", "dense")
    monkeypatch.setattr(pipeline.video_processor, "stride", 2)
    assert pipeline.encode(crops[0][:5]) == pytest.approx(expected, abs=1e-5)


def test_each_face_is_encoded_once_and_windows_have_the_frames_of_the_model(expressions, crops, monkeypatch):
    encoded, predicted = [], []
    encode, predict = expressions.pipeline.encode, expressions.pipeline.predict_windows
    monkeypatch.setattr(expressions.pipeline, "encode", lambda faces: encoded.append(len(faces)) or encode(faces))
    monkeypatch.setattr(
        expressions.pipeline,
        "predict_windows",
        lambda *arguments: predicted.append([len(part) for part in arguments[2]]) or predict(*arguments),
    )
    for number in range(20):
        expressions.add(number / 8, {1: crops[0][number], 2: crops[1][number]})
    assert encoded == [2] * 20
    # The first answer comes after a quarter of a window, and both people are predicted together.
    assert predicted == [[min(number, 16)] * 2 for number in range(4, 21)]


def test_people_do_not_change_the_answers_of_each_other(expressions, loaded, crops):
    for number in range(12):
        expressions.add(number / 8, {1: crops[0][number], 2: crops[1][number]})
    together = {person["person"]: person for person in expressions.result()["people"]}
    assert together[1]["label"] != together[2]["label"]
    alone = type(expressions)(*loaded)
    for number in range(12):
        alone.add(number / 8, {2: crops[1][number]})
    (person,) = alone.result()["people"]
    for label, scores in person["frame_scores"].items():
        assert together[2]["frame_scores"][label] == pytest.approx(scores, abs=1e-4)


def test_windows_are_shorter_if_there_is_no_time_for_enough_frames(expressions, crops):
    """A window never lasts longer than two seconds, so an expression that is over does not stay."""
    for number in range(12):
        expressions.add(number * 0.4, {1: crops[0][number]})
    # 2 s have five frames, so a frame is in at most five windows.
    assert expressions.people[1].counts.max() == 5


def test_own_classes_answer_for_the_last_seconds_and_can_be_taken_back(expressions, crops):
    for number in range(20):
        expressions.add(number / 8, {1: crops[0][number]})
    before = expressions.result()["people"][0]
    expressions.set_classes(OWN)
    (person,) = expressions.result()["people"]
    assert expressions.own_classes and not expressions.calibrated
    assert set(person["frame_scores"]) == set(OWN) and len(person["frame_scores"]["bored"]) == 20
    assert {one["label"] for one in person["segments"]} <= {*OWN, "unsure"}
    assert set(filter(None, person["words"].split("; "))) <= {text for texts in OWN.values() for text in texts}
    expressions.add(20 / 8, {1: crops[0][20]})
    assert len(expressions.result()["people"][0]["timestamps"]) == 21
    expressions.forget_classes()
    after = expressions.result()["people"][0]
    assert not expressions.own_classes and expressions.calibrated
    assert set(after["frame_scores"]) == set(before["frame_scores"])


def test_answers_say_whose_classes_they_have_at_any_time(expressions, crops, monkeypatch):
    """Also while other classes come into use."""
    for number in range(8):
        expressions.add(number / 8, {1: crops[0][number]})
    results, use = [], expressions._use
    monkeypatch.setattr(expressions, "_use", lambda *given, **named: [use(*given, **named), results.append(answer())])

    def answer() -> tuple[bool, bool, bool]:
        result = expressions.result()
        is_own = set(result["people"][0]["scores"]) == set(OWN)
        return is_own, result["own_classes"], not result["calibrated"]

    expressions.set_classes(OWN)
    expressions.forget_classes()
    assert results == [(True,) * 3, (False,) * 3]


def test_classes_that_cannot_be_used_change_nothing(expressions):
    with pytest.raises(UserError, match="^The classes cannot be used: The description"):
        expressions.set_classes({"a": ["word " * 500], "b": ["a smile"]})
    assert not expressions.own_classes and "happiness" in expressions.pipeline.model.config.label2id


def test_only_the_last_seconds_are_kept(expressions, crops):
    for number in range(30):
        expressions.add(2.0 * number, {1: crops[0][number]})
    (person,) = expressions.result()["people"]
    assert len(expressions.seconds) == len(person["timestamps"]) == HISTORY / 2 + 1
    assert person["timestamps"][0] == 0 and person["timestamps"][-1] == HISTORY
    history = expressions.people[1]
    assert {len(rows) for rows in history.sums.values()} == {len(history.features)} == {HISTORY / 2 + 1}


def test_who_leaves_is_not_there_and_then_forgotten(expressions, crops):
    for number in range(8):
        expressions.add(number / 8, {1: crops[0][number]})
    expressions.add(1.0, {})
    (person,) = expressions.result()["people"]
    assert not person["is_there"]
    expressions.add(1.0 + HISTORY, {})
    assert expressions.result()["people"] == [] and expressions.people == {}


def test_a_window_does_not_reach_across_an_absence(expressions, crops):
    for second in (*np.arange(8) / 8, *(5 + np.arange(3) / 8)):
        expressions.add(float(second), {1: crops[0][0]})
    # Three frames after the absence are less than a quarter of a window.
    assert expressions.people[1].counts.tolist()[-3:] == [0, 0, 0]
    (person,) = expressions.result()["people"]
    assert len(person["timestamps"]) == 8
    expressions.add(5.5, {1: crops[0][0]})
    assert expressions.people[1].counts.tolist()[-4:] == [1, 1, 1, 1]
    assert math.isclose(sum(expressions.result()["people"][0]["frame_relevance"]), 1, rel_tol=1e-5)
