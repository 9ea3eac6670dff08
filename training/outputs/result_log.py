"""JSON lines of results, which are appended as they come and from which an interrupted batch goes on.

A line of the kind `run` comes before the results of each run; it tells the model, the options and the part of the
list. A line of the kind `again` names videos whose lines no longer count. Every other line is a video: its result, or
the reason why it has none. A later line replaces an earlier one of the same video.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.outputs.document import SCHEMA_VERSION, Run, without_pixels
from tgdfer.training.outputs.shards import Shard


@dataclass
class Part:
    """What a file of JSON lines holds: the results of its last run.

    Attributes:
        path: the file.
        run: model and options; None of an empty file.
        shard: which part of the list it is.
        videos: all videos of the part, with and without a line.
        total: videos of the whole list.
        lines: for each video its last line.
    """

    path: Path
    run: Run | None = None
    shard: Shard = field(default_factory=Shard)
    videos: list[str] = field(default_factory=list)
    total: int = 0
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """For each video that has one, its result."""
        return {video: line["result"] for video, line in self.lines.items() if "result" in line}

    @property
    def errors(self) -> dict[str, str]:
        """For each of the others that was tried the reason."""
        return {video: line["error"] for video, line in self.lines.items() if "error" in line}


def read_part(path: Path) -> Part:
    """Reads a file of JSON lines. A last line that was cut off is left out.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    part = Part(path)
    for number, line in _lines(path):
        if line.get("kind") == "run":
            if line.get("schema_version") != SCHEMA_VERSION:
                raise UserError(
                    f"{path} has the schema version {line.get('schema_version')}, and this version of tgdfer reads"
                    f" {SCHEMA_VERSION}: write it again."
                )
            run, shard = Run(**line["run"]), Shard(**line["shard"])
            same = part.run is not None and part.run.fingerprint == run.fingerprint
            kept = {video: part.lines[video] for video in line["videos"] if video in part.lines} if same else {}
            part = Part(path, run, shard, line["videos"], line["total"], kept)
        elif line.get("kind") == "again":
            for video in line["files"]:
                part.lines.pop(video, None)
        elif part.run is None or "file" not in line or not {"result", "error"} & set(line):
            raise UserError(f"Line {number} of {path} is no result of tgdfer predict --jsonl; name another file.")
        else:
            part.lines[line["file"]] = line
    return part


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    return
                value = json.loads(text)
                if not isinstance(value, dict):
                    raise ValueError("it is no object")
                yield number, value
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} holds a line that is not JSON ({error}); name another file.") from error


class ResultLog:
    """Appends results to a file of JSON lines.

    Args:
        path: the file.
        run: model and options.
        shard: which part of the list is read.
        videos: all videos of this part.
        total: videos of the whole list.
        resume: whether the results that are there already are kept. They are, if their model and options are the same.

    Raises:
        UserError: the file holds something else; or it exists, and `resume` is False.
    """

    def __init__(self, path: Path, run: Run, shard: Shard, videos: list[str], total: int, resume: bool = False):
        exists = path.is_file() and path.stat().st_size > 0
        if exists and not resume:
            raise UserError(f"{path} exists already; give --resume to go on with it, or name another file.")
        before = read_part(path) if exists else Part(path)
        self.path = path
        self.part = Part(path, run, shard, videos, total)
        if before.run is not None and before.run.fingerprint == run.fingerprint:
            self.part.lines = {video: line for video, line in before.lines.items() if self._is_done(video, line)}
        path.parent.mkdir(parents=True, exist_ok=True)
        if exists:
            _cut_torn_line(path)
        if not exists or (before.run, before.shard, before.videos, before.total) != (run, shard, videos, total):
            about = {"run": asdict(run), "shard": asdict(shard), "videos": videos, "total": total}
            self._append({"kind": "run", "schema_version": SCHEMA_VERSION, **about})
        # So that this part does not count as finished before they are done.
        if again := [video for video in before.lines if video in videos and video not in self.part.lines]:
            self._append({"kind": "again", "files": again})

    def _is_done(self, video: str, line: Mapping[str, Any]) -> bool:
        """Whether a line is the result of this very file. Errors are tried again."""
        # A pipe cannot be compared.
        return "result" in line and video in self.part.videos and video != "-" and line["source"] == identity(video)

    def add(self, video: str, result: Mapping[str, Any]) -> None:
        """Appends the result of a video."""
        self._add({"file": video, "source": identity(video), "result": without_pixels(result)})

    def add_error(self, video: str, reason: str) -> None:
        """Appends the reason why a video has no result."""
        self._add({"file": video, "source": identity(video), "error": reason})

    def _add(self, line: dict[str, Any]) -> None:
        self._append(line)
        self.part.lines[line["file"]] = line

    def _append(self, line: dict[str, Any]) -> None:
        # One write of a whole line, closed at once: a process that is killed leaves at most the last line torn.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def identity(video: str) -> dict[str, int] | None:
    """Size in bytes and time of the last change in nanoseconds, of a file or of a folder's files; None of others."""
    path = Path(video)
    try:
        files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except OSError:
        return None
    if not stats:
        return None
    return {"size": sum(one.st_size for one in stats), "mtime": max(one.st_mtime_ns for one in stats)}


def _cut_torn_line(path: Path) -> None:
    """Removes the end of a file that is no whole line, which a killed process leaves."""
    with path.open("rb+") as file:
        whole, end = 0, file.seek(0, os.SEEK_END)
        place = end
        while place > 0 and whole == 0:
            start = max(0, place - 2**16)
            file.seek(start)
            whole = start + file.read(place - start).rfind(b"\n") + 1
            if whole == start and start > 0:
                whole = 0
            place = start
        if whole < end:
            file.truncate(whole)
