"""Tracking: joins the faces in single frames into tracks within a shot, and tracks into people.

Neither a track nor a person crosses a cut, because the identity of a face after a cut is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .detectors_tgdfer import SAME_FACE, overlap

# A track ends if its face is missing for longer than this, in seconds.
BRIDGE = 0.5
# Minimum duration of a track in seconds, and minimum number of its detections. A shorter track is a false detection,
# unless its detections are more than `MIN_SHARE` of the searched frames of its shot.
LASTING, LASTING_FRAMES = 2.0, 8
MIN_SHARE = 1 / 8
# Standard deviations of the smoothing of landmarks: in time in seconds, and in position as a fraction of the size of
# the face. A moving face changes its position by more than the error of the detector, so it is not blurred.
STEADY_SECONDS, STEADY_SHARE = 0.5, 0.05


@dataclass
class Track:
    """Detections of one face in a shot.

    Attributes:
        number (`int`): Number of the track, in order of appearance.
        frames (`list[int]`): Indices of the frames.
        faces (`list[np.ndarray]`): Face (15,) in each of these frames, as returned by a `Detector`.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)

    def expected(self, frame: int) -> np.ndarray:
        """Extrapolates the face linearly to a frame."""
        if len(self.frames) < 2:
            return self.faces[-1]
        steps = (frame - self.frames[-1]) / (self.frames[-1] - self.frames[-2])
        return self.faces[-1] + steps * (self.faces[-1] - self.faces[-2])


@dataclass
class FacePath:
    """Positions of the face of one person in the sampled frames of a video.

    Attributes:
        person (`int`): Number of the person in the video, from 1, in order of appearance.
        indices (`np.ndarray` of shape `(N,)`): Frame numbers in the video of the sampled frames with the face.
        boxes (`np.ndarray` of shape `(N, 4)`): Left, top, right and bottom in pixels.
        points (`np.ndarray` of shape `(N, 5, 2)`): Smoothed landmarks in pixels.
        scores (`np.ndarray` of shape `(N,)`): Scores of the detector, 0 to 1.
    """

    person: int
    indices: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    scores: np.ndarray


def follow(
    found: Sequence[np.ndarray], seconds: np.ndarray, bridge: float = BRIDGE, cuts: Sequence[int] = ()
) -> list[Track]:
    """Joins the faces in T frames into tracks. Each face is assigned to the closest track.

    Both the last position of a track and its extrapolated position are considered, so that people can pass each other.
    A track continues if its face is missing for less than `bridge` seconds, and ends at a cut.

    Args:
        found (`Sequence[np.ndarray]`): Faces (N_t, 15) in each frame.
        seconds (`np.ndarray` of shape `(T,)`): Times of the frames.
        bridge (`float`, *optional*, defaults to 0.5): Seconds for which a face may be missing.
        cuts (`Sequence[int]`, *optional*, defaults to `()`): First frames of new shots.

    Returns:
        `list[Track]`: The tracks in order of appearance.
    """
    tracks: list[Track] = []
    alive: list[Track] = []
    begins = set(cuts)
    for index, faces in enumerate(found):
        if index in begins:
            alive = []
        alive = [t for t in alive if t.frames[-1] + 1 == index or seconds[index] - seconds[t.frames[-1] + 1] < bridge]
        pairs = match_faces([track.faces[-1] for track in alive], [track.expected(index) for track in alive], faces)
        for row, number in pairs:
            alive[row].frames.append(index)
            alive[row].faces.append(faces[number])
        for number in sorted(set(range(len(faces))) - {number for _, number in pairs}):
            tracks.append(Track(len(tracks), [index], [faces[number]]))
            alive.append(tracks[-1])
    return tracks


def match_faces(
    last: Sequence[np.ndarray], expected: Sequence[np.ndarray], faces: np.ndarray
) -> list[tuple[int, int]]:
    """Assigns the faces in a frame to tracks, the closest pairs first.

    Args:
        last (`Sequence[np.ndarray]`): Last face (15,) of each track.
        expected (`Sequence[np.ndarray]`): Face (15,) of each track, extrapolated to the frame.
        faces (`np.ndarray` of shape `(N, 15)`): Faces in the frame.

    Returns:
        `list[tuple[int, int]]`: Pairs of a track and a face, by their indices. Each is in at most one pair.
    """
    if not last or not len(faces):
        return []
    close = _closeness(np.stack(last), faces) + _closeness(np.stack(expected), faces)
    pairs = [(float(close[row, number]), row, number) for row, number in np.argwhere(close > 0).tolist()]
    free, taken, chosen = set(range(len(last))), set(), []
    for _, row, number in sorted(pairs, reverse=True):
        if row in free and number not in taken:
            free.remove(row)
            taken.add(number)
            chosen.append((row, number))
    return chosen


