"""Numbers and positions of faces that arrive frame by frame, with a made-up detector."""

import numpy as np
import pytest

from tgdfer.model_card.live.following import BRIDGE, CONFIRMED, RETURN, SEARCH_SHARE, FaceFollower

PICTURE = np.zeros((480, 640, 3), np.uint8)
STEP = 0.125


def face(x: float, y: float = 100.0, size: float = 80.0) -> np.ndarray:
    """A face (15,) whose landmarks are where they usually are."""
    points = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.8], [0.65, 0.8]]) * size + [x, y]
    return np.array([x, y, size, size, *points.ravel(), 0.9])


class MadeUp:
    """A detector that finds the given faces, and a clock on which each search takes some time."""

    def __init__(self, seconds: float = 0.0):
        self.faces: list[np.ndarray] = []
        self.seconds, self.now, self.searches = seconds, 0.0, 0

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        self.shape = picture.shape
        self.searches += 1
        self.now += self.seconds
        return np.stack(self.faces) if self.faces else np.zeros((0, 15))

    def clock(self) -> float:
        return self.now


@pytest.fixture
def made_up():
    return MadeUp()


@pytest.fixture
def follow(made_up):
    """Adds frames with some faces, and returns what is found in the last of them."""
    follower = FaceFollower("yunet", made_up, made_up.clock)
    second = 0.0

    def add(*faces: np.ndarray, frames: int = 1):
        nonlocal second
        made_up.faces = list(faces)
        for _ in range(frames):
            second += STEP
            found = follower.add(PICTURE, second)
        return found

    add.follower = follower
    return add


def test_a_face_counts_when_it_was_found_several_times(follow):
    assert [follow(face(100)) for _ in range(CONFIRMED - 1)] == [[]] * (CONFIRMED - 1)
    (found,) = follow(face(100))
    assert found.person == 1
    assert found.box.tolist() == [100, 100, 180, 180]
    assert found.points == pytest.approx(face(100)[4:14].reshape(5, 2))


def test_a_false_detection_is_nobody(follow):
    for _ in range(5):
        assert follow(face(300)) == [] and follow() == []
    assert follow.follower.people == 0 and follow.follower.tracks == []


def test_people_keep_their_numbers_when_they_move(follow):
    follow(face(100), face(400), frames=4)
    for step in range(1, 21):
        # Both walk to the left; the order of detections does not matter.
        found = follow(face(400 - 10 * step), face(100 - 4 * step))
    assert {one.person: one.box[0] for one in found} == {1: 20, 2: 200}


def test_the_largest_face_comes_first(follow):
    follow(face(100, size=50), face(300, size=120), frames=4)
    assert [one.person for one in follow(face(100, size=50), face(300, size=120))] == [2, 1]


def test_a_missed_face_stays_for_a_moment_and_then_goes(follow):
    for step in range(6):
        follow(face(100 + 5 * step))
    (held,) = follow()
    assert held.box[0] == 125  # where it was last
    assert follow(frames=int(BRIDGE / STEP)) == []


@pytest.mark.parametrize(("away", "place", "person"), [(5.0, 105, 1), (5.0, 400, 2), (RETURN + 1, 105, 2)])
def test_who_comes_back_to_the_same_place_in_time_is_the_same_person(follow, away, place, person):
    follow(face(100), frames=4)
    follow(frames=int((away + BRIDGE) / STEP))
    (found,) = follow(face(place), frames=4)
    assert found.person == person


def test_a_slow_detector_searches_less_often_and_faces_move_on_in_between():
    made_up = MadeUp(seconds=0.2)
    follower = FaceFollower("yunet", made_up, made_up.clock)
    positions = {}
    for number in range(80):
        second = number * STEP
        made_up.faces = [face(100 + 40 * second)]
        found = follower.add(PICTURE, second)
        if found:
            positions[second] = found[0].box[0]
    assert made_up.searches * made_up.seconds <= SEARCH_SHARE * 80 * STEP + made_up.seconds
    assert positions == pytest.approx({second: 100 + 40 * second for second in positions})
    assert len(positions) > 60


def test_a_large_picture_is_reduced_and_faces_are_found_in_its_pixels():
    made_up = MadeUp()
    made_up.faces = [face(100)]
    follower = FaceFollower("mtcnn", made_up, made_up.clock)
    for second in range(CONFIRMED):
        found = follower.add(np.zeros((960, 1280, 3), np.uint8), float(second) / 4)
    assert made_up.shape == (240, 320, 3)
    assert found[0].box.tolist() == [400, 400, 720, 720]


def test_landmarks_are_steadied(follow):
    rng = np.random.default_rng(0)
    noisy = [face(100 + rng.normal(0, 1), 100 + rng.normal(0, 1)) for _ in range(40)]
    found = [follow(one) for one in noisy]
    points = np.stack([one[0].points for one in found[10:]])
    raw = np.stack([one[4:14].reshape(5, 2) for one in noisy[10:]])
    assert points.std(0).mean() < 0.6 * raw.std(0).mean()


def test_nothing_grows_with_time(follow):
    rng = np.random.default_rng(0)
    for _ in range(200):
        follow(*(face(x) for x in rng.choice([0, 150, 300, 450], rng.integers(0, 4), replace=False)))
    follower = follow.follower
    assert len(follower.tracks) <= 4 and len(follower.left) <= RETURN / STEP
    assert all(len(track.trail) <= 2 / STEP + 1 for track in follower.tracks)
