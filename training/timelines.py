"""Timelines of videos in words and numbers: a table of frames as CSV, and what is printed about each video."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.processing.pipeline_tgdfer import LONGEST_CLIP

# A timeline is what `EmotionTimelinePipeline` returns; with all faces cropped it is a list of one per person.
Timeline = dict[str, Any]


def people_of(timeline: Any) -> list[Timeline]:
    """The timelines of a video: of each person where all faces were cut out."""
    return timeline if isinstance(timeline, list) else [timeline]


def is_long(timeline: Timeline) -> bool:
    return timeline["timestamps"] is not None and timeline["timestamps"][-1] > LONGEST_CLIP


def frame_table(timelines: dict[str, Any]) -> str:
    """CSV with a row for each sampled frame: the answer of its clip, its time, its relevance, what it says itself.

    Where faces were cut out, also the number of the face and its box, empty where it was not found.
    """
    people = [(video, one) for video, timeline in timelines.items() for one in people_of(timeline)]
    faces = any("boxes" in one for _, one in people)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = list(people[0][1]["frame_scores"]) if people else []
    where = ["track", "left", "top", "right", "bottom"] if faces else []
    writer.writerow(["file", "label", "score", "frame", "seconds", "relevance", *where, *names])
    for video, timeline in people:
        score = timeline["score"]
        for index, relevance in enumerate(timeline["frame_relevance"]):
            seconds = "" if timeline["timestamps"] is None else f"{timeline['timestamps'][index]:.3f}"
            curves = [f"{timeline['frame_scores'][name][index]:.4f}" for name in names]
            box = (timeline["boxes"][index] or [""] * 4) if faces else []
            place = [timeline["track"], *(f"{side:.1f}" if side != "" else "" for side in box)] if faces else []
            row = [video, timeline["label"], f"{score:.4f}", index, seconds, f"{relevance:.4f}"]
            writer.writerow([*row, *place, *curves])
    return table.getvalue()


def print_timelines(timelines: dict[str, Any]) -> None:
    """Prints the answer for each video and what it rests on: when, and in which words; of long ones the segments."""
    if not timelines:
        return
    names = short_names(list(timelines))
    named = []
    for video, timeline in timelines.items():
        several = len(people_of(timeline)) > 1
        for one in people_of(timeline):
            named.append((f"{names[video]}, face {one['track']}" if several else names[video], one))
    table = Table("video", "score", "expression, when, and what is seen then", "runner-up")
    for name, timeline in named:
        first, *others = sorted(timeline["scores"].items(), key=lambda score: -score[1])
        runner_up = f"{others[0][0]} ({others[0][1]:.0%})" if others else ""
        cells = (name, f"{first[1]:.0%}", timeline["explanation"]["sentence"], runner_up)
        table.add_row(*map(escape, cells))
    get_console().print(table)
    if not all(timeline["calibrated"] for _, timeline in named):
        get_console().print("The model is not calibrated: a score says little about how often such answers are right.")
    for name, timeline in named:
        if without := timeline.get("without_face"):
            get_console().print(f"{name}: no face in {len(without)} sampled frames", highlight=False, markup=False)
        if is_long(timeline):
            get_console().print(_segments_table(name, timeline))


def _segments_table(name: str, timeline: Timeline) -> Table:
    title = escape(f"{name}, {len(timeline['segments'])} segments")
    table = Table("from", "to", "expression", "confidence", title=title)
    for segment in timeline["segments"]:
        start, end = (f"{segment[side] // 60:.0f}:{segment[side] % 60:04.1f}" for side in ("start", "end"))
        table.add_row(start, end, escape(segment["label"]), f"{segment['confidence']:.0%}")
    return table


def short_names(videos: Sequence[str]) -> dict[str, str]:
    """For each video the fewest last parts of its path that tell it from the others, e.g. `fear/0001.mp4`."""
    paths = {video: Path(video).parts for video in videos}
    for count in range(1, max(map(len, paths.values())) + 1):
        names = {video: "/".join(parts[-count:]) for video, parts in paths.items()}
        if len(set(names.values())) == len(names):
            break
    return names
