"""The files that a prediction writes: their paths, checks before the prediction, and writing them."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tgdfer.processing.video_reading_tgdfer import IMAGE_SUFFIXES
from tgdfer.training.errors import UserError
from tgdfer.training.files import UNWRITABLE, require_writable, write_text
from tgdfer.training.outputs.annotations import write_elan, write_textgrid
from tgdfer.training.outputs.document import Run, document, json_text
from tgdfer.training.outputs.names import output_paths
from tgdfer.training.outputs.optional_imports import import_optional
from tgdfer.training.outputs.subtitles import SUBTITLE_FORMATS, subtitles
from tgdfer.training.outputs.tables import frame_table, segment_table

# Suffixes of each kind of file. matplotlib determines those of figures.
_SUFFIXES = {
    "subtitles": tuple(SUBTITLE_FORMATS),
    "elan": (".eaf",),
    "textgrid": (".textgrid",),
    "annotate": (".mp4", ".mkv", ".mov"),
}
_PICTURES = ("plot", "regions")
_LIBRARIES = {
    "subtitles": ("pysubs2", "pysubs2"),
    "elan": ("pympi.Elan", "pympi-ling"),
    "textgrid": ("pympi.Praat", "pympi-ling"),
}
_NAMES = {
    "subtitles": "subtitles",
    "elan": "an ELAN file",
    "textgrid": "a TextGrid",
    "annotate": "a video",
}


def require_outputs(paths: Mapping[str, Path | None]) -> None:
    """Checks the paths of output files before any video is read.

    Args:
        paths (`Mapping[str, Path | None]`): The path of each kind of file, such as "csv" or "plot". None for those
            that are not wanted.

    Raises:
        UserError: If a path is not writable, has the wrong suffix or is used twice, or a library is not installed.
    """
    taken: set[Path] = set()
    for kind, path in paths.items():
        if path is None:
            continue
        if os.path.isdir(path):  # `Path.is_dir` would raise an error if the name is too long.
            raise UserError(f"{path} is a folder; name the file to write.")
        require_writable(path)
        if path.absolute() in taken:
            raise UserError(f"{path} is named for two outputs; give each its own file.")
        taken.add(path.absolute())
        suffixes = _SUFFIXES.get(kind)
        if suffixes is not None and path.suffix.lower() not in suffixes:
            shown = " or ".join(".TextGrid" if suffix == ".textgrid" else suffix for suffix in suffixes[:2])
            raise UserError(f"{path} is not a file name for {_NAMES[kind]}: it must end in {shown}.")
        if kind in _PICTURES:
            from tgdfer.training.figures.saving import require_picture_format

            require_picture_format(path)
        if kind in _LIBRARIES:
            import_optional(*_LIBRARIES[kind])


@dataclass(frozen=True)
class PredictionFiles:
    """The files that a prediction writes. None for those that are not wanted.

    `csv`, `segments_csv` and `json` contain all videos. The other kinds have one file per video. If there are several
    videos, the name of the video is added to the file name.

    Attributes:
        csv (`Path`, *optional*): Table with a row for each sampled frame.
        segments_csv (`Path`, *optional*): Table with a row for each segment.
        json (`Path`, *optional*): All results, in the format of `prediction.schema.json`.
        subtitles (`Path`, *optional*): WebVTT (`.vtt`) or SRT (`.srt`) file.
        elan (`Path`, *optional*): Annotations for ELAN (`.eaf`).
        textgrid (`Path`, *optional*): Annotations for Praat (`.TextGrid`).
        plot (`Path`, *optional*): Figure of the timeline.
        annotate (`Path`, *optional*): Video with boxes, labels and relevance.
        regions (`Path`, *optional*): Figure of where in the face the named descriptions are seen.
    """

    csv: Path | None = None
    segments_csv: Path | None = None
    json: Path | None = None
    subtitles: Path | None = None
    elan: Path | None = None
    textgrid: Path | None = None
    plot: Path | None = None
    annotate: Path | None = None
    regions: Path | None = None

    @property
    def shared_paths(self) -> list[Path]:
        """The files that contain the results of all videos."""
        return [path for path in (self.csv, self.segments_csv, self.json) if path is not None]

    def require_writable(self) -> None:
        """Checks all paths before any video is read.

        Raises:
            UserError: If a path is not writable, has the wrong suffix or is used twice, or a library is not installed.
        """
        require_outputs({field.name: getattr(self, field.name) for field in fields(self)})

    def require_no_input(self, videos: Sequence[str], jsonl: Path | None = None) -> None:
        """Checks that no output is one of the videos or the file to which results are appended.

        Args:
            videos (`Sequence[str]`): All videos.
            jsonl (`Path`, *optional*): File to which results are appended.

        Raises:
            UserError: Otherwise. Writing the output would destroy it.
        """
        per_video = [self.subtitles, self.elan, self.textgrid, self.plot, self.annotate, self.regions]
        outputs = [*self.shared_paths, *(path for one in per_video for path in output_paths(videos, one).values())]
        require_no_input(outputs, videos)
        if jsonl is not None:
            require_no_input([jsonl], videos)
            require_no_input(outputs, [str(jsonl)])

    def write(
        self, results: Mapping[str, dict[str, Any]], errors: Mapping[str, str], run: Run, videos: Sequence[str]
    ) -> dict[Path, str]:
        """Writes the files that do not need the frames of the videos: tables, JSON, subtitles and annotations.

        Each file is written atomically.

        Args:
            results (`Mapping[str, dict[str, Any]]`): Output of the pipeline for each video that could be read, with
                explanations.
            errors (`Mapping[str, str]`): Reason for each video that cannot be read.
            run (`Run`): Model and options.
            videos (`Sequence[str]`): All videos. They determine the file names of each video.

        Returns:
            The reason for each file that could not be written, for example because the disk is full. All others are
            written.
        """
        texts: dict[Path | None, Callable[[], str]] = {
            self.csv: lambda: frame_table(results),
            self.segments_csv: lambda: segment_table(results),
            self.json: lambda: json_text(document(results, errors, run)),
        }
        unwritten: dict[Path, str] = {}
        for path, text in texts.items():
            if path is not None:
                with recording_write_errors(path, unwritten):
                    write_text(path, text())
        per_video = self.per_video_paths(videos)
        for video, result in results.items():
            unwritten |= self.write_video_files(video, result, per_video)
        return unwritten

    def per_video_paths(self, videos: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Returns the paths of the subtitles and annotations of each video, by kind of file."""
        paths = {"subtitles": self.subtitles, "elan": self.elan, "textgrid": self.textgrid}
        return {kind: output_paths(videos, path) for kind, path in paths.items() if path is not None}

    def write_video_files(
        self, video: str, result: Mapping[str, Any], per_video: Mapping[str, Mapping[str, Path]]
    ) -> dict[Path, str]:
        """Writes the subtitles and annotations of one video, so that they are complete before the next one is read.

        Args:
            video (`str`): The video.
            result (`Mapping[str, Any]`): Output of the pipeline for the video, with explanations.
            per_video (`Mapping[str, Mapping[str, Path]]`): Output of `per_video_paths` for all videos.

        Returns:
            As in `write`.
        """
        unwritten: dict[Path, str] = {}
        for kind, paths in per_video.items():
            with recording_write_errors(paths[video], unwritten):
                _write_video_file(kind, result, paths[video], video)
        return unwritten


