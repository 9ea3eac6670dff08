"""Faces of a whole data set, cut out once: `tgdfer faces`. The crop is what goes wrong first in this field."""

import csv
import json
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.processing.faces_tgdfer import (
    CUT_MARK,
    FacePath,
    FaceSettings,
    NoFaceError,
    cut_face,
    load_detector,
    locate_faces,
    require_faces,
)
from tgdfer.processing.pipeline_tgdfer import LONGEST_CLIP
from tgdfer.processing.video_reading_tgdfer import ASSUMED_FPS, IMAGE_SUFFIXES, VideoDecodeError, open_video, stream
from tgdfer.training.data.left_out import VIDEO_NAME
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.files import read_json, require_writable, write_text
from tgdfer.training.video_writing import writing

# Beside the clips: how they were cut, a line for each clip that is done, and what there is to say of all of them.
SETTINGS, ROWS, REPORT = "faces.json", "clips.jsonl", "report.json"
# What lies beside the videos of a data set and is no video.
_COMPANIONS = (".csv", ".json", ".jsonl", ".md", ".pdf", ".tsv", ".txt", ".wav", ".xlsx", ".xml", ".yaml", ".yml")
# A square picture of no more pixels a side that a face fills is a crop already.
_ALIGNED_SIDE, _ALIGNED_SHARE = 256, 0.6


@dataclass(frozen=True)
class _Job:
    """One video to cut faces out of.

    Attributes:
        source: the video, or a folder of frames.
        file: its name in the report: its path below the folder of the data set.
        folder: where crops go.
        output: the path of the crop below it; further people of a video have a number added.
        settings: what is cut out.
    """

    source: Path
    file: str
    folder: Path
    output: str
    settings: FaceSettings


def cut_faces(
    source: str | Path,
    output: str | Path,
    settings: FaceSettings | None = None,
    annotations: str | Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Cuts the faces out of a video, or of all videos and folders of frames below a folder, in the same order there.

    Crops are H.264 files with the times of their sources; `metadata.jsonl` files come along, with what they say frame
    by frame. A run that was interrupted goes on where it stopped; a source that has changed is done anew.

    Args:
        source: a video, or the folder of a data set.
        output: folder of the crops.
        settings: what is cut out.
        annotations: a list of the clips that there should be: CSV, TSV, JSON lines, or lines that begin with the name
            of a clip; a column "frames", "num_frames" or "frame_count" says how many frames each has. By default the
            `metadata.jsonl` files of the data set.
        workers: processes; with one, or for one clip, this process does it, and a fault of a decoder ends it.

    Returns:
        The report, which is in `output/report.json` too: `clips`, `frames`, `frames_without_face`; `without_face`, the
        clips that have none; `left_out`, those of which there is no crop, by `no_face`; `unreadable`, for each such
        clip the reason; `skipped`, files that are not named as videos are; `frame_counts`, how many clips have how
        many frames; `mismatches` with the annotations; `milliseconds_per_frame` of decoding and looking for faces;
        `aligned`, how many clips look as if they were aligned already; and `advice`, if there is any.

    Raises:
        UserError: there is nothing to cut, or the folder holds something else; `PartialResultError`, one of them, if
            some videos cannot be read.
        VideoDecodeError: there is no face detector.
    """
    source, output, settings = Path(source), Path(output), settings or FaceSettings()
    listed = None if annotations is None else read_annotations(Path(annotations))
    settings = _claim_folder(source, output, settings)
    jobs = _jobs(source, output, settings)
    done = _done(output, jobs)
    todo = [job for job in jobs if job.file not in done]
    # Without the lines that are true no more, or were cut off.
    write_text(output / ROWS, "".join(json.dumps(row) + "\n" for row in done.values()))
    columns = (TextColumn("Cutting faces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        (output / ROWS).open("a", encoding="utf-8") as log,
        Progress(*columns, console=get_console(), transient=True) as bar,
    ):
        task = bar.add_task("", total=len(jobs), completed=len(done))
        for row in _run(todo, workers):
            done[row["file"]] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
            bar.advance(task)
    rows = [done[job.file] for job in jobs]
    metadata = _carry_metadata(source, output, rows)
    report = _report(rows, settings, metadata if listed is None else listed) | {"skipped": _skipped(source)}
    write_text(output / REPORT, json.dumps(report, indent=2) + "\n")
    if report["unreadable"]:
        print_report(report)
        raise PartialResultError(report["unreadable"], len(rows))
    return report


def read_annotations(path: Path) -> dict[str, int | None]:
    """For each clip of a list its number of frames, None where the list does not say it.

    Raises:
        UserError: the list cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip()]
        if path.suffix in (".jsonl", ".json"):
            rows = [json.loads(line) for line in lines]
            listed = {_name_of(row): _frames_of(row) for row in rows}
        else:
            listed = _of_table(lines)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is no list of clips ({error}): give a CSV, JSON lines, or a name a line.") from error
    if not listed:
        raise UserError(f"{path} lists no clip: give a CSV, JSON lines, or a name a line.")
    return listed


