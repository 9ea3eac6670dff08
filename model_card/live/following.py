"""Follows the faces in the frames of a camera: numbers them, and steadies their landmarks.

`tgdfer predict` knows the whole video. It interpolates between detections, and smooths with what comes later. Here
only the past is known. A face is extrapolated until the next search, and landmarks are smoothed with earlier ones.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from tgdfer.processing.detectors_tgdfer import SAME_FACE, Detector, find_faces, overlap
from tgdfer.processing.tracks_tgdfer import BRIDGE, STEADY_SECONDS, match_faces, steady

# Searches that must find a face before it counts, because false detections are rarely repeated.
CONFIRMED = 3
# Seconds after which a face that comes back to the same place is somebody new.
RETURN = 10.0
# Maximum share of the time that is spent on searching for faces.
SEARCH_SHARE = 0.4
# Longer side in pixels of the picture that is searched. MTCNN takes half as long for half the size, and YuNet is fast.
SEARCH_SIDE = {"yunet": 640, "mtcnn": 320}
# A larger view finds faces that are too small to be read, and takes long.
VIEWS = ("usual", "bordered")


@dataclass(frozen=True)
class FoundFace:
    """A face in a frame.

    Attributes:
        person (`int`): Number of the person, from 1, in order of appearance.
        box (`np.ndarray` of shape `(4,)`): Left, top, right and bottom in pixels.
        points (`np.ndarray` of shape `(5, 2)`): Steadied landmarks in pixels.
    """

    person: int
    box: np.ndarray
    points: np.ndarray


@dataclass(eq=False)
class _Track:
    """A face that is followed. Only what the next frame needs is kept."""

    faces: deque[tuple[float, np.ndarray]] = field(default_factory=lambda: deque(maxlen=2))
    trail: deque[tuple[float, np.ndarray]] = field(default_factory=deque)
    searches: int = 0
    person: int | None = None
    missing_since: float | None = None

    def found(self, second: float, face: np.ndarray) -> None:
        self.faces.append((second, face))
        self.searches += 1
        self.missing_since = None

    def expected(self, second: float) -> np.ndarray:
        """Extrapolates the face (15,) linearly, as `Track.expected` does for a whole video.

        A face that was searched in vain stays where it was.
        """
        last, face = self.faces[-1]
        if len(self.faces) < 2 or self.missing_since is not None:
            return face
        before, earlier = self.faces[0]
        return face + (second - last) / (last - before) * (face - earlier)

    def steadied(self, second: float, face: np.ndarray) -> np.ndarray:
        """Returns the landmarks (5, 2) of the face, smoothed with those of the last seconds."""
        self.trail.append((second, face))
        while second - self.trail[0][0] > 4 * STEADY_SECONDS:
            self.trail.popleft()
        rows = np.stack([row for _, row in self.trail])
        seconds = np.array([moment for moment, _ in self.trail])
        return steady(rows[:, 4:14].reshape(-1, 5, 2), np.sqrt(np.abs(rows[:, 2] * rows[:, 3])), seconds)[-1]


class FaceFollower:
    """Finds the faces in frames that arrive one after the other.

    Not every frame is searched if a search takes long. The time between two searches adapts to `SEARCH_SHARE`.

    Args:
        name (`str`): Name of the detector.
        detector (`Detector`): The detector.
        clock (`Callable[[], float]`, *optional*, defaults to `time.perf_counter`): Measures how long a search takes.
    """

    def __init__(self, name: str, detector: Detector, clock: Callable[[], float] = time.perf_counter):
        self.detector, self.clock = detector, clock
        self.side = SEARCH_SIDE[name]
        self.tracks: list[_Track] = []
        # Last position of people who have left, and when.
        self.left: list[tuple[float, int, np.ndarray]] = []
        self.people = 0
        self.next_search = -np.inf

    def add(self, picture: np.ndarray, second: float) -> list[FoundFace]:
        """Returns the faces in the next frame, the largest first.

        Args:
            picture (`np.ndarray` of shape `(H, W, 3)`): RGB frame, uint8.
            second (`float`): Its time in seconds. It must be later than that of the frame before.
        """
        if second >= self.next_search:
            start = self.clock()
            faces = self._search(picture)
            self.next_search = second + (self.clock() - start) / SEARCH_SHARE
            self._assign(faces, second)
        found = []
        # A face that a search has missed is bridged for a moment, as in `tgdfer predict`.
        for track in [track for track in self.tracks if track.person is not None]:
            face = track.expected(second)
            box = np.concatenate([face[:2], face[:2] + face[2:4]])
            found.append(FoundFace(track.person or 0, box, track.steadied(second, face)))
        return sorted(found, key=lambda one: -float((one.box[2] - one.box[0]) * (one.box[3] - one.box[1])))

    def _search(self, picture: np.ndarray) -> np.ndarray:
        """Finds the faces (N, 15) in the reduced picture, and returns them in pixels of the picture."""
        scale = min(1.0, self.side / max(picture.shape[:2]))
        if scale < 1:
            size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        faces = find_faces(self.detector, picture, views=VIEWS)
        faces[:, :14] /= scale
        return faces

    def _assign(self, faces: np.ndarray, second: float) -> None:
        """Assigns the faces (N, 15) of a search to tracks, and starts and ends tracks."""
        last = [track.faces[-1][1] for track in self.tracks]
        pairs = match_faces(last, [track.expected(second) for track in self.tracks], faces)
        for row, number in pairs:
            self.tracks[row].found(second, faces[number])
        matched = {row for row, _ in pairs}
        self._end_missing([track for row, track in enumerate(self.tracks) if row not in matched], second)
        for number in sorted(set(range(len(faces))) - {number for _, number in pairs}):
            self.tracks.append(_Track())
            self.tracks[-1].found(second, faces[number])
        for track in self.tracks:
            if track.person is None and track.searches >= CONFIRMED:
                track.person = self._returned(track.faces[-1][1]) or self._new_person()

    def _end_missing(self, missing: Sequence[_Track], second: float) -> None:
        for track in missing:
            track.missing_since = second if track.missing_since is None else track.missing_since
            # A face that has not yet been confirmed is probably a false detection.
            if track.person is None or second - track.missing_since >= BRIDGE:
                self.tracks.remove(track)
                if track.person is not None:
                    self.left.append((second, track.person, track.faces[-1][1]))
        self.left = [one for one in self.left if second - one[0] < RETURN]

    def _returned(self, face: np.ndarray) -> int | None:
        """Returns the number of somebody who has left from where the face is, the last one first."""
        for place in reversed(range(len(self.left))):
            _, person, there = self.left[place]
            if overlap(there[None], face[None])[0, 0] >= SAME_FACE:
                del self.left[place]
                return person
        return None

    def _new_person(self) -> int:
        self.people += 1
        return self.people
