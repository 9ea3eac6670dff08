"""The figure of a search: for each phrase, a strip of pictures of its best moments."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_reading_tgdfer import stream
from tgdfer.training.figures.fonts import shortened
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.figures.timeline_row import GREY
from tgdfer.training.outputs.moments import MomentResults, no_match
from tgdfer.training.outputs.names import format_time, short_names
from tgdfer.training.video_paths import readable_source

# Maximum number of pictures in a strip, and of strips in a figure.
MAX_PICTURES, MAX_PHRASES = 8, 40
# Side of a picture in pixels, and the margin around the box of a face as a share of its size.
SIDE, MARGIN = 160, 0.3
# Inches.
_FACE, _GAP, _TITLE, _LINE, _TOP, _EMPTY = 1.35, 0.12, 0.3, 0.15, 0.1, 0.25
# Font sizes in points.
_SIZE, _TITLE_SIZE = 8, 11

# Opens a video for reading, such as `TGDFERVideoProcessor.open_video`.
Opener = Callable[[Any], Any]


def plot_moments(results: MomentResults, path: str | Path, open_video: Opener) -> None:
    """Draws the pictures of the best moments of each phrase to a file.

    The videos are read again at these moments.

    Args:
        results (`MomentResults`): Results of a search.
        path (`str` or `Path`): File to write. The suffix determines the format.
        open_video (`Opener`): Opens a video.

    Raises:
        OSError: If the file cannot be written.
    """
    save_figure(draw_moments(results, read_pictures(results, open_video)), path)


def read_pictures(results: MomentResults, open_video: Opener) -> dict[tuple[str, int, int], np.ndarray]:
    """Reads a picture (S, S, 3), uint8 RGB, of each moment that the figure shows.

    Args:
        results (`MomentResults`): Results of a search.
        open_video (`Opener`): Opens a video.

    Returns:
        `dict[tuple[str, int, int], np.ndarray]`: Pictures by file, number of the frame and number of the person (0 if
        faces were not detected). Pictures that cannot be read any more are missing.
    """
    wanted: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for result in results.phrases[:MAX_PHRASES]:
        for moment in result["moments"][:MAX_PICTURES]:
            wanted.setdefault(moment["file"], {}).setdefault(moment["frame"], []).append(moment)
    pictures: dict[tuple[str, int, int], np.ndarray] = {}
    for file, frames in wanted.items():
        numbers = np.array(sorted(frames))
        # The file may have disappeared since it was indexed.
        with suppress(VideoDecodeError), readable_source(file) as opened:
            for number, _, frame in stream(open_video(opened), lambda *_, chosen=numbers: chosen):
                picture = _rgb(frame)
                for moment in frames[number]:
                    pictures[_key(moment)] = face_picture(picture, moment["box"])
    return pictures


def face_picture(picture: np.ndarray, box: list[float] | None) -> np.ndarray:
    """Cuts the square around a face out of a picture (H, W, 3), or its central square: (`SIDE`, `SIDE`, 3)."""
    height, width = picture.shape[:2]
    if box is None:
        side, centre = min(height, width), (width / 2, height / 2)
    else:
        side = int((1 + 2 * MARGIN) * max(box[2] - box[0], box[3] - box[1]))
        side, centre = max(2, side), ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    square = cv2.getRectSubPix(picture, (side, side), centre)
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def draw_moments(results: MomentResults, pictures: Mapping[tuple[str, int, int], np.ndarray]) -> Figure:
    """Draws the figure of `plot_moments` from the pictures of `read_pictures`."""
    shown = results.phrases[:MAX_PHRASES]
    names = short_names(list(results.videos))
    lines = 3 if len(names) > 1 else 2
    columns = max(3, *(min(MAX_PICTURES, len(result["moments"])) for result in shown))
    heights = [_TITLE + (_FACE + lines * _LINE + _GAP if result["moments"] else _EMPTY) for result in shown]
    width, height = columns * (_FACE + _GAP) + _GAP, _TOP + sum(heights) + 0.3
    figure = Figure(figsize=(width, height))
    top = height - _TOP
    for result, room in zip(shown, heights, strict=True):
        title = shortened(result["phrase"], _TITLE_SIZE, 72 * (width - 2 * _GAP))
        figure.text(_GAP / width, (top - 0.2) / height, title, va="baseline", fontsize=_TITLE_SIZE, weight="bold")
        if not result["moments"]:
            figure.text(_GAP / width, (top - _TITLE - 0.1) / height, no_match(result), fontsize=_SIZE, color=GREY)
        for column, moment in enumerate(result["moments"][:MAX_PICTURES]):
            texts = [_score_and_person(moment), _times(moment), names[moment["file"]]][:lines]
            _draw_picture(figure, pictures.get(_key(moment)), texts, column, top - _TITLE)
        top -= room
    figure.text(_GAP / width, 0.1 / height, _note(results), fontsize=7, color=GREY)
    return figure


def _draw_picture(figure: Figure, picture: np.ndarray | None, texts: list[str], column: int, top: float) -> None:
    """Draws a picture and the lines below it. `top` is in inches. A missing picture is a grey square."""
    width, height = figure.get_size_inches()
    left = _GAP + column * (_FACE + _GAP)
    axes = figure.add_axes((left / width, (top - _FACE) / height, _FACE / width, _FACE / height))
    axes.imshow(np.full((2, 2, 3), 225, np.uint8) if picture is None else picture, interpolation="antialiased")
    axes.axis("off")
    for number, text in enumerate(texts, 1):
        line = shortened(text, _SIZE, 72 * _FACE)
        figure.text(left / width, (top - _FACE - number * _LINE) / height, line, va="baseline", fontsize=_SIZE)


def _score_and_person(moment: Mapping[str, Any]) -> str:
    person = "" if moment["person"] is None else f" · person {moment['person']}"
    return f"{moment['score']:.1f}{person}"


def _times(moment: Mapping[str, Any]) -> str:
    start, end = format_time(moment["start"]), format_time(moment["end"])
    return start if start == end else f"{start} to {end}"


def _note(results: MomentResults) -> str:
    """Returns the explanation of the scores, and how many moments are not drawn."""
    notes = [
        f"Score: standard deviations above the mean of the phrase over many faces, at least {results.min_score:g}"
    ]
    hidden = sum(max(0, len(result["moments"]) - MAX_PICTURES) for result in results.phrases[:MAX_PHRASES])
    if hidden:
        notes.append(f"{hidden} more moments not drawn")
    if len(results.phrases) > MAX_PHRASES:
        notes.append(f"{len(results.phrases) - MAX_PHRASES} more phrases not drawn")
    return " · ".join(notes)


def _key(moment: Mapping[str, Any]) -> tuple[str, int, int]:
    return moment["file"], moment["frame"], moment["person"] or 0


def _rgb(frame: Any) -> np.ndarray:
    """Converts a decoded frame, (1, 3 or 4, H, W), to RGB, uint8 (H, W, 3)."""
    return frame[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
