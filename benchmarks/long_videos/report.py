"""Report on long videos, with the timeline of one of them."""

from pathlib import Path
from typing import Any

from benchmarks.harness.tables import markdown_table, paragraph, write_report
from benchmarks.long_videos.segments import DEFAULT_RULE, LongVideo, SegmentResults
from tgdfer.training.figures.timeline import plot_timeline
from tgdfer.training.metrics import THRESHOLDS


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
    _draw(measured.example, measured.segments, picture)
    contents = {"command": command, **measured.figures}
    write_report(path, _sections(contents, picture.name), figures, contents)


def _draw(video: LongVideo, segments: list[dict[str, Any]], path: Path) -> None:
    """Draws the timeline of a video with the predicted segments, and the true segments below them."""
    drawn = [
        {**segment, "score": segment["confidence"], "candidates": [segment["label"]], "person": None}
        for segment in segments
    ]
    result = {**video.result, "people": [{**video.timeline, "segments": drawn}]}
    plot_timeline(result, path, truth=video.truth)


def _sections(figures: dict[str, Any], picture: str) -> list[str]:
    """Returns the paragraphs and the table of the report."""
    videos, rule, default = figures["videos"], figures["rule"], figures["default_rule"]
    names = [f"map_{round(100 * threshold)}" for threshold in THRESHOLDS] + ["map"]
    rows = [
        [name, str(figures["found"][name]), *(f"{100 * row[key]:.1f}" for key in names)]
        for name, row in figures["test"].items()
        if rule != default or name != DEFAULT_RULE
    ]
    gain, low, high = (100 * value for value in figures["difference"])
    head = ["method", "predicted segments", *(f"mAP at {threshold}" for threshold in THRESHOLDS), "mean"]
    method = (
        "A video is processed in windows that overlap by half. The predictions of overlapping windows are averaged"
        " for each frame, which gives a probability curve of each class over the whole video. Segments of emotion are"
        f" found in the curves by hysteresis. A segment starts if the probability reaches {rule['high']:g}, extends as"
        f" far as it stays above {rule['low']:g}, and lasts at least {rule['shortest']:g} s. Its confidence is the"
        " mean probability."
    )
    measurement = (
        f"The test set has {videos['test']} rendered videos of {videos['seconds']:g} seconds with"
        f" {figures['segments']} true segments of six emotions. The thresholds were selected among {figures['tried']}"
        f" combinations on {videos['train']} other videos, where the mAP is {100 * figures['train']['map']:.1f}. By"
        " default, the model is trained on the short clips of the benchmark, which show other people. A predicted"
        " segment is correct if it has the right emotion and its temporal intersection over union with the true"
        " segment is at least 0.3, 0.5 or 0.7. Values of mAP are in percent."
    )
    defaults = (
        " The selected thresholds are the defaults of `Hysteresis()`. Only this benchmark uses them: `tgdfer predict`"
        " gives each frame its most probable class."
        if rule == default
        else f" The defaults of `Hysteresis()` are {default['high']:g}, {default['low']:g} and"
        f" {default['shortest']:g} s."
    )
    ranking = (
        "Segments are ranked by confidence, so additional segments with a low confidence reduce mAP only slightly."
        " Thresholds that are selected by mAP therefore give several predicted segments for each true segment."
    )
    return [
        "# Long videos",
        paragraph(method),
        paragraph(measurement),
        markdown_table(head, rows),
        paragraph(ranking + defaults),
        f"Hysteresis gains {gain:+.1f} over the argmax (95% interval over videos: {low:+.1f} to {high:+.1f}).",
        f"![A rendered video with the predicted segments, and the true segments below]({picture})",
        f"Command: `{figures['command']}`",
    ]
