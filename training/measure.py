"""Predictions of a model for labelled clips, and the metrics that are computed from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer.layers_tgdfer import masked_softmax
from tgdfer.modeling_tgdfer.losses_tgdfer import hard_labels
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification, TGDFEROutput
from tgdfer.processing.explanation_tgdfer import at_temperature
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.groups import group_members
from tgdfer.training.metrics import (
    clip_figures,
    expected_calibration_error,
    localisation_figures,
    recognition_figures,
    risk_coverage_area,
)
from tgdfer.training.metrics.intervals import ClipOutcomes, metric_intervals
from tgdfer.training.processes import batch_loader, gather_batches, own_batches, process_state

# Entries of a batch that are not inputs of the network.
_GROUND_TRUTH = ("labels", "intensity", "activity")


@dataclass(frozen=True)
class ClipPrediction:
    """The prediction of a model for one clip of T frames, with the ground truth of the frames.

    Attributes:
        label (`str`): The most probable label, even if the model is unsure.
        score (`float`): Its probability, calibrated if the model is.
        relevance (`list[float]`): Score of each frame for the true class, T values: see `frame_scores`.
        intensity (`list[float]`): True intensity of each frame, NaN if unknown.
        activity (`list[float]`): Summed intensity of the action units in each frame, NaN if unknown.
        logits (`list[float]`): Logits of the K classes, before any temperature. Empty for methods without logits.
    """

    label: str
    score: float
    relevance: list[float]
    intensity: list[float]
    activity: list[float]
    logits: list[float] = field(default_factory=list)


def frame_scores(output: TGDFEROutput, frame_mask: Tensor, config: TGDFERConfig) -> Tensor:
    """Returns the scores by which the frames of a clip are ranked, (B, T, K).

    They are the relevance with `mil_pooling="attention"`. The weights of the other poolings are equal for many frames,
    so the scores are the softmax of the evidence over time there.

    Args:
        output (`TGDFEROutput`): Output of the model.
        frame_mask (`torch.Tensor` of shape `(B, T)`): True for valid frames.
        config (`TGDFERConfig`): Config of the model.
    """
    if config.mil_pooling == "attention":
        return output["frame_relevance"]
    return masked_softmax(output["frame_logits"], frame_mask.unsqueeze(-1), dim=1)


def predict_clips(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    batch_size: int = 16,
    workers: int | None = 0,
    device: torch.device | None = None,
    unreadable: Tensor | None = None,
) -> list[ClipPrediction]:
    """Predicts each clip from its middle frames, in the order of the clips.

    Several processes share the clips. Every process must call this function, and each one returns all predictions.

    Args:
        model (`TGDFERForVideoClassification`): A trained model.
        video_processor (`TGDFERVideoProcessor`): Video processor that samples and normalises the frames.
        clips (`LabelledClips`): The clips.
        batch_size (`int`, *optional*, defaults to 16): Clips per step.
        workers (`int`, *optional*, defaults to 0): Number of processes that decode clips.
        device (`torch.device`, *optional*): Device of the model. By default Accelerate chooses it.
        unreadable (`Tensor` of shape `(N,)`, *optional*): Marks of the clips that cannot be read, as in `ClipDataset`.
            Their predictions are those of another clip. By default such a clip is an error.
    """
    names = model.config.class_names
    data = ClipDataset(clips, names, video_processor, model.config.num_frames, unreadable=unreadable)
    batches = own_batches(len(data), batch_size)
    stream = predict_batches(model, batch_loader(data, batches, workers), device)
    predictions = [list(islice(stream, len(batch))) for batch in batches]
    next(stream, None)  # Completes the progress bar.
    return list(chain.from_iterable(gather_batches(predictions)))


def predict_batches(
    model: TGDFERForVideoClassification, batches: Iterable[dict[str, Tensor]], device: torch.device | None = None
) -> Iterator[ClipPrediction]:
    """Predicts the clips of a loader, in its order.

    Args:
        model (`TGDFERForVideoClassification`): A trained model.
        batches (`Iterable[dict[str, Tensor]]`): Batches with `pixel_values_videos` (B, T, 3, S, S) or `frame_features`
            (B, T, D), and the true `labels` (B,) or (B, K). Optional are `frame_mask` and `timestamps` (B, T), and the
            `intensity` and `activity` (B, T) of the frames.
        device (`torch.device`, *optional*): Device of the model. By default Accelerate chooses it.
    """
    model = model.eval().to(device or process_state().device)
    names = model.config.class_names
    hidden = not process_state().is_main_process
    for batch in track(batches, "Evaluating", console=get_console(), disable=hidden):
        inputs = {name: value.to(model.device) for name, value in batch.items() if name not in _GROUND_TRUTH}
        with torch.inference_mode():
            output = model(**inputs)
        logits = output.logits.float()
        scores, best = at_temperature(logits, model.config).softmax(-1).cpu().max(-1)
        unknown = torch.full(output.frame_relevance.shape[:2], torch.nan)
        mask = batch.get("frame_mask", torch.ones_like(unknown)).bool()
        relevance = frame_scores(output, mask.to(model.device), model.config).float().cpu()
        intensity, activity = (batch.get(name, unknown) for name in ("intensity", "activity"))
        # The frames of clips without a single label are ranked for their first class.
        for clip, label in enumerate(hard_labels(batch["labels"]).clamp(min=0).tolist()):
            valid = mask[clip]
            yield ClipPrediction(
                label=names[int(best[clip])],
                score=float(scores[clip]),
                relevance=relevance[clip, valid, label].tolist(),
                intensity=intensity[clip][valid].tolist(),
                activity=activity[clip][valid].tolist(),
                logits=logits[clip].tolist(),
            )


def measure_model(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], config: TGDFERConfig
) -> dict[str, Any]:
    """Computes all metrics of `evaluate_model`: those of `measure` and `measure_confidence`, and `calibrated`.

    Args:
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        config (`TGDFERConfig`): Config of the model.
    """
    return {
        **measure(true_labels, predictions, config.class_names),
        "calibrated": config.is_calibrated,
        **measure_confidence(true_labels, predictions, config.unsure_below),
    }


def measure(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], labels: Sequence[str]
) -> dict[str, Any]:
    """Computes the metrics of the labels and of the frames.

    The metrics of the frames use the clips that are not neutral and whose frames have a known intensity or known
    action units.

    Args:
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        labels (`Sequence[str]`): Names of the K classes.

    Returns:
        `labels`, the metrics of `recognition_figures` and `localisation_figures`, and `activity_gain`.
    """
    recognition = recognition_figures(
        predictions=[prediction.label for prediction in predictions], references=true_labels, labels=labels
    )
    emotional = [prediction for prediction, label in zip(predictions, true_labels, strict=True) if label != "neutral"]
    with_intensity = [prediction for prediction in emotional if not np.isnan(prediction.intensity).any()]
    localisation: dict[str, Any] = {}
    if with_intensity:
        localisation = localisation_figures(
            predictions=[prediction.relevance for prediction in with_intensity],
            references=[prediction.intensity for prediction in with_intensity],
        )
    names = ("frame_ap", "pointing", "random_frame_ap", "random_pointing", "position_frame_ap", "position_pointing")
    figures = {name: localisation.get(name) for name in names}
    return {"labels": list(labels), **recognition, **figures, "activity_gain": activity_gain(emotional)}


def clip_outcomes(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], people: Sequence[str] | None = None
) -> ClipOutcomes:
    """Compares predictions with the truth, clip by clip, for intervals and comparisons.

    Args:
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        people (`Sequence[str]`, *optional*): Person in each clip.
    """
    frames: dict[str, list[float]] = {"frame_ap": [], "pointing": []}
    for label, prediction in zip(true_labels, predictions, strict=True):
        is_known = label != "neutral" and not np.isnan(prediction.intensity).any()
        figures = clip_figures(prediction.relevance, prediction.intensity) if is_known else None
        for name, values in frames.items():
            values.append(np.nan if figures is None else figures[name])
    return ClipOutcomes(
        labels=np.array(true_labels),
        right=np.array([item.label == label for item, label in zip(predictions, true_labels, strict=True)], float),
        confidence=np.array([prediction.score for prediction in predictions]),
        **{name: np.array(values, float) for name, values in frames.items()},
        people=None if people is None else np.array(people),
    )


def measure_groups(
    true_labels: Sequence[str],
    predictions: Sequence[ClipPrediction],
    labels: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None,
    people: Sequence[str] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Computes the metrics of the labels of each group of clips, with bootstrap intervals.

    Args:
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        labels (`Sequence[str]`): Names of the K classes.
        groups (`Mapping[str, Sequence[str]]`, *optional*): Group of each clip for each attribute.
        people (`Sequence[str]`, *optional*): Person in each clip, over whom the intervals are drawn. By default they
            are drawn over clips.

    Returns:
        `num_clips`, `war`, `uar`, `recall`, and the `intervals` of `war` and `uar`, by attribute and group.
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    outcomes = clip_outcomes(true_labels, predictions, people)
    for attribute, members in group_members(groups or {}).items():
        for group, rows in members.items():
            figures = recognition_figures(
                predictions=[predictions[row].label for row in rows],
                references=[true_labels[row] for row in rows],
                labels=labels,
            )
            kept = {name: figures[name] for name in ("war", "uar", "recall")}
            intervals = metric_intervals(outcomes.select(rows))
            kept["intervals"] = {name: intervals[name] for name in ("over", "units", "war", "uar")}
            results.setdefault(attribute, {})[group] = {"num_clips": len(rows), **kept}
    return results


def measure_confidence(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], unsure_below: float | None = None
) -> dict[str, Any]:
    """Computes how reliable the probabilities of a model are.

    Args:
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        unsure_below (`float`, *optional*): Probability below which the model is unsure. None if it never is.

    Returns:
        `ece` (expected calibration error) and `risk_coverage_area`. With a threshold also `coverage`, the share of
        clips that get a label, and `covered_war`, the share of these labels that are correct (None if there are none).
        All are from 0 to 1.
    """
    scores = np.array([prediction.score for prediction in predictions])
    correct = np.array([item.label == label for item, label in zip(predictions, true_labels, strict=True)])
    figures: dict[str, Any] = {
        "ece": expected_calibration_error(scores, correct),
        "risk_coverage_area": risk_coverage_area(scores, correct),
    }
    if unsure_below is not None:
        sure = scores >= unsure_below
        figures |= {
            "unsure_below": unsure_below,
            "coverage": float(sure.mean()),
            "covered_war": float(correct[sure].mean()) if sure.any() else None,
        }
    return figures


def activity_gain(predictions: Sequence[ClipPrediction]) -> float | None:
    """Computes how much more active the action units are in the most relevant frames than in the whole clip.

    Args:
        predictions (`Sequence[ClipPrediction]`): Predictions for clips.

    Returns:
        The activity of the most relevant quarter of the frames divided by that of all frames, averaged over the clips
        whose action units are known and not all zero. Random frames have a gain of 1. None if there is no such clip.
    """
    gains = []
    for prediction in predictions:
        activity = np.asarray(prediction.activity)
        if not np.isnan(activity).any() and activity.sum() > 0:
            top = np.argsort(prediction.relevance, kind="stable")[-max(1, round(len(activity) / 4)) :]
            gains.append(activity[top].mean() / activity.mean())
    return float(np.mean(gains)) if gains else None
