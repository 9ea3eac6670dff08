"""The methods that are measured: from random scores to TG-DFER as it is."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training import loop
from tgdfer.training.baseline import FOLDS, PENALTIES, clip_means, directions, fit, people_folds
from tgdfer.training.benchmark.comparison import CHANCE, RANDOM, figures_of, outcomes
from tgdfer.training.benchmark.fitting import (
    Choice,
    Recipe,
    cross_validate,
    frame_statistics,
    goodness,
    predict,
    train_epochs,
)
from tgdfer.training.benchmark.ground import Ground, true_frames
from tgdfer.training.benchmark.heads import AdaptedHead, LinearHead
from tgdfer.training.config import source_hash
from tgdfer.training.evaluation import predict_clips
from tgdfer.training.features import FrameFeatures
from tgdfer.training.models import load_trained, start_model

Run = dict[str, Any]

# Learning rates that cross-validation chooses from.
HEAD_RATES = (3e-4, 1e-3, 3e-3)
LORA_RATES = (3e-4, 1e-3, 3e-3)
# A head on frozen features is trained first, so that LoRA starts from what is known already (Kumar et al., 2022).
WARM = Recipe(rate=1e-3, epochs=10)
# LoRA's steps see half of the frames of a clip: half the cost, and a clip that is not the same twice.
LORA = Recipe(batch_size=16, frames=8)
LORA_BLOCKS = 2


@dataclass(frozen=True)
class Row:
    """A method on a ground.

    Attributes:
        name: of its file.
        title: for people.
        parts: what is run and kept one by one, in this order; those that predict the test clips are its runs.
        config: all that decides its figures beside the ground and its weights.
        run: `run(part, earlier, folder)` runs a part, given what the earlier ones have given and an empty folder that
            it may write to; gives what `comparison.outcomes` takes, or what a later part needs to know.
        by_default: whether it is run unless it is asked for.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    run: Callable[[str, Mapping[str, Run], Path], Run]
    config: dict[str, Any] = field(default_factory=dict)
    by_default: bool = True


