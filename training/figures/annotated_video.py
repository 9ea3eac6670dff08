"""A copy of a video with predictions drawn in: boxes and labels, and below a bar of relevance and segments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from tgdfer.processing.pipeline_tgdfer import LONGEST_CLIP
from tgdfer.processing.video_reading_tgdfer import ASSUMED_FPS, stream
from tgdfer.training.figures.timeline_row import RELEVANCE_COLOUR
from tgdfer.training.video_writing import writing

# Smaller videos are enlarged so that labels are readable.
_SMALLEST_SIDE = 360
# Bars of more people would take more room than the video.
_MOST_BARS = 4
# Boxes are interpolated between two analysed frames up to this distance, in seconds or in steps between frames.
_GAP, _STEPS = 1.0, 3.0

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Person:
    """The prediction for one person.

    Attributes:
        timeline: Output of `EmotionTimelinePipeline`.
        times: (T,) seconds of the analysed frames.
        boxes: (T, 4) left, top, right and bottom in pixels; NaN without a face.
        colour: Colour of box and label.
    """

    timeline: dict[str, Any]
    times: np.ndarray
    boxes: np.ndarray
    colour: Colour

    @classmethod
    def from_timeline(cls, timeline: dict[str, Any], number: int, seconds: np.ndarray) -> "_Person":
        """Makes a person from a timeline; `number` decides the colour, `seconds` are the times of all frames."""
        count = len(timeline["frame_relevance"])
        places = ((np.arange(count) + 0.5) * len(seconds) / count).astype(int)
        times = seconds[places] if timeline["timestamps"] is None else np.array(timeline["timestamps"])
        boxes = [[np.nan] * 4 if box is None else box for box in timeline.get("boxes", [None] * count)]
        return cls(timeline, times, np.array(boxes, dtype=float), _rgb(f"C{number}"))

    def box(self, second: float) -> np.ndarray | None:
        """Box (4,) of the face at a time, interpolated between analysed frames; None where no face is known."""
        usual = float(np.median(np.diff(self.times))) if len(self.times) > 1 else _GAP
        after = int(np.searchsorted(self.times, second))
        before, after = max(0, after - 1), min(after, len(self.times) - 1)
        ends = self.times[before], self.times[after]
        if ends[1] - ends[0] > max(_GAP, _STEPS * usual) or not ends[0] - usual <= second <= ends[1] + usual:
            return None
        share = 0.0 if before == after else float(np.clip((second - ends[0]) / (ends[1] - ends[0]), 0, 1))
        box = (1 - share) * self.boxes[before] + share * self.boxes[after]
        return None if np.isnan(box).any() else box

    def label(self, second: float) -> str:
        """Text beside the box: the label of a short clip; in a long video that of the segment or else the frame."""
        if self.times[-1] <= LONGEST_CLIP:
            label, candidates = self.timeline["label"], self.timeline.get("candidates", [])
            if len(candidates) > 1:
                return f"{label}: {' or '.join(candidates)}"
            return f"{label} {self.timeline['scores'][label]:.0%}"
        on = [one for one in self.timeline["segments"] if one["start"] <= second < one["end"]]
        if on:
            best = max(on, key=lambda one: one["confidence"])
            return f"{best['label']} {best['confidence']:.0%}"
        nearest = int(np.abs(self.times - second).argmin())
        curves = self.timeline["frame_scores"]
        name = max(curves, key=lambda name: curves[name][nearest])
        return f"{name} {curves[name][nearest]:.0%}"


def annotate(
    video: Any,
    people: Sequence[dict[str, Any]],
    path: str | Path,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Writes a copy of a video, without sound, with boxes, labels and a bar of relevance for each person.

    Args:
        video: Any input that the video processor reads.
        people: Output of `EmotionTimelinePipeline` for each person.
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

    drawn: list[_Person] = []
    bars: list[np.ndarray] = []
    with writing(path) as writer:
        for number, _, frame in stream(video, every):
            picture = _enlarged(frame[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
            if not drawn:
                drawn = [_Person.from_timeline(one, index, seconds) for index, one in enumerate(people)]
                bars = [_bar(person, picture.shape[1], float(seconds[-1])) for person in drawn[:_MOST_BARS]]
            second, scale = float(seconds[number]), picture.shape[1] / frame.shape[-1]
            writer.write(second, _draw(picture, drawn, bars, second, scale, second / max(float(seconds[-1]), 1e-9)))
            if progress:
                progress((number + 1) / len(seconds))


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Enlarges a small picture (H, W, 3) by a whole number; the result has even sides."""
    times = -(-_SMALLEST_SIDE // min(picture.shape[:2]))
    # This limit matters only for pictures that are very narrow.
    times = max(1, min(times, 2048 // max(picture.shape[:2])))
    height, width = (side * times // 2 * 2 or 2 for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)


def _draw(
    picture: np.ndarray,
    people: Sequence[_Person],
    bars: Sequence[np.ndarray],
    second: float,
    scale: float,
    share: float,
) -> np.ndarray:
    """Draws boxes and labels into the picture, appends the bars below it and marks the current time in them."""
    canvas = np.concatenate([picture, *bars])
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    size = max(14, picture.shape[0] // 24)
    free = 0
    for person in people:
        box = person.box(second)
        if box is not None:
            left, top, right, bottom = (box * scale).tolist()
            pen.rectangle(
                (left, top, max(left, right), max(top, bottom)), outline=person.colour, width=max(2, size // 8)
            )
            _write(pen, person.label(second), (left, top - 1.5 * size), size, person.colour, picture.shape)
        elif "boxes" not in person.timeline:  # Without face detection, the whole picture is the face.
            _write(pen, person.label(second), (0, free), size, person.colour, picture.shape)
            free += int(1.5 * size)
    at = round(share * (canvas.shape[1] - 1))
    pen.line((at, picture.shape[0], at, canvas.shape[0]), fill=(255, 255, 255), width=2)
    return np.asarray(image)


def _write(
    pen: ImageDraw.ImageDraw, text: str, place: tuple[float, float], size: int, colour: Colour, shape: tuple[int, ...]
) -> None:
    """Writes white text on a coloured background, moved so that it lies inside the picture."""
    font = _font(size)
    width = pen.textlength(text, font=font) + size // 2
    left = min(max(0.0, place[0]), max(0.0, shape[1] - width))
    top = min(max(0.0, place[1]), shape[0] - 1.5 * size)
    pen.rectangle((left, top, left + width, top + 1.4 * size), fill=colour)
    pen.text((left + size // 4, top + 0.1 * size), text, fill=(255, 255, 255), font=font)


def _bar(person: _Person, width: int, length: float) -> np.ndarray:
    """Draws a bar (h, width, 3) over the time of the video: relevance above, segments below, with names that fit."""
    height = max(40, width // 16 // 2 * 2)
    image = Image.new("RGB", (width, height), (24, 24, 24))
    pen = ImageDraw.Draw(image)
    unit = (width - 1) / max(length, 1e-9)
    base, relevance = height * 5 // 9, np.array(person.timeline["frame_relevance"], dtype=float)
    edges = np.concatenate([[0], (person.times[1:] + person.times[:-1]) / 2, [max(length, person.times[-1])]]) * unit
    for left, right, value in zip(edges, edges[1:], relevance / max(relevance.max(), 1e-9), strict=False):
        pen.rectangle((left, base - value * (base - 2), max(left, right - 1), base), fill=_rgb(RELEVANCE_COLOUR))
    font = _font(max(9, height // 3))
    for segment in person.timeline["segments"]:
        left, right = segment["start"] * unit, segment["end"] * unit
        pen.rectangle((left, base + 3, max(left, right - 2), height - 2), fill=person.colour)
        if pen.textlength(segment["label"], font=font) + 4 < right - left:
            pen.text((left + 3, base + 3), segment["label"], fill=(255, 255, 255), font=font)
    pen.rectangle((0, 0, 3, height), fill=person.colour)
    return np.asarray(image)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib and covers most alphabets."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _rgb(name: str) -> Colour:
    red, green, blue = (round(255 * part) for part in to_rgb(name))
    return red, green, blue
