"""Outputs of a search: the table in the terminal, CSV, JSON and WebVTT."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.training.files import printable, write_text
from tgdfer.training.outputs.document import Run, json_text
from tgdfer.training.outputs.files import recording_write_errors, require_no_input, require_outputs
from tgdfer.training.outputs.names import format_time, output_paths, short_names
from tgdfer.training.outputs.optional_imports import import_optional
from tgdfer.training.outputs.subtitles import SUBTITLE_FORMATS, plain

# Increases when the format of the JSON document changes in a way that readers must adapt to.
MOMENTS_VERSION = 1


@dataclass(frozen=True)
class MomentResults:
    """The moments that a search found.

    Attributes:
        phrases (`list[dict[str, Any]]`): Results of `TGDFERProcessor.search`, in which `file` replaces `video`.
        videos (`dict[str, float]`): Duration in seconds of each video that was searched.
        errors (`dict[str, str]`): Reason for each video that cannot be read.
        run (`Run`): Model and options.
        min_score (`float`): Minimum score of a moment.
    """

    phrases: list[dict[str, Any]]
    videos: dict[str, float]
    errors: dict[str, str]
    run: Run
    min_score: float

    @classmethod
    def named(
        cls,
        ranked: Sequence[Mapping[str, Any]],
        indexes: Mapping[str, Any],
        errors: Mapping[str, str],
        run: Run,
        min_score: float,
    ) -> "MomentResults":
        """Creates the results from those of `TGDFERProcessor.search` for the given indexes."""
        names = list(indexes)

        def with_file(moment: Mapping[str, Any] | None) -> dict[str, Any] | None:
            if moment is None:
                return None
            return {"file": names[moment["video"]], **{key: moment[key] for key in moment if key != "video"}}

        phrases = [
            {**one, "moments": [with_file(moment) for moment in one["moments"]], "best": with_file(one["best"])}
            for one in ranked
        ]
        durations = {name: round(index.duration, 3) for name, index in indexes.items()}
        return cls(phrases, durations, dict(errors), run, min_score)

    def document(self) -> dict[str, Any]:
        """Returns the JSON document of the results."""
        return {
            "schema_version": MOMENTS_VERSION,
            "run": asdict(self.run),
            "min_score": self.min_score,
            "phrases": self.phrases,
            "videos": [{"file": file, "duration": duration} for file, duration in self.videos.items()],
            "errors": [{"file": file, "error": reason} for file, reason in self.errors.items()],
        }


@dataclass(frozen=True)
class MomentFiles:
    """The files that a search writes. None for those that are not wanted.

    Attributes:
        csv (`Path`, *optional*): Table with a row for each moment.
        json (`Path`, *optional*): All results.
        subtitles (`Path`, *optional*): WebVTT (`.vtt`) or SRT (`.srt`) file. If there are several videos, each has its
            own, with the name of the video in the file name.
        plot (`Path`, *optional*): Figure with pictures of the moments.
    """

    csv: Path | None = None
    json: Path | None = None
    subtitles: Path | None = None
    plot: Path | None = None

    def require_writable(self) -> None:
        """Checks all paths before any video is read.

        Raises:
            UserError: If a path is not writable, has the wrong suffix or is used twice, or a library is not installed.
        """
        require_outputs({field.name: getattr(self, field.name) for field in fields(self)})

    def require_no_input(self, videos: Sequence[str]) -> None:
        """Checks that no output is one of the videos.

        Raises:
            UserError: Otherwise.
        """
        shared = [path for path in (self.csv, self.json, self.plot) if path is not None]
        require_no_input([*shared, *output_paths(videos, self.subtitles).values()], videos)

    def write(self, results: MomentResults) -> dict[Path, str]:
        """Writes all files except the figure, each of them atomically.

        Returns:
            The reason for each file that could not be written, for example because the disk is full.
        """
        texts: dict[Path, Callable[[], str]] = {}
        if self.csv is not None:
            texts[self.csv] = lambda: moment_table(results)
        if self.json is not None:
            texts[self.json] = lambda: json_text(results.document())
        # Videos that cannot be read count as well, so that names do not depend on them.
        paths = output_paths([*results.videos, *results.errors], self.subtitles)
        for file in results.videos if paths else ():
            texts[paths[file]] = partial(moment_subtitles, results, file, paths[file].suffix.lower())
        unwritten: dict[Path, str] = {}
        for path, text in texts.items():
            with recording_write_errors(path, unwritten):
                write_text(path, text())
        return unwritten


def moment_table(results: MomentResults) -> str:
    """Creates a CSV table with a row for each moment, the phrases in their order and the best moments first.

    The columns are the phrase; the rank among its moments, from 1; the score; start and end in seconds; the time of
    the frame with this score; the person, empty if faces were not detected; and the file.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["phrase", "rank", "score", "start", "end", "time", "person", "file"])
    for result in results.phrases:
        for rank, moment in enumerate(result["moments"], 1):
            times = [f"{moment[name]:.3f}" for name in ("start", "end", "time")]
            person = "" if moment["person"] is None else moment["person"]
            writer.writerow(
                [result["phrase"], rank, f"{moment['score']:.3f}", *times, person, printable(moment["file"])]
            )
    return table.getvalue()


