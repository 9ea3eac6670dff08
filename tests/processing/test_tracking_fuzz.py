"""The arithmetic of tracking, for any faces at any times."""

import numpy as np
import pytest
import torch

from tgdfer.processing import detectors_tgdfer, faces_tgdfer
from tgdfer.processing.faces_tgdfer import TEMPLATE, FaceSettings, crop_face, locate_faces
from tgdfer.processing.tracks_tgdfer import BRIDGE, follow, join_people

hypothesis = pytest.importorskip("hypothesis", reason="the tracking arithmetic is fuzzed by hypothesis")
st = hypothesis.strategies


def face(x: float, y: float, size: float) -> np.ndarray:
    """(15,) upright face: its box, five landmarks and a score."""
    landmarks = np.array([x, y]) + TEMPLATE / 112 * size
    return np.array([x, y, size, size, *landmarks.reshape(-1), 0.9])


PLACES = st.floats(-2000, 4000)
FACES = st.builds(face, PLACES, PLACES, st.floats(1, 2000))
FRAMES = st.lists(st.lists(FACES, max_size=4), max_size=12)


def times(draw, count: int) -> np.ndarray:
    return np.cumsum(draw(st.lists(st.floats(1e-3, 1.0), min_size=count, max_size=count)))


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.data(), FRAMES)
def test_each_face_is_in_one_track_and_no_track_outlives_its_face_or_crosses_a_cut(data, found):
    seconds = times(data.draw, len(found))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(found) - 1)), max_size=4)))
    tracks = follow([np.array(faces).reshape(-1, 15) for faces in found], seconds, cuts=cuts)
    seen = [(frame, tuple(one)) for track in tracks for frame, one in zip(track.frames, track.faces, strict=True)]
    assert sorted(seen) == sorted((frame, tuple(one)) for frame, faces in enumerate(found) for one in faces)
    assert len({track.number for track in tracks}) == len(tracks)
    for track in tracks:
        for before, after in zip(track.frames, track.frames[1:], strict=False):
            assert after > before
            assert after == before + 1 or seconds[after] - seconds[before + 1] < BRIDGE
        assert not any(track.frames[0] < cut <= track.frames[-1] for cut in cuts)
    people = join_people(tracks, cuts)
    assert [person.number for person in people] == list(range(1, len(people) + 1))
    assert sorted(track.number for person in people for track in person.tracks) == list(range(len(tracks)))
    for person in people:
        frames = [frame for track in person.tracks for frame in track.frames]
        assert frames == sorted(set(frames)), "a person is in one place at a time"
        assert np.searchsorted(cuts, frames, side="right").tolist() == [person.shot] * len(frames)


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.data(), st.integers(1, 4), st.integers(2, 40))
def test_people_apart_keep_their_tracks_however_the_detector_errs(data, people, count):
    size = data.draw(st.floats(10, 300))
    unsure = data.draw(st.lists(st.floats(-0.05, 0.05), min_size=2 * count * people, max_size=2 * count * people))
    errors = size * np.array(unsure).reshape(count, people, 2)
    lost = np.array(data.draw(st.lists(st.booleans(), min_size=count * people, max_size=count * people)))
    there = ~lost.reshape(count, people)
    there[:: int(BRIDGE * 25) // 2] = True  # Nobody is lost for so long that the track ends.
    order = data.draw(st.permutations(range(people)))
    found = [
        np.array(
            [face(3 * size * one + x, y, size) for one in order if there[frame, one] for x, y in [errors[frame, one]]]
        )
        for frame in range(count)
    ]
    tracks = follow([faces.reshape(-1, 15) for faces in found], np.arange(count) / 25)
    assert len(tracks) == people
    for track in tracks:
        who = {round(one[0] / (3 * size)) for one in track.faces}
        assert len(who) == 1
        assert track.frames == np.flatnonzero(there[:, who.pop()]).tolist()


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    st.data(),
    st.lists(st.lists(FACES, max_size=4), min_size=1, max_size=12),
    st.sampled_from(["largest", "center", "all"]),
    st.integers(1, 4),
)
def test_paths_lie_within_the_clip_and_crops_can_be_cut(data, found, crop, every):
    """Whatever the detector says, in frames of several shots that are looked at now and then."""
    count = (len(found) - 1) * every + 1
    seconds = times(data.draw, count)
    shades = np.cumsum(data.draw(st.lists(st.sampled_from([0, 0, 0, 90]), min_size=count, max_size=count))) % 180
    pictures = [torch.full((3, 24, 32), int(shade), dtype=torch.uint8) for shade in shades]
    frames = [(7 * number, float(second), pictures[number]) for number, second in enumerate(seconds)]
    turn = iter([np.array(faces).reshape(-1, 15) for faces in found])
    settings = FaceSettings(crop=crop, detector="yunet", size=16, every=every)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detectors_tgdfer, "_detector", lambda *_: None)
        patch.setattr(faces_tgdfer, "find_in_all", lambda _, pictures: [next(turn) for _ in pictures])
        located = locate_faces(frames, settings)
    paths, cuts = located.paths, located.cuts
    numbers = [number for number, _, _ in frames]
    assert located.indices.tolist() == numbers and np.allclose(located.seconds, seconds)
    assert cuts == sorted(set(cuts)) and all(0 < cut < count for cut in cuts)
    assert (
        len({path.person for path in paths})
        == len(paths)
        <= (len(cuts) + 1 if crop != "all" else sum(map(len, found)))
    )
    # Of all faces those that come by for a moment do not count.
    assert bool(paths) == any(found) if crop != "all" else any(found) >= bool(paths)
    for path in paths:
        assert set(path.indices) <= set(numbers) and (np.diff(path.indices) > 0).all()
        places = np.searchsorted(located.indices, path.indices)
        assert len(set(np.searchsorted(cuts, places, side="right"))) == 1, "of one shot"
        face = crop_face(torch.stack(pictures), np.array(numbers), path, settings)
        assert face.frames.shape == (len(path.indices), 3, 16, 16) and np.isfinite(face.boxes).all()
        assert len(face.missing) == count - len(path.indices) and face.person == path.person
