"""Tracks and people: faces of single frames joined to tracks, and tracks to people."""

import numpy as np
import pytest
from drawn_faces import face

from tgdfer.processing.faces_tgdfer import TEMPLATE
from tgdfer.processing.tracks_tgdfer import Track, follow, join_paths, join_people, lasting, path_of, steady


def test_tracks_bridge_short_gaps_and_end_at_long_ones():
    here = face(10, 10, 40, 40)[None]
    nothing = np.zeros((0, 15))
    seconds = np.arange(12) / 10
    short = follow([here, nothing, nothing, nothing, nothing, here], seconds[:6])
    assert [track.frames for track in short] == [[0, 5]]
    long = follow([here, *[nothing] * 6, here], seconds[:8])
    assert [track.frames for track in long] == [[0], [7]]
    assert len(follow([here, here], np.array([0.0, 9.0]))) == 1, "frames next to each other are no gap"


def test_faces_that_cross_keep_their_tracks():
    paths = [
        np.stack([face(10 + 12 * t, 40, 40, 40), face(130 - 12 * t, 60 - 4 * t, 44, 44)])[:: 1 if t % 2 else -1]
        for t in range(11)
    ]
    tracks = follow(paths, np.arange(11) / 25)
    assert [len(track.frames) for track in tracks] == [11, 11]
    assert {round(track.faces[0][2]) == round(track.faces[-1][2]) for track in tracks} == {True}


@pytest.mark.parametrize("seed", range(30))
def test_every_face_belongs_to_one_track(seed):
    rng = np.random.default_rng(seed)
    found = [
        np.stack([face(*rng.uniform(-50, 300, 2), *rng.uniform(0, 90, 2)) for _ in range(count)])
        if count
        else np.zeros((0, 15))
        for count in rng.integers(0, 5, 20)
    ]
    seconds = np.cumsum(rng.uniform(0, 0.4, 20))
    tracks = follow(found, seconds)
    owned = sorted(
        (frame, *row) for t in tracks for frame, row in zip(t.frames, np.stack(t.faces).tolist(), strict=True)
    )
    assert owned == sorted((frame, *row) for frame, rows in enumerate(found) for row in rows)
    for track in tracks:
        for one, other in zip(track.frames, track.frames[1:], strict=False):
            assert other == one + 1 or (other > one and seconds[other] - seconds[one + 1] < 0.5)


def test_a_still_face_stands_still_and_a_moving_one_is_followed():
    rng = np.random.default_rng(0)
    seconds = np.arange(50) / 25
    still = np.repeat(TEMPLATE[None], 50, 0)
    noisy = still + rng.normal(0, 0.8, still.shape)
    assert np.abs(noisy - still).max() > 1.5
    assert np.abs(steady(noisy, np.full(50, 80.0), seconds) - still).max() < 0.5
    moving = still + 60 * seconds[:, None, None]
    assert np.abs(steady(moving, np.full(50, 80.0), seconds) - moving)[5:-5].max() < 0.1
    assert np.abs(steady(moving, np.full(50, 80.0), seconds) - moving).max() < 4, (
        "at its ends a movement is seen from one side"
    )


def test_steadying_block_by_block_is_the_same_as_all_at_once():
    rng = np.random.default_rng(0)
    points = np.cumsum(rng.normal(0, 0.5, (700, 5, 2)), 0)
    seconds = np.cumsum(rng.uniform(0.02, 0.2, 700))
    sizes = rng.uniform(60, 90, 700)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1).mean(-1) / sizes[:, None]
    between = seconds[:, None] - seconds[None]
    weights = np.exp(-0.5 * ((apart / 0.05) ** 2 + (between / 0.5) ** 2))
    whole = np.einsum("ts,spc->tpc", weights / weights.sum(1, keepdims=True), points)
    assert np.abs(steady(points, sizes, seconds) - whole).max() < 0.01


def test_tracks_end_at_cuts():
    here = face(10, 10, 40, 40)[None]
    tracks = follow([here] * 10, np.arange(10) / 25, cuts=[4, 7])
    assert [track.frames for track in tracks] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert [track.number for track in tracks] == [0, 1, 2]
    gap = [here, here, np.zeros((0, 15)), here, here]
    assert [track.frames for track in follow(gap, np.arange(5) / 25, cuts=[2])] == [[0, 1], [3, 4]]