def print_report(report: dict[str, Any]) -> None:
    """Prints what a user should know of the crops."""
    console = get_console()
    cost = report["milliseconds_per_frame"]
    console.print(
        f"{report['clips']} clips, {report['frames']} frames, of which {report['frames_without_face']} are without the"
        f" face. Decoding and looking for faces took {cost:.1f} ms a frame.",
        highlight=False,
    )
    for what, names in {
        "clips without a face": report["without_face"],
        "clips left out": report["left_out"],
        "clips that cannot be read": list(report["unreadable"]),
        "clips in the list without a video": report["mismatches"]["missing"],
        "clips that are not in the list": report["mismatches"]["unlisted"],
        "clips with another number of frames than the list says": list(report["mismatches"]["frames"]),
        "files skipped, whose names do not end as those of videos do": report["skipped"],
    }.items():
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            console.print(f"{len(names)} {what}: {', '.join(names[:5])}{more}", highlight=False, markup=False)
    if report["advice"]:
        console.print(report["advice"], style="bold", highlight=False, markup=False)


# The folder of crops


def _claim_folder(source: Path, output: Path, settings: FaceSettings) -> FaceSettings:
    """Makes the folder, or makes sure that it holds crops of the same kind; returns the settings with a real detector.

    Raises:
        UserError: if it holds something else.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: give a video or a folder of videos.")
    if settings.crop == "none":
        raise UserError('The face to cut out is "none": choose largest, center or all.')
    if settings.size % 2:
        raise UserError(f"The size of the crops is {settings.size}, but must be even, as a video is.")
    if output.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(output.resolve()):
        raise UserError(f"{output} and {source} lie in one another: name another folder for the crops.")
    note = output / SETTINGS
    require_writable(note)
    settings = replace(settings, detector=load_detector(settings.detector, settings.model)[0])
    kind = {name: value for name, value in asdict(settings).items() if name != "model"}
    if note.is_file():
        if read_json(note) != kind:
            raise UserError(f"{output} holds crops of another kind, see {note}: remove it or name another folder.")
    elif output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output} is not empty and holds no crops: name another folder.")
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps(kind, indent=2) + "\n")
    return settings


def cropped_by(dataset: str | Path) -> dict[str, Any]:
    """How `tgdfer faces` has cut the clips of a data set, as options of the video processor; {} if it has not."""
    note = Path(dataset) / SETTINGS
    if not note.is_file():
        return {}
    return {name if name == "no_face" else f"face_{name}": value for name, value in read_json(note).items()}


def _jobs(source: Path, output: Path, settings: FaceSettings) -> list[_Job]:
    root = source if source.is_dir() else source.parent
    videos = list(_videos(source))
    if not videos:
        others = _skipped(source)
        only = f", only files such as {others[0]}" if others else ""
        raise UserError(
            f"{source} has no videos in it, and no folders of frames{only}: name the folder of a data set, or convert"
            " its videos to .mp4."
        )
    names = [video.relative_to(root) if video != root else Path(root.name) for video in videos]
    plain = [
        name.as_posix() if video.is_dir() else name.with_suffix("").as_posix()
        for name, video in zip(names, videos, strict=True)
    ]
    # Of "a.avi" and "a.mp4" both keep their endings.
    often = Counter(plain)
    return [
        _Job(video, name.as_posix(), output, (stem if often[stem] == 1 else name.as_posix()) + ".mp4", settings)
        for video, name, stem in zip(videos, names, plain, strict=True)
    ]


def _videos(source: Path) -> Iterator[Path]:
    """Videos, and folders that hold the frames of one, in order."""
    if source.is_file():
        yield source
        return
    hidden = [path for path in source.rglob(".*")]
    files = sorted(path for path in source.rglob("*") if path.is_file() and path not in hidden)
    videos = [path for path in files if VIDEO_NAME.search(path.name)]
    of_frames = {path.parent for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
    yield from sorted({*videos, *(of_frames - {path.parent for path in videos})})


def _skipped(source: Path) -> list[str]:
    """Files of a data set that may be videos, but are not named as one: nothing is cut out of them."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else []
    names = [path.relative_to(source) for path in files]
    return [
        name.as_posix()
        for name in names
        if not VIDEO_NAME.search(name.name)
        and name.suffix.lower() not in (*IMAGE_SUFFIXES, *_COMPANIONS)
        and not any(part.startswith(".") for part in name.parts)
    ]


