"""The baseline that stands beside every figure: what CLIP sees of a clip on average, and a linear layer.

It knows neither time nor text, and counts every frame alike. A method that does not pass it has learnt nothing that
the features did not show already.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tgdfer.training.config import TrainingConfig
from tgdfer.training.data import LabelledClips
from tgdfer.training.evaluation import Prediction, measure
from tgdfer.training.features import FrameFeatures, frame_features
from tgdfer.training.models import start_model

NAME = "mean of the frozen frame features + linear layer"


def mean_baseline(
    config: TrainingConfig, base_model: str, train: LabelledClips, test: LabelledClips, like: Sequence[Prediction]
) -> dict[str, Any]:
    """Trains and measures the baseline on the same clips, views and frames as a model.

    The strength of its penalty is chosen by five-fold cross-validation over people inside `train`, or over clips where
    nobody says who is seen.

    Args:
        config: of the run that it is compared with.
        base_model: the CLIP, untouched by training.
        train: all clips of the training split.
        test: the clips to measure on.
        like: the model's predictions of the test clips, for the truth about the sampled frames.

    Returns:
        `name`, `war`, `uar`, and `frame_ap`, `pointing` and `activity_gain`, each None where its truth is unknown.
    """
    config = replace(config, model=base_model, frozen_features=True, model_options={})
    model, processor = start_model(config, train.classes)
    options = {"seed": config.seed, "batch_size": config.batch_size, "workers": config.workers}
    seen = frame_features(model, processor.video_processor, train, views=config.feature_views, **options)
    classifier = fit(seen, train, config.seed)

    unseen = frame_features(model, processor.video_processor, test, **options)
    scores = classifier.predict_proba(clip_means(unseen)[0])
    names = classifier.classes_.tolist()
    predictions = [
        Prediction(
            label=names[int(row.argmax())],
            score=float(row.max()),
            relevance=_frame_scores(classifier, unseen, index, label),
            intensity=like[index].intensity,
            activity=like[index].activity,
        )
        for index, (row, label) in enumerate(zip(scores, test.labels, strict=True))
    ]
    figures = measure(test, predictions, names)
    return {"name": NAME} | {name: figures[name] for name in ("war", "uar", "frame_ap", "pointing", "activity_gain")}


def fit(seen: FrameFeatures, train: LabelledClips, seed: int) -> Pipeline:
    """A linear classifier on the mean features of every view of every training clip."""
    views = len(seen.features)
    people = train.people or [str(index) for index in range(len(train))]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": np.logspace(-4, 0, 5)},
        scoring="balanced_accuracy",
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=seed),
    )
    search.fit(np.concatenate(clip_means(seen)), train.labels * views, groups=people * views)
    return search.best_estimator_


def clip_means(seen: FrameFeatures) -> np.ndarray:
    """Mean over the frames, each of length one as in the model: (V, N, D)."""
    frames = _directions(seen)
    mask = seen.frame_mask.numpy()[..., None]
    return (frames * mask).sum(2) / mask.sum(2)


def _directions(seen: FrameFeatures) -> np.ndarray:
    frames = seen.features.float().numpy()
    return frames / np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-6)


def _frame_scores(classifier: Pipeline, unseen: FrameFeatures, index: int, label: str) -> list[float]:
    """What the classifier says of single frames of a clip for its true class; a class it never saw has no score."""
    frames = _directions(unseen)[0, index][unseen.frame_mask[0, index].numpy()]
    names = classifier.classes_.tolist()
    if label not in names:
        return [0.0] * len(frames)
    return classifier.predict_log_proba(frames)[:, names.index(label)].tolist()
