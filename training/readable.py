"""Predictions for the clips of a split that can be read. The others are put into quarantine."""

from typing import Any

import torch

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data.batches import no_marks
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.quarantine import quarantine, unreadable_reasons, warn_about_quarantine
from tgdfer.training.measure import ClipPrediction, predict_clips
from tgdfer.training.processes import gather_batches


def predict_readable_clips(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    place: str,
    strict: bool = False,
    **options: Any,
) -> tuple[LabelledClips, list[ClipPrediction]]:
    """Predicts each clip as `predict_clips`, and puts clips that turn out to be unreadable into quarantine.

    Args:
        model (`TGDFERForVideoClassification`): A trained model.
        video_processor (`TGDFERVideoProcessor`): Video processor that samples and normalises the frames.
        clips (`LabelledClips`): The clips.
        place (`str`): Name of the split in messages.
        strict (`bool`, *optional*, defaults to `False`): Whether an unreadable clip is an error.
        **options (`Any`): Further arguments of `predict_clips`.

    Returns:
        The readable clips, and their predictions.
    """
    if strict:
        return clips, predict_clips(model, video_processor, clips, **options)
    marks = no_marks(clips)
    predictions = predict_clips(model, video_processor, clips, **options, unreadable=marks)
    marks = torch.stack(gather_batches([marks])).any(0)
    reasons = unreadable_reasons(clips, marks, video_processor)
    kept = quarantine(clips, place, reasons)
    warn_about_quarantine(place, kept)
    return kept, [prediction for index, prediction in enumerate(predictions) if index not in reasons]
