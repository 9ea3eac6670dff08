"""How well frame scores find the frames that carry the emotion, as a module for `evaluate.load`."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score


class FrameLocalisation(evaluate.Metric):
    """Frame AP and pointing over clips that hold frames with and without the emotion."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "Frame AP: average precision of the frame scores against intensity >= threshold, mean over clips."
                " Pointing: share of the clips whose top frame reaches the threshold. Clips whose frames all do, or"
                " none, are left out."
            ),
            citation="",
            inputs_description="predictions, references: for each clip the scores and the intensities of its frames.",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[list[float]], threshold: float = 0.5) -> dict:
        """Compares the ranking of frames with the truth.

        Args:
            predictions: score of each frame for the true class of its clip, a list of any length a clip.
            references: intensity (0 to 1) of the same frames.
            threshold: intensity from which a frame carries the emotion.

        Returns:
            `frame_ap` and `pointing` (0 to 1), the same of a random order (`random_frame_ap`, `random_pointing`:
            exact expectations) and of closeness to the middle of the clip (`position_frame_ap`,
            `position_pointing`), and `num_clips` that count. All figures are None if no clip counts.
        """
        known = [clip_figures(*clip, threshold) for clip in zip(predictions, references, strict=True)]
        rows = [row for row in known if row is not None]
        names = [f"{who}{what}" for who in ("", "random_", "position_") for what in ("frame_ap", "pointing")]
        figures = {name: float(np.mean([row[name] for row in rows])) if rows else None for name in names}
        return figures | {"num_clips": len(rows)}


def clip_figures(scores: Sequence[float], intensity: Sequence[float], threshold: float = 0.5) -> dict | None:
    """The figures of one clip, by the names of `FrameLocalisation`; None if its frames are all of one kind."""
    truth = np.asarray(intensity) >= threshold
    if truth.all() or not truth.any():
        return None
    middle = -np.abs(np.arange(len(truth)) - (len(truth) - 1) / 2)
    return {
        "frame_ap": average_precision_score(truth, scores),
        "pointing": _pointing(truth, np.asarray(scores)),
        "random_frame_ap": _random_average_precision(len(truth), int(truth.sum())),
        "random_pointing": truth.mean(),
        "position_frame_ap": average_precision_score(truth, middle),
        "position_pointing": _pointing(truth, middle),
    }


def _pointing(truth: np.ndarray, scores: np.ndarray) -> float:
    """Share of the top-scored frames that carry the emotion: 0 or 1, between where several share the top score."""
    return float(truth[scores == scores.max()].mean())


def _random_average_precision(frames: int, positives: int) -> float:
    """Expected average precision of a random order.

    A positive at rank i has, besides itself, (i - 1) (positives - 1) / (frames - 1) positives above it on average.
    """
    rank = np.arange(1, frames + 1)
    return float(np.mean((1 + (rank - 1) * (positives - 1) / (frames - 1)) / rank))