def test_what_lasts_is_measured_by_its_shot():
    """A short shot is not left out because the video is long."""
    seconds = np.arange(1000) / 25
    in_short_shot, in_long_shot, long = Track(0, [0, 1, 2]), Track(1, [500, 501, 502]), Track(2, [*range(600, 660)])
    for track in (in_short_shot, in_long_shot, long):
        track.faces = [face(10, 10, 40, 40)] * len(track.frames)
    assert lasting([in_short_shot, in_long_shot, long], seconds, cuts=[10]) == [in_short_shot, long]
    assert lasting([in_short_shot, in_long_shot, long], seconds) == [long]


def track(number, frames, *where):
    return Track(number, frames, [face(*where)] * len(frames))


def test_a_face_that_comes_back_to_its_place_is_the_same_person():
    first, back, elsewhere = track(0, [0, 1], 10, 10, 40, 40), track(1, [30, 31], 15, 10, 40, 40), None
    elsewhere = track(2, [40, 41], 100, 10, 40, 40)
    people = join_people([first, back, elsewhere])
    assert [person.number for person in people] == [1, 2]
    assert people[0].tracks == [first, back] and people[1].tracks == [elsewhere]
    assert people[0].faces.shape == (4, 15)


def test_people_are_numbered_in_the_order_of_appearance():
    late, early = track(0, [20], 10, 10, 40, 40), track(1, [3], 100, 10, 40, 40)
    assert [person.tracks[0] for person in join_people([late, early])] == [early, late]


def test_a_face_after_a_cut_is_somebody_else():
    one, other = track(0, [0, 1], 10, 10, 40, 40), track(1, [5, 6], 10, 10, 40, 40)
    assert len(join_people([one, other])) == 1
    people = join_people([one, other], cuts=[5])
    assert [(person.number, person.shot) for person in people] == [(1, 0), (2, 1)]
    assert len(join_people([one, other], cuts=[7])) == 1


def test_two_faces_at_one_time_are_two_people():
    """However close they are to each other."""
    one, other = track(0, [0, 1, 2], 10, 10, 40, 40), track(1, [2, 3], 12, 10, 40, 40)
    assert len(join_people([one, other])) == 2


def test_of_two_people_at_a_place_the_last_one_comes_back():
    first, second = track(0, [0], 10, 10, 40, 40), track(1, [10], 32, 10, 40, 40)
    back = track(2, [20], 21, 10, 40, 40)
    people = join_people([first, second, back])
    assert [person.tracks for person in people] == [[first], [second, back]]


def test_a_path_reaches_as_far_as_nobody_has_looked_but_not_over_a_cut():
    (person,) = join_people([track(0, [4, 8], 10, 10, 40, 40)], cuts=[3, 10])
    seconds = np.arange(14) / 25
    path = path_of(person, 100 + np.arange(14), seconds, [3, 10], [0, 4, 8, 12])
    assert path.indices.tolist() == [*range(103, 110)]
    assert path_of(person, np.arange(14), seconds).indices.tolist() == [*range(4, 9)]
    assert path_of(person, np.arange(14), seconds, searched=[4, 8]).indices.tolist() == [*range(14)]
    halfway = path_of(person, np.arange(14), seconds, searched=[0, 4, 8, 12])
    assert halfway.indices.tolist() == [*range(3, 10)], "where nobody is seen at 0 and 12"


def test_a_path_lies_on_the_straight_way_between_faces():
    moving = Track(0, [0, 4], [face(0, 10, 40, 40, score=0.5), face(8, 10, 40, 40, score=0.9)])
    (person,) = join_people([moving])
    path = path_of(person, np.arange(5), np.arange(5) / 25)
    assert path.boxes[:, 0].tolist() == pytest.approx([0, 2, 4, 6, 8])
    assert path.scores.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert path.points.shape == (5, 5, 2) and path.person == 1


def test_joined_paths_are_in_the_order_of_time_with_each_frame_once():
    def path(number, frames, x):
        (person,) = join_people([track(0, frames, x, 10, 40, 40)])
        person.number = number
        return path_of(person, np.arange(20), np.arange(20) / 25)

    joined = join_paths([path(2, [5, 6, 7], 50), path(1, [0, 1, 6, 7, 8], 10)])
    assert joined.indices.tolist() == [*range(9)] and joined.person == 2
    assert joined.boxes[:, 0].tolist() == [10] * 5 + [50] * 3 + [10]