def _done(output: Path, jobs: Sequence[_Job]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run that are still true."""
    rows: dict[str, dict[str, Any]] = {}
    if (output / ROWS).is_file():
        for line in (output / ROWS).read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # The line at which it was interrupted.
                continue
            rows[row["file"]] = row
    return {
        job.file: row
        for job in jobs
        if (row := rows.get(job.file)) is not None
        and row["source"] == _state(job.source)
        and all((output / name).is_file() for name in row["crops"])
    }


def _state(path: Path) -> list[int]:
    """By what a source is known to be the same: size and time of change, of a folder of frames those of its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)]


# One clip


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[dict[str, Any]]:
    """The row of each clip, as they are done; a clip that ends the process which reads it costs its own row alone."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_cut_video, jobs)
        return
    todo = deque(jobs)
    while todo:
        # No more than run at once, so that few are under suspicion where a process ends.
        running: dict[Future, _Job] = {}
        with _pool(min(workers, len(todo))) as pool:
            try:
                while todo or running:
                    while todo and len(running) < workers:
                        future = pool.submit(_cut_video, todo[0])
                        running[future] = todo.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        row = future.result()
                        del running[future]
                        yield row
            except BrokenProcessPool:
                pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for future, job in running.items():
            yield _cut_alone(job) if future.exception() else future.result()


def _pool(workers: int) -> ProcessPoolExecutor:
    # Not forked: OpenCV's and torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)


def _cut_alone(job: _Job) -> dict[str, Any]:
    """The row of a clip in a process of its own, which tells whether it was this clip that ended one before."""
    with _pool(1) as pool:
        try:
            return pool.submit(_cut_video, job).result()
        except BrokenProcessPool:
            reason = f"{job.file} ends the process that reads it; encode it again or remove it."
            return {"file": job.file, "source": _state(job.source), "crops": [], "kept": [], "error": reason}


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _cut_video(job: _Job) -> dict[str, Any]:
    """Cuts the faces out of one video, which is gone through twice; returns its row of the report."""
    row: dict[str, Any] = {"file": job.file, "source": _state(job.source), "crops": [], "kept": []}
    seen = _Seen()
    try:
        video = open_video(job.source)
        start = time.perf_counter()
        paths = locate_faces(seen.frames(video), job.settings, LONGEST_CLIP)
        row["seconds_looking"] = round(time.perf_counter() - start, 4)
        found = np.unique(np.concatenate([path.indices for path in paths])) if paths else np.zeros(0, np.int64)
        row |= {
            "frames": len(seen.numbers),
            "missing": np.setdiff1d(seen.numbers, found).tolist(),
            "aligned": _looks_aligned(paths, seen),
        }
        require_faces(paths, np.array(seen.numbers), job.settings, job.file)
        row["crops"] = _write_crops(video, paths, job)
        # Of each crop the frames that it has, None for all.
        row["kept"] = [None if len(path.indices) == len(seen.numbers) else path.indices.tolist() for path in paths]
        if job.settings.no_face == "full_frame":
            row["kept"] = [None] * len(row["crops"])
    except NoFaceError as error:
        row["no_face"] = str(error)
    except VideoDecodeError as error:
        row["error"] = str(error)
    return row


class _Seen:
    """What is known of a video once its frames have gone by.

    Attributes:
        numbers: of its frames.
        size: height and width.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.size = (0, 0)

    def frames(self, video: Any) -> Iterator[tuple[int, float, torch.Tensor]]:
        """Number, seconds and picture of every frame."""
        self.numbers = []
        for number, second, frame in stream(video, lambda _, total, __: np.arange(total)):
            self.numbers.append(number)
            self.size = (frame.shape[-2], frame.shape[-1])
            yield number, number / ASSUMED_FPS if second is None else second, frame


