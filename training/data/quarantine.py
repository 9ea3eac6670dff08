"""Clips that cannot be read. They are put into quarantine: left out, listed with the reason, and counted."""

import logging
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tgdfer.processing.frame_sampling_tgdfer import Sampling
from tgdfer.processing.video_file_tgdfer import VideoDecodeError, VideoFile
from tgdfer.processing.video_reading_tgdfer import open_video, read
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError
from tgdfer.training.files import printable, write_text

logger = logging.getLogger(__name__)

# Names of clips in a warning. All of them are in the list of the run.
_SHOWN = 5


def without_unreadable(clips: LabelledClips, place: str, strict: bool = False) -> LabelledClips:
    """Reads the header of every clip, and puts those that cannot be read into quarantine.

    So a broken file is found before training starts and not hours later.

    Args:
        clips (`LabelledClips`): The clips.
        place (`str`): Name of the split in messages.
        strict (`bool`, *optional*, defaults to `False`): Whether the first unreadable clip is an error.

    Raises:
        UserError: With `strict`, if a clip cannot be read. Otherwise, if no clip can be read.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        reasons = list(pool.map(lambda index: header_error(clips.video(index)), range(len(clips))))
    return quarantine(clips, place, {index: reason for index, reason in enumerate(reasons) if reason}, strict)


def quarantine(clips: LabelledClips, place: str, reasons: Mapping[int, str], strict: bool = False) -> LabelledClips:
    """Returns the clips without those that cannot be used, which are added to `quarantined`.

    Args:
        clips (`LabelledClips`): The clips.
        place (`str`): Name of the split in messages.
        reasons (`Mapping[int, str]`): The reason for each unusable clip, by its index.
        strict (`bool`, *optional*, defaults to `False`): Whether the first unusable clip is an error.

    Raises:
        UserError: With `strict`, if there is an unusable clip. Otherwise, if all clips are unusable.
    """
    if not reasons:
        return clips
    first = min(reasons)
    if strict:
        raise UserError(
            f"{place}: {len(reasons)} of {len(clips)} clips cannot be read: {clips.files[first]}, {reasons[first]}"
        )
    if len(reasons) == len(clips):
        raise UserError(f"{place}: no clip can be read: {clips.files[first]}, {reasons[first]}")
    kept = clips.select([index for index in range(len(clips)) if index not in reasons])
    found = {clips.files[index]: reason for index, reason in sorted(reasons.items())}
    return replace(kept, quarantined={**clips.quarantined, **found})


def unreadable_reasons(clips: LabelledClips, marked: Any, video_processor: Any) -> dict[int, str]:
    """Returns why clips that a `ClipDataset` has marked could not be read, by their index.

    Args:
        clips (`LabelledClips`): The clips.
        marked (`Any` of shape `(N,)`): True for the clips that could not be read.
        video_processor (`Any`): Video processor that could not read them.
    """
    reasons = {}
    for index in [index for index, is_marked in enumerate(marked.tolist()) if is_marked]:
        reasons[index] = "it could not be read every time."
        try:
            # All frames, because training samples other frames in each epoch.
            video_processor.read_clip(clips.video(index), sys.maxsize)
        except VideoDecodeError as error:
            reasons[index] = str(error)
    return reasons


def header_error(video: Any) -> str | None:
    """Returns why a clip cannot be read, as far as its header shows. None if it can."""
    try:
        opened = open_video(video)
        if not isinstance(opened, VideoFile) or not opened.has_video():
            read(video, _one_frame)  # Its error says what the file contains.
    except VideoDecodeError as error:
        return str(error)
    return None


def warn_about_quarantine(place: str, clips: LabelledClips) -> None:
    """Warns about the clips in quarantine, with the reasons of the first ones."""
    if not clips.quarantined:
        return
    count = len(clips.quarantined)
    shown = "".join(f"\n- {printable(name)}: {reason}" for name, reason in list(clips.quarantined.items())[:_SHOWN])
    more = f"\n- and {count - _SHOWN} more" if count > _SHOWN else ""
    what = "1 clip" if count == 1 else f"{count} clips"
    logger.warning(
        "%s of %s cannot be used and %s put into quarantine:%s%s",
        what,
        place,
        "is" if count == 1 else "are",
        shown,
        more,
    )


def write_quarantine(folder: Path, split: str, clips: LabelledClips) -> None:
    """Writes the clips in quarantine to `folder/quarantined_SPLIT.txt`, a line each, if there are any."""
    path = folder / f"quarantined_{split}.txt"
    if clips.quarantined:
        write_text(path, "".join(f"{printable(name)}\t{reason}\n" for name, reason in clips.quarantined.items()))
    else:
        path.unlink(missing_ok=True)  # That of an earlier evaluation, before the clips were repaired.


def _one_frame(seconds: Any, total: int, duration: Any) -> Any:
    return Sampling("segments", 1).indices(total, seconds, duration)