def require_no_input(outputs: Iterable[Path], inputs: Iterable[str]) -> None:
    """Checks that outputs are not files that are also read, and not images in a folder of frames that is read.

    Raises:
        UserError: Otherwise. Writing the output would destroy an input, or add a frame to it.
    """
    taken = {os.path.realpath(path) for path in inputs if "://" not in path}
    for output in outputs:
        if os.path.realpath(output) in taken:
            raise UserError(f"{output} is read as well, and would be overwritten: name another file to write.")
        if output.suffix.lower() in IMAGE_SUFFIXES and os.path.realpath(output.parent) in taken:
            raise UserError(f"{output} would become a frame of {output.parent}: write it to another folder.")


@contextmanager
def recording_write_errors(path: Path, unwritten: dict[Path, str]) -> Iterator[None]:
    """Creates the folder of an output. Records the reason if the block cannot write it, for example to a full disk.

    Args:
        path (`Path`): File that the block writes.
        unwritten (`dict[Path, str]`): Dictionary to which the reason is added.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        unwritten[path] = str(error.strerror)


def _write_video_file(kind: str, result: Mapping[str, Any], path: Path, video: str) -> None:
    """Writes one file of subtitles or annotations."""
    if kind == "subtitles":
        write_text(path, subtitles(result, path.suffix.lower()))
    elif kind == "elan":
        write_elan(result, path, video if Path(video).is_file() else None)
    else:
        write_textgrid(result, path)
