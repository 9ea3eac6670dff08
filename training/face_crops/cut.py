"""Cutting the faces out of a data set: `cut_faces`, the function of `tgdfer faces`."""

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
from tgdfer.training.face_crops.crop_metadata import read_metadata, write_metadata
from tgdfer.training.face_crops.crop_report import make_report, print_report
from tgdfer.training.face_crops.cut_clip import crashed_row, cut_clip, use_one_thread
from tgdfer.training.face_crops.sources import Job, find_jobs, skipped_files
from tgdfer.training.face_crops.workers import run_jobs
from tgdfer.training.files import write_text
from tgdfer.training.interruption import reporting_interruption

Row = dict[str, Any]


def cut_faces(
    source: str | Path,
    output: str | Path,
    settings: FaceSettings | None = None,
    annotations: str | Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Cuts the faces out of a video, or out of all videos and folders of frames below a folder.

    The crops are H.264 files with the timestamps of their sources, in the same subfolders of `output`.
    `metadata.jsonl` files are written for them. If the run is interrupted by Ctrl-C or SIGTERM, it says how many clips
    are done. The next run continues after them. It cuts changed sources again, and retries those that could not be
    cut.

    Args:
        source (`str` or `Path`): A video, or the folder of a data set.
        output (`str` or `Path`): Folder of the crops.
        settings (`FaceSettings`, *optional*): Settings of the face detection and of the crops.
        annotations (`str` or `Path`, *optional*): List of the expected clips: CSV, TSV, JSON lines, or lines that
            begin with the name of a clip. The column "frames", "num_frames", "frame_count" or "n_frames" contains the
            expected number of frames. By default, the expected clips are those in the `metadata.jsonl` files.
        workers (`int`, *optional*, defaults to 1): Number of processes. With one worker, or for one clip, the current
            process does all the work, and a crash of a decoder ends it.

    Returns:
        The report, which is also written to `output/report.json`; see `make_report`.

    Raises:
        UserError: If there is nothing to cut, or `output` contains something else.
        PartialResultError: If some videos cannot be cut. All others are cut.
        VideoDecodeError: If no face detector is available.
    """
    source, output, settings = Path(source), Path(output), settings or FaceSettings()
    listed = None if annotations is None else read_annotations(Path(annotations))
    settings = claim_folder(source, output, settings)
    metadata = read_metadata(source)
    rows = _cut_all(find_jobs(source, output, settings), output, workers)
    in_metadata = write_metadata(metadata, output, rows)
    report = make_report(rows, settings, in_metadata if listed is None else listed, skipped_files(source))
    write_text(output / REPORT, json.dumps(report, indent=2) + "\n")
    if report["unreadable"]:
        print_report(report)
        raise PartialResultError(report["unreadable"], len(rows))
    return report


def _cut_all(jobs: Sequence[Job], output: Path, workers: int) -> list[Row]:
    """Cuts the clips that are not done yet, and logs their rows. Returns the rows of all jobs in order."""
    rows = finished_rows(output, jobs)
    todo = [job for job in jobs if job.file not in rows]
    # Incomplete and outdated lines are removed.
    write_text(output / ROWS, "".join(json.dumps(row) + "\n" for row in rows.values()))
    columns = (TextColumn("Cutting faces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        reporting_interruption(
            lambda: (
                f"Interrupted: {len(rows)} of {len(jobs)} clips are done in {output}. Resume with the same command."
            )
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
