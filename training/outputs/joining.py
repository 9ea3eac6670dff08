"""Joining the JSON lines that several processes or machines wrote for the parts of a list of videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.outputs.document import Run
from tgdfer.training.outputs.files import PredictionFiles
from tgdfer.training.outputs.result_log import Part, read_part
from tgdfer.training.video_paths import natural_sort_key


def join(paths: Sequence[Path], files: PredictionFiles) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Writes the outputs for all parts of a list, as if one process had processed the whole list.

    Args:
        paths (`Sequence[Path]`): Files of JSON lines, in any order.
        files (`PredictionFiles`): Files to write. Figures and annotated videos are not written, because they need the
            frames.

    Returns:
        The results of all videos that could be read, sorted by name, and the reason for each of the others.

    Raises:
        UserError: If a part is missing, given twice or not finished, if parts differ in their models, options or
            lists, or if a file cannot be written or is one of the parts.
    """
    files.require_writable()
    files.require_no_input([str(path) for path in paths])
    parts = [read_part(path) for path in paths]
    run = _require_complete(parts)
    lines = {video: line for part in parts for video, line in part.lines.items()}
    results = {
        video: lines[video]["result"] for video in sorted(lines, key=natural_sort_key) if "result" in lines[video]
    }
    errors = {video: lines[video]["error"] for video in sorted(lines, key=natural_sort_key) if "error" in lines[video]}
    for path, reason in files.write(results, errors, run, sorted(lines, key=natural_sort_key)).items():
        raise UserError(f"Cannot write {path}: {reason}; choose another path.")
    return results, errors


def _require_complete(parts: Sequence[Part]) -> Run:
    """Checks that the parts are all parts of one list and are finished. Returns their common run."""
    first = parts[0]
    for part in parts:
        if part.run is None:
            raise UserError(f"{part.path} is empty: finish this part with --resume first.")
    assert first.run is not None
    owners: dict[int, Part] = {}
    for part in parts:
        assert part.run is not None
        if part.run.weights != first.run.weights or part.run.labels != first.run.labels:
            raise UserError(f"{part.path} and {first.path} are of different models; join parts of the same model.")
        if part.run.fingerprint != first.run.fingerprint:
            raise UserError(
                f"{part.path} and {first.path} were made with different options; join parts of the same run."
            )
        if (part.shard.count, part.total) != (first.shard.count, first.total):
            raise UserError(f"{part.path} and {first.path} are parts of different lists; join parts of the same list.")
        if part.shard.number in owners:
            other = owners[part.shard.number].path
            raise UserError(f"{other} and {part.path} are both part {part.shard.number}; give each part once.")
        owners[part.shard.number] = part
    missing = [str(number) for number in range(1, first.shard.count + 1) if number not in owners]
    if missing:
        shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        raise UserError(f"These of the {first.shard.count} parts are missing: {shown}; give them as well.")
    _require_all_videos(parts)
    return first.run


def _require_all_videos(parts: Sequence[Part]) -> None:
    """Checks that every video of the list is in exactly one part and has a line."""
    owner: dict[str, Part] = {}
    for part in parts:
        remaining = [video for video in part.videos if video not in part.lines]
        if remaining:
            raise UserError(
                f"{part.path} has {len(part.videos) - len(remaining)} of its {len(part.videos)} videos: finish it with"
                " --resume first."
            )
        for video in part.videos:
            if video in owner:
                raise UserError(
                    f"{owner[video].path} and {part.path} both have {video}: split the same list for all parts."
                )
            owner[video] = part
    if len(owner) != parts[0].total:
        raise UserError(f"The parts have {len(owner)} of {parts[0].total} videos: split the same list for all parts.")
