"""Finds where in the face of each person of a video the named descriptions are seen, in the most relevant frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgdfer.processing.explanation_tgdfer import MAX_NAMED, Description
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.figures.regions import FaceRegions
from tgdfer.training.figures.timeline import MAX_PEOPLE
from tgdfer.training.figures.timeline_row import answer_with_score


def face_regions(
    pipeline: EmotionTimelinePipeline,
    processor: TGDFERProcessor,
    video: Any,
    result: Mapping[str, Any],
    interval: float | None = None,
) -> list[FaceRegions]:
    """Computes the region relevance of each person for the descriptions that the explanation names.

    The video is read again up to the last of these frames, because its frames are not kept while it is analysed.

    Args:
        pipeline (`EmotionTimelinePipeline`): The pipeline that made the result.
        processor (`TGDFERProcessor`): The processor of its model.
        video (`Any`): The video.
        result (`Mapping[str, Any]`): Its result, with the explanations of `explain_timeline`.
        interval (`float`, *optional*): Seconds between two analysed frames, as for the result.

    Returns:
        `list[FaceRegions]`: At most `MAX_PEOPLE` people, in the order of the result. If an explanation names no
        description, the one that fits best is used.

    Raises:
        VideoDecodeError: If the video cannot be read.
    """
    people = result["people"][:MAX_PEOPLE]
    seconds = {one["person"]: one["timestamps"][int(np.argmax(one["frame_relevance"]))] for one in people}
    pixels = _pixels_at(pipeline, video, interval, seconds)
    found = []
    for person in people:
        number, label = person["person"], person["candidates"][0]
        texts = _shown(person["explanation"]["descriptions"])
        relevance = pipeline.model.get_region_relevance(pixels[number])[0, 0].cpu().numpy()  # (K, M, P)
        of_label = relevance[pipeline.model.config.class_names.index(label)]
        known = (processor.descriptions or {}).get(label, [])
        time = f", {seconds[number]:.1f} s" if len(person["timestamps"]) > 1 else ""
        title = f"{'' if number is None else f'Person {number}: '}{answer_with_score(person)}{time}"
        regions = {text: of_label[list(known).index(text)] for text in texts}
        found.append(FaceRegions(title, _picture(pixels[number][0, 0], pipeline.video_processor), regions))
    return found


def _shown(descriptions: list[dict[str, Any]]) -> list[str]:
    """Returns the descriptions that an explanation names, or else the one that fits best."""
    ranked = [Description(**one) for one in descriptions]
    return [one.text for one in ranked if one.is_shown][:MAX_NAMED] or [one.text for one in ranked[:1]]


def _pixels_at(
    pipeline: EmotionTimelinePipeline, video: Any, interval: float | None, seconds: Mapping[int | None, float]
) -> dict[int | None, Tensor]:
    """Reads one frame of each person, as the model sees it: (1, 1, 3, H, W) at the given time."""
    model, processor = pipeline.model, pipeline.video_processor
    recording = processor.read_recording(video, interval or model.config.frame_interval, model.config.num_frames)
    times = np.round(recording.seconds, 3)  # as in the result
    pixels: dict[int | None, Tensor] = {}
    for chunk in recording.chunks:
        path = recording.paths[chunk.person]
        number = None if recording.detector is None or path is None else path.person
        if number not in seconds:
            continue
        for row in np.flatnonzero(times[chunk.places] == seconds[number]):
            batch = processor([chunk.frames[[row]]], num_frames=1, face_crop="none", return_tensors="pt")
            pixels[number] = batch["pixel_values_videos"].to(model.device, model.dtype)
        if len(pixels) == len(seconds):
            break
    return pixels


def _picture(pixels: Tensor, processor: Any) -> np.ndarray:
    """Undoes the normalisation of a frame: (3, H, W) -> uint8 RGB (H, W, 3)."""
    picture = pixels.float().cpu()
    if processor.do_normalize:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
        picture = picture * std + mean
    return (255 * picture).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
