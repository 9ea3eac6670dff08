"""The methods that are measured: from random scores to TG-DFER as it is."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.comparison import CHANCE, RANDOM, figures_of, outcomes
from benchmarks.harness.fitting import (
    Choice,
    Recipe,
    cross_validate,
    frame_statistics,
    predict,
    train_epochs,
)
from benchmarks.harness.given_features import AnyGround
from benchmarks.harness.ground import Ground, true_frames
from benchmarks.harness.heads import LinearHead
from benchmarks.harness.lora import LORA_OPTIONS, MakeAdapted, lora_row
from benchmarks.harness.row import Row, Run, answers, folds_of, rounded, targets_of
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.baseline import PENALTIES, clip_means, directions, fit
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.measure import predict_clips
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.train import train

# Learning rates that cross-validation chooses from.
HEAD_RATES = (3e-4, 1e-3, 3e-3)


def rows_of(ground: Ground) -> list[Row]:
    """All rows, in the order of the tables."""
    settings = ground.settings
    seeds = tuple(f"seed {seed}" for seed in settings.seeds)
    head = {
        "views": settings.views,
        "folds": FOLDS,
        "rates": HEAD_RATES,
        "recipe": asdict(Recipe(epochs=settings.epochs)),
    }

    def once(run: Callable[[], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
        return lambda part, earlier, folder: run()

    return [
        Row("random", "random", ("once",), once(lambda: {"predicted": CHANCE, "scores": RANDOM})),
        Row("position", "position only", ("once",), once(lambda: _position(ground))),
        Row("words", "zero-shot, class words", ("once",), once(lambda: _zero_shot(ground, words=True))),
        Row("descriptions", "zero-shot, descriptions", ("once",), once(lambda: _zero_shot(ground, words=False))),
        mean_row(ground),
        Row("frozen-top", "frozen top quarter + linear", seeds, _seeded(lambda seed: _frozen_top(ground, seed)), head),
        lora_row(ground, "lora-mean", "LoRA + mean", _adapted_linear("mean"), {"pooling": "mean"}),
        lora_row(ground, "lora-top", "LoRA + top quarter", _adapted_linear("top"), {"pooling": "top"}),
        Row("tgdfer", "TG-DFER, frozen", seeds, *_tgdfer(ground, frozen_features=True)),
        Row("tgdfer-lora", "TG-DFER, LoRA", seeds[:1], *_tgdfer(ground, frozen_features=False), by_default=False),
        oracle_row(ground),
    ]


def mean_row(ground: AnyGround) -> Row:
    """Logistic regression on the mean of the frames."""
    return _frozen_row(ground, "frozen-mean", "frozen mean + linear", _frozen_mean)


def oracle_row(ground: AnyGround) -> Row:
    """What there is to win: the same, told the true frames."""
    return _frozen_row(ground, "oracle", "oracle: true frames + linear", _oracle)


def _frozen_row(ground: AnyGround, name: str, title: str, run: Callable[[AnyGround, int], Run]) -> Row:
    settings = ground.settings
    config = {"views": settings.views, "penalties": PENALTIES.tolist(), "folds": FOLDS}
    parts = tuple(f"seed {seed}" for seed in settings.seeds)
    return Row(name, title, parts, _seeded(lambda seed: run(ground, seed)), config)


def _seeded(run: Callable[[int], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
    return lambda part, earlier, folder: run(int(part.removeprefix("seed ")))


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
    model, processor = start_model(ground.config(frozen_features=True).model, ground.classes)
    if words:
        model.set_classes(processor.class_prompts({label: [label] for label in ground.classes}))
    seen = ground.features("test")
    with torch.no_grad():
        texts, scale = model.get_text_features(), model.tgdfer.clip.logit_scale.exp()
        cosines = torch.from_numpy(directions(seen)[0]) @ texts.T
    mask = seen.frame_mask[0]
    means = (cosines * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return answers(ground, means, scale * cosines, mask)


def _frozen_mean(ground: AnyGround, seed: int) -> Run:
    """Logistic regression on the mean of the frames."""
    seen, unseen = ground.features("train", seed), ground.features("test")
    return _linear(ground, seen, unseen, unseen.frame_mask, seed)


def _oracle(ground: AnyGround, seed: int) -> Run:
    """The same, trained and tested on the true frames alone: what is there to win. It alone reads them."""
    seen, unseen = ground.features("train", seed), ground.features("test")
    seen = replace(seen, frame_mask=true_frames(seen, ground.train))
    return _linear(ground, seen, unseen, true_frames(unseen, ground.test), seed)


def _linear(ground: AnyGround, seen: FrameFeatures, unseen: FrameFeatures, shown: Tensor, seed: int) -> Run:
    """Logistic regression on the mean of `seen`; asked about the mean of the frames `shown` (1, N, T)."""
    classifier = fit(clip_means(seen), ground.train.labels, ground.people, seed)
    logits = classifier.predict_log_proba(clip_means(replace(unseen, frame_mask=shown))[0])
    frames = directions(unseen)[0]
    frame_logits = classifier.predict_log_proba(frames.reshape(-1, frames.shape[-1])).reshape(*frames.shape[:2], -1)
    run = answers(ground, torch.from_numpy(logits), torch.from_numpy(frame_logits), unseen.frame_mask[0])
    return run | {"chosen": {"C": float(classifier.named_steps["logisticregression"].C)}}


def _adapted_linear(pooling: str) -> MakeAdapted:
    """LoRA under a linear layer."""

    def make(ground: Ground, seen: FrameFeatures, indices: np.ndarray) -> tuple[TGDFERForVideoClassification, Any]:
        model, _ = start_model(ground.config(model_options=dict(LORA_OPTIONS)).model, ground.classes)
        return model, linear_head(ground, seen, indices, pooling)

    return make


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
    train(ground.config(output=str(folder), seed=seed, resume=resume, feature_views=views, **options))
    return load_trained(folder)


def tgdfer_facts(ground: Ground, **options: Any) -> dict[str, Any]:
    """All that decides the figures of TG-DFER: the training's options and the network's code."""
    # What the ground says already, and what is set for every run.
    elsewhere = ("dataset", "model", "descriptions", "num_frames", "output", "seed", "resume")
    config = ground.config(feature_views=ground.settings.views, **options).options()
    training = {name: value for name, value in config.items() if name not in elsewhere}
    return {"training": training, "network": source_hash(modeling_tgdfer)}
