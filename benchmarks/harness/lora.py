"""Rows that adapt CLIP with LoRA, trained on cached inputs of the first adapted block."""

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
from benchmarks.harness.fitting import Recipe, goodness, predict, train_head
from benchmarks.harness.heads import AdaptedHead
from benchmarks.harness.row import Row, Run, answers, folds_of, targets_of
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.features import FrameFeatures

# Given a data set, its frozen features and the clips to train on: a model with LoRA attached, and an untrained head.
MakeAdapted = Callable[[BenchmarkDataset, FrameFeatures, np.ndarray], tuple[TGDFERForVideoClassification, nn.Module]]

LORA_RATES = (3e-4, 1e-3, 3e-3)
# The head is first trained on frozen features, so that LoRA does not start under a random head (Kumar et al., 2022).
WARM = Recipe(rate=1e-3, epochs=10)
# A step of LoRA sees a random half of the frames of a clip, which halves the cost and augments the clips.
LORA = Recipe(batch_size=16, frames=8)
LORA_BLOCKS = 2
# These rows were measured with dropout. The default of the network is none (docs/experiments.md).
LORA_OPTIONS = {"lora_layers": LORA_BLOCKS, "lora_dropout": 0.1}


def lora_row(dataset: BenchmarkDataset, name: str, title: str, make: MakeAdapted, config: dict[str, Any]) -> Row:
    """LoRA on the last blocks of CLIP, and a head. Runs are five folds, and the rate is chosen on the first of them.

    Args:
        dataset: the data set.
        name: name of the row.
        title: name in reports.
        make: makes model and head.
        config: everything that decides what `make` makes.
    """
    settings = dataset.settings
    seed = settings.seeds[0]
    folds = folds_of(dataset, seed) or [(np.arange(len(dataset.train)),) * 2]
    rates = {f"rate {rate:g}": rate for rate in LORA_RATES}

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        bf16 = bool(earlier.get("precision", {}).get("bf16"))
        recipe = replace(LORA, epochs=settings.lora_epochs, bf16=bf16)
        training = _LoraTraining(dataset, make, seed)
        if part == "precision":
            return training.faster_precision(folds[0][0], recipe)
        if part in rates:
            _, epoch, best = training.run(folds[0], replace(recipe, rate=rates[part]))
            return {"epochs": epoch, "held_out_uar": best[0], "held_out_loss": -best[1]}
        rate = rates[max(rates, key=lambda name: (earlier[name]["held_out_uar"], -earlier[name]["held_out_loss"]))]
        head, epoch, best = training.run(folds[int(part.removeprefix("fold "))], replace(recipe, rate=rate))
        unseen = dataset.activations("test", training.block, seed)
        chosen = {"rate": rate, "epochs": epoch, "held_out_uar": best[0]}
        return answers(dataset, *predict(head, unseen, bf16=bf16), unseen.frame_mask[0]) | {"chosen": chosen}

    config = config | {
        "views": settings.lora_views,
        "frozen_views": settings.views,
        "folds": FOLDS,
        "seed": seed,
        "epochs": settings.lora_epochs,
        "rates": LORA_RATES,
        "model_options": LORA_OPTIONS,
        "recipe": asdict(LORA),
        "warm": asdict(WARM),
    }
    return Row(name, title, ("precision", *rates, *(f"fold {number}" for number in range(len(folds)))), run, config)


class _LoraTraining:
    """Trainings of LoRA on one data set, which share the cached inputs of the first adapted block."""

    def __init__(self, dataset: BenchmarkDataset, make: MakeAdapted, seed: int) -> None:
        self.dataset, self.make, self.seed = dataset, make, seed
        self.block = len(blocks_of(dataset.network[0].tgdfer.clip.vision_model)) - LORA_BLOCKS
        self.seen = dataset.activations("train", self.block, seed)
        self.targets = targets_of(dataset)

    def head(self, indices: np.ndarray) -> AdaptedHead:
        """CLIP with untrained LoRA, under a head that is trained on the features of the frozen CLIP."""
        frozen = self.dataset.features("train", self.seed)
        torch.manual_seed(self.seed)  # one of the matrices of LoRA starts at random
        model, head = self.make(self.dataset, frozen, indices)
        train_head(head, frozen, self.targets, indices, WARM, self.seed)
        return AdaptedHead(model, head, WARM.rate)

    def run(self, fold: tuple[np.ndarray, np.ndarray], recipe: Recipe) -> tuple[AdaptedHead, int, tuple[float, float]]:
        """Trains on a fold, and chooses the epoch that is best on its held-out people.

        Returns:
            The head of this epoch, the epoch (0 before LoRA is trained), and its `goodness`.
        """
        indices, check = fold
        head = self.head(indices)
        best, kept, at = self._check(head, check, recipe), _trained(head), 0

        def keep_best(epoch: int) -> None:
            nonlocal best, kept, at
            found = self._check(head, check, recipe)
            if found > best:
                best, kept, at = found, _trained(head), epoch

        train_head(head, self.seen, self.targets, indices, recipe, self.seed, keep_best)
        head.load_state_dict(kept, strict=False)
        return head, at, best

    def _check(self, head: AdaptedHead, check: np.ndarray, recipe: Recipe) -> tuple[float, float]:
        return goodness(predict(head, self.seen, check, recipe.bf16)[0], self.targets[check])

    def faster_precision(self, indices: np.ndarray, recipe: Recipe) -> Run:
        """Times a few steps in fp32 and in bf16. Runs use the faster precision."""
        head = self.head(indices)
        few = indices[: recipe.batch_size]
        seconds = {
            bf16: self._fastest_epoch(head, few, replace(recipe, epochs=3, bf16=bf16)) for bf16 in (False, True)
        }
        return {
            "bf16": bool(seconds[True] < seconds[False]),
            "fp32_clips_a_second": round(len(few) / seconds[False], 1),
            "bf16_clips_a_second": round(len(few) / seconds[True], 1),
        }

    def _fastest_epoch(self, head: AdaptedHead, indices: np.ndarray, recipe: Recipe) -> float:
        """Seconds of the fastest epoch on a copy of a head."""
        times = [time.perf_counter()]

        def note(epoch: int) -> None:
            times.append(time.perf_counter())

        train_head(copy.deepcopy(head), self.seen, self.targets, indices, recipe, self.seed, note)
        return min(np.diff(times))


def _trained(head: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the trained parameters of a head."""
    return {name: value.detach().clone() for name, value in head.named_parameters() if value.requires_grad}
