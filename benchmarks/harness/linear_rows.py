"""Linear rows on frozen features, for several benchmarks: mean of the frames, their top quarter, and the oracle."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.benchmark_dataset import true_frames
from benchmarks.harness.feature_dataset import AnyDataset
from benchmarks.harness.fitting import Choice, Recipe, cross_validate, frame_statistics, predict, train_head
from benchmarks.harness.heads import LinearHead
from benchmarks.harness.row import Row, Run, answers, each_seed, folds_of, seed_parts, targets_of
from tgdfer.training.baseline import INVERSE_PENALTIES, clip_means, fit_classifier, normalised_features
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.features import FrameFeatures

# Learning rates that cross-validation chooses from.
HEAD_RATES = (3e-4, 1e-3, 3e-3)


def mean_row(dataset: AnyDataset) -> Row:
    """Logistic regression on the mean of the frames."""
    return _regression_row(dataset, "frozen-mean", "frozen mean + linear", _frozen_mean)


def oracle_row(dataset: AnyDataset) -> Row:
    """The same, trained and tested on the frames that show the emotion. It is an upper bound."""
    return _regression_row(dataset, "oracle", "oracle: true frames + linear", _oracle)


def _regression_row(dataset: AnyDataset, name: str, title: str, run: Callable[[AnyDataset, int], Run]) -> Row:
    config = {"views": dataset.settings.views, "penalties": INVERSE_PENALTIES.tolist(), "folds": FOLDS}
    return Row(name, title, seed_parts(dataset), each_seed(lambda seed: run(dataset, seed)), config)


def _frozen_mean(dataset: AnyDataset, seed: int) -> Run:
    seen, unseen = dataset.features("train", seed), dataset.features("test")
    return _regression(dataset, seen, unseen, unseen.frame_mask, seed)


def _oracle(dataset: AnyDataset, seed: int) -> Run:
    """The only row that reads the truth about the frames."""
    seen, unseen = dataset.features("train", seed), dataset.features("test")
    seen = replace(seen, frame_mask=true_frames(seen, dataset.train))
    return _regression(dataset, seen, unseen, true_frames(unseen, dataset.test), seed)


def _regression(dataset: AnyDataset, seen: FrameFeatures, unseen: FrameFeatures, shown: Tensor, seed: int) -> Run:
    """Logistic regression on the mean of `seen`, tested on the mean of the frames `shown` (1, N, T) of `unseen`."""
    classifier = fit_classifier(clip_means(seen), dataset.train.labels, dataset.people, seed)
    logits = classifier.predict_log_proba(clip_means(replace(unseen, frame_mask=shown))[0])
    frames = normalised_features(unseen)[0]
    frame_logits = classifier.predict_log_proba(frames.reshape(-1, frames.shape[-1])).reshape(*frames.shape[:2], -1)
    run = answers(dataset, torch.from_numpy(logits), torch.from_numpy(frame_logits), unseen.frame_mask[0])
    return run | {"chosen": {"C": float(classifier.named_steps["logisticregression"].C)}}


def linear_head(dataset: AnyDataset, seen: FrameFeatures, indices: np.ndarray, pooling: str) -> LinearHead:
    """An untrained linear head, scaled to the frames of the clips that it will be trained on."""
    return LinearHead(*frame_statistics(seen, indices), len(dataset.classes), pooling)


def linear_config(dataset: AnyDataset) -> dict[str, Any]:
    """Everything that decides the figures of `fitted_linear_head`, beside the pooling."""
    settings = dataset.settings
    recipe = asdict(Recipe(epochs=settings.epochs))
    return {"views": settings.views, "folds": FOLDS, "rates": HEAD_RATES, "recipe": recipe}


def fitted_linear_head(dataset: AnyDataset, seed: int, pooling: str) -> tuple[LinearHead, Run]:
    """A linear head trained on all training clips, with the rate and epochs that cross-validation chooses.

    Returns:
        The head, and its run on the test clips.
    """
    seen, targets = dataset.features("train", seed), targets_of(dataset)

    def make(indices: np.ndarray, seed: int) -> LinearHead:
        return linear_head(dataset, seen, indices, pooling)

    recipe = Recipe(epochs=dataset.settings.epochs)
    choice = cross_validate(make, seen, targets, folds_of(dataset, seed), recipe, HEAD_RATES, seed)
    everything = np.arange(len(targets))
    head = make(everything, seed)
    train_head(head, seen, targets, everything, choice.recipe, seed)
    unseen = dataset.features("test")
    return head, answers(dataset, *predict(head, unseen), unseen.frame_mask[0]) | chosen(choice)


def chosen(choice: Choice) -> Run:
    """What a run keeps of the choice by cross-validation."""
    return {
        "chosen": {"rate": choice.recipe.rate, "epochs": choice.recipe.epochs, "held_out_uar": choice.uar},
        "tried": choice.tried,
    }
