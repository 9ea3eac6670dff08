"""Copies of videos, with their sound, in which boxes and labels are drawn, and a panel of the people over time."""

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
from tgdfer.training.colours import class_colours, to_bytes
from tgdfer.training.figures.labels import Box, label_picture, label_position, paste
from tgdfer.training.figures.panel import Panel, draw_panel
from tgdfer.training.figures.presence import TOLERANCE, Stretch, frame_seconds, stretches
from tgdfer.training.figures.timeline_row import answer_with_score
from tgdfer.training.sound import Sound
from tgdfer.training.video_writing import writing

# Smaller videos are enlarged so that labels are readable.
_MIN_SIDE, _MAX_SIDE = 360, 2048
# More threads do not make the encoder faster for common video sizes.
_MAX_THREADS = 8


def annotate(
    video: Any,
    result: Mapping[str, Any],
    path: str | Path,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Writes a copy of a video, with its sound, in which each face has a box and the label of that moment.

    The video is read, drawn and written frame by frame. Boxes are interpolated between the analysed frames, but not
    across a cut or a gap. The panel below the picture is at most a quarter as high as the picture. Sound is copied if
    the container supports its codec, and otherwise encoded as AAC. If the sound is broken, it ends early with a
    warning.

    Args:
        video (`Any`): Any input of the video processor.
        result (`Mapping[str, Any]`): Output of `EmotionTimelinePipeline` for the video.
        path (`str` or `Path`): Video to write.
        progress (`Callable[[float], None]`, *optional*): Called after each frame with the share of frames that are
            done (0 to 1).

    Raises:
        VideoDecodeError: If the video cannot be read.
    """
    seconds, end = np.zeros(0), 0.0

    def all_frames(times: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        nonlocal seconds, end
        seconds = np.arange(total) / ASSUMED_FPS if times is None else times
        end = float(seconds[0]) + (total / ASSUMED_FPS if duration is None else duration)
        return np.arange(total)

    source = open_video(video)
    threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    painter: _Painter | None = None
    sound = Sound(source) if isinstance(source, VideoFile) else None
    with sound or nullcontext(), writing(path, threads=threads, sound=sound) as writer:
        for number, _, frame in stream(source, all_frames):
            second = float(seconds[number])
            picture = frame[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
            painter = painter or _Painter(result, picture.shape, seconds)
            writer.write(second, painter.draw(picture, second))
            if progress:
                progress((number + 1) / len(seconds))
        writer.end = end


class _Painter:
    """Draws a result into the frames of a video.

    Args:
        result: Output of `EmotionTimelinePipeline`.
        shape: Height and width of the frames.
        seconds: (N,) Times of the frames.
    """

    def __init__(self, result: Mapping[str, Any], shape: tuple[int, ...], seconds: np.ndarray):
        height, width = shape[:2]
        enlargement = -(-_MIN_SIDE // min(height, width))
        # The limit only affects very narrow videos.
        self.scale = max(1, min(enlargement, _MAX_SIDE // max(height, width)))
        self.height, self.width = (max(2, side * self.scale // 2 * 2) for side in (height, width))
        self.size = max(14, min(self.height, self.width) // 30)
        length = float(result["duration"] or 0.0)
        length = max(length, float(seconds[-1]))
        panel_size = max(10, round(0.75 * self.size))
        self.panel: Panel = draw_panel(result, self.width, self.height // 4, length, panel_size)
        # One canvas is used for all frames. Only the parts that change are drawn again.
        self.canvas = np.concatenate([np.zeros((self.height, self.width, 3), np.uint8), self.panel.picture])
        self.people = [_Person(result, person) for person in result["people"]]

    def draw(self, picture: np.ndarray, second: float) -> np.ndarray:
        """Returns the frame (H, W, 3) with boxes, labels and panel. The next call overwrites it."""
        canvas = self.canvas[: self.height]
        if self.scale == 1:
            canvas[:] = picture[: self.height, : self.width]
        else:
            canvas[:] = cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        found = [(person, person.box(second)) for person in self.people]
        visible = [(person, box) for person, box in found if box is not None or not person.has_boxes]
        boxes = {person: _rounded(box * self.scale) for person, box in visible if box is not None}
        for person, box in boxes.items():
            self._draw_box(canvas, box, person.answer_at(second)["label"])
        # If there is room, labels cover neither faces nor other labels.
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
        """Draws the label next to the box, or in a corner if faces were not detected. Returns the box of the label."""
        answer = person.answer_at(second)
        colour = class_colours([answer["label"]])[answer["label"]]
        max_width = self.width if box is None else max(self.width // 2, min(self.width, 12 * self.size))
        label = label_picture(person.number, answer_with_score(answer), colour, self.size, max_width, self.height // 3)
        height, width = label.shape[:2]
        left, top = (0, 0) if box is None else label_position((height, width), box, canvas.shape[:2], taken)
        paste(canvas, label, left, top)
        return left, top, left + width, top + height


class _Person:
    """The box and the answer of a person at any time.

    Args:
        result: Output of `EmotionTimelinePipeline`.
        person: One of its people.
    """

    def __init__(self, result: Mapping[str, Any], person: Mapping[str, Any]):
        self.person, self.number = person, person["person"]
        self.has_boxes = "boxes" in person
        self.stretches = stretches(result, person)
        self.starts = [stretch.start for stretch in self.stretches]
        self.segments = person["segments"]
        self.segment_starts = [segment["start"] for segment in self.segments]
        boxes = [[np.nan] * 4 if box is None else box for box in person.get("boxes", ())]
        # Times (t,) and boxes (t, 4) of the frames with a box in each stretch.
        self.tracks = list(_tracks(self.stretches, frame_seconds(person), np.array(boxes, dtype=float).reshape(-1, 4)))

    def box(self, second: float) -> np.ndarray | None:
        """Returns the box (4,) of the face, interpolated between analysed frames. None if the person is absent."""
        index = bisect_right(self.starts, second + TOLERANCE) - 1
        if not self.has_boxes or index < 0 or second >= self.stretches[index].end - TOLERANCE:
            return None
        times, boxes = self.tracks[index]
        return np.array([np.interp(second, times, side) for side in boxes.T]) if len(times) else None

    def answer_at(self, second: float) -> Mapping[str, Any]:
        """Returns the segment at a time, or the nearest one. Without segments, returns the person."""
        if not self.segments:
            return self.person
        index = max(0, bisect_right(self.segment_starts, second + TOLERANCE) - 1)
        candidates = self.segments[index : index + 2]
        return min(
            candidates,
            key=lambda segment: max(segment["start"] - TOLERANCE - second, second - segment["end"] + TOLERANCE, 0.0),
        )


def _rounded(box: np.ndarray) -> Box:
    """Rounds a box to whole pixels."""
    left, top, right, bottom = box.round().astype(int).tolist()
    return left, top, right, bottom


def _tracks(
    stretches: Sequence[Stretch], seconds: np.ndarray, boxes: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields times and boxes of each stretch, without the frames that have no box.

    Args:
        stretches: Stretches of a person.
        seconds: (T,) Times of the frames of the person.
        boxes: (T, 4) Boxes, NaN if missing.
    """
    for stretch in stretches:
        frames = slice(stretch.first, stretch.last + 1)
        known = ~np.isnan(boxes[frames]).any(1)
        yield seconds[frames][: len(known)][known], boxes[frames][known]