def _write_crops(video: Any, paths: Sequence[FacePath], job: _Job) -> list[str]:
    """Writes a file for each face; returns their names below the folder."""
    stem = job.output.removesuffix(".mp4")
    names = [job.output] if len(paths) <= 1 else [f"{stem}-{number}.mp4" for number in range(1, len(paths) + 1)]
    with ExitStack() as files:
        writers = [
            files.enter_context(writing(job.folder / name, crf=15, comment=f"{CUT_MARK} {job.settings.size}"))
            for name in names
        ]
        anyone: list[Any] = list(paths) or [None]
        for number, second, frame in _Seen().frames(video):
            for path, writer in zip(anyone, writers, strict=True):
                face = cut_face(frame[None], np.array([number]), path, job.settings)
                for crop in face.frames:
                    writer.write(second, crop.permute(1, 2, 0).numpy())
    return names


def _looks_aligned(paths: Sequence[FacePath], seen: _Seen) -> bool:
    """Whether a face fills small square pictures, or is not found in them, as where it was cut out before."""
    height, width = seen.size
    if max(height, width) > _ALIGNED_SIDE or abs(height - width) > 0.02 * max(height, width):
        return False
    if not paths or len(paths[0].indices) < len(seen.numbers) / 2:
        return True
    boxes = paths[0].boxes
    return bool(np.median(boxes[:, 3] - boxes[:, 1]) >= _ALIGNED_SHARE * height)


# The report


def _report(rows: Sequence[dict[str, Any]], settings: FaceSettings, listed: dict[str, int | None]) -> dict[str, Any]:
    read = [row for row in rows if "error" not in row]
    frames = sum(row["frames"] for row in read)
    aligned = sum(row["aligned"] for row in read)
    advice = ""
    if aligned > len(read) / 2:
        advice = (
            f"{aligned} of {len(read)} clips look as if their faces were aligned already (small squares that a face"
            ' fills): such a data set is used as it is, with face_crop "none".'
        )
    return {
        "settings": {name: value for name, value in asdict(settings).items() if name != "model"},
        "clips": len(rows),
        "frames": frames,
        "frames_without_face": sum(len(row["missing"]) for row in read),
        "without_face": [row["file"] for row in read if len(row["missing"]) == row["frames"]],
        "left_out": [row["file"] for row in read if not row["crops"]],
        "unreadable": {row["file"]: row["error"] for row in rows if "error" in row},
        "frame_counts": {str(count): n for count, n in sorted(Counter(row["frames"] for row in read).items())},
        "mismatches": _mismatches(rows, listed),
        "milliseconds_per_frame": 1000 * sum(row["seconds_looking"] for row in read) / max(1, frames),
        "aligned": aligned,
        "advice": advice,
    }


def _mismatches(rows: Sequence[dict[str, Any]], listed: dict[str, int | None]) -> dict[str, Any]:
    """Where a list of clips and the clips differ: names on one side only, and numbers of frames."""
    if not listed:
        return {"missing": [], "unlisted": [], "frames": {}}
    known = {_key(name): (name, count) for name, count in listed.items()}
    # Lists name clips by their path or by their name alone.
    met: set[str] = set()
    unlisted, frames = [], {}
    for row in rows:
        parts = _key(row["file"]).split("/")
        key = next((k for k in ("/".join(parts[i:]) for i in range(len(parts))) if k in known), None)
        if key is None:
            unlisted.append(row["file"])
            continue
        met.add(key)
        count = known[key][1]
        if count is not None and "error" not in row and count != row["frames"]:
            frames[row["file"]] = {"listed": count, "found": row["frames"]}
    return {"missing": [known[key][0] for key in known if key not in met], "unlisted": unlisted, "frames": frames}


def _key(name: str) -> str:
    """What two names of one clip have in common: no ending, no zeros in front of a number."""
    path = Path(name.strip().replace("\\", "/"))
    path = path.with_suffix("") if VIDEO_NAME.search(path.name) else path
    return "/".join(str(int(part)) if part.isdecimal() else part.lower() for part in path.parts)


