"""Cutting the faces out of a data set: `cut_faces`, which is `tgdfer faces` on the command line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.training.errors import PartialResultError
from tgdfer.training.face_crops.annotations import read_annotations
from tgdfer.training.face_crops.crop_folder import REPORT, ROWS, claim_folder, finished_rows
from tgdfer.training.face_crops.crop_metadata import write_metadata
from tgdfer.training.face_crops.crop_report import make_report, print_report
from tgdfer.training.face_crops.cut_clip import crashed_row, cut_clip, use_one_thread
from tgdfer.training.face_crops.sources import Job, find_jobs, skipped_files
from tgdfer.training.face_crops.workers import run_jobs
from tgdfer.training.files import write_text
from tgdfer.training.interruption import saying_what_is_kept

Row = dict[str, Any]


def cut_faces(
    source: str | Path,
    output: str | Path,
    settings: FaceSettings | None = None,
    annotations: str | Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Cuts the faces out of a video, or out of all videos and folders of frames below a folder.

    The crops are H.264 files in the same folders below `output`, with the timestamps of their sources.
    `metadata.jsonl` files are written for the crops, too. A run that was interrupted by Ctrl-C or SIGTERM says how
    far it has come, and continues where it stopped. Sources that have changed are cut again. Those that could not be
    cut are tried again.

    Args:
        source: A video, or the folder of a data set.
        output: Folder of the crops.
        settings: Settings of the face detection and of the crops.
        annotations: List of the expected clips: CSV, TSV, JSON lines, or lines that begin with the name of a clip. A
            column "frames", "num_frames", "frame_count" or "n_frames" is the expected number of frames. By default,
            the expected clips are those of the `metadata.jsonl` files.
        workers: Number of processes. With one worker, or for one clip, the current process does all the work, and a
            crash of a decoder ends it.

    Returns:
        The report, which is also written to `output/report.json`; see `make_report`.

    Raises:
        UserError: If there is nothing to cut, or `output` contains something else.
        PartialResultError: If some videos cannot be cut. The others are.
        VideoDecodeError: If no face detector is available.
    """
    source, output, settings = Path(source), Path(output), settings or FaceSettings()
    listed = None if annotations is None else read_annotations(Path(annotations))
    settings = claim_folder(source, output, settings)
    rows = _cut_all(find_jobs(source, output, settings), output, workers)
    metadata = write_metadata(source, output, rows)
    report = make_report(rows, settings, metadata if listed is None else listed, skipped_files(source))
    write_text(output / REPORT, json.dumps(report, indent=2) + "\n")
    if report["unreadable"]:
        print_report(report)
        raise PartialResultError(report["unreadable"], len(rows))
    return report


def _cut_all(jobs: Sequence[Job], output: Path, workers: int) -> list[Row]:
    """Cuts the clips that are not cut yet, and logs each of them; returns the rows of all jobs in their order."""
    rows = finished_rows(output, jobs)
    todo = [job for job in jobs if job.file not in rows]
    # This removes lines that are incomplete or outdated.
    write_text(output / ROWS, "".join(json.dumps(row) + "\n" for row in rows.values()))
    columns = (TextColumn("Cutting faces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        saying_what_is_kept(
            lambda: f"Interrupted: {len(rows)} of {len(jobs)} clips are done in {output}. Go on with the same command."
        ),
        (output / ROWS).open("a", encoding="utf-8") as log,
        Progress(*columns, console=get_console(), transient=True) as bar,
    ):
        task = bar.add_task("", total=len(jobs), completed=len(rows))
        for row in run_jobs(cut_clip, todo, workers, crashed_row, use_one_thread):
            rows[row["file"]] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
            bar.advance(task)
    return [rows[job.file] for job in jobs]