def _closeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes the overlap of boxes plus the proximity of landmarks (N, M), 0 to 2, of faces (N, 15) and (M, 15).

    It is 0 for faces that cannot be the same.
    """
    shared = np.nan_to_num(overlap(first, second))  # NaN for two boxes without an area
    areas = np.maximum.outer(first[:, 2] * first[:, 3], second[:, 2] * second[:, 3])
    steps = (first[:, None] - second[None])[..., 4:14].reshape(*shared.shape, 5, 2)
    distance = np.linalg.norm(steps, axis=-1).mean(-1) / np.maximum(np.sqrt(areas), 1e-9)
    return np.where((shared < 0.2) & (distance > 0.5), 0.0, shared + np.maximum(0.0, 1.0 - distance))


def lasting(tracks: Sequence[Track], seconds: np.ndarray, cuts: Sequence[int] = ()) -> list[Track]:
    """Selects the tracks that are long enough according to `LASTING`, `LASTING_FRAMES` and `MIN_SHARE`.

    Args:
        tracks (`Sequence[Track]`): Tracks in T frames.
        seconds (`np.ndarray` of shape `(T,)`): Times of the frames.
        cuts (`Sequence[int]`, *optional*, defaults to `()`): First frames of new shots.

    Returns:
        `list[Track]`: The selected tracks.
    """
    edges = np.array([0, *cuts, len(seconds)])
    kept = []
    for track in tracks:
        shot = int(np.searchsorted(edges, track.frames[0], side="right"))
        share = len(track.frames) / (edges[shot] - edges[shot - 1])
        span = seconds[track.frames[-1]] - seconds[track.frames[0]]
        if share > MIN_SHARE or (len(track.frames) >= LASTING_FRAMES and span >= LASTING):
            kept.append(track)
    return kept


# People


@dataclass
class Person:
    """One person in a shot.

    Attributes:
        number (`int`): Number of the person in the video, from 1, in order of appearance.
        shot (`int`): Number of the shot.
        tracks (`list[Track]`): Tracks of the face in chronological order. There are several if the face was missing
            for some time.
    """

    number: int
    shot: int
    tracks: list[Track]

    @property
    def faces(self) -> np.ndarray:
        """Detected faces (N, 15) of the person."""
        return np.concatenate([np.stack(track.faces) for track in self.tracks])


def join_people(tracks: Sequence[Track], cuts: Sequence[int] = ()) -> list[Person]:
    """Joins tracks into people. A face that reappears at the same position in a shot belongs to the same person.

    A face after a cut is a new person. The appearance of a crop does not identify people reliably: in the dark, two
    people in an audience look more similar than one person in two shots (docs/experiments.md).

    Args:
        tracks (`Sequence[Track]`): Tracks in order of appearance.
        cuts (`Sequence[int]`, *optional*, defaults to `()`): First frames of new shots.

    Returns:
        `list[Person]`: The people in order of appearance.
    """
    people: list[Person] = []
    for track in sorted(tracks, key=lambda track: (track.frames[0], track.number)):
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
    searched: Sequence[int] | None = None,
) -> FacePath:
    """Computes the positions of a face in all frames of its tracks, by linear interpolation between detections.

    A track is extended halfway to the adjacent frames that were searched. If no frame was searched between the track
    and the start or the end of its shot, it is extended to the start or the end.

    Args:
        person (`Person`): The person. The `frames` of its tracks are positions in `indices`.
        indices (`np.ndarray` of shape `(N,)`): Numbers of all sampled frames in the video.
        seconds (`np.ndarray` of shape `(N,)`): Times of these frames.
        cuts (`Sequence[int]`, *optional*, defaults to `()`): Positions in `indices` at which a new shot begins.
        searched (`Sequence[int]`, *optional*): Positions of the frames that were searched for faces, in increasing
            order. Defaults to all frames.

    Returns:
        `FacePath`: The positions of the face.
    """
    borders = [0, *cuts, len(indices)]
    places = np.arange(len(indices)) if searched is None else np.asarray(searched)
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
    """Joins paths in chronological order. If several paths contain a frame, the first one is used."""
    columns = {
        name: np.concatenate([getattr(path, name) for path in paths])
        for name in ("indices", "boxes", "points", "scores")
    }
    _, first = np.unique(columns["indices"], return_index=True)
    return FacePath(paths[0].person, **{name: column[first] for name, column in columns.items()})


def _path_of_track(number: int, track: Track, there: np.ndarray, indices: np.ndarray, seconds: np.ndarray) -> FacePath:
    """Interpolates a track in the frames at the positions `there`."""
    detected_at, faces = seconds[track.frames], np.stack(track.faces)
    faces = np.stack([np.interp(seconds[there], detected_at, column) for column in faces.T], 1)
    boxes = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:4]], 1)
    sizes = np.sqrt(faces[:, 2] * faces[:, 3])
    points = steady(faces[:, 4:14].reshape(-1, 5, 2), sizes, seconds[there])
    return FacePath(number, indices[there], boxes, points, faces[:, 14])


def steady(points: np.ndarray, sizes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Smooths the landmarks of a face to remove the noise of the detector.

    Each landmark is a weighted mean over frames that are close in time and in position (a bilateral filter). A still
    face becomes steady, and a moving face is followed.

    Args:
        points (`np.ndarray` of shape `(T, 5, 2)`): Landmarks in pixels.
        sizes (`np.ndarray` of shape `(T,)`): Sizes of the face in pixels.
        seconds (`np.ndarray` of shape `(T,)`): Times of the frames.

    Returns:
        `np.ndarray` of shape `(T, 5, 2)`: Smoothed landmarks.
    """
    steadied = np.empty(points.shape)
    # Frames further away have no weight. The face is processed in blocks because it may be visible for hours.
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
