"""Tracks and people: the faces of single frames joined to tracks within a shot, and tracks joined to people.

A track never crosses a cut, and neither does a person: whose face is seen after a cut nobody knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .detectors_tgdfer import SAME_FACE, overlap

# A face that is lost for longer, in seconds, ends its track.
BRIDGE = 0.5
# A face is one, and no mistake of the detector, if it is seen for so many seconds in so many frames ...
LASTING, LASTING_FRAMES = 2.0, 8
# ... or in more than this share of the frames of its shot.
LEAST_SHARE = 1 / 8
# How far, in time and in shares of the size of the face, landmarks steady one another. A face that moves is further
# from itself than detectors err, and is not smeared.
STEADY_SECONDS, STEADY_SHARE = 0.5, 0.05


@dataclass
class Track:
    """One face through a shot: where it was seen.

    Attributes:
        number: of the track, in the order of appearance.
        frames: indices of the frames.
        faces: (15,) each, as a `Detector` gives them.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)

    def expected(self, frame: int) -> np.ndarray:
        """Where its face will be if it goes on as it did last."""
        if len(self.frames) < 2:
            return self.faces[-1]
        steps = (frame - self.frames[-1]) / (self.frames[-1] - self.frames[-2])
        return self.faces[-1] + steps * (self.faces[-1] - self.faces[-2])


@dataclass
class FacePath:
    """Where one person's face is in the sampled frames of a video.

    Attributes:
        person: number of the person in the video, from 1, in the order of appearance.
        indices: (N,) the sampled frames in which the face is, by their number in the video.
        boxes: (N, 4) left, top, right and bottom in pixels.
        points: (N, 5, 2) landmarks, steadied.
        scores: (N,) how sure the detector is, 0 to 1.
    """

    person: int
    indices: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    scores: np.ndarray


def follow(
    found: Sequence[np.ndarray], seconds: np.ndarray, bridge: float = BRIDGE, cuts: Sequence[int] = ()
) -> list[Track]:
    """Joins the faces (N_t, 15) of T frames to tracks, each face to the track that it is closest to.

    Close to where its face was and, so that people may pass one another, to where it was going. A track goes on where
    its face is missing for less than `bridge` seconds, and ends at a cut.

    Args:
        found: faces of each frame.
        seconds: (T,) of the frames.
        bridge: seconds for which a face may be missing.
        cuts: frames with which a new shot begins.
    """
    tracks: list[Track] = []
    alive: list[Track] = []
    begins = set(cuts)
    for index, faces in enumerate(found):
        if index in begins:
            alive = []
        alive = [t for t in alive if t.frames[-1] + 1 == index or seconds[index] - seconds[t.frames[-1] + 1] < bridge]
        pairs: list[tuple[float, int, int]] = []
        if alive and len(faces):
            close = _closeness(np.stack([track.faces[-1] for track in alive]), faces)
            close += _closeness(np.stack([track.expected(index) for track in alive]), faces)
            pairs = [(float(close[row, number]), row, number) for row, number in np.argwhere(close > 0).tolist()]
        free, taken = set(range(len(alive))), set()
        for _, row, number in sorted(pairs, reverse=True):
            if row in free and number not in taken:
                free.remove(row)
                taken.add(number)
                alive[row].frames.append(index)
                alive[row].faces.append(faces[number])
        for number in sorted(set(range(len(faces))) - taken):
            tracks.append(Track(len(tracks), [index], [faces[number]]))
            alive.append(tracks[-1])
    return tracks