def _of_table(lines: Sequence[str]) -> dict[str, int | None]:
    """Clips of a CSV or TSV with or without a head, or of lines that begin with a name.

    Raises:
        ValueError: a row lacks a column.
    """
    mark = next((mark for mark in ("\t", ",", ";") if mark in lines[0]), None) if lines else None
    cells = map(str.split, lines) if mark is None else csv.reader(lines, delimiter=mark)
    rows = [row for row in cells if any(cell.strip() for cell in row)]
    if not rows:
        return {}
    head = [cell.strip().lower() for cell in rows[0]]
    has_head = bool(_NAMES & set(head))
    column = next((index for index, cell in enumerate(head) if cell in _NAMES), 0)
    counts = next((index for index, cell in enumerate(head) if cell in _COUNTS), None) if has_head else None
    listed: dict[str, int | None] = {}
    for row in rows[has_head:]:
        if len(row) <= max(column, counts or 0) or not row[column].strip():
            raise ValueError(f"the row {(mark or ' ').join(row)!r} lacks the name of its clip or a column of the head")
        listed[row[column]] = None if counts is None else _count(row[counts])
    return listed


# What lists call the clip and its number of frames.
_NAMES = {"file_name", "file", "filename", "name", "video", "video_name", "clip", "clip_name", "path", "id", "order"}
_COUNTS = {"frames", "num_frames", "frame_count", "n_frames"}


def _name_of(row: Any) -> str:
    """The clip that a row of JSON lines is about.

    Raises:
        ValueError: it names none.
    """
    names = [row[name] for name in row if name.lower() in _NAMES] if isinstance(row, dict) else []
    if not names:
        raise ValueError(f'the row {json.dumps(row)[:80]} names no clip, as {{"file_name": "a.mp4"}} does')
    return str(names[0])


def _frames_of(row: dict[str, Any]) -> int | None:
    """Frames of a clip by a row of `metadata.jsonl`: what it says, or how long what it says of each frame is."""
    counts = [row[name] for name in row if name.lower() in _COUNTS]
    if counts:
        return _count(counts[0])
    intensity = row.get("intensity")
    return len(intensity) if isinstance(intensity, list) and intensity else None


def _count(told: Any) -> int | None:
    """A number of frames as lists tell it, 12, "12" or "12.0"; None where it is left blank.

    Raises:
        ValueError: it is another thing.
    """
    if told is None or not str(told).strip():
        return None
    try:
        count = float(told)
    except (TypeError, ValueError):
        count = -1.0
    if count < 0 or not count.is_integer():
        raise ValueError(f"{told!r} is no number of frames")
    return int(count)


def _carry_metadata(source: Path, output: Path, rows: Sequence[dict[str, Any]]) -> dict[str, int | None]:
    """Writes what the `metadata.jsonl` files of a data set say of the clips beside the crops.

    Returns:
        The clips that they list, with their numbers of frames.

    Raises:
        UserError: one of them is not valid.
    """
    listed: dict[str, int | None] = {}
    by_file = {row["file"]: row for row in rows}
    for file in sorted(source.rglob("metadata.jsonl")) if source.is_dir() else []:
        folder = file.parent.relative_to(source)
        lines = []
        try:
            for line in file.read_text(encoding="utf-8").splitlines():
                about = json.loads(line)
                name = (folder / about["file_name"]).as_posix()
                listed[name] = _frames_of(about)
                row = by_file.get(name, {"crops": [], "kept": []})
                for crop, kept in zip(row["crops"], row["kept"], strict=True):
                    said = about if kept is None else _of_frames(about, kept, row["frames"])
                    lines.append(json.dumps(said | {"file_name": Path(crop).relative_to(folder).as_posix()}) + "\n")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is not valid ({error!r}): mend it or move it away.") from error
        (output / folder).mkdir(parents=True, exist_ok=True)
        write_text(output / folder / "metadata.jsonl", "".join(lines))
    return listed


def _of_frames(about: Any, kept: Sequence[int], total: int) -> Any:
    """What is said of a clip, with what is said frame by frame for the frames that are kept of `total`."""
    if isinstance(about, dict):
        return {name: _of_frames(value, kept, total) for name, value in about.items()}
    return [about[number] for number in kept] if isinstance(about, list) and len(about) == total else about
