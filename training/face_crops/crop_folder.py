"""The folder of the crops: the settings that its crops were cut with, and the clips that are done.

Beside the crops there are three files: `faces.json` has the settings, `clips.jsonl` has a row for each clip that is
done, and `report.json` has the report.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tgdfer.processing.detectors_tgdfer import load_detector
from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.training.errors import UserError
from tgdfer.training.face_crops.sources import Job, source_state
from tgdfer.training.files import read_json, require_writable, write_text

SETTINGS, ROWS, REPORT = "faces.json", "clips.jsonl", "report.json"


def claim_folder(source: Path, output: Path, settings: FaceSettings) -> FaceSettings:
    """Creates the folder of the crops, or checks that its crops have the same settings.

    Args:
        source: A video, or the folder of a data set.
        output: Folder of the crops.
        settings: Settings of the face detection and of the crops.

    Returns:
        The settings with the name of the detector that is used in place of "auto".

    Raises:
        UserError: If the source does not exist, the settings cannot be used, or the folder contains something else.
        VideoDecodeError: If no face detector is available.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: give a video or a folder of videos.")
    if settings.crop == "none":
        raise UserError('The face to cut out is "none": choose largest, center or all.')
    if settings.size % 2:
        raise UserError(f"The size of the crops is {settings.size}, but must be even, because H.264 needs even sides.")
    if output.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(output.resolve()):
        raise UserError(f"One of {output} and {source} contains the other: choose another folder for the crops.")
    note = output / SETTINGS
    require_writable(note)
    settings = replace(settings, detector=load_detector(settings.detector, settings.model)[0])
    known = stored_settings(settings)
    if note.is_file():
        if read_json(note) != known:
            raise UserError(f"{output} has crops with other settings, see {note}: remove it or choose another folder.")
    elif output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output} is not empty and has no crops in it: choose another folder.")
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps(known, indent=2) + "\n")
    return settings


def stored_settings(settings: FaceSettings) -> dict[str, Any]:
    """The settings that decide what crops look like: all but the path of the model file of the detector."""
    return {name: value for name, value in asdict(settings).items() if name != "model"}


def cropped_by(dataset: str | Path) -> dict[str, Any]:
    """Settings that `tgdfer faces` used for a data set, as options of the video processor.

    Args:
        dataset: Folder of a data set, or id of a data set on the Hub.

    Returns:
        Name of the option to its value, or an empty dict if `tgdfer faces` did not cut this data set.
    """
    note = Path(dataset) / SETTINGS
    if not note.is_file():
        return {}
    return {name if name == "no_face" else f"face_{name}": value for name, value in read_json(note).items()}


def finished_rows(output: Path, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run whose source has not changed and whose crops exist, by the name of the clip.

    Clips that could not be cut are not among them: they are tried again.
    """
    rows: dict[str, dict[str, Any]] = {}
    if (output / ROWS).is_file():
        for line in (output / ROWS).read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # The line at which the run was interrupted.
                continue
            rows[row["file"]] = row
    return {
        job.file: row
        for job in jobs
        if (row := rows.get(job.file)) is not None
        and "error" not in row
        and row["source"] == source_state(job.source)
        and all((output / name).is_file() for name in row["crops"])
    }