def _closeness(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Overlap of boxes plus nearness of landmarks (N, M), 0 to 2, of faces (N, 15) and (M, 15).

    It is 0 for faces that cannot be the same.
    """
    shared = np.nan_to_num(overlap(ones, others))  # two boxes without an area
    areas = np.maximum.outer(ones[:, 2] * ones[:, 3], others[:, 2] * others[:, 3])
    steps = (ones[:, None] - others[None])[..., 4:14].reshape(*shared.shape, 5, 2)
    distance = np.linalg.norm(steps, axis=-1).mean(-1) / np.maximum(np.sqrt(areas), 1e-9)
    return np.where((shared < 0.2) & (distance > 0.5), 0.0, shared + np.maximum(0.0, 1.0 - distance))


def lasting(tracks: Sequence[Track], seconds: np.ndarray, cuts: Sequence[int] = ()) -> list[Track]:
    """The tracks that are there long enough to be faces: what is there for a moment is mostly no face.

    Args:
        tracks: of T frames.
        seconds: (T,) of the frames.
        cuts: frames with which a new shot begins.
    """
    edges = np.array([0, *cuts, len(seconds)])
    kept = []
    for track in tracks:
        shot = int(np.searchsorted(edges, track.frames[0], side="right"))
        share = len(track.frames) / (edges[shot] - edges[shot - 1])
        span = seconds[track.frames[-1]] - seconds[track.frames[0]]
        if share > LEAST_SHARE or (len(track.frames) >= LASTING_FRAMES and span >= LASTING):
            kept.append(track)
    return kept


# People


@dataclass
class Person:
    """One person in a shot.

    Attributes:
        number: from 1, in the order of appearance in the video.
        shot: number of the shot.
        tracks: of the face, in the order of time; more than one if the face was away for a while.
    """

    number: int
    shot: int
    tracks: list[Track]

    @property
    def faces(self) -> np.ndarray:
        """The faces (N, 15) that were seen."""
        return np.concatenate([np.stack(track.faces) for track in self.tracks])


def join_people(tracks: Sequence[Track], cuts: Sequence[int] = ()) -> list[Person]:
    """Joins tracks to people: a face that comes back in a shot where it was lost is that of the same person.

    A face after a cut is somebody else, as far as is known. What a crop looks like does not tell people apart well
    enough: in the dark, two people in one audience are more alike than one person in two shots (docs/experiments.md).

    Args:
        tracks: in the order of appearance.
        cuts: frames with which a new shot begins.
    """
    people: list[Person] = []
    for track in sorted(tracks, key=lambda one: (one.frames[0], one.number)):
        shot = int(np.searchsorted(np.asarray(cuts), track.frames[0], side="right"))
        returned = [
            person
            for person in people
            if person.shot == shot
            and person.tracks[-1].frames[-1] < track.frames[0]
            and overlap(person.tracks[-1].faces[-1][None], track.faces[0][None])[0, 0] >= SAME_FACE
        ]
        if returned:
            max(returned, key=lambda person: person.tracks[-1].frames[-1]).tracks.append(track)
        else:
            people.append(Person(len(people) + 1, shot, [track]))
    return people


def path_of(
    person: Person,
    indices: np.ndarray,
    seconds: np.ndarray,
    cuts: Sequence[int] = (),
    looked: Sequence[int] | None = None,
) -> FacePath:
    """Where a face is in all frames of its tracks; between frames where it was seen, on the straight way.

    Where a track begins or ends between two frames that were looked at, it does so half the way between them; it goes
    on to the end of its shot if no frame there was looked at.

    Args:
        person: whose face it is; the `frames` of the tracks are places in `indices`.
        indices: (N,) numbers of all sampled frames in the video.
        seconds: (N,) of these.
        cuts: places with which a new shot begins.
        looked: places of the frames that were looked at, increasing; all where not given.
    """
    borders = [0, *cuts, len(indices)]
    places = np.arange(len(indices)) if looked is None else np.asarray(looked)
    parts = []
    for track in person.tracks:
        shot = int(np.searchsorted(borders, track.frames[0], side="right"))
        start, stop = borders[shot - 1], borders[shot]
        before, after = places[places < track.frames[0]], places[places > track.frames[-1]]
        if len(before) and before[-1] >= start:
            start = int(before[-1] + track.frames[0]) // 2 + 1
        if len(after) and after[0] < stop:
            stop = int(track.frames[-1] + after[0] + 1) // 2
        parts.append(_path_of_track(person.number, track, np.arange(start, stop), indices, seconds))
    return join_paths(parts)


def join_paths(paths: Sequence[FacePath]) -> FacePath:
    """One path of several in the order of time; of a frame on two of them, the first."""
    columns = {
        name: np.concatenate([getattr(path, name) for path in paths])
        for name in ("indices", "boxes", "points", "scores")
    }
    _, first = np.unique(columns["indices"], return_index=True)
    return FacePath(paths[0].person, **{name: column[first] for name, column in columns.items()})


def _path_of_track(number: int, track: Track, there: np.ndarray, indices: np.ndarray, seconds: np.ndarray) -> FacePath:
    """The path of a track in the frames at the places `there`."""
    seen, faces = seconds[track.frames], np.stack(track.faces)
    faces = np.stack([np.interp(seconds[there], seen, column) for column in faces.T], 1)
    boxes = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:4]], 1)
    sizes = np.sqrt(faces[:, 2] * faces[:, 3])
    points = steady(faces[:, 4:14].reshape(-1, 5, 2), sizes, seconds[there])
    return FacePath(number, indices[there], boxes, points, faces[:, 14])


def steady(points: np.ndarray, sizes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Landmarks (T, 5, 2) of a face, `sizes` (T,) pixels large at `seconds` (T,), without the tremor of the detector.

    Each is a mean over the moments that are near in time and alike in place (a bilateral filter), so that a face that
    holds still stands still and one that moves is followed.
    """
    steadied = np.empty(points.shape)
    # What is further off in time than that has no weight; a face may be there for hours.
    reach, block = 4 * STEADY_SECONDS, 256
    for start in range(0, len(points), block):
        here = slice(start, start + block)
        first = int(np.searchsorted(seconds, seconds[here][0] - reach))
        near = slice(first, int(np.searchsorted(seconds, seconds[here][-1] + reach, side="right")))
        apart = np.linalg.norm(points[here, None] - points[None, near], axis=-1).mean(-1)
        apart /= np.maximum(sizes[here, None], 1e-9)
        between = seconds[here, None] - seconds[None, near]
        weights = np.exp(-0.5 * ((apart / STEADY_SHARE) ** 2 + (between / STEADY_SECONDS) ** 2))
        steadied[here] = np.einsum("ts,spc->tpc", weights / weights.sum(1, keepdims=True), points[near])
    return steadied
