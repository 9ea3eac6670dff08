"""Report on long videos, with the timeline of one of them."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.tables import markdown_table, paragraph, write_report
from benchmarks.long_videos.segments import ARGMAX, FIRST_CANDIDATES, PREDICTED, LongVideo, SegmentResults
from tgdfer.training.figures.timeline import plot_timeline
from tgdfer.training.metrics import THRESHOLDS

# Seconds of a video in the picture. The timeline of a longer video shows averages instead of the segments themselves.
SHOWN = 45.0

_METHOD = (
    "`tgdfer predict` joins consecutive frames with the same label into segments ([how segments are"
    " found](../guides/timeline.md#how-segments-are-found)). This benchmark measures the segments that the"
    " `emotion-timeline` pipeline returns with its default settings. The baseline has no such rules: each run of"
    " frames with the same most probable class is a segment, however short."
)
_MAP = (
    "Segments are ranked by their score, which is the mean probability of their label. Segments with a low score"
    " therefore reduce mAP only slightly. A segment that is found in several pieces counts as found at most once, and"
    " only if one piece alone overlaps enough."
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
    contents = {"command": command, **measured.figures}
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
    videos = figures["videos"]
    shown = [PREDICTED, *([FIRST_CANDIDATES] if figures["unsure"] else []), ARGMAX]
    names = [f"map_{round(100 * threshold)}" for threshold in THRESHOLDS] + ["map"]
    rows = [
        [name, str(figures["found"][name]), *(f"{100 * figures['methods'][name][key]:.1f}" for key in names)]
        for name in shown
    ]
    head = ["method", "emotional segments", *(f"mAP at {threshold}" for threshold in THRESHOLDS), "mean"]
    measurement = (
        f"There are {videos['videos']} rendered videos of {videos['seconds']:g} seconds with {figures['segments']}"
        " true segments of six emotions. By default, the model is trained on the short clips of the benchmark, which"
        " show other people. Nothing was chosen with these videos. A predicted segment is correct if it has the right"
        " emotion and its temporal intersection over union with the true segment is at least 0.3, 0.5 or 0.7. Values"
        " of mAP are in percent."
    )
    return [
        "# Long videos",
        paragraph(_METHOD),
        paragraph(measurement),
        markdown_table(head, rows),
        paragraph(_MAP),
        *([paragraph(_unsure(figures))] if figures["unsure"] else []),
        paragraph(" ".join(_difference(name, figures["differences"][name]) for name in shown[:-1])),
        f"![The beginning of a rendered video with the predicted segments, and the true segments below]({picture})",
        f"Command: `{figures['command']}`",
    ]


def _unsure(figures: dict[str, Any]) -> str:
    """Returns the sentences about unsure segments."""
    return (
        f'{figures["unsure"]} segments, with {100 * figures["unsure_share"]:.0f} % of the time, are "unsure". In the'
        " first row they name no emotion. In the second row they count with their first candidate. The baseline is"
        " never unsure."
    )


def _difference(name: str, difference: list[float]) -> str:
    """Returns a sentence about the difference to the baseline."""
    value, low, high = (100 * part for part in difference)
    subject = "The predicted segments" if name == PREDICTED else "With their first candidates, they"
    return (
        f"{subject} have a mean mAP that differs by {value:+.1f} from that of the baseline (95% interval over videos:"
        f" {low:+.1f} to {high:+.1f})."
    )
