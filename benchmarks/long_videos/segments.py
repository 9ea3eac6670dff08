"""Segments of emotion in long rendered videos: hysteresis beside the argmax, into `docs/long_videos.md`."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from rich import get_console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from benchmarks.harness.ground import Settings, rendered_ground
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline, Hysteresis, argmax_segments, find_segments
from tgdfer.training import rendered_faces
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.figures import plot_timeline
from tgdfer.training.files import read_json, source_hash, write_text
from tgdfer.training.metrics import THRESHOLDS, mean_average_precision
from tgdfer.training.models import load_trained, model_source
from tgdfer.training.rendered_faces import write_long_videos
from tgdfer.training.train import train

# What is tried on the training videos: thresholds, and the shortest segments in seconds.
_LEVELS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
_SHORTEST = (0.2, 0.3, 0.5)

Found = list[list[dict[str, Any]]]


@dataclass(frozen=True)
class LongVideos:
    """The videos that segments are found in.

    Attributes:
        seconds: length of each.
        train: videos that thresholds are chosen on.
        test: videos that are measured.
        seed: decides them; another one than that of the clips, so that the model knows nobody in them.
    """

    seconds: float = 90.0
    train: int = 8
    test: int = 12
    seed: int = 1


@dataclass(frozen=True)
class _Read:
    """What a model says of a video, and what is true.

    Attributes:
        file: the video.
        timeline: as `EmotionTimelinePipeline` gives it.
        truth: its segments.
    """

    file: Path
    timeline: dict[str, Any]
    truth: list[dict[str, Any]]


def measure_segments(work: Path, out: Path, model: str | None, videos: LongVideos, command: str) -> dict[str, Any]:
    """Chooses thresholds on training videos, measures them on test videos, and writes a report with a picture.

    Args:
        work: folder of videos and of the model, which is trained on the clips of the benchmark if none is given.
        out: the report, in Markdown; the picture and the figures go beside it.
        model: a trained model, as in `tgdfer predict`.
        videos: their numbers.
        command: that makes this report.

    Returns:
        The figures.

    Raises:
        UserError: the model cannot be loaded, or the folder holds something else.
    """
    folder = _render(work, videos)
    source = model or _train(work)
    read = {split: _read(source, folder / split, split) for split in ("train", "test")}
    rule, tried = choose(read["train"])
    truths = [one.truth for one in read["test"]]
    ways: dict[str, Found] = {
        "hysteresis": [find_segments(*_curves(one), rule) for one in read["test"]],
        "hysteresis, thresholds of `Hysteresis()`": [find_segments(*_curves(one)) for one in read["test"]],
        "argmax of every frame": [argmax_segments(*_curves(one)) for one in read["test"]],
    }
    figures = {
        "command": command,
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
        "difference": difference(ways["hysteresis"], ways["argmax of every frame"], truths),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    shown = read["test"][0]
    _picture(shown, ways["hysteresis"][0], out.with_suffix(".png"))
    write_text(out.with_suffix(".json"), json.dumps(figures, indent=2) + "\n")
    write_text(out, _report(figures, out))
    return figures


def choose(videos: Sequence[_Read]) -> tuple[Hysteresis, int]:
    """The thresholds with the highest mAP on these videos, of equal ones the strictest; and how many were tried."""
    truths = [one.truth for one in videos]
    rules = [
        Hysteresis(high, low, shortest) for high, low, shortest in product(_LEVELS, _LEVELS, _SHORTEST) if low <= high
    ]

    def figure(rule: Hysteresis) -> tuple[float, float, float]:
        found = [find_segments(*_curves(one), rule) for one in videos]
        return mean_average_precision(found, truths)["map"] or 0.0, rule.high, rule.low

    return max(rules, key=figure), len(rules)


def difference(one: Found, other: Found, truths: Found, draws: int = 1000, seed: int = 0) -> list[float]:
    """How much higher the mAP of one way is than that of another, with its 95 % interval over videos.

    Videos are drawn with replacement, the same for both (paired bootstrap).
    """

    def gap(which: Sequence[int]) -> float:
        ours, theirs, true = ([several[index] for index in which] for several in (one, other, truths))
        return (mean_average_precision(ours, true)["map"] or 0.0) - (
            mean_average_precision(theirs, true)["map"] or 0.0
        )

    rng = np.random.default_rng(seed)
    drawn = [gap(rng.integers(len(truths), size=len(truths)).tolist()) for _ in range(draws)]
    return [gap(range(len(truths))), *np.quantile(drawn, [0.025, 0.975]).tolist()]


def _curves(one: _Read) -> tuple[dict[str, list[float]], list[float]]:
    return one.timeline["frame_scores"], one.timeline["timestamps"]


def _with_bar(what: str, work: Callable[[Callable[[float], None]], Any]) -> Any:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=get_console(), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        return work(lambda share: bar.update(task, completed=share))


def _render(work: Path, videos: LongVideos) -> Path:
    """Long videos in the work folder; rendered again when the generator or their numbers have changed."""
    folder, note = work / "long", work / "long.json"
    made = asdict(videos) | {"generator": source_hash(rendered_faces)}
    if folder.is_dir() and any(folder.iterdir()):
        if not note.is_file():
            raise UserError(f"{folder} holds something that was not rendered for this: name another --work folder.")
        if read_json(note) == made:
            return folder
        shutil.rmtree(folder)
    work.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(made, indent=2) + "\n")
    _with_bar(
        "Rendering long videos",
        lambda tell: write_long_videos(
            folder,
            videos.seconds,
            videos={"train": videos.train, "test": videos.test},
            people={"train": videos.train, "test": videos.test},
            seed=videos.seed,
            workers=min(os.cpu_count() or 1, 8),
            progress=lambda done, total: tell(done / total),
        ),
    )
    return folder


def _train(work: Path) -> str:
    """TG-DFER on the rendered clips of the benchmark, with a frozen CLIP; trained once."""
    run = work / "segments_model"
    if not (run / "last").is_dir():
        ground = rendered_ground(Settings(), work)
        resume = (run / "config.yaml").is_file()
        train(
            TrainingConfig.from_options(
                dataset=str(ground.folder), output=str(run), frozen_features=True, resume=resume
            )
        )
    return str(run)


def _read(model: str, folder: Path, split: str) -> list[_Read]:
    """What a model says of the videos of a split."""
    network, processor = load_trained(model_source(model))
    pipeline = EmotionTimelinePipeline(model=network, video_processor=processor.video_processor)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]

    def read_all(tell: Callable[[float], None]) -> list[_Read]:
        found = []
        for number, row in enumerate(rows):
            file = folder / row["file_name"]
            # However short, these are long videos: of several emotions each.
            found.append(_Read(file, pipeline(str(file), longest_clip=0.0, batch_size=8), row["segments"]))
            tell((number + 1) / len(rows))
        return found

    return _with_bar(f"Reading videos of {split}", read_all)


def _picture(one: _Read, segments: list[dict[str, Any]], path: Path) -> None:
    """The timeline of a video with the segments that were found, above those that are true."""
    from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

    frames, seconds = TGDFERVideoProcessor().read_clip(str(one.file), 16)
    assert seconds is not None
    plot_timeline(
        {**one.timeline, "segments": segments},
        frames.permute(0, 2, 3, 1).numpy(),
        path,
        film_seconds=seconds.tolist(),
        truth=one.truth,
    )


def _report(figures: dict[str, Any], out: Path) -> str:
    """The report in Markdown."""
    videos, rule, usual = figures["videos"], figures["rule"], figures["default_rule"]
    names = [f"map_{round(100 * threshold)}" for threshold in THRESHOLDS] + ["map"]
    rows = [
        f"| {name} | {figures['found'][name]} | " + " | ".join(f"{100 * row[key]:.1f}" for key in names) + " |"
        for name, row in figures["test"].items()
        if rule != usual or "Hysteresis()" not in name
    ]
    gap, low, high = (100 * value for value in figures["difference"])
    heads = " | ".join(f"mAP at {threshold}" for threshold in THRESHOLDS)
    how = (
        "A video of more than 15 seconds is read in windows that overlap by half; what they say of a frame is"
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
    return "\n".join(
        [
            "# Long videos",
            "",
            fill(how, 119),
            "",
            fill(measured, 119),
            "",
            f"| segments by | found | {heads} | mean |",
            "| --- | ---: | " + "---: | " * (len(names) - 1) + "---: |",
            *rows,
            "",
            fill(
                "Segments are ranked by confidence, so weak ones hardly cost mAP: thresholds that are chosen by it"
                " find several segments for each true one."
                + (
                    " Those chosen are those of `Hysteresis()`, which predictions use."
                    if rule == usual
                    else f" `Hysteresis()`, which predictions use, has {usual['high']:g}, {usual['low']:g} and"
                    f" {usual['shortest']:g} s."
                ),
                119,
            ),
            "",
            f"Hysteresis gains {gap:+.1f} on the argmax, 95 % interval over videos {low:+.1f} to {high:+.1f}.",
            "",
            f"![A rendered video, the segments found and, below, the true ones]({out.with_suffix('.png').name})",
            "",
            f"`{figures['command']}`",
            "",
        ]
    )
