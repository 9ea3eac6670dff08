"""The files that a prediction writes, and the paths of those that each video has for itself."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.files import UNWRITABLE, require_writable, write_text
from tgdfer.training.outputs.annotations import write_elan, write_textgrid
from tgdfer.training.outputs.document import Run, document, json_text
from tgdfer.training.outputs.names import output_paths
from tgdfer.training.outputs.optional_imports import require
from tgdfer.training.outputs.subtitles import SUBTITLE_FORMATS, subtitles
from tgdfer.training.outputs.tables import frame_table, segment_table

# The endings that a file of each kind may have. The endings of pictures are those that matplotlib knows.
_ENDINGS = {
    "subtitles": tuple(SUBTITLE_FORMATS),
    "elan": (".eaf",),
    "textgrid": (".textgrid",),
    "annotate": (".mp4", ".mkv", ".mov"),
}
_LIBRARIES = {
    "subtitles": ("pysubs2", "pysubs2"),
    "elan": ("pympi.Elan", "pympi-ling"),
    "textgrid": ("pympi.Praat", "pympi-ling"),
}
_KINDS = {
    "subtitles": "subtitles",
    "elan": "an ELAN file",
    "textgrid": "a TextGrid",
    "annotate": "a video",
}


@dataclass(frozen=True)
class PredictionFiles:
    """The files that a prediction writes; None for those that are not wanted.

    `csv`, `segments_csv` and `json` hold all videos. Of several videos each has its own file of the other kinds, with
    the name of the video added.

    Attributes:
        csv: table with a row for each sampled frame.
        segments_csv: table with a row for each segment.
        json: everything, as `prediction.schema.json` describes it.
        subtitles: WebVTT (`.vtt`) or SRT (`.srt`).
        elan: annotations for ELAN (`.eaf`).
        textgrid: annotations for Praat (`.TextGrid`).
        plot: picture of the timeline.
        annotate: video with boxes, labels and relevance.
    """

    csv: Path | None = None
    segments_csv: Path | None = None
    json: Path | None = None
    subtitles: Path | None = None
    elan: Path | None = None
    textgrid: Path | None = None
    plot: Path | None = None
    annotate: Path | None = None

    @property
    def of_all_videos(self) -> list[Path]:
        """Those that hold the results of all videos."""
        return [path for path in (self.csv, self.segments_csv, self.json) if path is not None]

    def require_writable(self) -> None:
        """Checks the paths before any video is read.

        Raises:
            UserError: a file cannot be written there, its ending is not that of its kind, two are the same, or the
                library that writes it is not installed.
        """
        taken: set[Path] = set()
        for field in fields(self):
            path = getattr(self, field.name)
            if path is None:
                continue
            if os.path.isdir(path):  # which is False of names that are too long
                raise UserError(f"{path} is a folder; name the file to write.")
            require_writable(path)
            if path.absolute() in taken:
                raise UserError(f"{path} is named for two outputs; give each a file of its own.")
            taken.add(path.absolute())
            endings = _ENDINGS.get(field.name)
            if endings is not None and path.suffix.lower() not in endings:
                shown = " or ".join(".TextGrid" if ending == ".textgrid" else ending for ending in endings[:2])
                raise UserError(f"{path} is not the name of {_KINDS[field.name]} to write: end it in {shown}.")
        if self.plot is not None:
            from tgdfer.training.figures.saving import require_picture_format

            require_picture_format(self.plot)
        for kind, (module, distribution) in _LIBRARIES.items():
            if getattr(self, kind) is not None:
                require(module, distribution)

    def write(
        self, results: Mapping[str, dict[str, Any]], errors: Mapping[str, str], run: Run, videos: Sequence[str]
    ) -> dict[Path, str]:
        """Writes what needs no frames: tables, JSON, subtitles and annotations. Each file is whole or not there.

        Args:
            results: for each video that could be read what the pipeline gives, with explanations.
            errors: for each of the others the reason.
            run: model and options.
            videos: all videos, by whose names the files of each are told apart.

        Returns:
            The files that could not be written because their place is full or closed, and for each the reason; the
            others are written.
        """
        texts: dict[Path | None, Callable[[], str]] = {
            self.csv: lambda: frame_table(results),
            self.segments_csv: lambda: segment_table(results),
            self.json: lambda: json_text(document(results, errors, run)),
        }
        unwritten: dict[Path, str] = {}
        for path, text in texts.items():
            if path is not None:
                with noting(path, unwritten):
                    write_text(path, text())
        own = self.own_paths(videos)
        for video, result in results.items():
            unwritten |= self.write_of_video(video, result, own)
        return unwritten

    def own_paths(self, videos: Sequence[str]) -> dict[str, dict[str, Path]]:
        """The paths of the files about times that each video has for itself, by the kind of the file."""
        given = {"subtitles": self.subtitles, "elan": self.elan, "textgrid": self.textgrid}
        return {kind: output_paths(videos, path) for kind, path in given.items() if path is not None}

    def write_of_video(
        self, video: str, result: Mapping[str, Any], own: Mapping[str, Mapping[str, Path]]
    ) -> dict[Path, str]:
        """Writes the subtitles and annotations of one video, so that they are there before the next is read.

        Args:
            video: the video.
            result: what the pipeline gives for it, with explanations.
            own: what `own_paths` gives for all videos.

        Returns:
            As `write`.
        """
        unwritten: dict[Path, str] = {}
        # The times of a folder of frames are unknown, and these files are about times.
        if not any(person["segments"] for person in result["people"]):
            return unwritten
        for kind, paths in own.items():
            with noting(paths[video], unwritten):
                _write_timed(kind, result, paths[video], video)
        return unwritten


@contextmanager
def noting(path: Path, unwritten: dict[Path, str]) -> Iterator[None]:
    """Creates the folder of an output, and notes the reason if its place is full or closed.

    Args:
        path: what the block writes.
        unwritten: gets the reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        unwritten[path] = str(error.strerror)


def _write_timed(kind: str, result: Mapping[str, Any], path: Path, video: str) -> None:
    if kind == "subtitles":
        write_text(path, subtitles(result, path.suffix.lower()))
    elif kind == "elan":
        write_elan(result, path, video if Path(video).is_file() else None)
    else:
        write_textgrid(result, path)
