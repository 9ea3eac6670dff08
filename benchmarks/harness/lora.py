"""Rows that train LoRA adapters of CLIP, on cached inputs of the first adapted block."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.fitting import Recipe, predict, selection_score, train_head
from benchmarks.harness.heads import AdaptedHead
from benchmarks.harness.row import Row, Run, folds_of, run_result, targets_of
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.features import FrameFeatures

# `make(dataset, frozen_features, indices)` returns a model with LoRA adapters, and an untrained head that will be
# trained on the clips `indices`.
MakeAdapted = Callable[[BenchmarkDataset, FrameFeatures, np.ndarray], tuple[TGDFERForVideoClassification, nn.Module]]

LORA_RATES = (3e-4, 1e-3, 3e-3)
# The head is first trained on frozen features, so that LoRA does not start with a random head (Kumar et al., 2022).
WARM_UP = Recipe(rate=1e-3, epochs=10)
# Each step uses a random half of the frames of a clip, which halves the cost and augments the clips.
LORA_RECIPE = Recipe(batch_size=16, frames=8)
LORA_BLOCKS = 2
# These rows are measured with dropout. By default, the network has none (docs/experiments.md).
LORA_OPTIONS = {"lora_layers": LORA_BLOCKS, "lora_dropout": 0.1}


def lora_row(dataset: BenchmarkDataset, name: str, title: str, make: MakeAdapted, config: dict[str, Any]) -> Row:
    """Returns a row with LoRA adapters on the last blocks of CLIP, and a head.

    The row has one run for each of five folds. The learning rate is selected on the first fold.

    Args:
        dataset (`BenchmarkDataset`): The data set.
        name (`str`): Name of the row.
        title (`str`): Name in reports.
        make (`MakeAdapted`): Makes the model and the head.
        config (`dict[str, Any]`): All settings that determine the result of `make`.
    """
    settings = dataset.settings
    seed = settings.seeds[0]
    folds = folds_of(dataset, seed) or [(np.arange(len(dataset.train)),) * 2]
    rates = {f"rate {rate:g}": rate for rate in LORA_RATES}

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        bf16 = bool(earlier.get("precision", {}).get("bf16"))
        recipe = replace(LORA_RECIPE, epochs=settings.lora_epochs, bf16=bf16)
        training = _LoraTraining(dataset, make, seed)
        if part == "precision":
            return training.faster_precision(folds[0][0], recipe)
        if part in rates:
            _, epoch, best = training.run(folds[0], replace(recipe, rate=rates[part]))
            return {"epochs": epoch, "held_out_uar": best[0], "held_out_loss": -best[1]}
        rate = rates[max(rates, key=lambda name: (earlier[name]["held_out_uar"], -earlier[name]["held_out_loss"]))]
        head, epoch, best = training.run(folds[int(part.removeprefix("fold "))], replace(recipe, rate=rate))
        test = dataset.activations("test", training.block, seed)
        chosen = {"rate": rate, "epochs": epoch, "held_out_uar": best[0]}
        return run_result(dataset, *predict(head, test, bf16=bf16), test.frame_mask[0]) | {"chosen": chosen}

    config = config | {
        "views": settings.lora_views,
        "frozen_views": settings.views,
        "folds": FOLDS,
        "seed": seed,
        "epochs": settings.lora_epochs,
        "rates": LORA_RATES,
        "model_options": LORA_OPTIONS,
        "recipe": asdict(LORA_RECIPE),
        "warm": asdict(WARM_UP),
    }
    return Row(name, title, ("precision", *rates, *(f"fold {number}" for number in range(len(folds)))), run, config)


class _LoraTraining:
    """Trains LoRA adapters on one data set. All trainings share the cached inputs of the first adapted block."""

    def __init__(self, dataset: BenchmarkDataset, make: MakeAdapted, seed: int) -> None:
        self.dataset, self.make, self.seed = dataset, make, seed
        self.block = len(blocks_of(dataset.network[0].tgdfer.clip.vision_model)) - LORA_BLOCKS
        self.activations = dataset.activations("train", self.block, seed)
        self.targets = targets_of(dataset)

    def head(self, indices: np.ndarray) -> AdaptedHead:
        """Returns untrained LoRA adapters with a head that is trained on the features of the frozen CLIP."""
        frozen = self.dataset.features("train", self.seed)
        torch.manual_seed(self.seed)  # One of the two LoRA matrices is initialised randomly.
        model, head = self.make(self.dataset, frozen, indices)
        train_head(head, frozen, self.targets, indices, WARM_UP, self.seed)
        return AdaptedHead(model, head, WARM_UP.rate)

    def run(self, fold: tuple[np.ndarray, np.ndarray], recipe: Recipe) -> tuple[AdaptedHead, int, tuple[float, float]]:
        """Trains on a fold, and selects the epoch that is best on its held-out people.

        Returns:
            `tuple[AdaptedHead, int, tuple[float, float]]`: The head of this epoch, the number of the epoch (0 if
            untrained LoRA is best), and its `selection_score`.
        """
        indices, validation = fold
        head = self.head(indices)
        best, best_weights, best_epoch = self._validate(head, validation, recipe), _trained_weights(head), 0

        def keep_best(epoch: int) -> None:
            nonlocal best, best_weights, best_epoch
            score = self._validate(head, validation, recipe)
            if score > best:
                best, best_weights, best_epoch = score, _trained_weights(head), epoch

        train_head(head, self.activations, self.targets, indices, recipe, self.seed, keep_best)
        head.load_state_dict(best_weights, strict=False)
        return head, best_epoch, best

    def _validate(self, head: AdaptedHead, indices: np.ndarray, recipe: Recipe) -> tuple[float, float]:
        return selection_score(predict(head, self.activations, indices, recipe.bf16)[0], self.targets[indices])

    def faster_precision(self, indices: np.ndarray, recipe: Recipe) -> Run:
        """Times a few steps in fp32 and in bf16. The runs then use the faster precision."""
        head = self.head(indices)
        batch = indices[: recipe.batch_size]
        seconds = {
            bf16: self._fastest_epoch(head, batch, replace(recipe, epochs=3, bf16=bf16)) for bf16 in (False, True)
        }
        return {
            "bf16": bool(seconds[True] < seconds[False]),
            "fp32_clips_a_second": round(len(batch) / seconds[False], 1),
            "bf16_clips_a_second": round(len(batch) / seconds[True], 1),
        }

    def _fastest_epoch(self, head: AdaptedHead, indices: np.ndarray, recipe: Recipe) -> float:
        """Returns the duration of the fastest epoch in seconds. A copy of the head is trained."""
        times = [time.perf_counter()]

        def record_time(epoch: int) -> None:
            times.append(time.perf_counter())

        train_head(copy.deepcopy(head), self.activations, self.targets, indices, recipe, self.seed, record_time)
        return min(np.diff(times))


def _trained_weights(head: torch.nn.Module) -> dict[str, Tensor]:
    """Returns a copy of the trainable parameters of a head."""
    return {name: value.detach().clone() for name, value in head.named_parameters() if value.requires_grad}
