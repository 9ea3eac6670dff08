"""Warnings about faces that are hard to read."""

import cv2
import numpy as np
import pytest
import torch
from drawn_faces import SHARES, face

from tgdfer.processing.faces_tgdfer import aligned_landmarks
from tgdfer.processing.quality_tgdfer import (
    MAX_TURN,
    MIN_BRIGHTNESS,
    MIN_MOUTH_DETAIL,
    MIN_SCORE,
    MIN_WIDTH,
    face_warnings,
    quality_of,
    turn,
)
from tgdfer.processing.tracks_tgdfer import Track, join_people, path_of

COUNT = 20
BRIGHT = np.full(COUNT, 120.0)


def quality(brightness=BRIGHT, mouth_detail=0.9):
    return np.stack([brightness, np.broadcast_to(mouth_detail, COUNT)], 1)


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
    assert face_warnings(path(), quality()) == []
    limits = quality(np.full(COUNT, float(MIN_BRIGHTNESS)), MIN_MOUTH_DETAIL)
    assert face_warnings(path(MIN_WIDTH, MIN_SCORE), limits) == []


@pytest.mark.parametrize(
    "spoilt, darkness, sentence",
    [
        ({"width": MIN_WIDTH - 1}, 1.0, "The face is small: less than 18 pixels wide in 100% of its frames."),
        ({"turned": MAX_TURN + 0.1}, 1.0, "The face is turned away: seen from the side in 100% of its frames."),
        ({"turned": -MAX_TURN - 0.1}, 1.0, "The face is turned away: seen from the side in 100% of its frames."),
        ({}, 0.2, "The face is dark: the brightness is below 25 of 255 in 100% of its frames."),
        (
            {"score": MIN_SCORE - 0.05},
            1.0,
            "The face is hard to make out: the detector is not confident in 100% of its frames.",
        ),
    ],
)
def test_each_trouble_has_its_sentence(spoilt, darkness, sentence):
    assert face_warnings(path(**spoilt), quality(darkness * BRIGHT)) == [sentence]


def test_a_covered_mouth_has_its_sentence():
    assert face_warnings(path(), quality(mouth_detail=MIN_MOUTH_DETAIL - 0.1)) == [
        "The face is covered: the mouth is hidden in 100% of its frames."
    ]


def test_troubles_of_half_the_frames_and_less_are_not_told():
    assert face_warnings(path(width=12, score=0.5, spoilt=10), quality()) == []
    assert face_warnings(path(width=12, spoilt=11), quality()) == [
        "The face is small: less than 18 pixels wide in 55% of its frames."
    ]
    half_dark = np.where(np.arange(COUNT) < 10, 5.0, 120.0)
    assert face_warnings(path(), quality(half_dark)) == []
    assert len(face_warnings(path(width=12, score=0.5, turned=0.9), quality(half_dark - 5))) == 3


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


def drawn_crop(size=112, margin=0.2, mouth=True, level=100):
    """A grey face with dark bars for eyes and mouth where an aligned face has them."""
    picture = np.full((size, size, 3), level, np.uint8)
    left, right, _, *corners = aligned_landmarks(size, margin)
    unit = right[0] - left[0]
    for x, y in (left, right, *([np.mean(corners, axis=0)] if mouth else [])):
        start, end = (int(x - 0.5 * unit), int(y - 0.1 * unit)), (int(x + 0.5 * unit), int(y + 0.1 * unit))
        cv2.rectangle(picture, start, end, (level // 2,) * 3, -1)
    return torch.from_numpy(picture).permute(2, 0, 1)


@pytest.mark.parametrize("size", [64, 112, 224])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_a_mouth_without_edges_is_covered(size, margin):
    crops = torch.stack([drawn_crop(size, margin), drawn_crop(size, margin, mouth=False)])
    (brightness, open_mouth), (_, covered_mouth) = quality_of(crops, margin)
    assert 85 < brightness < 100 and open_mouth > MIN_MOUTH_DETAIL > covered_mouth


@pytest.mark.parametrize("level", [0, 4, 255])
def test_a_picture_without_edges_is_not_called_covered(level):
    """It may be dark or blurred, which has a warning of its own, or none."""
    ((_, detail),) = quality_of(torch.full((1, 3, 112, 112), level, dtype=torch.uint8), 0.2)
    assert detail == 1
