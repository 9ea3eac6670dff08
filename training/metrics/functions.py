"""The metrics as plain functions: recognition of clips, its calibration, localisation of frames and of segments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, average_precision_score, confusion_matrix, recall_score
from torchvision.ops import box_iou

# The coarser ones of the thresholds that papers on temporal action localisation use (ActivityNet, THUMOS).
THRESHOLDS = (0.3, 0.5, 0.7)

Floats = Sequence[float] | np.ndarray
Segment = dict[str, Any]


def recognition_figures(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Computes WAR, UAR, the recall of each class and the confusion matrix.

    Args:
        predictions (`Sequence[str]`): Predicted label of each clip.
        references (`Sequence[str]`): True label of each clip.
        labels (`Sequence[str]`): Names of all K classes, including classes without clips.

    Returns:
        `war` (accuracy, 0 to 1), `uar` (mean recall over the classes that have clips, 0 to 1), `recall` (label to
        0..1, None for a class without clips) and `confusion_matrix` (K rows of true classes, K columns of predicted
        classes, counts).

    Raises:
        ValueError: If a clip has a label that is not in `labels`.
    """
    unknown = sorted({*predictions, *references} - set(labels))
    if unknown:
        raise ValueError(f"Labels that are not among the classes: {', '.join(unknown)}.")
    recall = recall_score(references, predictions, labels=labels, average=None, zero_division=np.nan)
    return {
        "war": float(accuracy_score(references, predictions)),
        "uar": float(np.nanmean(recall)),
        "recall": {
            label: None if np.isnan(value) else float(value) for label, value in zip(labels, recall, strict=True)
        },
        "confusion_matrix": confusion_matrix(references, predictions, labels=labels).tolist(),
    }


