"""What a model says of labelled clips, and the figures that follow from it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import at_temperature
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data.batches import SampledClips
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.metrics import (
    expected_calibration_error,
    localisation_figures,
    recognition_figures,
    risk_coverage_area,
)
from tgdfer.training.processes import gather_batches, loader_of, own_batches, process_state

# Entries of a batch that the network is not given.
_TRUTHS = ("labels", "intensity", "activity")


@dataclass(frozen=True)
class ClipPrediction:
    """What the model says of one clip of T frames.

    Attributes:
        label: the most probable label, also where the model is unsure.
        score: its probability, calibrated if the model is.
        relevance: weight of each frame in the logit of the true class, T of them.
        intensity: true intensity of the same frames; NaN where unknown.
        activity: summed intensity of their action units; NaN where unknown.
    """

    label: str
    score: float
    relevance: list[float]
    intensity: list[float]
    activity: list[float]


def predict_clips(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    batch_size: int = 16,
    workers: int = 0,
    device: torch.device | None = None,
) -> list[ClipPrediction]:
    """What the model says of each clip, at the middle frames, in the order of the clips.

    Several processes share the clips, and each of them returns all predictions; every process calls this function.
    """
    names = [name for _, name in sorted(model.config.id2label.items())]
    data = SampledClips(clips, names, video_processor, model.config.num_frames)
    batches = own_batches(len(data), batch_size)
    found = predict_batches(model, loader_of(data, batches, workers), device)
    predictions = [list(islice(found, len(batch))) for batch in batches]
    return list(chain.from_iterable(gather_batches(predictions)))


def predict_batches(
    model: TGDFERForVideoClassification, batches: Iterable[dict[str, Tensor]], device: torch.device | None = None
) -> Iterator[ClipPrediction]:
    """What the model says of each clip of a loader, in its order.

    Args:
        model: a trained model.
        batches: inputs of the network, `pixel_values_videos` (B, T, 3, S, S) or `frame_features` (B, T, D), with or
            without `frame_mask` and `timestamps` (B, T); the true `labels` (B,); and where they are known the
            `intensity` and `activity` (B, T) of the frames.
        device: where the model computes; None leaves it to Accelerate.
    """
    model = model.eval().to(device or process_state().device)
    names = [name for _, name in sorted(model.config.id2label.items())]
    hidden = not process_state().is_main_process
    for batch in track(batches, "Evaluating", console=get_console(), disable=hidden):
        inputs = {name: value.to(model.device) for name, value in batch.items() if name not in _TRUTHS}
        with torch.inference_mode():
            output = model(**inputs)
        scores, best = at_temperature(output.logits.float(), model.config).softmax(-1).cpu().max(-1)
        relevance = output.frame_relevance.float().cpu()
        unknown = torch.full(relevance.shape[:2], torch.nan)
        mask = batch.get("frame_mask", torch.ones_like(unknown)).bool()
        intensity, activity = (batch.get(name, unknown) for name in ("intensity", "activity"))
        for row, label in enumerate(batch["labels"].tolist()):
            seen = mask[row]
            yield ClipPrediction(
                label=names[int(best[row])],
                score=float(scores[row]),
                relevance=relevance[row, seen, label].tolist(),
                intensity=intensity[row][seen].tolist(),
                activity=activity[row][seen].tolist(),
            )


def measure_model(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], config: TGDFERConfig
) -> dict[str, Any]:
    """All figures that `evaluate_model` gives of clips: `measure`, `measure_confidence` and `calibrated`.

    Args:
        true_labels: N labels of the clips.
        predictions: N predictions of a model.
        config: of this model.
    """
    return {
        **measure(true_labels, predictions, list(config.id2label.values())),
        "calibrated": config.is_calibrated,
        **measure_confidence(true_labels, predictions, config.unsure_below),
    }


def measure(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], labels: Sequence[str]
) -> dict[str, Any]:
    """The figures of `evaluate_model`, of clips and what a model says of them.

    Frames are measured in the clips that are not neutral and whose frames' intensity, or action units, are known.

    Args:
        true_labels: N labels of the clips.
        predictions: N predictions.
        labels: K names of the classes.
    """
    recognition = recognition_figures(
        predictions=[prediction.label for prediction in predictions], references=true_labels, labels=labels
    )
    emotional = [prediction for prediction, label in zip(predictions, true_labels, strict=True) if label != "neutral"]
    shown = [prediction for prediction in emotional if not np.isnan(prediction.intensity).any()]
    localisation: dict[str, Any] = {}
    if shown:
        localisation = localisation_figures(
            predictions=[prediction.relevance for prediction in shown],
            references=[prediction.intensity for prediction in shown],
        )
    frames = ("frame_ap", "pointing", "random_frame_ap", "random_pointing", "position_frame_ap", "position_pointing")
    found = {name: localisation.get(name) for name in frames}
    return {"labels": list(labels), **recognition, **found, "activity_gain": activity_gain(emotional)}


def measure_confidence(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], unsure_below: float | None = None
) -> dict[str, Any]:
    """How far the probabilities of a model can be relied on.

    Args:
        true_labels: N labels of the clips.
        predictions: N predictions.
        unsure_below: probability below which the model is unsure; None if it never is.

    Returns:
        `ece`, the expected calibration error; `risk_coverage_area`; and, with a threshold, `coverage`, the share of
        clips that are given a label, and `covered_war`, the share of these labels that are right, None if there are
        none. All from 0 to 1.
    """
    scores = np.array([prediction.score for prediction in predictions])
    right = np.array([one.label == label for one, label in zip(predictions, true_labels, strict=True)])
    figures: dict[str, Any] = {
        "ece": expected_calibration_error(scores, right),
        "risk_coverage_area": risk_coverage_area(scores, right),
    }
    if unsure_below is not None:
        sure = scores >= unsure_below
        figures |= {
            "unsure_below": unsure_below,
            "coverage": float(sure.mean()),
            "covered_war": float(right[sure].mean()) if sure.any() else None,
        }
    return figures


def activity_gain(predictions: Sequence[ClipPrediction]) -> float | None:
    """How much more a face moves in the frames that decide: their action units against those of the whole clip.

    Returns:
        Activity of the most relevant quarter of the frames over that of all frames, mean over the clips whose action
        units are known and move; 1 is what random frames have. None if there is no such clip.
    """
    gains = []
    for prediction in predictions:
        activity = np.asarray(prediction.activity)
        if not np.isnan(activity).any() and activity.sum() > 0:
            top = np.argsort(prediction.relevance, kind="stable")[-max(1, round(len(activity) / 4)) :]
            gains.append(activity[top].mean() / activity.mean())
    return float(np.mean(gains)) if gains else None
