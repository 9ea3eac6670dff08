"""Prediction: label, class curves and relevance over time of video files, as a table, JSON and pictures."""

import copy
import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tgdfer.processing.explanation_tgdfer import explain_clip
from tgdfer.processing.faces_tgdfer import FaceClip
from tgdfer.processing.pipeline_tgdfer import LONGEST_CLIP, EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import VideoDecodeError
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.figures import annotate, plot_timeline, require_picture_format
from tgdfer.training.files import require_writable, write_text
from tgdfer.training.models import load_trained

Timeline = dict[str, Any]
# Of a long video, in the film strip of its picture.
FILM_FRAMES = 16


def predict(
    videos: Sequence[str],
    model: str | Path,
    csv_path: Path | None = None,
    json_path: Path | None = None,
    plot_path: Path | None = None,
    annotate_path: Path | None = None,
    faces: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Analyses videos, and writes what was found where a path is given.

    A video that cannot be read stops none of the others: all that was found is written before the error is raised.

    Args:
        videos: paths or URLs.
        model: a trained model: folder of a run or of a model, or Hub id.
        csv_path: table with a row for each sampled frame.
        json_path: the timelines as they are returned.
        plot_path: picture of the timeline; of several videos each has its own, with the video's name added.
        annotate_path: video with boxes, labels and relevance; of several videos likewise.
        faces: options of the video processor, such as `face_crop`, that differ from what the model was trained with;
            None stands for none.

    Returns:
        For each video that could be read its timeline, as `EmotionTimelinePipeline` gives it, and in it the
        `explanation`: a `sentence`, and the `spans` and `descriptions` that it is made of. With `face_crop="all"` a
        list of one for each face.

    Raises:
        UserError: the model cannot be loaded, an output cannot be written, or no video can be read;
            `PartialResultError`, one of them, if some can and some cannot.
    """
    for path in filter(None, (csv_path, json_path, plot_path, annotate_path)):
        if path.is_dir():
            raise UserError(f"{path} is a folder; name the file to write.")
        require_writable(path)
    if plot_path is not None:
        require_picture_format(plot_path)
    if annotate_path is not None and annotate_path.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise UserError(f"{annotate_path} is not the name of a video to write: end it in .mp4.")
    network, processor = load_trained(model)
    for name, value in (faces or {}).items():
        if value is not None:
            setattr(processor.video_processor, name, value)
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    timelines: dict[str, Any] = {}
    unread: dict[str, str] = {}
    names = short_names(videos)
    pictures, films = _output_paths(videos, plot_path), _output_paths(videos, annotate_path)
    # Names of files are no markup: "[/a].mp4" would end a style that nobody has begun.
    doing = TextColumn("Predicting {task.description}", markup=False)
    columns = (doing, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=get_console(), transient=True) as bar:
        task = bar.add_task("", total=len(set(videos)))
        # Half of the time of a video that is annotated goes into what is drawn.
        half = 0.5 if annotate_path else 1.0
        for done, video in enumerate(dict.fromkeys(videos)):
            bar.update(task, completed=done, description=names[video])
            try:
                source = processor.video_processor.open_video(video)
                found = pipeline(source, progress=partial(_advance, bar, task, done, half))
                timelines[video] = _explained(found, processor)
                if plot_path:
                    _plot(processor.video_processor, source, timelines[video], pictures[video], names[video])
                if annotate_path:
                    annotate(
                        source,
                        _people(timelines[video]),
                        films[video],
                        partial(_advance, bar, task, done + 0.5, 0.5),
                    )
            except VideoDecodeError as error:
                unread[video] = str(error)
    if csv_path and timelines:
        write_text(_with_folder(csv_path), frame_table(timelines))
    if json_path and timelines:
        write_text(_with_folder(json_path), json.dumps(timelines, indent=2) + "\n")
    if unread and not timelines:
        raise UserError(" ".join(unread.values()))
    if unread:
        print_timelines(timelines)
        raise PartialResultError(unread, len(set(videos)))
    return timelines


def _advance(bar: Progress, task: Any, begin: float, part: float, share: float) -> None:
    bar.update(task, completed=begin + part * share)


def _people(timeline: Any) -> list[Timeline]:
    """The timelines of a video: of each person where all faces were cut out."""
    return timeline if isinstance(timeline, list) else [timeline]


def _is_long(timeline: Timeline) -> bool:
    return timeline["timestamps"] is not None and timeline["timestamps"][-1] > LONGEST_CLIP


def _plot(video_processor: Any, video: Any, timeline: Any, path: Path, title: str) -> None:
    """A picture for each person, above the frames that the model saw, or above a few of a long video."""
    parts: list[Any] = []
    people = _people(timeline)
    if any(map(_is_long, people)):
        whole = copy.copy(video_processor)
        whole.face_crop = "none"
        parts = [FaceClip.uncut(*whole.read_clip(video, FILM_FRAMES))] * len(people)
    else:
        parts = list(video_processor.read_parts(video, max(len(one["frame_relevance"]) for one in people)))
    for number, (one, part) in enumerate(zip(people, parts, strict=True)):
        own = path if number == 0 else path.with_stem(f"{path.stem}-face{number + 1}")
        film = _film_seconds(one, part) if _is_long(one) else None
        plot_timeline(one, part.frames.permute(0, 2, 3, 1).numpy(), own, title, film)


def _film_seconds(timeline: Timeline, film: FaceClip) -> list[float]:
    """When the frames beneath a long timeline are shown: in the middle of equal parts, where nothing tells."""
    if film.seconds is not None:
        return film.seconds.tolist()
    count = len(film.frames)
    return [(place + 0.5) / count * timeline["timestamps"][-1] for place in range(count)]


def frame_table(timelines: dict[str, Any]) -> str:
    """CSV with a row for each sampled frame: the answer of its clip, its time, its relevance, what it says itself.

    Where faces were cut out, also the number of the face and its box, empty where it was not found.
    """
    people = [(video, one) for video, timeline in timelines.items() for one in _people(timeline)]
    faces = any("boxes" in one for _, one in people)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = list(people[0][1]["frame_scores"]) if people else []
    where = ["track", "left", "top", "right", "bottom"] if faces else []
    writer.writerow(["file", "label", "score", "frame", "seconds", "relevance", *where, *names])
    for video, timeline in people:
        score = timeline["scores"][timeline["label"]]
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
        several = len(_people(timeline)) > 1
        for one in _people(timeline):
            named.append((f"{names[video]}, face {one['track']}" if several else names[video], one))
    table = Table("video", "score", "expression, when, and what is seen then", "runner-up")
    for name, timeline in named:
        first, *others = sorted(timeline["scores"].items(), key=lambda score: -score[1])
        runner_up = f"{others[0][0]} ({others[0][1]:.0%})" if others else ""
        cells = (name, f"{first[1]:.0%}", timeline["explanation"]["sentence"], runner_up)
        table.add_row(*map(escape, cells))
    get_console().print(table)
    for name, timeline in named:
        if without := timeline.get("without_face"):
            get_console().print(f"{name}: no face in {len(without)} sampled frames", highlight=False, markup=False)
        if _is_long(timeline):
            get_console().print(_segments_table(name, timeline))


def _segments_table(name: str, timeline: Timeline) -> Table:
    title = escape(f"{name}, {len(timeline['segments'])} segments")
    table = Table("from", "to", "expression", "confidence", title=title)
    for segment in timeline["segments"]:
        start, end = (f"{segment[side] // 60:.0f}:{segment[side] % 60:04.1f}" for side in ("start", "end"))
        table.add_row(start, end, escape(segment["label"]), f"{segment['confidence']:.0%}")
    return table


def _explained(timeline: Any, processor: TGDFERProcessor) -> Any:
    """The timeline, or the timeline of each face, with its explanation."""
    if isinstance(timeline, list):
        return [_explained(one, processor) for one in timeline]
    label, seconds = timeline["label"], timeline["timestamps"]
    explanation = explain_clip(
        label,
        timeline["scores"][label],
        torch.tensor(timeline["frame_relevance"]),
        torch.tensor(timeline["description_relevance"]).T,
        (processor.descriptions or {}).get(label, []),
        None if seconds is None else torch.tensor(seconds),
    )
    return {**timeline, "explanation": explanation.to_dict()}


def short_names(videos: Sequence[str]) -> dict[str, str]:
    """For each video the fewest last parts of its path that tell it from the others, e.g. `fear/0001.mp4`."""
    paths = {video: Path(video).parts for video in videos}
    for count in range(1, max(map(len, paths.values())) + 1):
        names = {video: "/".join(parts[-count:]) for video, parts in paths.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _output_paths(videos: Sequence[str], path: Path | None) -> dict[str, Path]:
    """A file for each video, all different: `plot.png`, or of several videos `plot-NAME.png`; none without a path."""
    if path is None:
        return {}
    if len(set(videos)) == 1:
        return {videos[0]: path}
    taken: dict[str, int] = {}
    paths: dict[str, Path] = {}
    for video, name in short_names(videos).items():
        stem = name.removesuffix(Path(name).suffix).strip("/").replace("/", "-")
        taken[stem] = taken.get(stem, 0) + 1
        number = f"-{taken[stem]}" if taken[stem] > 1 else ""  # the same name with another ending
        paths[video] = path.with_name(f"{path.stem}-{stem}{number}{path.suffix}")
    return paths


def _with_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