def class_figures(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Computes recall, precision and F1 of each class from a confusion matrix.

    Args:
        matrix (`Sequence[Sequence[int]]` of shape `(K, K)`): Numbers of clips. Rows are true classes.
        labels (`Sequence[str]`): Names of the K classes.

    Returns:
        `num_clips` and `num_answers` (how often the class was the answer) of each class, and `recall`, `precision` and
        `f1` (0 to 1). None where a figure is undefined: the recall without clips, the precision without answers, and
        F1 without both.
    """
    counts = np.asarray(matrix)
    table = {}
    for label, right, clips, answers in zip(labels, counts.diagonal(), counts.sum(1), counts.sum(0), strict=True):
        table[label] = {
            "num_clips": int(clips),
            "num_answers": int(answers),
            "recall": float(right / clips) if clips else None,
            "precision": float(right / answers) if answers else None,
            "f1": float(2 * right / (clips + answers)) if clips + answers else None,
        }
    return table


def expected_calibration_error(confidences: Floats, correct: Sequence[bool] | np.ndarray, bins: int = 15) -> float:
    """Computes the expected calibration error (Guo et al., 2017, equation 3).

    Args:
        confidences (`Floats` of shape `(N,)`): Probability of the predicted label of each clip, 0 to 1.
        correct (`Sequence[bool]` or `np.ndarray` of shape `(N,)`): Whether that label is the true one.
        bins (`int`, *optional*, defaults to 15): Number of bins of equal width; a confidence on an edge belongs to the
            bin below it.

    Returns:
        The mean over the clips of the distance, in the bin of the clip, between accuracy and mean confidence (0 to 1).
    """
    scores, hits = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    bin_of_clip = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of_clip, hits - scores, minlength=bins)
    return float(np.abs(gaps).sum() / len(scores))


def risk_coverage_curve(
    confidences: Floats, correct: Sequence[bool] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the share of wrong answers if only the more confident ones are given (El-Yaniv & Wiener, 2010).

    Args:
        confidences (`Floats` of shape `(N,)`): Probability of the predicted label of each clip, 0 to 1.
        correct (`Sequence[bool]` or `np.ndarray` of shape `(N,)`): Whether that label is the true one.

    Returns:
        Three arrays (U,), one value for each distinct confidence in descending order: `thresholds`, that
        confidence; `coverage`, the share of clips with this confidence or a higher one; `risk`, the share of wrong
        answers among them.
    """
    scores, errors = np.asarray(confidences, dtype=float), 1 - np.asarray(correct, dtype=float)
    # Clips with the same confidence get an answer at the same threshold.
    values, group = np.unique(-scores, return_inverse=True)
    counts = np.cumsum(np.bincount(group))
    return -values, counts / len(scores), np.cumsum(np.bincount(group, errors)) / counts


def risk_coverage_area(confidences: Floats, correct: Sequence[bool] | np.ndarray) -> float:
    """Computes the area under the risk-coverage curve (Geifman et al., 2019): the mean risk over coverages, 0 to 1.

    Args:
        confidences (`Floats` of shape `(N,)`): Probability of the predicted label of each clip, 0 to 1.
        correct (`Sequence[bool]` or `np.ndarray` of shape `(N,)`): Whether that label is the true one.
    """
    _, coverage, risk = risk_coverage_curve(confidences, correct)
    return float((risk * np.diff(coverage, prepend=0)).sum())


def localisation_figures(
    predictions: Sequence[Floats], references: Sequence[Floats], threshold: float = 0.5
) -> dict[str, Any]:
    """Computes how well frame scores find the frames that show the emotion, averaged over clips.

    Clips whose frames all show the emotion, or all do not, are left out.

    Args:
        predictions (`Sequence[Floats]`): For each clip, the scores of its T frames for the true class; T differs
            between clips.
        references (`Sequence[Floats]`): For each clip, the intensities (0 to 1) of the same frames.
        threshold (`float`, *optional*, defaults to 0.5): Intensity from which a frame shows the emotion.

    Returns:
        `frame_ap` (average precision) and `pointing` (share of clips whose top frame shows the emotion), both 0 to 1;
        the same figures for a random order (`random_frame_ap`, `random_pointing`: exact expectations) and for
        closeness to the middle of the clip (`position_frame_ap`, `position_pointing`); and `num_clips`, the number of
        clips that count. All figures are None if no clip counts.
    """
    all_figures = [clip_figures(*clip, threshold) for clip in zip(predictions, references, strict=True)]
    known = [figures for figures in all_figures if figures is not None]
    names = [f"{ranking}{metric}" for ranking in ("", "random_", "position_") for metric in ("frame_ap", "pointing")]
    means = {name: float(np.mean([figures[name] for figures in known])) if known else None for name in names}
    return means | {"num_clips": len(known)}


def clip_figures(scores: Floats, intensity: Floats, threshold: float = 0.5) -> dict[str, float] | None:
    """Computes the figures of `localisation_figures` for one clip.

    Args:
        scores (`Floats` of shape `(T,)`): Scores of the frames.
        intensity (`Floats` of shape `(T,)`): Intensities of the frames.
        threshold (`float`, *optional*, defaults to 0.5): Intensity from which a frame shows the emotion.

    Returns:
        The figures by name, or None if all frames or no frames show the emotion.
    """
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
    """Returns the share of the frames with the highest score that show the emotion. It is 0 or 1 without ties."""
    return float(truth[scores == scores.max()].mean())


def _random_average_precision(frames: int, positives: int) -> float:
    """Returns the expected average precision of a random order.

    On average, (i - 1) (positives - 1) / (frames - 1) other positives rank above a positive at rank i.
    """
    rank = np.arange(1, frames + 1)
    return float(np.mean((1 + (rank - 1) * (positives - 1) / (frames - 1)) / rank))


def mean_average_precision(
    predictions: Sequence[Sequence[Segment]],
    references: Sequence[Sequence[Segment]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float | None]:
    """Computes the mean average precision (mAP) of labelled segments, as the ActivityNet challenge does.

    The predicted segments of a class are ranked by confidence over all videos. In this order, each one takes the true
    segment of its class and video that overlaps it most and is not taken yet. It is correct if their intersection over
    union in time reaches the threshold. The precision at a recall is the highest precision at this recall or a higher
    one (interpolated at every recall, which `sklearn.metrics.average_precision_score` does not do).

    Args:
        predictions (`Sequence[Sequence[Segment]]`): For each video, the predicted segments: `start` and `end` in
            seconds, `label` and `confidence`.
        references (`Sequence[Sequence[Segment]]`): For each video, the true segments: `start` and `end` in seconds,
            and `label`.
        thresholds (`Sequence[float]`, *optional*, defaults to `THRESHOLDS`): Values above 0 that the intersection over
            union must reach.

    Returns:
        `map_30` and so on for each threshold, the mean over the classes that occur in `references` (0 to 1), and
        `map`, the mean over the thresholds. All are None if there is no true segment.
    """
    labels = sorted({segment["label"] for video in references for segment in video})
    values = [_average_precisions(predictions, references, label, thresholds) for label in labels]
    figures: dict[str, float | None] = {
        f"map_{round(100 * threshold)}": float(np.mean(column)) if labels else None
        for threshold, column in zip(thresholds, np.reshape(values, (-1, len(thresholds))).T, strict=True)
    }
    known = [value for value in figures.values() if value is not None]
    return figures | {"map": float(np.mean(known)) if known else None}


def _average_precisions(
    predictions: Sequence[Sequence[Segment]],
    references: Sequence[Sequence[Segment]],
    label: str,
    thresholds: Sequence[float],
) -> np.ndarray:
    """Returns the average precision (Q,) of one class at each of Q thresholds."""
    true_boxes, _ = _boxes(references, label)
    boxes, confidences = _boxes(predictions, label)
    order = np.argsort(-confidences, kind="stable")
    # Two segments of no length have a union of 0.
    overlaps = np.nan_to_num(box_iou(boxes, true_boxes).numpy())[order]
    min_overlaps, rows = np.asarray(thresholds), np.arange(len(thresholds))
    free = np.ones((len(thresholds), len(true_boxes)), bool)
    correct = np.zeros((len(thresholds), len(boxes)))
    for rank in np.flatnonzero(overlaps.max(1) >= min_overlaps.min()):
        best = np.where(free, overlaps[rank], -1).argmax(1)
        correct[:, rank] = free[rows, best] & (overlaps[rank, best] >= min_overlaps)
        free[rows, best] &= correct[:, rank] == 0
    precision = np.cumsum(correct, 1) / np.arange(1, len(boxes) + 1)
    interpolated = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    return (interpolated * correct).sum(1) / len(true_boxes)


def _boxes(videos: Sequence[Sequence[Segment]], label: str) -> tuple[torch.Tensor, np.ndarray]:
    """Returns the segments of a class as boxes, and their confidences.

    Segments of the same video are boxes in the same row, of height one, so segments of different videos never overlap.

    Returns:
        Boxes (N, 4) as (start, row, end, row + 1), and confidences (N,), which are 0 for true segments.
    """
    found = [(segment, row) for row, video in enumerate(videos) for segment in video if segment["label"] == label]
    corners = [(segment["start"], row, segment["end"], row + 1) for segment, row in found]
    boxes = torch.tensor(corners, dtype=torch.float64).reshape(-1, 4)
    return boxes, np.array([segment.get("confidence", 0.0) for segment, _ in found])
