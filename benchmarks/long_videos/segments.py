"""Segments of emotion in long rendered videos: those of predictions, and the argmax of every frame."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.progress import track

from benchmarks.harness.benchmark_dataset import Settings, render_if_needed, rendered_dataset
from tgdfer.processing.explanation_tgdfer import UNSURE
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.training.metrics import mean_average_precision
from tgdfer.training.models import load_trained, model_source
from tgdfer.training.rendered_faces import write_long_videos
from tgdfer.training.train import train

# Names of the methods in the report.
PREDICTED = "segments of predictions"
FIRST_CANDIDATES = "the same, with the first candidate of unsure segments"
ARGMAX = "argmax of every frame"

# For each of several videos, its segments.
Segments = list[list[dict[str, Any]]]


@dataclass(frozen=True)
class LongVideos:
    """Number and length of the rendered videos.

    Attributes:
        seconds (`float`, *optional*, defaults to `90.0`): Length of each video in seconds.
        videos (`int`, *optional*, defaults to `20`): Number of videos, each of another person.
        seed (`int`, *optional*, defaults to `1`): Random seed of the videos. It differs from that of the clips, so the
            model was not trained on these people.
    """

    seconds: float = 90.0
    videos: int = 20
    seed: int = 1


@dataclass(frozen=True)
class LongVideo:
    """A video with its predictions and its ground truth.

    Attributes:
        result (`dict[str, Any]`): Result of `EmotionTimelinePipeline`.
        truth (`list[dict[str, Any]]`): True segments.
    """

    result: dict[str, Any]
    truth: list[dict[str, Any]]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Predicted segments of all people. Those between emotions are "neutral" or "unsure"."""
        return [segment for person in self.result["people"] for segment in person["segments"]]


@dataclass(frozen=True)
class SegmentResults:
    """Figures of the benchmark, and an example for its picture.

    Attributes:
        figures (`dict[str, Any]`): Figures of the report.
        example (`LongVideo`): The first video.
    """

    figures: dict[str, Any]
    example: LongVideo


def measure_segments(work: Path, model: str | None, settings: LongVideos) -> SegmentResults:
    """Predicts long videos with the defaults of the pipeline, and compares their segments with the true ones.

    Args:
        work (`Path`): Folder of the videos. Without a model, also the folder of the clips and of the model trained on
            them.
        model (`str`, *optional*): A trained model, as in `tgdfer predict`.
        settings (`LongVideos`): Number and length of the videos.

    Raises:
        UserError: If the model cannot be loaded, or the folder holds other files.
    """
    folder = _render(work, settings)
    videos = _predict(model or _train(work), folder / "test")
    return SegmentResults(compare_methods(videos) | {"videos": asdict(settings)}, videos[0])


def compare_methods(videos: Sequence[LongVideo], draws: int = 1000) -> dict[str, Any]:
    """Computes the mAP of the predicted segments and of the baseline.

    Args:
        videos (`Sequence[LongVideo]`): Videos with their predictions.
        draws (`int`, *optional*, defaults to `1000`): Number of bootstrap draws.

    Returns:
        `dict[str, Any]`: `segments`, the number of true segments; `unsure`, the number of unsure segments, and
        `unsure_share`, the share of the time that they cover (0 to 1); `methods`, the mAP of each method; `found`, the
        number of emotional segments that it predicts; and `differences`, its mAP minus that of the baseline with the
        95% interval.
    """
    truths = [video.truth for video in videos]
    labels = {segment["label"] for truth in truths for segment in truth}
    methods: dict[str, Segments] = {
        PREDICTED: [_ranked(video.segments) for video in videos],
        FIRST_CANDIDATES: [_ranked(_without_unsure(video.segments)) for video in videos],
        ARGMAX: [argmax_segments(video.result) for video in videos],
    }
    unsure = [segment for video in videos for segment in video.segments if segment["label"] == UNSURE]
    return {
        "segments": sum(map(len, truths)),
        "unsure": len(unsure),
        "unsure_share": _total(unsure) / _total([segment for video in videos for segment in video.segments]),
        "methods": {name: mean_average_precision(segments, truths) for name, segments in methods.items()},
        "found": {
            name: sum(segment["label"] in labels for found in segments for segment in found)
            for name, segments in methods.items()
        },
        "differences": {
            name: difference(methods[name], methods[ARGMAX], truths, draws) for name in (PREDICTED, FIRST_CANDIDATES)
        },
    }


