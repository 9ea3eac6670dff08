"""Rows that adapt CLIP by LoRA, from cached activations before the first adapted block."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness.fitting import Recipe, goodness, predict, train_epochs
from benchmarks.harness.ground import Ground
from benchmarks.harness.heads import AdaptedHead
from benchmarks.harness.row import Row, Run, answers, folds_of, targets_of
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.features import FrameFeatures

# Given a ground, its frozen features and the clips to train on: a model with LoRA attached, and an untrained head.
MakeAdapted = Callable[[Ground, FrameFeatures, np.ndarray], tuple[TGDFERForVideoClassification, nn.Module]]

LORA_RATES = (3e-4, 1e-3, 3e-3)
# A head on frozen features is trained first, so that LoRA starts from what is known already (Kumar et al., 2022).
WARM = Recipe(rate=1e-3, epochs=10)
# LoRA's steps see half of the frames of a clip: half the cost, and a clip that is not the same twice.
LORA = Recipe(batch_size=16, frames=8)
LORA_BLOCKS = 2
# Dropout is what these rows were measured with. The network does without by default (docs/experiments.md).
LORA_OPTIONS = {"lora_layers": LORA_BLOCKS, "lora_dropout": 0.1}


def lora_row(ground: Ground, name: str, title: str, make: MakeAdapted, config: dict[str, Any]) -> Row:
    """LoRA on the last blocks of CLIP and a head: five folds, the rate chosen on the first of them.

    Args:
        ground: what it runs on.
        name: of the row.
        title: for people.
        make: makes model and head.
        config: all that decides what `make` makes.
    """
    settings = ground.settings
    seed = settings.seeds[0]
    folds = folds_of(ground, seed) or [(np.arange(len(ground.train)),) * 2]
    rates = {f"rate {rate:g}": rate for rate in LORA_RATES}

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        bf16 = bool(earlier.get("precision", {}).get("bf16"))
        recipe = replace(LORA, epochs=settings.lora_epochs, bf16=bf16)
        training = _LoraTraining(ground, make, seed)
        if part == "precision":
            return training.faster_precision(folds[0][0], recipe)
        if part in rates:
            _, epoch, best = training.run(folds[0], replace(recipe, rate=rates[part]))
            return {"epochs": epoch, "held_out_uar": best[0], "held_out_loss": -best[1]}
        rate = rates[max(rates, key=lambda name: (earlier[name]["held_out_uar"], -earlier[name]["held_out_loss"]))]
        head, epoch, best = training.run(folds[int(part.removeprefix("fold "))], replace(recipe, rate=rate))
        unseen = ground.activations("test", training.block, seed)
        chosen = {"rate": rate, "epochs": epoch, "held_out_uar": best[0]}
        return answers(ground, *predict(head, unseen, bf16=bf16), unseen.frame_mask[0]) | {"chosen": chosen}

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
    """Trainings of LoRA on one ground, which share what enters the first adapted block."""

    def __init__(self, ground: Ground, make: MakeAdapted, seed: int) -> None:
        self.ground, self.make, self.seed = ground, make, seed
        self.block = ground.network[0].config.clip_config.vision_config.num_hidden_layers - LORA_BLOCKS
        self.seen = ground.activations("train", self.block, seed)
        self.targets = targets_of(ground)

    def head(self, indices: np.ndarray) -> AdaptedHead:
        """CLIP as it is, under a head that is trained on what the frozen CLIP sees."""
        frozen = self.ground.features("train", self.seed)
        torch.manual_seed(self.seed)  # one of LoRA's matrices starts at random
        model, head = self.make(self.ground, frozen, indices)
        for _ in train_epochs(head, frozen, self.targets, indices, WARM, self.seed):
            pass
        return AdaptedHead(model, head, WARM.rate)

    def run(self, fold: tuple[np.ndarray, np.ndarray], recipe: Recipe) -> tuple[AdaptedHead, int, tuple[float, float]]:
        """Trains on a fold; gives the head of the epoch that is best on its held-out people, 0 being none."""
        indices, check = fold
        head = self.head(indices)
        best, kept, at = self._check(head, check, recipe), _trained(head), 0
        for epoch in train_epochs(head, self.seen, self.targets, indices, recipe, self.seed):
            found = self._check(head, check, recipe)
            if found > best:
                best, kept, at = found, _trained(head), epoch
        head.load_state_dict(kept, strict=False)
        return head, at, best

    def _check(self, head: AdaptedHead, check: np.ndarray, recipe: Recipe) -> tuple[float, float]:
        return goodness(predict(head, self.seen, check, recipe.bf16)[0], self.targets[check])

    def faster_precision(self, indices: np.ndarray, recipe: Recipe) -> Run:
        """Seconds of a few steps in fp32 and in bf16, of which a run takes the faster."""
        head = self.head(indices)
        few = indices[: recipe.batch_size]
        seconds = {}
        for bf16 in (False, True):
            trial = replace(recipe, epochs=3, bf16=bf16)
            times = [time.perf_counter()]
            for _ in train_epochs(copy.deepcopy(head), self.seen, self.targets, few, trial, self.seed):
                times.append(time.perf_counter())
            seconds[bf16] = min(np.diff(times))
        return {
            "bf16": bool(seconds[True] < seconds[False]),
            "fp32_clips_a_second": round(len(few) / seconds[False], 1),
            "bf16_clips_a_second": round(len(few) / seconds[True], 1),
        }


def _trained(head: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of what is trained of a head."""
    return {name: value.detach().clone() for name, value in head.named_parameters() if value.requires_grad}
