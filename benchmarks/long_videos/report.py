"""The report of the long videos, with the timeline of one of them."""

from pathlib import Path
from typing import Any

from benchmarks.harness.tables import markdown_table, paragraph, write_report
from benchmarks.long_videos.segments import DEFAULT_RULE, LongVideo, Measured
from tgdfer.training.figures.timeline import plot_timeline
from tgdfer.training.metrics import THRESHOLDS


def write_segments_report(measured: Measured, command: str, path: Path, figures: Path) -> None:
    """Writes the report, with its picture beside it, and its figures.

    Args:
        measured: what `measure_segments` has found.
        command: the command, which is written into both files.
        path: the Markdown file.
        figures: the JSON file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    _draw(measured.shown, measured.segments, picture)
    facts = {"command": command, **measured.figures}
    write_report(path, _sections(facts, picture.name), figures, facts)


def _draw(one: LongVideo, segments: list[dict[str, Any]], path: Path) -> None:
    """Draws the timeline of a video with the segments that were found, above the true ones."""
    drawn = [
        {**segment, "score": segment["confidence"], "candidates": [segment["label"]], "person": None}
        for segment in segments
    ]
    result = {**one.result, "people": [{**one.timeline, "segments": drawn}]}
    plot_timeline(result, path, truth=one.truth)


def _sections(figures: dict[str, Any], picture: str) -> list[str]:
    """Paragraphs and table of the report."""
    videos, rule, usual = figures["videos"], figures["rule"], figures["default_rule"]
    names = [f"map_{round(100 * threshold)}" for threshold in THRESHOLDS] + ["map"]
    rows = [
        [name, str(figures["found"][name]), *(f"{100 * row[key]:.1f}" for key in names)]
        for name, row in figures["test"].items()
        if rule != usual or name != DEFAULT_RULE
    ]
    gap, low, high = (100 * value for value in figures["difference"])
    head = ["segments by", "found", *(f"mAP at {threshold}" for threshold in THRESHOLDS), "mean"]
    how = (
        "A video is read in windows that overlap by half; what they say of a frame is"
        " averaged, and a curve for each class runs over the whole video. Segments of emotion are cut out of the"
        f" curves by hysteresis: one rises to a probability of {rule['high']:g}, reaches as far as it stays above"
        f" {rule['low']:g}, and lasts {rule['shortest']:g} s at least. Its confidence is the mean probability."
    )
    measured = (
        f"Measured on {videos['test']} rendered videos of {videos['seconds']:g} seconds with {figures['segments']}"
        f" true segments of six emotions. The thresholds were chosen, of {figures['tried']} triples, on"
        f" {videos['train']} other videos (mAP {100 * figures['train']['map']:.1f} there). By default the model is"
        " one that was trained on the short clips of the benchmark and knows nobody in these videos. A segment is"
        " right if it has the emotion and overlaps the true one by 0.3, 0.5 or 0.7 (intersection over union in time)."
        " In percent:"
    )
    chosen = (
        " Those chosen are those of `Hysteresis()`, which predictions use."
        if rule == usual
        else f" `Hysteresis()`, which predictions use, has {usual['high']:g}, {usual['low']:g} and"
        f" {usual['shortest']:g} s."
    )
    ranked = (
        "Segments are ranked by confidence, so weak ones hardly cost mAP: thresholds that are chosen by it find"
        " several segments for each true one."
    )
    return [
        "# Long videos",
        paragraph(how),
        paragraph(measured),
        markdown_table(head, rows),
        paragraph(ranked + chosen),
        f"Hysteresis gains {gap:+.1f} on the argmax, 95 % interval over videos {low:+.1f} to {high:+.1f}.",
        f"![A rendered video, the segments found and, below, the true ones]({picture})",
        f"`{figures['command']}`",
    ]