def argmax_segments(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Finds the runs of frames with the same most probable class, however short. This is the baseline.

    Args:
        result (`dict[str, Any]`): Result of `EmotionTimelinePipeline`.

    Returns:
        `list[dict[str, Any]]`: `label`, `start`, `end` and `confidence`, the mean probability, of each run. Runs meet
        halfway between two frames.
    """
    found = []
    for person in result["people"]:
        names, scores = list(person["frame_scores"]), np.array([*person["frame_scores"].values()])
        seconds = np.array(person["timestamps"])
        best = scores.argmax(0)
        edges = np.concatenate([seconds[:1], (seconds[1:] + seconds[:-1]) / 2, seconds[-1:]])
        for first, stop in pairwise([0, *(np.flatnonzero(np.diff(best)) + 1), len(best)]):
            label, span = best[first], {"start": float(edges[first]), "end": float(edges[stop])}
            found.append({"label": names[label], **span, "confidence": float(scores[label, first:stop].mean())})
    return found


def _ranked(segments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the confidence, by which mAP ranks segments: their score."""
    return [segment | {"confidence": segment["score"]} for segment in segments]


def _without_unsure(segments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replaces the label "unsure" by the first candidate. The score of a segment is that of its first candidate."""
    return [segment | {"label": segment["candidates"][0]} for segment in segments]


def _total(segments: Sequence[dict[str, Any]]) -> float:
    """Returns the total duration of segments in seconds."""
    return sum(segment["end"] - segment["start"] for segment in segments)


def difference(first: Segments, second: Segments, truths: Segments, draws: int = 1000, seed: int = 0) -> list[float]:
    """Computes the mAP of one method minus that of another, with its 95% bootstrap interval over videos.

    Each draw samples videos with replacement, the same for both methods (paired bootstrap).

    Args:
        first (`Segments`): Segments of the first method for each video.
        second (`Segments`): Segments of the method that is subtracted.
        truths (`Segments`): True segments of each video.
        draws (`int`, *optional*, defaults to `1000`): Number of draws.
        seed (`int`, *optional*, defaults to `0`): Random seed of the draws.

    Returns:
        `list[float]`: The difference, and the lower and the upper end of its interval.
    """

    def gap(videos: Sequence[int]) -> float:
        ours, theirs, true = ([segments[index] for index in videos] for segments in (first, second, truths))
        return (mean_average_precision(ours, true)["map"] or 0.0) - (
            mean_average_precision(theirs, true)["map"] or 0.0
        )

    rng = np.random.default_rng(seed)
    drawn = [gap(rng.integers(len(truths), size=len(truths)).tolist()) for _ in range(draws)]
    return [gap(range(len(truths))), *np.quantile(drawn, [0.025, 0.975]).tolist()]


def _render(work: Path, settings: LongVideos) -> Path:
    """Renders the long videos, unless they exist and neither the renderer nor their settings have changed."""
    numbers = {"test": settings.videos}

    def render(folder: Path, workers: int, progress: Callable[[int, int], None]) -> None:
        write_long_videos(
            folder,
            settings.seconds,
            videos=numbers,
            people=numbers,
            seed=settings.seed,
            workers=workers,
            progress=progress,
        )

    return render_if_needed(work / "long", asdict(settings), render, "Rendering long videos")


def _train(work: Path) -> str:
    """Trains TG-DFER with a frozen CLIP on the rendered clips of the benchmark, unless it is already trained."""
    run = work / "segments_model"
    if not (run / "last").is_dir():
        dataset = rendered_dataset(Settings(), work)
        resume = (run / "config.yaml").is_file()
        train(dataset.config(output=str(run), frozen_features=True, resume=resume))
    return str(run)


def _predict(model: str, folder: Path) -> list[LongVideo]:
    """Predicts the videos of a folder with a model."""
    network, processor = load_trained(model_source(model))
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        LongVideo(pipeline(str(folder / row["file_name"]), thumbnails=24), row["segments"])
        for row in track(rows, "Predicting videos", console=get_console(), transient=True)
    ]
