"""Report on long videos, with the timeline of one of them."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.provenance import machine
from benchmarks.harness.tables import markdown_table, paragraph, percent, write_report
from benchmarks.long_videos.segments import ARGMAX, CORRECT, NEVER_UNSURE, PREDICTED, LongVideo, SegmentResults
from tgdfer.training.figures.timeline import plot_timeline
from tgdfer.training.metrics import THRESHOLDS
from tgdfer.training.provenance import commit

# Seconds of a video in the picture. The timeline of a longer video shows averages instead of the segments themselves.
SHOWN = 45.0

_METHOD = (
    "`tgdfer predict` joins consecutive frames with the same label into segments ([how segments are"
    " found](../guides/timeline.md#how-segments-are-found)). This benchmark measures the segments that the"
    " `emotion-timeline` pipeline returns with its default settings. The baseline has no such rules: each run of"
    " frames with the same most probable class is a segment, however short."
)
_MEASURES = (
    f"Precision is the share of the predicted segments that are correct at {CORRECT}, and recall is the share of the"
    " true segments that are found at this overlap. mAP ranks the predicted segments by their score, which is the mean"
    " probability of their label. Wrong segments with a low score therefore reduce mAP only slightly, but they reduce"
    " precision. Minus baseline: difference of the mean mAP, with its 95 % interval over videos, for the"
    " mean over seeds."
)
_LOCALIZATION = (
    "The rows of the dilated head are those of `TGDFERForTemporalLocalization`"
    " ([segments](../reference/neighbours.md#segments)) on the same frozen `clip-tiny-faces`. It is trained on the"
    " short clips of the benchmark for 20 epochs, either with their labels only or with the true segments of their"
    " frames. The segments of its frame probabilities are found like those of predictions that are never unsure."
)


def write_segments_report(measured: SegmentResults, command: str, path: Path, figures: Path) -> None:
    """Writes the report, its picture and its figures.

    Args:
        measured (`SegmentResults`): Result of `measure_segments`.
        command (`str`): Command line that is written into both files.
        path (`Path`): Path of the Markdown file. The picture is written beside it.
        figures (`Path`): Path of the JSON file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    beginning = first_seconds(measured.example, SHOWN)
    plot_timeline(beginning.result, picture, truth=beginning.truth)
    contents = {"command": command, "commit": commit(), "machine": machine(), **measured.figures}
    write_report(path, _sections(contents, picture.name), figures, contents)


def first_seconds(video: LongVideo, seconds: float) -> LongVideo:
    """Returns the frames, segments and thumbnails of the first seconds of a video."""

    def shortened(segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one | {"end": min(one["end"], seconds)} for one in segments if one["start"] < seconds]

    people = []
    for person in video.result["people"]:
        frames, thumbnails = (np.searchsorted(person[name], seconds) for name in ("timestamps", "thumbnail_seconds"))
        if frames:
            shown = {
                "timestamps": person["timestamps"][:frames],
                "frame_scores": {name: values[:frames] for name, values in person["frame_scores"].items()},
                "frame_relevance": person["frame_relevance"][:frames],
                "segments": shortened(person["segments"]),
                "thumbnails": person["thumbnails"][:thumbnails],
                "thumbnail_seconds": person["thumbnail_seconds"][:thumbnails],
            }
            people.append(person | shown)
    times = {name: [second for second in video.result[name] if second < seconds] for name in ("timestamps", "cuts")}
    length = min(video.result["duration"], seconds)
    return LongVideo(video.result | times | {"duration": length, "people": people}, shortened(video.truth))


def _sections(figures: dict[str, Any], picture: str) -> list[str]:
    """Returns the paragraphs and the table of the report."""
    videos, unsure = figures["videos"], figures["unsure"]
    has_unsure = any(unsure.values())
    means = [f"mAP at {threshold}" for threshold in THRESHOLDS]
    head = ["method", "emotional segments", "precision", "recall", *means, "mean mAP", "minus baseline"]
    others = [name for name in figures["methods"] if name not in (PREDICTED, NEVER_UNSURE, ARGMAX)]
    rows = [_row(name, figures) for name in (PREDICTED, *([NEVER_UNSURE] if has_unsure else []), *others, ARGMAX)]
    measurement = (
        f"There are {videos['videos']} rendered videos of {videos['seconds']:g} seconds with {figures['segments']}"
        " true segments of six emotions. By default, models are trained on the short clips of the benchmark, which"
        " show other people, with three random seeds. Nothing was chosen with these videos. A predicted segment is"
        " correct if it has the right emotion and its temporal intersection over union with the true segment is at"
        " least 0.3, 0.5 or 0.7. All values except the number of segments are in percent. They are means ± standard"
        " deviations over seeds."
    )
    about_unsure = (
        f'Segments that are "unsure" cover {100 * unsure["emotion"]:.0f} % of the time of true segments and'
        f" {100 * unsure['rest']:.0f} % of the rest. They name no emotion."
    )
    return [
        "# Long videos",
        paragraph(_METHOD),
        paragraph(measurement),
        markdown_table(head, rows),
        paragraph(_MEASURES),
        *([paragraph(about_unsure)] if has_unsure else []),
        *([paragraph(_LOCALIZATION)] if others else []),
        f"![The beginning of a rendered video with the predicted segments, and the true segments below]({picture})",
        f"Command: `{figures['command']}`. Commit: `{figures['commit']}`. Machine: {figures['machine']}.",
    ]


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    """Returns the row of a method."""
    row = figures["methods"][name]
    value, low, high = (100 * part for part in figures["differences"].get(name, [0.0] * 3))
    difference = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]" if name in figures["differences"] else ""
    keys = ["precision", "recall", *(f"map_{round(100 * threshold)}" for threshold in THRESHOLDS), "map"]
    return [name, f"{row['found'][0]:.0f}", *(percent(row[key]) for key in keys), difference]
