"""The baseline that every evaluation can be compared with: a linear classifier on the mean of frozen CLIP features.

It uses neither time nor text, and weights all frames equally. A method that is not better has learned nothing beyond
the features.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.batches import augmentation, no_marks
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.splits import Part, people_folds
from tgdfer.training.features import FrameFeatures, Views, frame_features
from tgdfer.training.measure import ClipPrediction, measure
from tgdfer.training.models import face_options, is_trained, start_model
from tgdfer.training.processes import num_workers
from tgdfer.training.revisions import HubName

NAME = "mean of the frozen frame features + linear layer"
# Inverse strengths of the L2 penalty that cross-validation tries.
INVERSE_PENALTIES = np.logspace(-4, 0, 5)
# The middle one, for training sets that are too small for cross-validation.
DEFAULT_INVERSE_PENALTY = 0.01


def mean_baseline(
    config: TrainingConfig,
    base_model: str,
    train: Part,
    test: LabelledClips,
    model_predictions: Sequence[ClipPrediction],
) -> dict[str, Any]:
    """Trains and evaluates the baseline on the same clips, views and frames as a model.

    Args:
        config (`TrainingConfig`): Configuration of the run to compare with.
        base_model (`str`): Model that the run started from, with its revision if it has one: a CLIP, or a trained
            model, whose CLIP is used.
        train (`Part`): Training clips of the run.
        test (`LabelledClips`): Clips to evaluate on.
        model_predictions (`Sequence[ClipPrediction]`): Predictions of the run's model for the test clips. They contain
            the ground truth of the sampled frames.

    Returns:
        `name`, `war`, `uar`, and `frame_ap`, `pointing` and `activity_gain`, each None if its ground truth is unknown.

    Raises:
        UserError: If the base model cannot be read.
    """
    seed = config.run.seed
    frozen = config.model.model_copy(
        update={"model": base_model, "revision": None, "frozen_features": True, "model_options": {}}
    )
    model, processor = start_model(frozen, train.clips.classes, face_options(config.faces, config.data.source))
    views = Views(
        config.model.feature_views,
        seed,
        augmentation(config.data.augmentation),
        config.optimisation.batch_size,
        num_workers(config.data.workers),
    )
    # These features are already in the cache if the run was trained on frozen features.
    marks = None if config.data.strict else no_marks(train.clips)
    train_features = frame_features(model, processor.video_processor, train.clips, views, unreadable=marks)
    # Clips that turned out to be unreadable in training have no frames.
    is_readable = train_features.frame_mask.any(-1).all(0).tolist()
    indices = [index for index in train.indices if is_readable[index]]
    clips = train.clips.select(indices)
    classifier = fit_classifier(clip_means(train_features)[:, indices], clips.labels, clips.people, seed)

    test_features = frame_features(model, processor.video_processor, test, replace(views, number=1))
    probabilities = classifier.predict_proba(clip_means(test_features)[0])
    names = classifier.classes_.tolist()
    predictions = [
        ClipPrediction(
            label=names[int(scores.argmax())],
            score=float(scores.max()),
            # The log-probability of the true class in each frame.
            relevance=classifier.predict_log_proba(_clip_frames(test_features, index))[:, names.index(label)].tolist(),
            intensity=model_predictions[index].intensity,
            activity=model_predictions[index].activity,
        )
        for index, (scores, label) in enumerate(zip(probabilities, test.labels, strict=True))
    ]
    figures = measure(test.labels, predictions, names)
    trained = is_trained(base_model)
    name = f"{NAME}, on the CLIP of the trained model {Path(HubName.parse(base_model).name).name}" if trained else NAME
    return {"name": name} | {name: figures[name] for name in ("war", "uar", "frame_ap", "pointing", "activity_gain")}


def fit_classifier(means: np.ndarray, labels: list[str], people: list[str] | None, seed: int) -> Pipeline:
    """Fits a linear classifier on the mean features of all views of the training clips.

    Cross-validation over people selects the strength of the penalty. If the people are unknown, the folds are made of
    clips. If there are too few people or clips for cross-validation, a default strength is used.

    Args:
        means (`np.ndarray` of shape `(V, N, D)`): Mean features of V views of N clips, as returned by `clip_means`.
        labels (`list[str]`): Label of each clip.
        people (`list[str]`, *optional*): Person in each clip, if known.
        seed (`int`): Seed of the folds.
    """
    views = len(means)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=DEFAULT_INVERSE_PENALTY, max_iter=2000))
    samples, targets = np.concatenate(means), np.tile(labels, views)
    folds = people_folds(targets, np.tile(people or [str(index) for index in range(len(labels))], views), seed)
    if not folds:
        return classifier.fit(samples, targets)
    search = GridSearchCV(
        classifier,
        {"logisticregression__C": INVERSE_PENALTIES},
        scoring="balanced_accuracy",
        cv=folds,
        error_score="raise",
    )
    return search.fit(samples, targets).best_estimator_


def clip_means(features: FrameFeatures) -> np.ndarray:
    """Averages the normalised features over the frames of each view of each clip: (V, N, D)."""
    frames = normalised_features(features)
    mask = features.frame_mask.numpy()[..., None]
    return (frames * mask).sum(2) / mask.sum(2)


def _clip_frames(features: FrameFeatures, index: int) -> np.ndarray:
    """Returns the normalised features of the frames of a clip, in its first view: (T, D)."""
    return normalised_features(features)[0, index][features.frame_mask[0, index].numpy()]


def normalised_features(features: FrameFeatures) -> np.ndarray:
    """Returns the frame features scaled to length 1, as the model scales them: (V, N, T, D)."""
    frames = features.features.float().numpy()
    return frames / np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-6)