def rows_of(ground: Ground) -> list[Row]:
    """All rows, in the order of the tables."""
    settings = ground.settings
    seeds = tuple(f"seed {seed}" for seed in settings.seeds)
    frozen = {"views": settings.views, "penalties": PENALTIES.tolist(), "folds": FOLDS}
    head = {
        "views": settings.views,
        "folds": FOLDS,
        "rates": HEAD_RATES,
        "recipe": asdict(Recipe(epochs=settings.epochs)),
    }

    def seeded(run: Callable[[int], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
        return lambda part, earlier, folder: run(int(part.removeprefix("seed ")))

    def once(run: Callable[[], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
        return lambda part, earlier, folder: run()

    return [
        Row("random", "random", ("once",), once(lambda: {"predicted": CHANCE, "scores": RANDOM})),
        Row("position", "position only", ("once",), once(lambda: _position(ground))),
        Row("words", "zero-shot, class words", ("once",), once(lambda: _zero_shot(ground, words=True))),
        Row("descriptions", "zero-shot, descriptions", ("once",), once(lambda: _zero_shot(ground, words=False))),
        Row("frozen-mean", "frozen mean + linear", seeds, seeded(lambda seed: _frozen_mean(ground, seed)), frozen),
        Row("frozen-top", "frozen top quarter + linear", seeds, seeded(lambda seed: _frozen_top(ground, seed)), head),
        _lora_row(ground, "lora-mean", "LoRA + mean", "mean"),
        _lora_row(ground, "lora-top", "LoRA + top quarter", "top"),
        Row("tgdfer", "TG-DFER, frozen", seeds, *_tgdfer(ground, frozen_features=True)),
        Row("tgdfer-lora", "TG-DFER, LoRA", seeds[:1], *_tgdfer(ground, frozen_features=False), by_default=False),
        Row("oracle", "oracle: true frames + linear", seeds, seeded(lambda seed: _oracle(ground, seed)), frozen),
    ]


def answers(ground: Ground, logits: Tensor, frame_logits: Tensor, frame_mask: Tensor) -> Run:
    """What is kept of a run: predicted labels, and the log-probability of the true class in every frame.

    Args:
        ground: N test clips of K classes.
        logits: (N, K).
        frame_logits: (N, T, K).
        frame_mask: (N, T).
    """
    names = ground.classes
    scores = F.log_softmax(frame_logits, dim=-1)
    return {
        "predicted": [names[index] for index in logits.argmax(-1).tolist()],
        "scores": [
            [rounded(score) for score in clip[mask][:, names.index(label)].tolist()]
            for clip, mask, label in zip(scores, frame_mask, ground.test.labels, strict=True)
        ],
    }


def _position(ground: Ground) -> Run:
    """Ranks frames by where they lie; the audit says what other such rankings would find."""
    lengths = [len(intensity) for intensity in ground.truth.intensity]
    places = [np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in lengths]
    ranks = {
        "middle": [-np.abs(place) for place in places],
        "first": [-place for place in places],
        "last": places,
        "edges": [np.abs(place) for place in places],
    }
    runs = {
        name: {"predicted": CHANCE, "scores": [rank.tolist() for rank in of_clips]} for name, of_clips in ranks.items()
    }
    audit = {}
    for name, run in runs.items():
        figures = figures_of(outcomes([run], ground.truth), ground.truth)
        audit[name] = {figure: figures[figure][0] for figure in ("frame_ap", "pointing")}
    return runs["middle"] | {"audit": audit}


def _zero_shot(ground: Ground, words: bool) -> Run:
    """CLIP without training: cosines of the frames to the class texts, mean over the frames."""
    model, processor = start_model(ground.config(frozen_features=True), ground.classes)
    if words:
        model.set_classes(processor.class_prompts({label: [label] for label in ground.classes}))
    seen = ground.features("test")
    with torch.no_grad():
        texts, scale = model.get_text_features(), model.tgdfer.clip.logit_scale.exp()
        cosines = torch.from_numpy(directions(seen)[0]) @ texts.T
    mask = seen.frame_mask[0]
    means = (cosines * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return answers(ground, means, scale * cosines, mask)


def _frozen_mean(ground: Ground, seed: int) -> Run:
    """Logistic regression on the mean of the frames."""
    seen, unseen = ground.features("train", seed), ground.features("test")
    return _linear(ground, seen, unseen, unseen.frame_mask, seed)


def _oracle(ground: Ground, seed: int) -> Run:
    """The same, trained and tested on the true frames alone: what is there to win. It alone reads them."""
    seen, unseen = ground.features("train", seed), ground.features("test")
    seen = replace(seen, frame_mask=true_frames(seen, ground.train))
    return _linear(ground, seen, unseen, true_frames(unseen, ground.test), seed)


def _linear(ground: Ground, seen: FrameFeatures, unseen: FrameFeatures, shown: Tensor, seed: int) -> Run:
    """Logistic regression on the mean of `seen`; asked about the mean of the frames `shown` (1, N, T)."""
    classifier = fit(clip_means(seen), ground.train.labels, ground.people, seed)
    logits = classifier.predict_log_proba(clip_means(replace(unseen, frame_mask=shown))[0])
    frames = directions(unseen)[0]
    frame_logits = classifier.predict_log_proba(frames.reshape(-1, frames.shape[-1])).reshape(*frames.shape[:2], -1)
    run = answers(ground, torch.from_numpy(logits), torch.from_numpy(frame_logits), unseen.frame_mask[0])
    return run | {"chosen": {"C": float(classifier.named_steps["logisticregression"].C)}}


def targets_of(ground: Ground) -> Tensor:
    """Class of each training clip, (N,)."""
    return torch.tensor([ground.classes.index(label) for label in ground.train.labels])


def folds_of(ground: Ground, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training clips to fit on and to check on, of different people: five folds, or fewer where people are few."""
    return people_folds(np.array(ground.train.labels), np.array(ground.people), seed)


def linear_head(ground: Ground, seen: FrameFeatures, indices: np.ndarray, pooling: str) -> LinearHead:
    """An untrained head, scaled to the frames of the clips that it is to be trained on."""
    return LinearHead(*frame_statistics(seen, indices), len(ground.classes), pooling)


def _frozen_top(ground: Ground, seed: int) -> Run:
    """A linear layer on every frame; the clip is the mean of its top quarter, class by class."""
    head, choice = fitted_linear_head(ground, seed, "top")
    unseen = ground.features("test")
    chosen = {"rate": choice.recipe.rate, "epochs": choice.recipe.epochs, "held_out_uar": choice.uar}
    return answers(ground, *predict(head, unseen), unseen.frame_mask[0]) | {"chosen": chosen, "tried": choice.tried}


def fitted_linear_head(ground: Ground, seed: int, pooling: str) -> tuple[LinearHead, Choice]:
    """A linear layer trained on all training clips, with the rate and the epochs that cross-validation chooses."""
    seen, targets = ground.features("train", seed), targets_of(ground)

    def make(indices: np.ndarray, seed: int) -> LinearHead:
        return linear_head(ground, seen, indices, pooling)

    recipe = Recipe(epochs=ground.settings.epochs)
    choice = cross_validate(make, seen, targets, folds_of(ground, seed), recipe, HEAD_RATES, seed)
    everything = np.arange(len(targets))
    head = make(everything, seed)
    for _ in train_epochs(head, seen, targets, everything, choice.recipe, seed):
        pass
    return head, choice


def _lora_row(ground: Ground, name: str, title: str, pooling: str) -> Row:
    """LoRA on the last blocks of CLIP and a linear layer: five folds, the rate chosen on the first of them."""
    settings = ground.settings
    seed = settings.seeds[0]
    folds = folds_of(ground, seed) or [(np.arange(len(ground.train)),) * 2]
    rates = {f"rate {rate:g}": rate for rate in LORA_RATES}

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        bf16 = bool(earlier.get("precision", {}).get("bf16"))
        recipe = replace(LORA, epochs=settings.lora_epochs, bf16=bf16)
        training = _LoraTraining(ground, pooling, seed)
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

    config = {
        "pooling": pooling,
        "views": settings.lora_views,
        "frozen_views": settings.views,
        "folds": FOLDS,
        "seed": seed,
        "epochs": settings.lora_epochs,
        "rates": LORA_RATES,
        "blocks": LORA_BLOCKS,
        "recipe": asdict(LORA),
        "warm": asdict(WARM),
    }
    return Row(name, title, ("precision", *rates, *(f"fold {number}" for number in range(len(folds)))), run, config)


class _LoraTraining:
    """Trainings of LoRA on one ground, which share what enters the first adapted block."""

    def __init__(self, ground: Ground, pooling: str, seed: int) -> None:
        self.ground, self.pooling, self.seed = ground, pooling, seed
        self.block = ground.network[0].config.clip_config.vision_config.num_hidden_layers - LORA_BLOCKS
        self.seen = ground.activations("train", self.block, seed)
        self.targets = targets_of(ground)

    def head(self, indices: np.ndarray) -> AdaptedHead:
        """CLIP as it is, under a linear head that is trained on what the frozen CLIP sees."""
        ground, frozen = self.ground, self.ground.features("train", self.seed)
        linear = linear_head(ground, frozen, indices, self.pooling)
        for _ in train_epochs(linear, frozen, self.targets, indices, WARM, self.seed):
            pass
        torch.manual_seed(self.seed)  # one of LoRA's matrices starts at random
        model, _ = start_model(ground.config(model_options={"lora_layers": LORA_BLOCKS}), ground.classes)
        return AdaptedHead(model, linear, WARM.rate)

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


def _tgdfer(ground: Ground, **options: Any) -> tuple[Callable[[str, Mapping[str, Run], Path], Run], dict[str, Any]]:
    """TG-DFER by the training loop with its defaults: the best epoch on held-out people; frames by relevance.

    Gives the method, and all that decides its figures.
    """

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        model, processor = train_tgdfer(ground, int(part.removeprefix("seed ")), folder, **options)
        found = list(predict_clips(model, processor.video_processor, ground.test))
        return {
            "predicted": [prediction.label for prediction in found],
            "scores": [[rounded(score) for score in prediction.relevance] for prediction in found],
        }

    return run, tgdfer_facts(ground, **options)


def train_tgdfer(
    ground: Ground, seed: int, folder: Path, **options: Any
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Trains TG-DFER into a folder, from its last checkpoint where there is one; gives its best model."""
    resume = (folder / "config.yaml").is_file()
    views = ground.settings.views
    loop.train(ground.config(output=str(folder), seed=seed, resume=resume, feature_views=views, **options))
    return load_trained(folder)


def tgdfer_facts(ground: Ground, **options: Any) -> dict[str, Any]:
    """All that decides the figures of TG-DFER: the training's options and the network's code."""
    # What the ground says already, and what is set for every run.
    elsewhere = ("dataset", "model", "descriptions", "num_frames", "output", "seed", "resume")
    config = asdict(ground.config(feature_views=ground.settings.views, **options))
    training = {name: value for name, value in config.items() if name not in elsewhere}
    return {"training": training, "network": source_hash(modeling_tgdfer)}


def rounded(score: float) -> float:
    """To seven digits, however small it is: rounding must not make frames equal."""
    return float(f"{score:.7g}")
