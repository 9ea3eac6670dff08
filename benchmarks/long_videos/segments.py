"""Segments of emotion in long rendered videos: those of predictions, and the argmax of every frame."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich import get_console
from rich.progress import track

from benchmarks.harness.benchmark_dataset import Settings, render_if_needed, rendered_dataset
from benchmarks.harness.comparison import Figure, mean_and_spread
from benchmarks.long_videos.localization import Segments, localized_segments
from tgdfer import modeling_tgdfer
from tgdfer.processing.explanation_tgdfer import UNSURE
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.segments_tgdfer import Presence, find_moments
from tgdfer.training.files import source_hash
from tgdfer.training.metrics import mean_average_precision
from tgdfer.training.models import load_trained, model_source
from tgdfer.training.rendered_faces import write_long_videos
from tgdfer.training.train import train

# Names of the methods in the report.
PREDICTED = "segments of predictions"
NEVER_UNSURE = "the same, if no segment may be unsure"
ARGMAX = "argmax of every frame"

# Random seeds of the trainings.
SEEDS = Settings().seeds
# Intersection over union in time from which a segment counts as correct for precision and recall.
CORRECT = 0.5


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
        work (`Path`): Folder of the videos. Without a model, also the folder of the clips and of the models trained on
            them, one for each seed.
        model (`str`, *optional*): A trained model, as in `tgdfer predict`.
        settings (`LongVideos`): Number and length of the videos.

    Raises:
        UserError: If the model cannot be loaded, or the folder holds other files.
    """
    folder = _render(work, settings) / "test"
    if model:
        runs, located = [_predict(model, folder)], {}
    else:
        runs = [_predict(_train(work, seed), folder) for seed in SEEDS]
        located = localized_segments(rendered_dataset(Settings(), work), video_files(folder), SEEDS)
    return SegmentResults(compare_methods(runs, located) | {"videos": asdict(settings)}, runs[0][0])


def compare_methods(
    runs: Sequence[Sequence[LongVideo]], located: Mapping[str, Sequence[Segments]] | None = None, draws: int = 1000
) -> dict[str, Any]:
    """Compares the predicted segments and those of the baseline with the true ones.

    Args:
        runs (`Sequence[Sequence[LongVideo]]`): For each seed, the videos with their predictions.
        located (`Mapping[str, Sequence[Segments]]`, *optional*): Segments of these videos by other methods, by name,
            for each seed.
        draws (`int`, *optional*, defaults to `1000`): Number of bootstrap draws.

    Returns:
        `dict[str, Any]`: `segments`, the number of true segments; `unsure`, the shares of the time of true segments
        (`emotion`) and of the rest (`rest`) that unsure segments cover (0 to 1, mean over seeds); `methods`, for each
        method the mean and the standard deviation over seeds of `found` (the number of emotional segments that it
        predicts), `precision`, `recall` and the mAP; and `differences`, the mean mAP of each method minus that of the
        baseline with the 95% interval over videos.
    """
    truths = [video.truth for video in runs[0]]
    methods: dict[str, Sequence[Segments]] = {
        PREDICTED: [[_ranked(video.segments) for video in videos] for videos in runs],
        NEVER_UNSURE: [[_ranked(never_unsure(video.result)) for video in videos] for videos in runs],
        **(located or {}),
        ARGMAX: [[argmax_segments(video.result) for video in videos] for videos in runs],
    }
    shares = [unsure_shares(videos) for videos in runs]
    maps = {name: bootstrap_maps(found, truths, draws) for name, found in methods.items()}
    return {
        "segments": sum(map(len, truths)),
        "unsure": {part: float(np.mean([share[part] for share in shares])) for part in shares[0]},
        "methods": {name: _figures(found, truths) for name, found in methods.items()},
        "differences": {name: difference(ours, maps[ARGMAX]) for name, ours in maps.items() if name != ARGMAX},
    }


def _figures(runs: Sequence[Segments], truths: Segments) -> dict[str, Figure]:
    """Returns mean and standard deviation over seeds of the figures of a method."""
    labels = {segment["label"] for truth in truths for segment in truth}
    rows = []
    for videos in runs:
        found = sum(segment["label"] in labels for segments in videos for segment in segments)
        correct = sum(map(count_correct, videos, truths))
        shares = {"precision": correct / found if found else None, "recall": correct / sum(map(len, truths))}
        rows.append({"found": found, **shares, **mean_average_precision(videos, truths)})
    return {name: mean_and_spread([row[name] for row in rows]) for name in rows[0]}


def never_unsure(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Finds the segments that the pipeline returns if the model has no threshold for the answer "unsure"."""
    found = []
    for person in result["people"]:
        names, scores = _frame_scores(person)
        found += find_moments(scores, names, _presence(result, person))
    return found


def argmax_segments(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Finds the runs of frames with the same most probable class, however short. This is the baseline.

    Args:
        result (`dict[str, Any]`): Result of `EmotionTimelinePipeline`.

    Returns:
        `list[dict[str, Any]]`: `label`, `start`, `end` and `confidence`, the mean probability, of each run.
    """
    found = []
    for person in result["people"]:
        names, scores = _frame_scores(person)
        presence = _presence(result, person)
        best = scores.argmax(1)
        starts = [stretch.start for stretch in presence.stretches()]
        borders = sorted({*starts, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)})
        for first, stop in pairwise(borders):
            start, end = presence.span(first, stop - 1)
            confidence = float(scores[first:stop, best[first]].mean())
            found.append({"label": names[best[first]], "start": start, "end": end, "confidence": confidence})
    return found


