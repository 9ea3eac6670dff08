"""How well segments of a video are found, as a module for `evaluate.load`."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

# As papers on temporal action localisation report them (ActivityNet, THUMOS), the coarse ones.
THRESHOLDS = (0.3, 0.5, 0.7)

Found = dict[str, Any]


class SegmentLocalisation(evaluate.Metric):
    """Mean average precision of segments with labels, at several overlaps in time."""

    def _info(self) -> evaluate.MetricInfo:
        segment = {
            "start": datasets.Value("float32"),
            "end": datasets.Value("float32"),
            "label": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=(
                "mAP: the segments of a class in all videos are ranked by confidence, and each is right if it overlaps"
                " a true one of its class that no other has (intersection over union in time at or above a threshold)."
                " Average precision, mean over the classes that occur."
            ),
            citation="",
            inputs_description=(
                "predictions, references: for each video its segments, with start and end in seconds and a label;"
                " predictions with a confidence."
            ),
            features=datasets.Features(
                {
                    "predictions": [{**segment, "confidence": datasets.Value("float32")}],
                    "references": [segment],
                }
            ),
        )

    def _compute(
        self,
        predictions: list[list[Found]],
        references: list[list[Found]],
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> dict[str, float | None]:
        """Compares segments with the truth.

        Args:
            predictions: found segments of each video.
            references: true ones.
            thresholds: overlaps from which on a segment is right.

        Returns:
            `map_30` and so on (0 to 1) for each threshold, and `map`, their mean; None if there is no true segment.
        """
        return mean_average_precision(predictions, references, thresholds)


def mean_average_precision(
    predictions: Sequence[Sequence[Found]],
    references: Sequence[Sequence[Found]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float | None]:
    """The figures of `SegmentLocalisation`."""
    labels = sorted({one["label"] for video in references for one in video})
    figures: dict[str, float | None] = {}
    for threshold in thresholds:
        values = [_average_precision(predictions, references, label, threshold) for label in labels]
        figures[f"map_{round(100 * threshold)}"] = float(np.mean(values)) if values else None
    known = [value for value in figures.values() if value is not None]
    return figures | {"map": float(np.mean(known)) if known else None}


def _average_precision(
    predictions: Sequence[Sequence[Found]], references: Sequence[Sequence[Found]], label: str, threshold: float
) -> float:
    """Area under the precision that is reached at each recall or beyond."""
    ranked = sorted(
        (
            (one["confidence"], video, one)
            for video, found in enumerate(predictions)
            for one in found
            if one["label"] == label
        ),
        key=lambda row: -row[0],
    )
    free = [[one for one in video if one["label"] == label] for video in references]
    total = sum(map(len, free))
    right = np.zeros(len(ranked))
    for place, (_, video, one) in enumerate(ranked):
        overlaps = [overlap(one, true) for true in free[video]]
        best = int(np.argmax(overlaps)) if overlaps else 0
        if overlaps and overlaps[best] >= threshold:
            del free[video][best]
            right[place] = 1
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(ranked) + 1))[::-1])[::-1]
    return float((precision * right).sum() / total)


def overlap(one: Found, other: Found) -> float:
    """Intersection over union of two stretches of time."""
    shared = min(one["end"], other["end"]) - max(one["start"], other["start"])
    union = max(one["end"], other["end"]) - min(one["start"], other["start"])
    return max(0.0, shared) / union if union > 0 else 0.0
