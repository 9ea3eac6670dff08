"""Rows of the options of training. Each row is `tgdfer train` with one option, on the same clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.fitting import predict
from benchmarks.harness.heads import TextGuidedHead
from benchmarks.harness.row import Row, Run, rounded, run_result, seed_of, seed_parts
from benchmarks.harness.trained_tgdfer import tgdfer_config, train_tgdfer
from benchmarks.training.photograph_folder import PhotographFolder
from tgdfer.training.files import read_json
from tgdfer.training.measure import predict_clips
from tgdfer.training.models import load_trained
from tgdfer.training.runs.epoch_log import log_rows

# Options of all rows. The batch of photographs is larger, because they have one frame.
COMMON: dict[str, Any] = {"frozen_features": True, "epochs": 20}
PHOTOGRAPH_OPTIONS: dict[str, Any] = {"batch_size": 64}
# The training with LoRA goes on from a model that is trained on frozen features, so that LoRA does not start with a
# random head (Kumar et al., 2022). An epoch takes fifty times as long as on frozen features.
LORA: dict[str, Any] = {"frozen_features": False, "epochs": 5}

Options = dict[str, Any]


def rows_of(dataset: BenchmarkDataset, stills: PhotographFolder | None = None) -> list[Row]:
    """Returns all rows in the order of the tables.

    Args:
        dataset (`BenchmarkDataset`): Clips, or photographs.
        stills (`PhotographFolder`, *optional*): Photographs to train on before the clips.
    """
    rows: list[tuple[str, str, Sequence[Options]]] = [
        ("frozen", "frozen CLIP", [{}]),
        ("ema", "+ moving average of the weights", [{"ema": 0.99}, {"ema": 0.999}]),
        ("mixup", "+ mixup", [{"mixup": 0.2}, {"mixup": 0.4}]),
    ]
    if isinstance(dataset, PhotographFolder):
        rows += [
            ("weights", "+ weighted loss", [{"class_balance": "weights"}]),
            ("sampler", "+ balanced sampling", [{"class_balance": "sampler"}]),
            ("adjustment", "+ adjusted logits", [{"class_balance": "adjustment"}]),
        ]
    elif stills is not None:
        options = [{"stills": str(stills.folder), "stills_epochs": epochs} for epochs in (5, 20)]
        rows.append(("stills", "+ photographs first", options))
    rows.append(("lora", "+ LoRA afterwards", [LORA]))
    return [_row(dataset, name, title, candidates, stills) for name, title, candidates in rows]


def _row(
    dataset: BenchmarkDataset, name: str, title: str, candidates: Sequence[Options], stills: PhotographFolder | None
) -> Row:
    common = COMMON | (PHOTOGRAPH_OPTIONS if isinstance(dataset, PhotographFolder) else {})
    options = [{**common, **candidate} for candidate in candidates]

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        return train_and_test(dataset, options, seed_of(part), folder)

    config: dict[str, Any] = {"candidates": [_config(dataset, candidate) for candidate in options]}
    if stills is not None and name == "stills":
        config["photographs"] = stills.fingerprint
    return Row(name, title, seed_parts(dataset), run, config)


def _config(dataset: BenchmarkDataset, options: Options) -> dict[str, Any]:
    """Returns the settings of a row, without the folder of the photographs: their hash takes its place."""
    config = tgdfer_config(dataset, **options)
    return config | {"training": config["training"] | {"stills": "stills" in options}}


def train_and_test(dataset: BenchmarkDataset, candidates: Sequence[Options], seed: int, folder: Path) -> Run:
    """Trains with each candidate, and tests the one that is best on held-out people.

    Args:
        dataset (`BenchmarkDataset`): The data set.
        candidates (`Sequence[Options]`): Fields of `TrainingConfig` that differ from the defaults.
        seed (`int`): Random seed of the trainings.
        folder (`Path`): Folder of the runs. Interrupted ones are resumed.
    """
    scores = []
    for number, options in enumerate(candidates):
        if not options["frozen_features"]:
            frozen = options | COMMON
            train_tgdfer(dataset, seed, folder / "frozen", **frozen)
            options = options | {"model": str(folder / "frozen" / "best")}
        train_tgdfer(dataset, seed, folder / str(number), **options)
        scores.append(held_out_score(folder / str(number)))
    best = max(range(len(candidates)), key=lambda number: scores[number])
    model, processor = load_trained(folder / str(best))
    facts = read_json(folder / str(best) / "training.json")
    chosen = {name: value for name, value in candidates[best].items() if name != "stills"}
    result: Run = {
        "chosen": chosen | {"epochs": facts["best_epoch"], "held_out_uar": scores[best][0]},
        "tried": [score[0] for score in scores],
    }
    if candidates[best]["frozen_features"]:
        # CLIP is the same in all rows, so the cached features of the test clips can be used.
        test = dataset.features("test")
        return result | run_result(dataset, *predict(TextGuidedHead(model), test), test.frame_mask[0], False)
    predictions = list(predict_clips(model, processor.video_processor, dataset.test))
    return result | {
        "predicted": [prediction.label for prediction in predictions],
        "scores": [[rounded(score) for score in prediction.relevance] for prediction in predictions],
    }


def held_out_score(run: Path) -> tuple[float, float]:
    """Returns UAR and negative loss of the best epoch of a run on its validation clips."""
    return max((row["uar"], -row["validation_loss"]) for row in log_rows(run))
