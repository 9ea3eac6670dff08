"""Segments of emotion in long rendered videos: hysteresis with chosen thresholds, beside the argmax of every frame."""

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

# Thresholds, and shortest segments in seconds, that are tried on the training videos.
_LEVELS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
_SHORTEST = (0.2, 0.3, 0.5)

# Ways to find segments, as they are named in the report.
HYSTERESIS, DEFAULT_RULE = "hysteresis", "hysteresis, thresholds of `Hysteresis()`"
ARGMAX = "argmax of every frame"

# The segments of several videos.
Found = list[list[dict[str, Any]]]


@dataclass(frozen=True)
class LongVideos:
    """Number and length of the videos.

    Attributes:
        seconds: length of each video.
        train: number of videos that thresholds are chosen on.
        test: number of videos that are measured.
        seed: seed of the videos. It differs from that of the clips, so that the model has seen nobody in them.
    """

    seconds: float = 90.0
    train: int = 8
    test: int = 12
    seed: int = 1


@dataclass(frozen=True)
class LongVideo:
    """A video with its predictions and its truth.

    Attributes:
        file: the video.
        result: predictions of `EmotionTimelinePipeline`, in which the video is one person.
        truth: true segments.
    """

    file: Path
    result: dict[str, Any]
    truth: list[dict[str, Any]]

    @property
    def timeline(self) -> dict[str, Any]:
        """The predictions for the person."""
        return self.result["people"][0]


@dataclass(frozen=True)
class Measured:
    """What was measured, and what its picture shows.

    Attributes:
        figures: everything that the report says.
        shown: the first test video.
        segments: the segments that hysteresis finds in it.
    """

    figures: dict[str, Any]
    shown: LongVideo
    segments: list[dict[str, Any]]


def measure_segments(work: Path, model: str | None, videos: LongVideos) -> Measured:
    """Chooses thresholds on training videos and measures them on test videos.

    Args:
        work: folder of the videos, and of the clips and the model that is trained on them if none is given.
        model: a trained model, as in `tgdfer predict`.
        videos: number and length of the videos.

    Raises:
        UserError: if the model cannot be loaded, or the folder holds something else.
    """
    folder = _render(work, videos)
    source = model or _train(work)
    read = {split: _read(source, folder / split, split) for split in ("train", "test")}
    rule, tried = choose(read["train"])
    truths = [one.truth for one in read["test"]]
    ways: dict[str, Found] = {
        HYSTERESIS: [find_segments(*_curves(one), rule) for one in read["test"]],
        DEFAULT_RULE: [find_segments(*_curves(one)) for one in read["test"]],
        ARGMAX: [argmax_segments(*_curves(one)) for one in read["test"]],
    }
    figures = {
        "videos": asdict(videos),
        "segments": sum(map(len, truths)),
        "rule": asdict(rule),
        "default_rule": asdict(Hysteresis()),
        "tried": tried,
        "train": mean_average_precision(
            [find_segments(*_curves(one), rule) for one in read["train"]], [one.truth for one in read["train"]]
        ),
        "test": {name: mean_average_precision(found, truths) for name, found in ways.items()},
        "found": {name: sum(map(len, found)) for name, found in ways.items()},
        "difference": difference(ways[HYSTERESIS], ways[ARGMAX], truths),
    }
    return Measured(figures, read["test"][0], ways[HYSTERESIS][0])


def choose(videos: Sequence[LongVideo]) -> tuple[Hysteresis, int]:
    """The thresholds with the highest mAP on these videos, the strictest of equal ones, and how many were tried."""
    truths = [one.truth for one in videos]
    rules = [
        Hysteresis(high, low, shortest) for high, low, shortest in product(_LEVELS, _LEVELS, _SHORTEST) if low <= high
    ]

    def figure(rule: Hysteresis) -> tuple[float, float, float]:
        found = [find_segments(*_curves(one), rule) for one in videos]
        return mean_average_precision(found, truths)["map"] or 0.0, rule.high, rule.low

    return max(rules, key=figure), len(rules)


def difference(one: Found, other: Found, truths: Found, draws: int = 1000, seed: int = 0) -> list[float]:
    """The mAP of one way minus that of another, with its 95 % interval over videos.

    Each draw takes videos with replacement, the same for both (paired bootstrap).
    """

    def gap(which: Sequence[int]) -> float:
        ours, theirs, true = ([several[index] for index in which] for several in (one, other, truths))
        return (mean_average_precision(ours, true)["map"] or 0.0) - (
            mean_average_precision(theirs, true)["map"] or 0.0
        )

    rng = np.random.default_rng(seed)
    drawn = [gap(rng.integers(len(truths), size=len(truths)).tolist()) for _ in range(draws)]
    return [gap(range(len(truths))), *np.quantile(drawn, [0.025, 0.975]).tolist()]


def _curves(one: LongVideo) -> tuple[dict[str, list[float]], list[float]]:
    return one.timeline["frame_scores"], one.timeline["timestamps"]


def _render(work: Path, videos: LongVideos) -> Path:
    """Long videos in the work folder, which are rendered again if the renderer or their numbers have changed."""
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
    """Trains TG-DFER with a frozen CLIP on the rendered clips of the benchmark, unless that is done already."""
    run = work / "segments_model"
    if not (run / "last").is_dir():
        dataset = rendered_dataset(Settings(), work)
        resume = (run / "config.yaml").is_file()
        train(dataset.config(output=str(run), frozen_features=True, resume=resume))
    return str(run)


def _read(model: str, folder: Path, split: str) -> list[LongVideo]:
    """The predictions of a model on the videos of a split."""
    network, processor = load_trained(model_source(model))
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    found = []
    for row in track(rows, f"Reading videos of {split}", console=get_console(), transient=True):
        file = folder / row["file_name"]
        found.append(LongVideo(file, pipeline(str(file), thumbnails=12), row["segments"]))
    return found
