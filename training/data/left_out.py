"""Videos in the folder of a data set that are not used: warnings about them, and lists of them."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.files import printable, write_text

logger = logging.getLogger(__name__)


def write_left_out(folder: Path, split: str, clips: LabelledClips) -> None:
    """Writes the unused files of a split, with the reasons, to `folder/left_out_SPLIT.txt`, if there are any."""
    if clips.left_out:
        lines = [f"{printable(name)}: {reason}\n" for name, reason in clips.left_out.items()]
        write_text(folder / f"left_out_{split}.txt", "".join(lines))


def warn_about_left_out(place: str, left_out: Mapping[str, str]) -> None:
    """Warns about the unused videos of a split, with one warning for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(left_out.items()):
        by_reason.setdefault(reason, []).append(printable(name))
    for reason, names in by_reason.items():
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        shown = ", ".join(names[:10]) + more
        what = "1 file is" if len(names) == 1 else f"{len(names)} files are"
        logger.warning("%s: %s not used, because %s: %s", place, what, reason, shown)
