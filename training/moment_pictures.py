"""Pictures of the moments that a search has found, read from the videos again, for its figure."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_reading_tgdfer import stream
from tgdfer.training.figures.moments import MomentPicture, Strip, face_picture, plot_strips
from tgdfer.training.outputs import short_names
from tgdfer.training.outputs.moments import MomentResults, no_match
from tgdfer.training.outputs.names import format_time
from tgdfer.training.video_paths import readable_source

# Maximum number of pictures of a phrase, and of phrases in a figure.
MAX_PICTURES, MAX_PHRASES = 8, 40

# Opens a video for reading, such as `TGDFERVideoProcessor.open_video`.
Opener = Callable[[Any], Any]
# Pictures by file, number of the frame and number of the person (0 if faces were not detected).
Pictures = dict[tuple[str, int, int], np.ndarray]


def plot_moments(results: MomentResults, path: str | Path, open_video: Opener) -> None:
    """Draws pictures of the best moments of each phrase to a file.

    Args:
        results (`MomentResults`): Results of a search.
        path (`str` or `Path`): File to write. The suffix determines the format.
        open_video (`Opener`): Opens a video.

    Raises:
        OSError: If the file cannot be written.
    """
    plot_strips(strips_of(results, read_pictures(results, open_video)), path, footnote(results))


def read_pictures(results: MomentResults, open_video: Opener) -> Pictures:
    """Reads a picture (S, S, 3), uint8 RGB, of each moment that the figure shows.

    Args:
        results (`MomentResults`): Results of a search.
        open_video (`Opener`): Opens a video.

    Returns:
        `Pictures`: The pictures. Those that cannot be read any more are missing.
    """
    wanted: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for result in results.phrases[:MAX_PHRASES]:
        for moment in result["moments"][:MAX_PICTURES]:
            wanted.setdefault(moment["file"], {}).setdefault(moment["frame"], []).append(moment)
    pictures: Pictures = {}
    for file, frames in wanted.items():
        numbers = np.array(sorted(frames))
        # The file may have disappeared since it was indexed.
        with suppress(VideoDecodeError), readable_source(file) as opened:
            for number, _, frame in stream(open_video(opened), lambda *_, chosen=numbers: chosen):
                picture = frame[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
                for moment in frames[number]:
                    pictures[_key(moment)] = face_picture(picture, moment["box"])
    return pictures


def strips_of(results: MomentResults, pictures: Pictures) -> list[Strip]:
    """Returns the strips of the figure, with score, person, time and, if there are several, video of each moment."""
    names = short_names(list(results.videos))

    def lines(moment: Mapping[str, Any]) -> list[str]:
        person = "" if moment["person"] is None else f" · person {moment['person']}"
        start, end = format_time(moment["start"]), format_time(moment["end"])
        times = start if start == end else f"{start} to {end}"
        return [f"{moment['score']:.1f}{person}", times, *([names[moment["file"]]] if len(names) > 1 else [])]

    return [
        Strip(
            result["phrase"],
            [MomentPicture(pictures.get(_key(one)), lines(one)) for one in result["moments"][:MAX_PICTURES]],
            no_match(result),
        )
        for result in results.phrases[:MAX_PHRASES]
    ]


def footnote(results: MomentResults) -> str:
    """Returns the meaning of the scores, and how many moments and phrases are not drawn."""
    notes = [f"Score: how many standard deviations better than many other faces; at least {results.min_score:g}"]
    hidden = sum(max(0, len(result["moments"]) - MAX_PICTURES) for result in results.phrases[:MAX_PHRASES])
    if hidden:
        notes.append(f"{hidden} more moments not drawn")
    if len(results.phrases) > MAX_PHRASES:
        notes.append(f"{len(results.phrases) - MAX_PHRASES} more phrases not drawn")
    return " · ".join(notes)


def _key(moment: Mapping[str, Any]) -> tuple[str, int, int]:
    return moment["file"], moment["frame"], moment["person"] or 0
