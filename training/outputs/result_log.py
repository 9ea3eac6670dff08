"""JSON lines of results. Results are appended one by one, so that an interrupted prediction can resume.

There are three kinds of lines. A line of the kind `run` precedes the results of each run and contains the model, the
options and the part of the list. A line of the kind `again` names videos whose earlier lines are invalid. All other
lines contain the result of a video, or the reason why there is none. If a video has several lines, the last one
counts.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.files import source_state
from tgdfer.training.outputs.document import SCHEMA_VERSION, Run, without_pixels
from tgdfer.training.outputs.shards import Shard


@dataclass
class Part:
    """The contents of a file of JSON lines: the results of its last run.

    Attributes:
        path (`Path`): Path of the file.
        run (`Run`, *optional*): Model and options. None if the file is empty.
        shard (`Shard`, *optional*, defaults to `Shard()`): Part of the list that the run processes.
        videos (`list[str]`, *optional*): All videos of the part, with and without a line.
        total (`int`, *optional*, defaults to 0): Number of videos in the whole list.
        lines (`dict[str, dict[str, Any]]`, *optional*): Last line of each video.
    """

    path: Path
    run: Run | None = None
    shard: Shard = field(default_factory=Shard)
    videos: list[str] = field(default_factory=list)
    total: int = 0
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Result of each video that has one."""
        return {video: line["result"] for video, line in self.lines.items() if "result" in line}

    @property
    def errors(self) -> dict[str, str]:
        """Reason for each video that was tried and has no result."""
        return {video: line["error"] for video, line in self.lines.items() if "error" in line}


def read_part(path: Path) -> Part:
    """Reads a file of JSON lines. An incomplete last line is ignored.

    Raises:
        UserError: If the file cannot be read, or has another format.
    """
    part = Part(path)
    for number, line in _lines(path):
        if line.get("kind") == "run":
            if line.get("schema_version") != SCHEMA_VERSION:
                raise UserError(
                    f"{path} has the schema version {line.get('schema_version')}, but this version of tgdfer reads"
                    f" version {SCHEMA_VERSION}: run the prediction again."
                )
            try:
                run, shard = Run(**line["run"]), Shard(**line["shard"])
                videos, total = line["videos"], line["total"]
            except (KeyError, TypeError) as error:
                raise _not_a_result(path, number) from error
            same = part.run is not None and part.run.fingerprint == run.fingerprint
            kept = {video: part.lines[video] for video in videos if video in part.lines} if same else {}
            part = Part(path, run, shard, videos, total, kept)
        elif line.get("kind") == "again":
            for video in line.get("files", ()):
                part.lines.pop(video, None)
        elif part.run is None or not {"file", "source"} <= set(line) or not {"result", "error"} & set(line):
            raise _not_a_result(path, number)
        else:
            part.lines[line["file"]] = line
    return part


def _not_a_result(path: Path, number: int) -> UserError:
    return UserError(f"Line {number} of {path} is not a result of tgdfer predict --jsonl; name another file.")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields number and content of each complete line."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    return
                value = json.loads(text)
                if not isinstance(value, dict):
                    raise ValueError("it is not an object")
                yield number, value
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} contains a line that is not valid JSON ({error}); name another file.") from error


class ResultLog:
    """Appends results to a file of JSON lines.

    Args:
        path (`Path`): Path of the file.
        run (`Run`): Model and options.
        shard (`Shard`): Part of the list to process.
        videos (`list[str]`): All videos of this part.
        total (`int`): Number of videos in the whole list.
        resume (`bool`, *optional*, defaults to `False`): Whether to keep existing results. Only results of the same
            model and options are kept.

    Raises:
        UserError: If the file has another format, or if it exists and `resume` is False.
    """

    def __init__(self, path: Path, run: Run, shard: Shard, videos: list[str], total: int, resume: bool = False):
        exists = path.is_file() and path.stat().st_size > 0
        if exists and not resume:
            raise UserError(f"{path} already exists; add --resume to continue it, or name another file.")
        before = read_part(path) if exists else Part(path)
        self.path = path
        self.part = Part(path, run, shard, videos, total)
        if before.run is not None and before.run.fingerprint == run.fingerprint:
            self.part.lines = {video: line for video, line in before.lines.items() if self._is_done(video, line)}
        path.parent.mkdir(parents=True, exist_ok=True)
        if exists:
            if before.run is None:
                _require_started(path)
            _remove_partial_line(path)
        if not exists or (before.run, before.shard, before.videos, before.total) != (run, shard, videos, total):
            header = {"run": asdict(run), "shard": asdict(shard), "videos": videos, "total": total}
            self._append({"kind": "run", "schema_version": SCHEMA_VERSION, **header})
        # These videos must be done again before this part counts as finished.
        if again := [video for video in before.lines if video in videos and video not in self.part.lines]:
            self._append({"kind": "again", "files": again})

    def _is_done(self, video: str, line: Mapping[str, Any]) -> bool:
        """Returns whether a line is a valid result of a video that has not changed. Errors are tried again."""
        # Changes of standard input cannot be detected.
        is_wanted = video in self.part.videos and video != "-"
        return is_wanted and "result" in line and line["source"] == source_state(Path(video))

    def add(self, video: str, result: Mapping[str, Any]) -> None:
        """Appends the result of a video."""
        self._add({"file": video, "source": source_state(Path(video)), "result": without_pixels(result)})

    def add_error(self, video: str, reason: str) -> None:
        """Appends the reason why a video has no result."""
        self._add({"file": video, "source": source_state(Path(video)), "error": reason})

    def _add(self, line: dict[str, Any]) -> None:
        self._append(line)
        self.part.lines[line["file"]] = line

    def _append(self, line: dict[str, Any]) -> None:
        # A line is written at once and the file is closed. If the process is killed, at most the last line is partial.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def _require_started(path: Path) -> None:
    """Checks that a file without a complete line is the begin of a log, and not a file of something else.

    Raises:
        UserError: Otherwise. Resuming would delete its content.
    """
    start = json.dumps({"kind": "run", "schema_version": SCHEMA_VERSION}).removesuffix("}").encode()
    with path.open("rb") as file:
        content = file.read(len(start))
    if not start.startswith(content):
        raise _not_a_result(path, 1)


def _remove_partial_line(path: Path) -> None:
    """Removes an incomplete last line, which a killed process may have left."""
    with path.open("rb+") as file:
        complete, end = 0, file.seek(0, os.SEEK_END)
        position = end
        while position > 0 and complete == 0:
            start = max(0, position - 2**16)
            file.seek(start)
            complete = start + file.read(position - start).rfind(b"\n") + 1
            if complete == start and start > 0:
                complete = 0
            position = start
        if complete < end:
            file.truncate(complete)
