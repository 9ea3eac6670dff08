"""The baseline that stands beside every figure: what CLIP sees of a clip on average, and a linear layer.

It knows neither time nor text, and counts every frame alike. A method that does not pass it has learnt nothing that
the features did not show already.
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
from tgdfer.training.data.batches import augmentation
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.splits import Part, people_folds
from tgdfer.training.features import FrameFeatures, Views, frame_features
from tgdfer.training.measure import ClipPrediction, measure
from tgdfer.training.models import face_options, is_trained, start_model

NAME = "mean of the frozen frame features + linear layer"
# Where there are too few people to choose it by: in the middle of those that are tried.
PENALTIES = np.logspace(-4, 0, 5)
USUAL_PENALTY = 0.01


def mean_baseline(
    config: TrainingConfig, base_model: str, train: Part, test: LabelledClips, like: Sequence[ClipPrediction]
) -> dict[str, Any]:
    """Trains and measures the baseline on the same clips, views and frames as a model.

    Args:
        config: of the run that it is compared with.
        base_model: what the run started from: a CLIP, or a trained model whose CLIP is taken, which `name` says.
        train: the clips that the run trained on.
        test: the clips to measure on.
        like: the model's predictions of the test clips, for the truth about the sampled frames.

    Returns:
        `name`, `war`, `uar`, and `frame_ap`, `pointing` and `activity_gain`, each None where its truth is unknown.

    Raises:
        UserError: the base model cannot be read.
    """
    seed = config.run.seed
    frozen = config.model.model_copy(update={"model": base_model, "frozen_features": True, "model_options": {}})
    model, processor = start_model(frozen, train.clips.classes, face_options(config.faces, config.data.dataset))
    views = Views(
        config.model.feature_views,
        seed,
        augmentation(config.data.augmentation),
        config.optimisation.batch_size,
        config.data.workers,
    )
    # The features of all clips of the split are in the cache already if the run was trained on frozen features.
    seen = frame_features(model, processor.video_processor, train.clips, views)
    clips = train.clips.select(train.indices)
    classifier = fit(clip_means(seen)[:, train.indices], clips.labels, clips.people, seed)

    unseen = frame_features(model, processor.video_processor, test, replace(views, number=1))
    scores = classifier.predict_proba(clip_means(unseen)[0])
    names = classifier.classes_.tolist()
    predictions = [
        ClipPrediction(
            label=names[int(row.argmax())],
            score=float(row.max()),
            # The log-probability of the true class in each frame.
            relevance=classifier.predict_log_proba(_frames(unseen, index))[:, names.index(label)].tolist(),
            intensity=like[index].intensity,
            activity=like[index].activity,
        )
        for index, (row, label) in enumerate(zip(scores, test.labels, strict=True))
    ]
    figures = measure(test.labels, predictions, names)
    trained = is_trained(base_model)
    name = f"{NAME}, on the CLIP of the trained model {Path(base_model).name}" if trained else NAME
    return {"name": name} | {name: figures[name] for name in ("war", "uar", "frame_ap", "pointing", "activity_gain")}


def fit(means: np.ndarray, labels: list[str], people: list[str] | None, seed: int) -> Pipeline:
    """A linear classifier on the mean features of every view of every training clip.

    The strength of its penalty is chosen by cross-validation over people, or over clips where nobody says who is seen;
    where there are too few for that, it is a usual one.

    Args:
        means: (V, N, D), as `clip_means` gives them.
        labels: label of each clip, N of them.
        people: who is seen in each clip.
        seed: decides the folds.
    """
    views = len(means)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=USUAL_PENALTY, max_iter=2000))
    rows, targets = np.concatenate(means), np.tile(labels, views)
    folds = people_folds(targets, np.tile(people or [str(index) for index in range(len(labels))], views), seed)
    if not folds:
        return classifier.fit(rows, targets)
    search = GridSearchCV(
        classifier, {"logisticregression__C": PENALTIES}, scoring="balanced_accuracy", cv=folds, error_score="raise"
    )
    return search.fit(rows, targets).best_estimator_


def clip_means(seen: FrameFeatures) -> np.ndarray:
    """Mean over the frames, each of length one as in the model: (V, N, D)."""
    frames = directions(seen)
    mask = seen.frame_mask.numpy()[..., None]
    return (frames * mask).sum(2) / mask.sum(2)


def _frames(unseen: FrameFeatures, index: int) -> np.ndarray:
    """The frames of a clip, (T, D)."""
    return directions(unseen)[0, index][unseen.frame_mask[0, index].numpy()]


def directions(seen: FrameFeatures) -> np.ndarray:
    """The frames with length one, (V, N, T, D)."""
    frames = seen.features.float().numpy()
    return frames / np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-6)
