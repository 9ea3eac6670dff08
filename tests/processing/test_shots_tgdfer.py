"""Cuts, found in pictures whose cuts are known."""

import functools

import numpy as np
import pytest

from tgdfer.processing import shots_tgdfer
from tgdfer.processing.shots_tgdfer import CutFinder

RATES = (25, 12, 6)
SIZE = (120, 160)


@functools.cache
def room(seed):
    """A picture (240, 640, 3) of coloured things, smooth enough for a camera to move over it."""
    rng = np.random.default_rng(seed)
    tone = rng.uniform(30, 200, 3)
    coarse = np.clip(tone + rng.normal(0, 45, (12, 32, 3)), 0, 255)
    rows, columns = np.linspace(0, 11, 240), np.linspace(0, 31, 640)
    wide = np.stack([[np.interp(columns, np.arange(32), row[:, c]) for c in range(3)] for row in coarse])
    flat = wide.transpose(0, 2, 1).reshape(12, -1)
    tall = np.stack([np.interp(rows, np.arange(12), column) for column in flat.T], 1)
    return tall.reshape(240, 640, 3).astype(np.uint8)


def view(picture, left=0, top=0):
    return picture[top : top + SIZE[0], left : left + SIZE[1]]


def with_noise(pictures, seed=0):
    rng = np.random.default_rng(seed)
    return [np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8) for picture in pictures]


def cuts(pictures):
    finder = CutFinder()
    for picture in pictures:
        finder.add(np.ascontiguousarray(picture))
    return [int(cut) for cut in finder.cuts()]


@pytest.mark.parametrize("seed", range(6))
def test_hard_cuts_are_found_where_they_are(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(8, 40, 5)
    shots = [[view(room(10 * seed + number))] * length for number, length in enumerate(lengths)]
    found = cuts(with_noise([picture for shot in shots for picture in shot]))
    assert found == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cut_near_the_first_and_the_last_frame(length):
    one, other = view(room(1)), view(room(2))
    assert cuts(with_noise([one] * length + [other] * 20)) == [length]
    assert cuts(with_noise([one] * 20 + [other] * length)) == [20]


def test_no_frames_and_few():
    assert cuts([]) == [] and cuts([view(room(0))]) == []
    assert cuts([view(room(1)), view(room(2))]) == [1]
    assert cuts([view(room(1))] * 2) == []


@pytest.mark.parametrize("rate", RATES)
def test_a_moving_camera_makes_no_cut(rate):
    """It sweeps over the room in four seconds, and from rest."""
    lefts = np.concatenate([np.zeros(rate), np.linspace(0, 480, 4 * rate), np.full(rate, 480)]).astype(int)
    assert cuts(with_noise([view(room(3), left) for left in lefts])) == []


@pytest.mark.parametrize("rate", RATES)
def test_changing_light_makes_no_cut(rate):
    """Dusk within two seconds, and an exposure that adapts."""
    gains = np.concatenate([np.ones(rate), np.linspace(1, 0.3, 2 * rate), np.linspace(0.3, 1.2, 2 * rate)])
    assert cuts(with_noise([np.clip(view(room(4)) * gain, 0, 255).astype(np.uint8) for gain in gains])) == []


@pytest.mark.parametrize("rate", RATES)
def test_a_moving_face_makes_no_cut(rate):
    pictures = []
    for left in np.abs(np.linspace(-100, 100, 4 * rate)).astype(int):
        picture = view(room(5)).copy()
        picture[30:90, left : left + 50] = (220, 170, 140)
        pictures.append(picture)
    assert cuts(with_noise(pictures)) == []


@pytest.mark.parametrize("place", [10, 1, 28])
def test_a_flash_of_one_frame_makes_no_cut(place):
    """A photographer's flash: the shot goes on after it."""
    pictures = [view(room(6))] * 30
    pictures[place] = np.full_like(pictures[0], 255)
    assert cuts(with_noise(pictures)) == []


def test_cuts_are_found_in_frames_that_are_far_apart():
    """Somebody moves between one sampled frame and the next; a cut changes more."""
    rng = np.random.default_rng(7)
    pictures = [view(room(7), left) for left in 100 + rng.integers(-8, 8, 15)]
    pictures += [view(room(8), left) for left in 100 + rng.integers(-8, 8, 15)]
    assert cuts(with_noise(pictures)) == [15]


def test_pictures_of_any_size_and_shape():
    for height, width in ((720, 1280), (8, 8), (300, 40)):
        one, other = np.full((height, width, 3), 20, np.uint8), np.full((height, width, 3), 200, np.uint8)
        assert cuts([one] * 5 + [other] * 5) == [5]


def test_without_pyscenedetect_there_are_no_cuts(monkeypatch):
    monkeypatch.setattr(shots_tgdfer, "AdaptiveDetector", None)
    assert cuts([view(room(1))] * 5 + [view(room(2))] * 5) == []
