"""The report about the crops of a data set: making it from the rows of the clips, and printing it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import get_console

from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.training.face_crops.annotations import compare
from tgdfer.training.face_crops.crop_folder import stored_settings

# Number of clips that are printed for each problem. The report contains all of them.
_SHOWN = 5


def make_report(
    rows: Sequence[dict[str, Any]], settings: FaceSettings, listed: dict[str, int | None], skipped: Sequence[str]
) -> dict[str, Any]:
    """Makes the report of a data set.

    Args:
        rows (`Sequence[dict[str, Any]]`): Rows of all clips, as returned by `cut_clip`.
        settings (`FaceSettings`): Settings of the crops.
        listed (`dict[str, int | None]`): Expected clips and their numbers of frames, as returned by
            `read_annotations`.
        skipped (`Sequence[str]`): Files without the suffix of a video.

    Returns:
        A dict with

        - `settings`;
        - `clips`, `frames` and `frames_without_face`: numbers;
        - `without_face`: clips without a face in any frame;
        - `left_out`: clips without a crop, because of `no_face`;
        - `unreadable`: reason for each clip that cannot be read;
        - `frame_counts`: number of clips for each number of frames;
        - `mismatches`: differences from the list; see `annotations.compare`;
        - `milliseconds_per_frame`: time of decoding and face detection;
        - `aligned`: number of clips whose faces appear to be aligned already;
        - `advice`: a sentence, or "";
        - `skipped`: as given.
    """
    read = [row for row in rows if "error" not in row]
    frames = sum(row["frames"] for row in read)
    aligned = sum(row["aligned"] for row in read)
    return {
        "settings": stored_settings(settings),
        "clips": len(rows),
        "frames": frames,
        "frames_without_face": sum(len(row["missing"]) for row in read),
        "without_face": [row["file"] for row in read if len(row["missing"]) == row["frames"]],
        "left_out": [row["file"] for row in read if not row["crops"]],
        "unreadable": {row["file"]: row["error"] for row in rows if "error" in row},
        "frame_counts": {str(count): n for count, n in sorted(Counter(row["frames"] for row in read).items())},
        "mismatches": compare(rows, listed),
        "milliseconds_per_frame": 1000 * sum(row["seconds_looking"] for row in read) / max(1, frames),
        "aligned": aligned,
        "advice": _advice(aligned, len(read)),
        "skipped": list(skipped),
    }


def _advice(aligned: int, clips: int) -> str:
    """Returns advice for data sets whose faces are mostly aligned already."""
    if aligned <= clips / 2:
        return ""
    return (
        f"{aligned} of {clips} clips appear to contain aligned faces already (small square pictures that a face"
        ' fills): use this data set unchanged, with face_crop "none".'
    )


def print_report(report: dict[str, Any]) -> None:
    """Prints a summary of a report.

    Args:
        report (`dict[str, Any]`): Report that `cut_faces` returns.
    """
    console = get_console()
    cost = report["milliseconds_per_frame"]
    console.print(
        f"{report['clips']} clips with {report['frames']} frames, {report['frames_without_face']} of them without a"
        f" face. Decoding and face detection took {cost:.1f} ms per frame.",
        highlight=False,
    )
    problems = {
        "Clips without a face": report["without_face"],
        "Clips left out": report["left_out"],
        "Clips that cannot be read": list(report["unreadable"]),
        "Clips in the list that do not exist": report["mismatches"]["missing"],
        "Clips that are not in the list": report["mismatches"]["unlisted"],
        "Clips with another number of frames than in the list": list(report["mismatches"]["frames"]),
        "Files skipped because they do not have the suffix of a video": report["skipped"],
    }
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            shown = ", ".join(names[:_SHOWN])
            console.print(f"{problem} ({len(names)}): {shown}{more}", highlight=False, markup=False)
    if report["advice"]:
        console.print(report["advice"], style="bold", highlight=False, markup=False)