def moment_subtitles(results: MomentResults, file: str, suffix: str) -> str:
    """Creates the subtitles of a video, such as `person 1: raised brows (2.9)`.

    Args:
        results (`MomentResults`): The moments.
        file (`str`): The video.
        suffix (`str`): ".vtt" or ".srt".

    Raises:
        UserError: If the library is not installed.
    """
    pysubs2 = import_optional("pysubs2", "pysubs2")
    subtitles = pysubs2.SSAFile()
    for result in results.phrases:
        for moment in result["moments"]:
            if moment["file"] == file:
                prefix = f"person {moment['person']}: " if moment["person"] is not None else ""
                text = plain(f"{prefix}{result['phrase']} ({moment['score']:.1f})", suffix)
                start, end = round(1000 * moment["start"]), round(1000 * moment["end"])
                subtitles.append(pysubs2.SSAEvent(start=start, end=max(end, start + 1), text=text))
    subtitles.sort()
    return subtitles.to_string(SUBTITLE_FORMATS[suffix])


def no_match(result: Mapping[str, Any]) -> str:
    """Returns the text for a phrase without moments, such as `no match (highest score 1.2)`."""
    best = result["best"]
    return "no match" if best is None else f"no match (highest score {best['score']:.1f})"


def print_moments(results: MomentResults) -> None:
    """Prints the moments as a table, with a section for each phrase."""
    console = get_console()
    names = {file: printable(name) for file, name in short_names(list(results.videos)).items()}
    moments = [moment for result in results.phrases for moment in result["moments"]]
    has_people = any(moment["person"] is not None for moment in moments)
    table = Table("phrase")
    table.add_column("score", justify="right", no_wrap=True)
    for title in ("from", "to"):
        table.add_column(title, justify="right", no_wrap=True)
    if has_people:
        table.add_column("person", justify="right")
    if len(names) > 1:
        table.add_column("video")
    for result in results.phrases:
        for rank, moment in enumerate(result["moments"]):
            row = ["" if rank else escape(result["phrase"]), f"{moment['score']:.1f}"]
            row += [format_time(moment[side]) for side in ("start", "end")]
            if has_people:
                row.append("" if moment["person"] is None else str(moment["person"]))
            if len(names) > 1:
                row.append(escape(names[moment["file"]]))
            table.add_row(*row)
        if not result["moments"]:
            best = "" if result["best"] is None else f"[dim]{result['best']['score']:.1f}[/]"
            table.add_row(escape(result["phrase"]), best, "[dim]no match[/]")
        table.add_section()
    console.print(table)
    if results.phrases and not moments:
        note = f"No phrase reaches the minimum score of {results.min_score:g}."
        console.print(note, highlight=False, markup=False, soft_wrap=True)
