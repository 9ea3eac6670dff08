"""Rows of the baselines: random scores, zero-shot CLIP, linear layers, LoRA and TG-DFER."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.comparison import CHANCE, RANDOM, figures_of, outcomes
from benchmarks.harness.linear_rows import fitted_linear_head, linear_config, linear_head, mean_row, oracle_row
from benchmarks.harness.lora import LORA_OPTIONS, MakeAdapted, lora_row
from benchmarks.harness.row import Row, Run, each_seed, rounded, run_result, seed_of, seed_parts
from benchmarks.harness.trained_tgdfer import tgdfer_config, train_tgdfer
from benchmarks.harness.zero_shot import class_words, zero_shot
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.features import FrameFeatures
from tgdfer.training.measure import predict_clips
from tgdfer.training.models import start_model


def rows_of(dataset: BenchmarkDataset) -> list[Row]:
    """Returns all rows in the order of the tables."""
    seeds = seed_parts(dataset)

    def once(run: Callable[[], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
        return lambda part, earlier, folder: run()

    def top(seed: int) -> Run:
        return fitted_linear_head(dataset, seed, "top")[1]

    return [
        Row("random", "random", ("once",), once(lambda: {"predicted": CHANCE, "scores": RANDOM})),
        Row("position", "position only", ("once",), once(lambda: _position(dataset))),
        Row(
            "words",
            "zero-shot, class words",
            ("once",),
            once(lambda: _zero_shot(dataset, class_words(dataset.classes))),
        ),
        Row("descriptions", "zero-shot, descriptions", ("once",), once(lambda: _zero_shot(dataset))),
        mean_row(dataset),
        Row("frozen-top", "frozen top quarter + linear", seeds, each_seed(top), linear_config(dataset)),
        lora_row(dataset, "lora-mean", "LoRA + mean", _adapted_linear("mean"), {"pooling": "mean"}),
        lora_row(dataset, "lora-top", "LoRA + top quarter", _adapted_linear("top"), {"pooling": "top"}),
        Row("tgdfer", "TG-DFER, frozen", seeds, *_tgdfer(dataset, frozen_features=True)),
        Row("tgdfer-lora", "TG-DFER, LoRA", seeds[:1], *_tgdfer(dataset, frozen_features=False), by_default=False),
        oracle_row(dataset),
    ]


def _position(dataset: BenchmarkDataset) -> Run:
    """Scores frames by their closeness to the middle. `audit` holds the figures of other scores by position."""
    lengths = [len(intensity) for intensity in dataset.truth.intensity]
    positions = [np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in lengths]
    scores = {
        "middle": [-np.abs(position) for position in positions],
        "first": [-position for position in positions],
        "last": positions,
        "edges": [np.abs(position) for position in positions],
    }
    runs = {name: {"predicted": CHANCE, "scores": [clip.tolist() for clip in clips]} for name, clips in scores.items()}
    audit = {}
    for name, run in runs.items():
        figures = figures_of(outcomes([run], dataset.truth), dataset.truth)
        audit[name] = {figure: figures[figure][0] for figure in ("frame_ap", "pointing")}
    return runs["middle"] | {"audit": audit}


def _zero_shot(dataset: BenchmarkDataset, descriptions: Mapping[str, Sequence[str]] | None = None) -> Run:
    return run_result(dataset, *zero_shot(dataset, descriptions))


def _adapted_linear(pooling: str) -> MakeAdapted:
    """Returns a function that makes a model with LoRA adapters and a linear head."""

    def make(
        dataset: BenchmarkDataset, features: FrameFeatures, indices: np.ndarray
    ) -> tuple[TGDFERForVideoClassification, Any]:
        model, _ = start_model(dataset.config(model_options=dict(LORA_OPTIONS)).model, dataset.classes)
        return model, linear_head(dataset, features, indices, pooling)

    return make


def _tgdfer(
    dataset: BenchmarkDataset, **options: Any
) -> tuple[Callable[[str, Mapping[str, Run], Path], Run], dict[str, Any]]:
    """Returns `run` and `config` of a row of TG-DFER. Frames are scored by their relevance.

    Args:
        dataset (`BenchmarkDataset`): The data set.
        **options: Fields of `TrainingConfig` that differ from the defaults.
    """

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        model, processor = train_tgdfer(dataset, seed_of(part), folder, **options)
        predictions = list(predict_clips(model, processor.video_processor, dataset.test))
        return {
            "predicted": [prediction.label for prediction in predictions],
            "scores": [[rounded(score) for score in prediction.relevance] for prediction in predictions],
        }

    return run, tgdfer_config(dataset, **options)