def count_correct(segments: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]]) -> int:
    """Counts the segments that have the label of a true segment and an intersection over union of at least 0.5.

    Neither the predicted nor the true segments of a video overlap each other, so no true segment is counted twice.
    """

    def is_correct(segment: dict[str, Any], true: dict[str, Any]) -> bool:
        shared = _overlap(segment, true)
        union = _total([segment, true]) - shared
        return segment["label"] == true["label"] and shared >= CORRECT * union > 0

    return sum(any(is_correct(segment, true) for true in truth) for segment in segments)


def unsure_shares(videos: Sequence[LongVideo]) -> dict[str, float]:
    """Computes the shares of the time of true segments and of the rest that unsure segments cover."""
    unsure = [[segment for segment in video.segments if segment["label"] == UNSURE] for video in videos]
    inside = sum(
        _overlap(segment, true)
        for video, found in zip(videos, unsure, strict=True)
        for segment in found
        for true in video.truth
    )
    emotion = sum(_total(video.truth) for video in videos)
    rest = sum(video.result["duration"] for video in videos) - emotion
    return {"emotion": inside / emotion, "rest": (sum(map(_total, unsure)) - inside) / rest}


def _frame_scores(person: dict[str, Any]) -> tuple[list[str], np.ndarray]:
    """Returns the names of the K classes, and their probabilities (T, K) in the frames of a person."""
    return list(person["frame_scores"]), np.stack(list(person["frame_scores"].values()), axis=1)


def _presence(result: dict[str, Any], person: dict[str, Any]) -> Presence:
    """Returns the frames of a person among those of the video, as the pipeline computes them."""
    seconds = np.array(result["timestamps"])
    edges = np.concatenate([[0.0], (seconds[1:] + seconds[:-1]) / 2, [max(result["duration"], seconds[-1])]])
    places, cuts = (np.searchsorted(seconds, times) for times in (person["timestamps"], result["cuts"]))
    return Presence(places, edges, cuts.tolist(), seconds)


def _ranked(segments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the confidence, by which mAP ranks segments: their score."""
    return [segment | {"confidence": segment["score"]} for segment in segments]


def _overlap(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Returns for how many seconds two segments overlap."""
    return max(0.0, min(first["end"], second["end"]) - max(first["start"], second["start"]))


def _total(segments: Sequence[dict[str, Any]]) -> float:
    """Returns the total duration of segments in seconds."""
    return sum(segment["end"] - segment["start"] for segment in segments)


def bootstrap_maps(runs: Sequence[Segments], truths: Segments, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Computes the mean mAP of a method for all videos, and for bootstrap draws of the videos.

    Args:
        runs (`Sequence[Segments]`): For each seed of training, the segments of each video.
        truths (`Segments`): True segments of each video.
        draws (`int`, *optional*, defaults to `1000`): Number of draws with replacement. They are the same for all
            methods, so methods are compared in pairs.
        seed (`int`, *optional*, defaults to `0`): Random seed of the draws.

    Returns:
        `np.ndarray` of shape `(1 + draws,)`: The mean over the seeds of training. All videos come first.
    """

    def mean_map(videos: Sequence[int]) -> float:
        true = [truths[index] for index in videos]
        maps = [mean_average_precision([found[index] for index in videos], true)["map"] or 0.0 for found in runs]
        return float(np.mean(maps))

    rng, total = np.random.default_rng(seed), len(truths)
    drawn = (rng.integers(total, size=total).tolist() for _ in range(draws))
    return np.array([mean_map(range(total)), *map(mean_map, drawn)])


def difference(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Subtracts two results of `bootstrap_maps`. Returns the difference, and the ends of its 95% interval."""
    value, *drawn = (first - second).tolist()
    return [value, *np.quantile(drawn, [0.025, 0.975]).tolist()]


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


def _train(work: Path, seed: int) -> str:
    """Trains TG-DFER with a frozen CLIP on the rendered clips of the benchmark, unless it is already trained.

    The name of its folder depends on the clips, the CLIP weights, the code of the network and the seed.
    """
    dataset = rendered_dataset(Settings(), work)
    key = hashlib.sha256((dataset.identity + source_hash(modeling_tgdfer)).encode()).hexdigest()[:12]
    run = work / f"segments_model-{key}-{seed}"
    if not (run / "last").is_dir():
        resume = (run / "config.yaml").is_file()
        train(dataset.config(output=str(run), frozen_features=True, resume=resume, seed=seed))
    return str(run)


def _predict(model: str, folder: Path) -> list[LongVideo]:
    """Predicts the videos of a folder with a model."""
    network, processor = load_trained(model_source(model))
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    truths = [row["segments"] for row in _metadata(folder)]
    files = track(video_files(folder), "Predicting videos", console=get_console(), transient=True)
    return [LongVideo(pipeline(str(file), thumbnails=24), truth) for file, truth in zip(files, truths, strict=True)]


def video_files(folder: Path) -> list[Path]:
    """Returns the files of the rendered videos of a split, in the order of its metadata."""
    return [folder / row["file_name"] for row in _metadata(folder)]


def _metadata(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
