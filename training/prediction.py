"""Prediction: label, class curves and relevance over time of video files, as a table, JSON and pictures."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.progress import track
from rich.table import Table

from tgdfer.processing.explanation_tgdfer import explain_clip
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import VideoReadError
from tgdfer.training.config import require_writable, write_text
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.models import load_trained
from tgdfer.training.plots import plot_timeline, require_picture_format

Timeline = dict[str, Any]


def predict(
    videos: Sequence[str],
    model: str | Path,
    csv_path: Path | None = None,
    json_path: Path | None = None,
    plot_path: Path | None = None,
) -> dict[str, Timeline]:
    """Analyses videos, and writes what was found where a path is given.

    A video that cannot be read stops none of the others: all that was found is written before the error is raised.

    Args:
        videos: paths or URLs.
        model: a trained model: folder of a run or of a model, or Hub id.
        csv_path: table with a row for each sampled frame.
        json_path: the timelines as they are returned.
        plot_path: picture of the timeline; of several videos each has its own, with the video's name added.

    Returns:
        For each video that could be read its timeline, as `EmotionTimelinePipeline` gives it, and in it the
        `explanation`: a `sentence`, and the `spans` and `descriptions` that it is made of.

    Raises:
        UserError: the model cannot be loaded, an output cannot be written, or no video can be read;
            `PartialResultError`, one of them, if some can and some cannot.
    """
    for path in filter(None, (csv_path, json_path, plot_path)):
        if path.is_dir():
            raise UserError(f"{path} is a folder; name the file to write.")
        require_writable(path)
    if plot_path is not None:
        require_picture_format(plot_path)
    network, processor = load_trained(model)
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    timelines: dict[str, Timeline] = {}
    unread: dict[str, str] = {}
    names = short_names(videos)
    pictures = dict(zip(videos, _picture_paths(videos, plot_path), strict=True)) if plot_path else {}
    for video in track(list(dict.fromkeys(videos)), "Predicting", console=get_console(), transient=True):
        try:
            timelines[video] = _explained(pipeline(video), processor)
            if plot_path:
                frames, _ = processor.video_processor.read_clip(video, network.config.num_frames)
                strip = frames.permute(0, 2, 3, 1).numpy()
                plot_timeline(timelines[video], strip, pictures[video], title=names[video])
        except VideoReadError as error:
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


def frame_table(timelines: dict[str, Timeline]) -> str:
    """CSV with a row for each sampled frame: the answer of its clip, its time, its relevance, what it says itself."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = list(next(iter(timelines.values()))["frame_scores"]) if timelines else []
    writer.writerow(["file", "label", "score", "frame", "seconds", "relevance", *names])
    for video, timeline in timelines.items():
        score = timeline["scores"][timeline["label"]]
        for index, relevance in enumerate(timeline["frame_relevance"]):
            seconds = "" if timeline["timestamps"] is None else f"{timeline['timestamps'][index]:.3f}"
            curves = [f"{timeline['frame_scores'][name][index]:.4f}" for name in names]
            writer.writerow([video, timeline["label"], f"{score:.4f}", index, seconds, f"{relevance:.4f}", *curves])
    return table.getvalue()


def print_timelines(timelines: dict[str, Timeline]) -> None:
    """Prints the answer for each video, and what it rests on: when, and which words the face fits then."""
    if not timelines:
        return
    table = Table("video", "score", "expression, when, and what is seen then", "runner-up")
    names = short_names(list(timelines))
    for video, timeline in timelines.items():
        first, *others = sorted(timeline["scores"].items(), key=lambda score: -score[1])
        table.add_row(
            names[video],
            f"{first[1]:.0%}",
            timeline["explanation"]["sentence"],
            f"{others[0][0]} ({others[0][1]:.0%})" if others else "",
        )
    get_console().print(table)


def _explained(timeline: Timeline, processor: TGDFERProcessor) -> Timeline:
    """The timeline with its explanation."""
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


def _picture_paths(videos: Sequence[str], path: Path) -> list[Path]:
    """A picture for each video, all different: `plot.png`, or of several videos `plot-NAME.png`."""
    if len(set(videos)) == 1:
        return [path] * len(videos)
    taken: dict[str, int] = {}
    paths: dict[str, Path] = {}
    for video, name in short_names(videos).items():
        stem = name.removesuffix(Path(name).suffix).strip("/").replace("/", "-")
        taken[stem] = taken.get(stem, 0) + 1
        number = f"-{taken[stem]}" if taken[stem] > 1 else ""  # the same name with another ending
        paths[video] = path.with_name(f"{path.stem}-{stem}{number}{path.suffix}")
    return [paths[video] for video in videos]


def _with_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
