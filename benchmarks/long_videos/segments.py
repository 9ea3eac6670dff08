"""Segments of emotion in long rendered videos: hysteresis with selected thresholds, and the argmax of every frame."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.progress import track

from benchmarks.harness.benchmark_dataset import Settings, render_if_needed, rendered_dataset
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.segments_tgdfer import Hysteresis, argmax_segments, find_segments
from tgdfer.training.metrics import mean_average_precision
from tgdfer.training.models import load_trained, model_source
from tgdfer.training.rendered_faces import write_long_videos
from tgdfer.training.train import train

# Thresholds, and minimum lengths of a segment in seconds, that are tried on the training videos.
_LEVELS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
_SHORTEST = (0.2, 0.3, 0.5)

# Names of the methods in the report.
HYSTERESIS, DEFAULT_RULE = "hysteresis", "hysteresis, thresholds of `Hysteresis()`"
ARGMAX = "argmax of every frame"

# For each of several videos, its segments.
Segments = list[list[dict[str, Any]]]


@dataclass(frozen=True)
class LongVideos:
    """Number and length of the rendered videos.

    Attributes:
        seconds (`float`, *optional*, defaults to `90.0`): Length of each video in seconds.
        train (`int`, *optional*, defaults to `8`): Number of videos on which the thresholds are selected.
        test (`int`, *optional*, defaults to `12`): Number of test videos.
        seed (`int`, *optional*, defaults to `1`): Random seed of the videos. It differs from that of the clips, so the
            model was not trained on these people.
    """

    seconds: float = 90.0
    train: int = 8
    test: int = 12
    seed: int = 1


@dataclass(frozen=True)
class LongVideo:
    """A video with its predictions and its ground truth.

    Attributes:
        file (`Path`): Path of the video.
        result (`dict[str, Any]`): Result of `EmotionTimelinePipeline`, with one person.
        truth (`list[dict[str, Any]]`): True segments.
    """

    file: Path
    result: dict[str, Any]
    truth: list[dict[str, Any]]

    @property
    def timeline(self) -> dict[str, Any]:
        """Predictions for the person."""
        return self.result["people"][0]


@dataclass(frozen=True)
class SegmentResults:
    """Figures of the benchmark, and an example for its picture.

    Attributes:
        figures (`dict[str, Any]`): Figures of the report.
        example (`LongVideo`): The first test video.
        segments (`list[dict[str, Any]]`): Segments that hysteresis finds in the example.
    """

    figures: dict[str, Any]
    example: LongVideo
    segments: list[dict[str, Any]]


def measure_segments(work: Path, model: str | None, videos: LongVideos) -> SegmentResults:
    """Selects the thresholds on the training videos, and measures them on the test videos.

    Args:
        work (`Path`): Folder of the videos. Without a model, also the folder of the clips and of the model trained on
            them.
        model (`str`, *optional*): A trained model, as in `tgdfer predict`.
        videos (`LongVideos`): Number and length of the videos.

    Raises:
        UserError: If the model cannot be loaded, or the folder holds other files.
    """
    folder = _render(work, videos)
    source = model or _train(work)
    predicted = {split: _predict(source, folder / split, split) for split in ("train", "test")}
    rule, tried = select_thresholds(predicted["train"])
    truths = [video.truth for video in predicted["test"]]
    methods: dict[str, Segments] = {
        HYSTERESIS: [find_segments(*_curves(video), rule) for video in predicted["test"]],
        DEFAULT_RULE: [find_segments(*_curves(video)) for video in predicted["test"]],
        ARGMAX: [argmax_segments(*_curves(video)) for video in predicted["test"]],
    }
    figures = {
        "videos": asdict(videos),
        "segments": sum(map(len, truths)),
        "rule": asdict(rule),
        "default_rule": asdict(Hysteresis()),
        "tried": tried,
        "train": mean_average_precision(
            [find_segments(*_curves(video), rule) for video in predicted["train"]],
            [video.truth for video in predicted["train"]],
        ),
        "test": {name: mean_average_precision(segments, truths) for name, segments in methods.items()},
        "found": {name: sum(map(len, segments)) for name, segments in methods.items()},
        "difference": difference(methods[HYSTERESIS], methods[ARGMAX], truths),
    }
    return SegmentResults(figures, predicted["test"][0], methods[HYSTERESIS][0])


def select_thresholds(videos: Sequence[LongVideo]) -> tuple[Hysteresis, int]:
    """Selects the thresholds with the highest mAP on these videos. Of equally good ones, it takes the highest.

    Returns:
        `tuple[Hysteresis, int]`: The thresholds, and the number of combinations that were tried.
    """
    truths = [video.truth for video in videos]
    rules = [
        Hysteresis(high, low, shortest) for high, low, shortest in product(_LEVELS, _LEVELS, _SHORTEST) if low <= high
    ]

    def sort_key(rule: Hysteresis) -> tuple[float, float, float]:
        segments = [find_segments(*_curves(video), rule) for video in videos]
        return mean_average_precision(segments, truths)["map"] or 0.0, rule.high, rule.low

    return max(rules, key=sort_key), len(rules)


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


def _curves(video: LongVideo) -> tuple[dict[str, list[float]], list[float]]:
    return video.timeline["frame_scores"], video.timeline["timestamps"]


def _render(work: Path, videos: LongVideos) -> Path:
    """Renders the long videos, unless they exist and neither the renderer nor their settings have changed."""
    numbers = {"train": videos.train, "test": videos.test}

    def render(folder: Path, workers: int, progress: Callable[[int, int], None]) -> None:
        write_long_videos(
            folder,
            videos.seconds,
            videos=numbers,
            people=numbers,
            seed=videos.seed,
            workers=workers,
            progress=progress,
        )

    return render_if_needed(work / "long", asdict(videos), render, "Rendering long videos")


def _train(work: Path) -> str:
    """Trains TG-DFER with a frozen CLIP on the rendered clips of the benchmark, unless it is already trained."""
    run = work / "segments_model"
    if not (run / "last").is_dir():
        dataset = rendered_dataset(Settings(), work)
        resume = (run / "config.yaml").is_file()
        train(dataset.config(output=str(run), frozen_features=True, resume=resume))
    return str(run)


def _predict(model: str, folder: Path, split: str) -> list[LongVideo]:
    """Predicts the videos of a split with a model."""
    network, processor = load_trained(model_source(model))
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    videos = []
    for row in track(rows, f"Predicting {split} videos", console=get_console(), transient=True):
        file = folder / row["file_name"]
        videos.append(LongVideo(file, pipeline(str(file), thumbnails=12), row["segments"]))
    return videos
