"""A copy of a video with its sound, with boxes and labels drawn in, and below a panel of its people over time."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tgdfer.processing.video_file_tgdfer import VideoFile
from tgdfer.processing.video_reading_tgdfer import ASSUMED_FPS, open_video, stream
from tgdfer.training.figures.colours import class_colours, to_bytes
from tgdfer.training.figures.labels import Box, label_picture, paste, place_for
from tgdfer.training.figures.panel import Panel, draw_panel
from tgdfer.training.figures.presence import TOLERANCE, Stretch, frame_seconds, stretches
from tgdfer.training.figures.timeline_row import answer_of
from tgdfer.training.sound import Sound
from tgdfer.training.video_writing import writing

# Smaller videos are enlarged so that labels are readable.
_SMALLEST_SIDE, _LARGEST_SIDE = 360, 2048
# More threads than this make the encoder of usual videos no faster.
_MOST_THREADS = 8


def annotate(
    video: Any,
    result: Mapping[str, Any],
    path: str | Path,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Writes a copy of a video, with its sound, in which each face has a box and the label of that moment.

    The video is read, drawn and written frame by frame. Boxes are interpolated between the analysed frames, but not
    across a cut or a gap. The panel below takes at most a quarter of the picture. Sound that the container takes is
    copied, other sound becomes AAC. Broken sound ends early with a warning.

    Args:
        video: Any input that the video processor reads.
        result: Output of `EmotionTimelinePipeline` for the video.
        path: Video to write.
        progress: Called after each frame with the share of frames that are done (0 to 1).

    Raises:
        VideoDecodeError: If the video cannot be read.
    """
    seconds = np.zeros(0)

    def every(times: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        nonlocal seconds
        seconds = np.arange(total) / ASSUMED_FPS if times is None else times
        return np.arange(total)

    source = open_video(video)
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    painter: _Painter | None = None
    sound = Sound(source) if isinstance(source, VideoFile) else None
    with sound or nullcontext(), writing(path, threads=threads, sound=sound) as writer:
        for number, _, frame in stream(source, every):
            second = float(seconds[number])
            picture = frame[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
            painter = painter or _Painter(_timed(result, seconds), picture.shape, seconds)
            writer.write(second, painter.draw(picture, second))
            if progress:
                progress((number + 1) / len(seconds))


class _Painter:
    """Draws a result into the frames of a video.

    Args:
        result: Result with known times.
        shape: Height and width of the frames.
        seconds: (N,) times of the frames.
    """

    def __init__(self, result: Mapping[str, Any], shape: tuple[int, ...], seconds: np.ndarray):
        height, width = shape[:2]
        times = -(-_SMALLEST_SIDE // min(height, width))
        # This limit matters only for pictures that are very narrow.
        self.scale = max(1, min(times, _LARGEST_SIDE // max(height, width)))
        self.height, self.width = (max(2, side * self.scale // 2 * 2) for side in (height, width))
        self.size = max(14, min(self.height, self.width) // 30)
        length = float(result["duration"] or 0.0)
        length = max(length, float(seconds[-1]))
        panel_size = max(10, round(0.75 * self.size))
        self.panel: Panel = draw_panel(result, self.width, self.height // 4, length, panel_size)
        # The canvas is used for all frames: only what changes is drawn.
        self.canvas = np.concatenate([np.zeros((self.height, self.width, 3), np.uint8), self.panel.picture])
        self.people = [_Person(result, person) for person in result["people"]]

    def draw(self, picture: np.ndarray, second: float) -> np.ndarray:
        """The frame (H, W, 3) with boxes, labels and panel; it is overwritten by the next call."""
        canvas = self.canvas[: self.height]
        if self.scale == 1:
            canvas[:] = picture[: self.height, : self.width]
        else:
            canvas[:] = cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        found = [(person, person.box(second)) for person in self.people]
        visible = [(person, box) for person, box in found if box is not None or not person.has_boxes]
        boxes = {person: _whole(box * self.scale) for person, box in visible if box is not None}
        for person, box in boxes.items():
            self._draw_box(canvas, box, person.said(second)["label"])
        # Labels hide neither faces nor each other, if there is room.
        taken = list(boxes.values())
        for person, _ in visible:
            taken.append(self._draw_label(canvas, person, second, boxes.get(person), taken))
        self.panel.mark(self.canvas[self.height :], second)
        return self.canvas

    def _draw_box(self, canvas: np.ndarray, box: Box, label: str) -> None:
        left, top, right, bottom = box
        thickness = max(2, self.size // 8)
        end = max(left, right), max(top, bottom)
        cv2.rectangle(canvas, (left, top), end, to_bytes(class_colours([label])[label]), thickness)

    def _draw_label(
        self, canvas: np.ndarray, person: "_Person", second: float, box: Box | None, taken: list[Box]
    ) -> Box:
        """Writes the label beside the box, or in a corner where no faces were looked for, and says where it is."""
        said = person.said(second)
        colour = class_colours([said["label"]])[said["label"]]
        widest = self.width if box is None else max(self.width // 2, min(self.width, 12 * self.size))
        label = label_picture(person.number, answer_of(said), colour, self.size, widest, self.height // 3)
        height, width = label.shape[:2]
        left, top = (0, 0) if box is None else place_for((height, width), box, canvas.shape[:2], taken)
        paste(canvas, label, left, top)
        return left, top, left + width, top + height


class _Person:
    """What is drawn of a person at a time."""

    def __init__(self, result: Mapping[str, Any], person: Mapping[str, Any]):
        self.person, self.number = person, person["person"]
        self.has_boxes = "boxes" in person
        self.stretches = stretches(result, person)
        self.starts = [stretch.start for stretch in self.stretches]
        self.segments = person["segments"]
        self.segment_starts = [segment["start"] for segment in self.segments]
        boxes = [[np.nan] * 4 if box is None else box for box in person.get("boxes", ())]
        # Times (t,) and boxes (t, 4) of each stretch; frames without a box lie between those that have one.
        self.ways = list(_ways(self.stretches, frame_seconds(person), np.array(boxes, dtype=float).reshape(-1, 4)))

    def box(self, second: float) -> np.ndarray | None:
        """Box (4,) of the face, interpolated between analysed frames; None where the person is not present."""
        at = bisect_right(self.starts, second + TOLERANCE) - 1
        if not self.has_boxes or at < 0 or second >= self.stretches[at].end - TOLERANCE:
            return None
        times, boxes = self.ways[at]
        return np.array([np.interp(second, times, side) for side in boxes.T]) if len(times) else None

    def said(self, second: float) -> Mapping[str, Any]:
        """The segment at a time, or the nearest one; the answer for the whole video where there are no segments."""
        if not self.segments:
            return self.person
        at = max(0, bisect_right(self.segment_starts, second + TOLERANCE) - 1)
        near = self.segments[at : at + 2]
        return min(near, key=lambda one: max(one["start"] - TOLERANCE - second, second - one["end"] + TOLERANCE, 0.0))


def _whole(box: np.ndarray) -> Box:
    """A box of whole pixels."""
    left, top, right, bottom = box.round().astype(int).tolist()
    return left, top, right, bottom


def _ways(parts: Sequence[Stretch], seconds: np.ndarray, boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for part in parts:
        on = slice(part.first, part.last + 1)
        known = ~np.isnan(boxes[on]).any(1)
        yield seconds[on][: len(known)][known], boxes[on][known]


def _timed(result: Mapping[str, Any], seconds: np.ndarray) -> Mapping[str, Any]:
    """The result with times: where they are unknown, the analysed frames are spread evenly over the video.

    Args:
        result: Output of `EmotionTimelinePipeline`.
        seconds: (N,) times of all frames of the video.
    """
    if result["timestamps"] is not None and all(person["timestamps"] is not None for person in result["people"]):
        return result
    people = []
    for person in result["people"]:
        count = len(person["frame_relevance"])
        places = ((np.arange(count) + 0.5) * len(seconds) / count).astype(int)
        people.append({**person, "timestamps": seconds[places].tolist()})
    times = sorted({second for person in people for second in person["timestamps"]})
    return {**result, "people": people, "timestamps": times}
