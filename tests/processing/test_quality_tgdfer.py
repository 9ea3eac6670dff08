"""Warnings about faces that are hard to read."""

import numpy as np
import pytest
from drawn_faces import SHARES, face

from tgdfer.processing.quality_tgdfer import (
    LEAST_BRIGHTNESS,
    LEAST_SCORE,
    LEAST_WIDTH,
    MOST_TURNED,
    face_warnings,
    turn,
)
from tgdfer.processing.tracks_tgdfer import Track, join_people, path_of

COUNT = 20
BRIGHT = np.full(COUNT, 120.0)


def path(width=80, score=0.9, turned=0.0, spoilt=COUNT):
    """A face that is as these say in its first `spoilt` frames, and good in the others."""

    def one(number):
        is_spoilt = number < spoilt
        row = face(100, 100, width if is_spoilt else 80, 80, score if is_spoilt else 0.9)
        if is_spoilt:
            row[8] += turned * (row[6] - row[4])
        return row

    (person,) = join_people([Track(0, [*range(COUNT)], [one(number) for number in range(COUNT)])])
    found = path_of(person, np.arange(COUNT), np.arange(COUNT, dtype=float))
    return found


def test_a_good_face_has_no_warning():
    assert face_warnings(path(), BRIGHT) == []
    assert face_warnings(path(LEAST_WIDTH, LEAST_SCORE), np.full(COUNT, float(LEAST_BRIGHTNESS))) == []


@pytest.mark.parametrize(
    "spoilt, darkness, sentence",
    [
        ({"width": LEAST_WIDTH - 1}, 1.0, "The face is small: less than 18 pixels wide in 100% of its frames."),
        ({"turned": MOST_TURNED + 0.1}, 1.0, "The face is turned away: seen from the side in 100% of its frames."),
        ({"turned": -MOST_TURNED - 0.1}, 1.0, "The face is turned away: seen from the side in 100% of its frames."),
        ({}, 0.2, "The face is dark: with a brightness below 25 of 255 in 100% of its frames."),
        (
            {"score": LEAST_SCORE - 0.05},
            1.0,
            "The face is hard to make out: the detector is hardly sure of it in 100% of its frames.",
        ),
    ],
)
def test_each_trouble_has_its_sentence(spoilt, darkness, sentence):
    assert face_warnings(path(**spoilt), darkness * BRIGHT) == [sentence]


def test_troubles_of_half_the_frames_and_less_are_not_told():
    assert face_warnings(path(width=12, score=0.5, spoilt=10), BRIGHT) == []
    assert face_warnings(path(width=12, spoilt=11), BRIGHT) == [
        "The face is small: less than 18 pixels wide in 55% of its frames."
    ]
    half_dark = np.where(np.arange(COUNT) < 10, 5.0, 120.0)
    assert face_warnings(path(), half_dark) == []
    assert len(face_warnings(path(width=12, score=0.5, turned=0.9), half_dark - 5)) == 3


def test_the_turn_of_a_head_does_not_depend_on_its_size_place_and_tilt():
    points = SHARES * 80
    assert turn(points[None])[0] < 0.05, "the face of the template looks ahead"
    points[2, 0] += 0.5 * (points[1, 0] - points[0, 0])
    angle = np.radians(30)
    tilt = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    several = np.stack([points, 3 * points, points + 50, points @ tilt.T, points * [-1, 1]])
    assert turn(several) == pytest.approx(np.full(5, turn(points[None])[0]))
    assert turn(several)[0] == pytest.approx(0.5, abs=0.05)
    assert np.isfinite(turn(np.zeros((2, 5, 2)))).all(), "landmarks at one point"
