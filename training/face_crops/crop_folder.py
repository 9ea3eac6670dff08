"""The folder of the crops: the settings of its crops, and the clips that are done.

In addition to the crops it contains `faces.json` with the settings, `clips.jsonl` with a row for each clip that is
done, and `report.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tgdfer.processing.detectors_tgdfer import load_detector
from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.training.errors import UserError
from tgdfer.training.face_crops.sources import Job
from tgdfer.training.files import read_json, require_writable, source_state, write_text

SETTINGS, ROWS, REPORT = "faces.json", "clips.jsonl", "report.json"


def claim_folder(source: Path, output: Path, settings: FaceSettings) -> FaceSettings:
    """Creates the folder of the crops, or checks that its crops have the same settings.

    Args:
        source (`Path`): A video, or the folder of a data set.
        output (`Path`): Folder of the crops.
        settings (`FaceSettings`): Settings of the face detection and of the crops.

    Returns:
        The settings, in which "auto" is replaced by the name of the detector.

    Raises:
        UserError: If the source does not exist, the settings cannot be used, or the folder contains something else.
        VideoDecodeError: If no face detector is available.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist: give a video or a folder of videos.")
    if settings.crop == "none":
        raise UserError('The faces to crop are "none": choose largest, center or all.')
    if settings.size % 2:
        raise UserError(f"The size of the crops is {settings.size}, but must be even, because H.264 needs even sides.")
    if output.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(output.resolve()):
        raise UserError(f"One of {output} and {source} contains the other: choose another folder for the crops.")
    settings_file = output / SETTINGS
    require_writable(settings_file)
    settings = replace(settings, detector=load_detector(settings.detector, settings.model)[0])
    expected = stored_settings(settings)
    if settings_file.is_file():
        if read_json(settings_file) != expected:
            raise UserError(
                f"{output} has crops with other settings, see {settings_file}: remove it or choose another folder."
            )
    elif output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output} is not empty and contains no crops: choose another folder.")
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_text(settings_file, json.dumps(expected, indent=2) + "\n")
    return settings


def stored_settings(settings: FaceSettings) -> dict[str, Any]:
    """Returns the settings that affect the crops. The path of the model file of the detector does not."""
    return {name: value for name, value in asdict(settings).items() if name != "model"}


def crop_settings_of(dataset: str | Path) -> dict[str, Any]:
    """Returns the settings of `tgdfer faces` for a data set, as options of the video processor.

    Args:
        dataset (`str` or `Path`): Folder of a data set, or id of a data set on the Hub.

    Returns:
        Options by name. Empty if the data set does not consist of crops by `tgdfer faces`.
    """
    settings_file = Path(dataset) / SETTINGS
    if not settings_file.is_file():
        return {}
    return {name if name == "no_face" else f"face_{name}": value for name, value in read_json(settings_file).items()}


def finished_rows(output: Path, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Returns the rows of an earlier run that are still valid, by name of the clip.

    A row is valid if its source has not changed and its crops exist. Clips that could not be cut are tried again, so
    they have no valid row.
    """
    rows: dict[str, dict[str, Any]] = {}
    if (output / ROWS).is_file():
        for line in (output / ROWS).read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # An incomplete line of an interrupted run.
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
