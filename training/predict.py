"""Prediction for video files: timelines, and the tables, pictures and videos that show them."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.processing.calibration_tgdfer import references_of
from tgdfer.processing.explanation_tgdfer import explain_clip
from tgdfer.processing.faces_tgdfer import FaceClip
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import VideoDecodeError
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training.figures.annotated_video import annotate
from tgdfer.training.figures.saving import require_picture_format
from tgdfer.training.figures.timeline import plot_timeline
from tgdfer.training.files import require_writable, write_text
from tgdfer.training.models import load_trained
from tgdfer.training.timelines import Timeline, frame_table, is_long, people_of, print_timelines, short_names
from tgdfer.weights import DEFAULT_MODEL

# Number of frames in the film strip below the timeline of a long video.
FILM_FRAMES = 16


@dataclass(frozen=True)
class PredictionFiles:
    """The files that a prediction writes; None for those that are not wanted.

    Of several videos each has its own picture and its own annotated video, with the name of the video added.

    Attributes:
        csv: table with a row for each sampled frame.
        json: the timelines as `predict` returns them.
        plot: picture of the timeline.
        annotate: video with boxes, labels and relevance.
    """

    csv: Path | None = None
    json: Path | None = None
    plot: Path | None = None
    annotate: Path | None = None

    def require_writable(self) -> None:
        """Checks the paths before any video is read.

        Raises:
            UserError: a file cannot be written there, or its ending is not that of its kind.
        """
        for path in filter(None, (self.csv, self.json, self.plot, self.annotate)):
            if path.is_dir():
                raise UserError(f"{path} is a folder; name the file to write.")
            require_writable(path)
        if self.plot is not None:
            require_picture_format(self.plot)
        if self.annotate is not None and self.annotate.suffix.lower() not in (".mp4", ".mkv", ".mov"):
            raise UserError(f"{self.annotate} is not the name of a video to write: end it in .mp4.")


def predict(
    videos: Sequence[str],
    model: str | Path = DEFAULT_MODEL,
    files: PredictionFiles | None = None,
    faces: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Analyses videos, and writes the results to files.

    A video that cannot be read does not stop the others: their results are written before the error is raised.

    Args:
        videos: paths or URLs.
        model: a trained model: folder of a run or of a model, Hub id, or by default the model in the package.
        files: what is written.
        faces: options of the video processor, such as `face_crop`, that differ from what the model was trained with;
            a value of None changes nothing.

    Returns:
        For each video that could be read its timeline, as `EmotionTimelinePipeline` gives it, and in it the
        `explanation`: a `sentence`, and the `spans` and `descriptions` that it is made of. With `face_crop="all"` a
        list of one for each face.

    Raises:
        UserError: the model cannot be loaded, an output cannot be written, or no video can be read;
            `PartialResultError`, one of them, if some can and some cannot.
    """
    files = files or PredictionFiles()
    files.require_writable()
    network, processor = load_trained(model)
    for name, value in (faces or {}).items():
        if value is not None:
            setattr(processor.video_processor, name, value)
    timelines, unread = _Prediction(network, processor, videos, files).run()
    if files.csv and timelines:
        write_text(_with_folder(files.csv), frame_table(timelines))
    if files.json and timelines:
        write_text(_with_folder(files.json), json.dumps(timelines, indent=2) + "\n")
    if unread and not timelines:
        raise UserError(" ".join(unread.values()))
    if unread:
        print_timelines(timelines)
        raise PartialResultError(unread, len(set(videos)))
    return timelines


class _Prediction:
    """Reads videos one after the other, each with its picture and its annotated video."""

    def __init__(self, network: Any, processor: TGDFERProcessor, videos: Sequence[str], files: PredictionFiles):
        self.processor, self.videos = processor, list(dict.fromkeys(videos))
        self.pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
        self.names = short_names(videos)
        self.pictures = _output_paths(videos, files.plot)
        self.annotated = _output_paths(videos, files.annotate)

    def run(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The timelines of the videos that can be read, and for each of the others the reason."""
        timelines: dict[str, Any] = {}
        unread: dict[str, str] = {}
        # Names of files are not markup: "[/a].mp4" would end a style that was never begun.
        description = TextColumn("Predicting {task.description}", markup=False)
        columns = (description, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=get_console(), transient=True) as bar:
            task = bar.add_task("", total=len(self.videos))
            for done, video in enumerate(self.videos):
                bar.update(task, completed=done, description=self.names[video])
                try:
                    timelines[video] = self._predict(video, partial(_advance, bar, task, done))
                except VideoDecodeError as error:
                    unread[video] = str(error)
        return timelines, unread

    def _predict(self, video: str, advance: Callable[[float], None]) -> Any:
        """The timeline of one video; its pictures are written."""
        source = self.processor.video_processor.open_video(video)
        # Drawing an annotated video takes about as long as reading it.
        share = 0.5 if video in self.annotated else 1.0
        timeline = self.pipeline(source, progress=lambda part: advance(share * part))
        timeline = _explained(timeline, self.processor, self.pipeline.model.config)
        if video in self.pictures:
            path, title = self.pictures[video], self.names[video]
            _plot(self.processor.video_processor, source, timeline, path, title)
        if video in self.annotated:
            people, path = people_of(timeline), self.annotated[video]
            annotate(source, people, path, lambda part: advance(share + share * part))
        return timeline


def _advance(bar: Progress, task: Any, done: int, part: float) -> None:
    bar.update(task, completed=done + part)


def _plot(video_processor: Any, video: Any, timeline: Any, path: Path, title: str) -> None:
    """A picture for each person, above the frames that the model saw, or above a few of a long video."""
    parts: list[Any] = []
    people = people_of(timeline)
    if any(map(is_long, people)):
        whole = copy.copy(video_processor)
        whole.face_crop = "none"
        parts = [FaceClip.uncut(*whole.read_clip(video, FILM_FRAMES))] * len(people)
    else:
        # As the prediction has read it: with fewer frames, others would be sampled, with a face in others of them.
        parts = list(video_processor.read_parts(video, video_processor.num_frames))
    for number, (one, part) in enumerate(zip(people, parts, strict=True)):
        own = path if number == 0 else path.with_stem(f"{path.stem}-face{number + 1}")
        film = _film_seconds(one, part) if is_long(one) else None
        plot_timeline(one, part.frames.permute(0, 2, 3, 1).numpy(), own, title, film)


def _film_seconds(timeline: Timeline, film: FaceClip) -> list[float]:
    """When the frames beneath a long timeline are shown: in the middle of equal parts, where nothing tells."""
    if film.seconds is not None:
        return film.seconds.tolist()
    count = len(film.frames)
    return [(place + 0.5) / count * timeline["timestamps"][-1] for place in range(count)]


def _explained(timeline: Any, processor: TGDFERProcessor, config: TGDFERConfig) -> Any:
    """The timeline, or the timeline of each face, with its explanation."""
    if isinstance(timeline, list):
        return [_explained(one, processor, config) for one in timeline]
    label, seconds = timeline["candidates"][0], timeline["timestamps"]
    explanation = explain_clip(
        timeline["candidates"],
        timeline["score"],
        torch.tensor(timeline["frame_relevance"]),
        torch.tensor(timeline["description_relevance"]).T,
        (processor.descriptions or {}).get(label, []),
        None if seconds is None else torch.tensor(seconds),
        references=references_of(label, config),
    )
    return {**timeline, "explanation": explanation.to_dict()}


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
