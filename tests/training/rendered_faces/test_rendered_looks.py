"""How rendered faces look: what each action unit changes, what is a person's own, what light, hands and camera do."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    INDEX,
    FacePainter,
    Identity,
    Pose,
    RenderedFaces,
    Setting,
    action_unit_vector,
)
from tgdfer.training.rendered_faces.people import BEARDS, RESTING
from tgdfer.training.rendered_faces.setting import OCCLUDERS, Occluder
from tgdfer.training.rendered_faces.shapes import face_shapes

STILL = RenderedFaces(noise=(0.0, 0.0), occlusion=0.0, light_drift=0.0)
NEUTRAL = np.zeros(len(ACTION_UNITS))
PEOPLE = range(5)

# Rows and columns (top, bottom, left, right) of the 112 x 112 picture in which an action unit shows.
REGIONS = {
    "AU01": (12, 42, 24, 88),
    "AU02": (10, 44, 14, 98),
    "AU04": (22, 56, 22, 90),
    "AU05": (30, 54, 22, 90),
    "AU06": (30, 96, 10, 102),
    "AU07": (32, 58, 22, 90),
    "AU09": (28, 92, 20, 92),
    "AU10": (50, 94, 26, 86),
    "AU12": (46, 102, 14, 98),
    "AU14": (66, 98, 26, 86),
    "AU15": (54, 104, 28, 84),
    "AU17": (66, 108, 18, 94),
    "AU20": (44, 104, 14, 98),
    "AU23": (64, 106, 28, 84),
    "AU24": (66, 106, 28, 84),
    "AU25": (70, 106, 34, 78),
    "AU26": (56, 112, 14, 98),
    "AU28": (66, 108, 28, 84),
    "AU43": (28, 58, 22, 90),
    "AU45": (28, 58, 22, 90),
}


def person(number: int, **changes) -> Identity:
    """Somebody whose face is bare and at rest neutral."""
    bare = {"glasses": False, "beard": "none", "hair_style": "short", "age": 0.3, "resting": NEUTRAL}
    return dataclasses.replace(Identity.sample(np.random.default_rng(number)), **bare | changes)


def setting(number: int = 0, **changes) -> Setting:
    plain = {"blur": 0.0, "brightness": 1.0}
    return dataclasses.replace(Setting.sample(np.random.default_rng(number), STILL), **plain | changes)


@cache
def painter(number: int = 0) -> FacePainter:
    return FacePainter(person(number), setting(number), STILL)


def units(**intensities: float) -> np.ndarray:
    return action_unit_vector(intensities)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b).sum(-1)


@pytest.mark.parametrize("number", PEOPLE)
@pytest.mark.parametrize("name", ACTION_UNITS)
def test_each_action_unit_changes_its_own_region_and_little_else(name, number):
    top, bottom, left, right = REGIONS[name]
    # The jaw drops behind parted lips.
    rest = units(AU25=0.5) if name == "AU26" else NEUTRAL
    neutral, third, two, full = (
        painter(number).draw(np.maximum(rest, units(**{name: v}))) for v in (0.0, 0.33, 0.67, 1.0)
    )
    change = difference(full, neutral)
    assert change.max() > 40
    inside = change[top:bottom, left:right].sum() / change.sum()
    assert inside > 0.95
    sums = [difference(level, neutral).sum() for level in (third, two, full)]
    assert 0.1 * sums[2] < sums[0] < 0.75 * sums[2], "a third of the movement shows, but not all of it"
    assert sums[0] < sums[1] < sums[2], "the change grows with the intensity"


def test_no_two_action_units_look_the_same():
    names = [name for name in ACTION_UNITS if name != "AU45"]  # a blink is AU43 for a moment
    rest = painter().draw(NEUTRAL).astype(int)
    moved = [(painter().draw(units(**{name: 1.0})) - rest).ravel() for name in names]
    for i, a in enumerate(moved):
        for j, b in enumerate(moved[:i]):
            likeness = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert likeness < 0.9, f"{names[i]} and {names[j]}"


def darkening(number: int, name: str, region: tuple[slice, slice]) -> float:
    """By how many grey levels the darkest tenth of a region gets darker than it is at rest."""
    before, after = (
        np.sort(painter(number).draw(vector).mean(-1)[region].ravel()) for vector in (NEUTRAL, units(**{name: 1.0}))
    )
    tenth = max(1, len(before) // 10)
    return float(before[:tenth].mean() - after[:tenth].mean())


@pytest.mark.parametrize("number", PEOPLE)
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("AU04", lambda s: s["brow_right"][0] * [0, 1] - [0, 3.5]),
        ("AU06", lambda s: s["crow_right"].mean(0)),
        ("AU09", lambda s: s["root"].mean(0)),
        ("AU10", lambda s: s["fold_right"][len(s["fold_right"]) // 2]),
        ("AU12", lambda s: s["fold_right"][len(s["fold_right"]) // 2]),
        ("AU01", lambda s: s["forehead_0"].mean(0)),
    ],
)
def test_wrinkles_darken_their_places(name, place, number):
    x, y = np.rint(place(face_shapes(person(number), units(**{name: 1.0}))) + 56).astype(int)
    # Between the brows there is little room that is not brow.
    reach = 1 if name == "AU04" else 3
    region = slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)
    assert darkening(number, name, region) > 5


def test_the_lip_corners_and_brows_go_where_the_muscles_pull():
    shapes = {name: face_shapes(person(0), units(**{name: 1.0})) for name in ACTION_UNITS}
    rest = face_shapes(person(0), NEUTRAL)

    def moved(name: str, part: str) -> np.ndarray:
        return (shapes[name][part] - rest[part]).mean(0)

    assert moved("AU12", "corner_right")[1] < -3 < 0 < moved("AU12", "corner_right")[0]
    assert moved("AU12", "corner_left")[0] < 0
    assert moved("AU15", "corner_left")[1] > 3
    assert moved("AU04", "brow_right")[1] > 1 and moved("AU04", "brow_right")[0] < 0
    assert moved("AU01", "brow_right")[1] < -1 and moved("AU02", "brow_left")[1] < -1
    assert np.ptp(shapes["AU45"]["slit_right"][:, 1]) < 0.5 * np.ptp(rest["slit_right"][:, 1])


def test_tight_pressed_and_sucked_lips_differ():
    def red(name: str) -> float:
        s = face_shapes(person(1), units(**{name: 1.0}))
        return float(sum(np.ptp(s[lip][:, 1]) for lip in ("lip_upper", "lip_lower")))

    def width(name: str) -> float:
        return float(np.ptp(face_shapes(person(1), units(**{name: 1.0}))["lip_line"][:, 0]))

    assert red("AU28") < 0.6 * red("AU24"), "lips that are sucked in show next to no red"
    assert width("AU23") < 0.9 * width("AU24") and width("AU23") < 0.9 * width("AU28")


def test_the_resting_face_is_shown_and_is_no_movement():
    rest = units(AU04=0.4, AU15=0.3)
    stern = FacePainter(person(2, resting=rest), setting(2), STILL)
    plain = FacePainter(person(2), setting(2), STILL)
    assert np.array_equal(stern.draw(NEUTRAL), plain.draw(rest))
    assert np.array_equal(stern.draw(units(AU04=0.3, AU12=1.0)), plain.draw(rest + units(AU04=0.3, AU12=1.0)))
    assert not np.array_equal(stern.draw(NEUTRAL), plain.draw(NEUTRAL))
    assert np.array_equal(stern.draw(units(AU04=1.0)), plain.draw(units(AU04=1.0, AU15=0.3))), "1 is the most"


def test_resting_faces_of_people():
    faces = np.stack([Identity.sample(np.random.default_rng(n), 0.4).resting for n in range(400)])
    can_rest = [INDEX[name] for name in RESTING]
    assert not np.delete(faces, can_rest, axis=1).any()
    assert faces.min() == 0 and 0.35 < faces.max() <= 0.4
    assert 0.35 < (~faces.any(1)).mean() < 0.75, "many people look neutral at rest"
    assert all(faces[:, i].any() for i in can_rest)
    assert not Identity.sample(np.random.default_rng(1), 0.0).resting.any()


@pytest.mark.parametrize("name", ["AU12", "AU14"])
def test_contempt_shows_on_one_side_of_the_mouth(name):
    draw, other_half = painter(1).draw, {"AU12": 0.25, "AU14": 0.08}[name]
    rest = draw(NEUTRAL)
    for side, here, there in ((-1.0, slice(0, 54), slice(60, 112)), (1.0, slice(60, 112), slice(0, 54))):
        change = difference(draw(units(**{name: 1.0}), side=side), rest)
        assert change[:, there].sum() < other_half * change[:, here].sum()
    assert np.array_equal(draw(units(AU04=1.0), side=1.0), draw(units(AU04=1.0))), "nothing else has a side"


def occluded(kind: str, seconds: float, number: int = 3) -> np.ndarray:
    occluder = Occluder(kind, 1.0, 3.0, 1, np.zeros(2), 0.0, 1.0, np.array([40.0, 120.0, 60.0]))
    faces = FacePainter(person(number), setting(number, occluder=occluder), STILL)
    return faces.draw(NEUTRAL, frame=round(seconds * STILL.fps))


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_an_occluder_comes_hides_a_part_and_goes(kind):
    bare = painter(3).draw(NEUTRAL)
    assert np.array_equal(occluded(kind, 0.8), bare) and np.array_equal(occluded(kind, 3.1), bare)
    head = face_shapes(person(3), NEUTRAL)["head"]
    inside = (slice(8, 102), slice(*(int(56 + x) for x in (head[:, 0].min(), head[:, 0].max()))))
    hidden = (difference(occluded(kind, 2.0), bare)[inside] > 30).mean()
    assert 0.02 < hidden < 0.4, "a part of the face, never all of it"
    coming = difference(occluded(kind, 1.12), bare).sum()
    assert coming < difference(occluded(kind, 2.0), bare).sum()
    assert np.array_equal(occluded(kind, 2.0), occluded(kind, 2.4)), "it rests in between"


def test_how_often_and_when_something_hides_the_face():
    def sample(seconds: float, occlusion: float) -> list[Occluder | None]:
        faces = RenderedFaces(occlusion=occlusion)
        return [Setting.sample(np.random.default_rng(n), faces, seconds).occluder for n in range(300)]

    assert not any(sample(2.0, 0.0))
    assert 0.12 < np.mean([o is not None for o in sample(2.0, 0.2)]) < 0.28
    clips = [o for o in sample(2.0, 1.0) if o is not None]
    times = np.arange(0, 2, 0.04)
    presence = np.array([[o.presence(t) for t in times] for o in clips])
    assert {o.kind for o in clips} == set(OCCLUDERS)
    assert (presence.max(1) > 0.5).mean() > 0.95, "it is seen within the clip"
    assert (presence.min(1) == 0).mean() > 0.5, "and mostly it comes or goes"
    assert all(o is not None and o.presence(0.0) == 1 for o in sample(0.0, 1.0)), "a still has it at once"


def test_light_drifts_within_a_clip():
    drifting = setting(1, light_side=0.0, light_contrast=0.8, light_side_drift=0.3, brightness_drift=0.0)
    drifting = dataclasses.replace(drifting, drift_period=2.0)
    faces = FacePainter(person(1), drifting, STILL)

    def lean(frame: int) -> float:
        cheeks = faces.draw(NEUTRAL, frame=frame).mean(-1)[56:76]
        return float(cheeks[:, 70:84].mean() - cheeks[:, 28:42].mean())

    quarter = STILL.fps // 2
    assert lean(quarter) > lean(0) + 8 > lean(3 * quarter) + 16
    brighter = FacePainter(person(1), setting(1, brightness_drift=0.2, drift_period=2.0), STILL)
    assert brighter.draw(NEUTRAL, frame=quarter).mean() > 1.1 * brighter.draw(NEUTRAL).mean()
    steady = painter(1)
    assert np.array_equal(steady.draw(NEUTRAL), steady.draw(NEUTRAL, frame=quarter))


def edges(picture: np.ndarray, axis: int) -> float:
    return float(np.abs(np.diff(picture.astype(float), axis=axis)).mean())


def test_motion_blurs_along_the_way():
    faces = FacePainter(person(0), setting(0, shutter=0.8), STILL)
    here = Pose(x=4)
    sharp, blurred = faces.draw(NEUTRAL, here), faces.draw(NEUTRAL, here, before=Pose(x=-4))
    lost_across, lost_down = (1 - edges(blurred, axis) / edges(sharp, axis) for axis in (1, 0))
    assert lost_across > 0.24 > lost_down
    assert np.array_equal(faces.draw(NEUTRAL, here, before=here), sharp), "what rests is sharp"
    half = FacePainter(person(0), setting(0, shutter=0.3), STILL).draw(NEUTRAL, here, before=Pose(x=-4))
    assert edges(sharp, 1) > edges(half, 1) > edges(blurred, 1)
    shut = FacePainter(person(0), setting(0, shutter=0.0), STILL)
    assert np.array_equal(shut.draw(NEUTRAL, here, before=Pose(x=-4)), sharp)


def test_sensor_noise_changes_with_the_frame_alone():
    noisy = FacePainter(person(0), setting(0, noise=4.0), STILL)
    first, again, second = (noisy.draw(NEUTRAL, frame=t) for t in (0, 0, 1))
    assert np.array_equal(first, again)
    assert 2 < (first.astype(float) - second).std() < 9
    assert np.array_equal(first, FacePainter(person(0), setting(0, noise=4.0), STILL).draw(NEUTRAL))


def test_people_differ_more_than_their_movements():
    shared = setting(0)
    faces = [FacePainter(Identity.sample(np.random.default_rng(n), 0.0), shared, STILL) for n in range(12)]
    drawn = [f.draw(NEUTRAL) for f in faces]
    smiles = [f.draw(units(AU06=0.8, AU12=0.8)) for f in faces]
    within = np.mean([difference(a, b).mean() for a, b in zip(drawn, smiles, strict=True)])
    for i in range(12):
        for j in range(i):
            assert difference(drawn[i], drawn[j]).mean() > within, "two people, one light"


@pytest.mark.parametrize("beard", sorted(set(BEARDS) - {"none"}))
def test_beards_grow_below_the_nose(beard):
    bare, grown = painter(2), FacePainter(person(2, beard=beard), setting(2), STILL)
    change = difference(bare.draw(NEUTRAL), grown.draw(NEUTRAL))
    # Stubble is blurred into the cheeks.
    assert change[64:].sum() > 5000 and change[:60].sum() < (0.1 if beard == "stubble" else 0.02) * change.sum()


def test_age_lines():
    young, old = (FacePainter(person(1, age=age), setting(1), STILL).draw(NEUTRAL).astype(int) for age in (0.0, 1.0))
    s = face_shapes(person(1), NEUTRAL)
    for part in ("fold_right", "bag_left", "forehead_0"):
        x, y = np.rint(s[part][len(s[part]) // 3 : -(len(s[part]) // 3)].mean(0) + 56).astype(int)
        assert old[y - 2 : y + 3, x - 2 : x + 3].min() < young[y - 2 : y + 3, x - 2 : x + 3].min() - 3, part


def test_the_head_turns_both_ways():
    pictures = [painter().draw(NEUTRAL, Pose(turn=turn)) for turn in (-18, 0, 18)]
    assert all(difference(a, pictures[1]).mean() > 6 for a in (pictures[0], pictures[2]))


def test_extreme_poses_are_drawn():
    rng = np.random.default_rng(0)
    faces = RenderedFaces(occlusion=1.0)
    for number in range(12):
        someone = Identity.sample(rng)
        drawer = FacePainter(someone, Setting.sample(rng, faces, 1.0), faces)
        pose = Pose(*rng.uniform([-90, -60, -180, -150, -150, 0.2, -1, -1], [90, 60, 180, 150, 150, 3, 1, 1]))
        frame = drawer.draw(rng.uniform(0, 1, len(ACTION_UNITS)), pose, number, Pose(turn=-40), rng.uniform(-1, 1))
        assert frame.shape == (112, 112, 3) and frame.dtype == np.uint8 and np.ptp(frame) > 10
