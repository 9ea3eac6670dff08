"""Rows with linear classifiers on frozen features: mean of the frames, top quarter of the frames, and the oracle."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.benchmark_dataset import frames_with_emotion
from benchmarks.harness.feature_dataset import AnyDataset
from benchmarks.harness.fitting import Choice, Recipe, cross_validate, frame_statistics, predict, train_head
from benchmarks.harness.heads import LinearHead
from benchmarks.harness.row import Row, Run, each_seed, folds_of, run_result, seed_parts, targets_of
from tgdfer.training.baseline import INVERSE_PENALTIES, clip_means, fit_classifier, normalised_features
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.features import FrameFeatures

# Learning rates among which cross-validation selects.
HEAD_RATES = (3e-4, 1e-3, 3e-3)


def mean_row(dataset: AnyDataset) -> Row:
    """Returns the row of a logistic regression on the mean of the frames."""
    return _regression_row(dataset, "frozen-mean", "frozen mean + linear", _frozen_mean)


def oracle_row(dataset: AnyDataset) -> Row:
    """Returns the row of a logistic regression on the mean of the frames that show the emotion.

    It uses the ground truth of the frames in training and in testing, so it is an upper bound.
    """
    return _regression_row(dataset, "oracle", "oracle: true frames + linear", _oracle)


def _regression_row(dataset: AnyDataset, name: str, title: str, run: Callable[[AnyDataset, int], Run]) -> Row:
    config = {"views": dataset.settings.views, "penalties": INVERSE_PENALTIES.tolist(), "folds": FOLDS}
    return Row(name, title, seed_parts(dataset), each_seed(lambda seed: run(dataset, seed)), config)


def _frozen_mean(dataset: AnyDataset, seed: int) -> Run:
    train, test = dataset.features("train", seed), dataset.features("test")
    return _regression(dataset, train, test, test.frame_mask, seed)


def _oracle(dataset: AnyDataset, seed: int) -> Run:
    """Runs the oracle. It is the only row that reads the ground truth of the frames."""
    train, test = dataset.features("train", seed), dataset.features("test")
    train = replace(train, frame_mask=frames_with_emotion(train, dataset.train))
    return _regression(dataset, train, test, frames_with_emotion(test, dataset.test), seed)


def _regression(dataset: AnyDataset, train: FrameFeatures, test: FrameFeatures, test_mask: Tensor, seed: int) -> Run:
    """Fits a logistic regression to the means of the training clips, and predicts the test clips.

    Args:
        dataset (`AnyDataset`): The data set.
        train (`FrameFeatures`): Features of the training clips. Masked frames are not part of the means.
        test (`FrameFeatures`): Features of the test clips.
        test_mask (`torch.Tensor` of shape `(1, N, T)`): Frames of the test clips that are part of their means.
        seed (`int`): Random seed of the folds.
    """
    classifier = fit_classifier(clip_means(train), dataset.train.labels, dataset.people, seed)
    logits = classifier.predict_log_proba(clip_means(replace(test, frame_mask=test_mask))[0])
    frames = normalised_features(test)[0]
    frame_logits = classifier.predict_log_proba(frames.reshape(-1, frames.shape[-1])).reshape(*frames.shape[:2], -1)
    run = run_result(dataset, torch.from_numpy(logits), torch.from_numpy(frame_logits), test.frame_mask[0])
    return run | {"chosen": {"C": float(classifier.named_steps["logisticregression"].C)}}


def linear_head(dataset: AnyDataset, features: FrameFeatures, indices: np.ndarray, pooling: str) -> LinearHead:
    """Returns an untrained linear head that standardises frames with the statistics of the clips `indices`."""
    return LinearHead(*frame_statistics(features, indices), len(dataset.classes), pooling)


def linear_config(dataset: AnyDataset) -> dict[str, Any]:
    """Returns all settings that determine the figures of `fitted_linear_head`, except the pooling."""
    settings = dataset.settings
    recipe = asdict(Recipe(epochs=settings.epochs))
    return {"views": settings.views, "folds": FOLDS, "rates": HEAD_RATES, "recipe": recipe}


def fitted_linear_head(dataset: AnyDataset, seed: int, pooling: str) -> tuple[LinearHead, Run]:
    """Trains a linear head on all training clips, with learning rate and epochs selected by cross-validation.

    Returns:
        `tuple[LinearHead, Run]`: The head, and its run on the test clips.
    """
    train, targets = dataset.features("train", seed), targets_of(dataset)

    def make_head(indices: np.ndarray, seed: int) -> LinearHead:
        return linear_head(dataset, train, indices, pooling)

    recipe = Recipe(epochs=dataset.settings.epochs)
    choice = cross_validate(make_head, train, targets, folds_of(dataset, seed), recipe, HEAD_RATES, seed)
    all_clips = np.arange(len(targets))
    head = make_head(all_clips, seed)
    train_head(head, train, targets, all_clips, choice.recipe, seed)
    test = dataset.features("test")
    return head, run_result(dataset, *predict(head, test), test.frame_mask[0]) | choice_record(choice)


def choice_record(choice: Choice) -> Run:
    """Returns the fields of a run that record the result of cross-validation."""
    return {
        "chosen": {"rate": choice.recipe.rate, "epochs": choice.recipe.epochs, "held_out_uar": choice.uar},
        "tried": choice.tried,
    }
