"""Today's pipeline and pictures behind the interfaces of the new ones; to be deleted when these are merged."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tgdfer.processing.calibration_tgdfer import references_of
from tgdfer.processing.explanation_tgdfer import explain_clip
from tgdfer.processing.pipeline_tgdfer import LONGEST_CLIP
from tgdfer.training.figures import annotate as annotate_people
from tgdfer.training.figures import plot_timeline as plot_person


def run_pipeline(
    pipeline: Any,
    video: Any,
    interval: float | None = None,
    thumbnails: int | None = None,
    progress: Callable[[float], None] | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Runs today's pipeline, and gives what the new one gives."""
    found = pipeline(video, progress=progress)
    processor = pipeline.video_processor
    people = found if isinstance(found, list) else [found]
    long = people[0]["timestamps"] is not None and people[0]["timestamps"][-1] > LONGEST_CLIP
    if thumbnails and long:
        whole = copy.copy(processor)
        whole.face_crop = "none"
        frames, seconds = whole.read_clip(video, thumbnails)
        parts = [(frames, seconds)] * len(people)
    elif thumbnails:
        parts = [(part.frames, part.seconds) for part in processor.read_parts(video, processor.num_frames)]
    else:
        parts = [(None, None)] * len(people)
    looked = processor.face_crop != "none"
    persons = []
    for number, (one, (frames, seconds)) in enumerate(zip(people, parts, strict=True), 1):
        person = {
            **{key: value for key, value in one.items() if key not in ("track", "calibrated", "without_face")},
            "person": number if looked else None,
            "without_face": one.get("without_face", []),
            "warnings": [],
        }
        person["segments"] = [
            {
                "label": segment["label"],
                "start": segment["start"],
                "end": segment["end"],
                "score": segment["confidence"],
                "candidates": [segment["label"]],
                "person": person["person"],
            }
            for segment in one["segments"]
        ]
        if not person["segments"] and one["timestamps"]:
            answer = {"label": one["label"], "score": one["score"], "candidates": one["candidates"]}
            times = {"start": one["timestamps"][0], "end": one["timestamps"][-1]}
            person["segments"] = [{**answer, **times, "person": person["person"]}]
        if frames is not None:
            person["thumbnails"] = frames.permute(0, 2, 3, 1).numpy()
            person["thumbnail_seconds"] = None if seconds is None else seconds.tolist()
        persons.append(person)
    return {
        "duration": None if people[0]["timestamps"] is None else people[0]["timestamps"][-1],
        "width": None,
        "height": None,
        "detector": processor.face_detector if looked else None,
        "cuts": [],
        "timestamps": people[0]["timestamps"],
        "calibrated": people[0]["calibrated"],
        "people": persons,
    }


def explain_timeline(result: dict[str, Any], processor: Any, config: Any) -> dict[str, Any]:
    """Adds the explanations."""
    for person in result["people"]:
        label, seconds = person["candidates"][0], person["timestamps"]
        explanation = explain_clip(
            person["candidates"],
            person["score"],
            torch.tensor(person["frame_relevance"]),
            torch.tensor(person["description_relevance"]).T,
            (processor.descriptions or {}).get(label, []),
            None if seconds is None else torch.tensor(seconds),
            references=references_of(label, config),
        )
        person["explanation"] = explanation.to_dict()
        for segment in person["segments"]:
            segment["sentence"] = str(explanation)
    return result


def plot_timeline(result: dict[str, Any], path: Path, title: str) -> None:
    """Draws a picture for each person."""
    for number, person in enumerate(result["people"]):
        own = path if number == 0 else path.with_stem(f"{path.stem}-face{number + 1}")
        seconds = person["timestamps"]
        film = None
        if seconds is not None and seconds[-1] > LONGEST_CLIP:
            count = len(person["thumbnails"])
            film = person["thumbnail_seconds"] or [(i + 0.5) / count * seconds[-1] for i in range(count)]
        plot_person(_old(person), person["thumbnails"], own, title, film)


def annotate(video: Any, result: dict[str, Any], path: Path, progress: Any = None) -> None:
    """Draws the people into the video."""
    annotate_people(video, [_old(person) for person in result["people"]], path, progress or (lambda share: None))


def _old(person: dict[str, Any]) -> dict[str, Any]:
    return {
        **person,
        "track": person["person"],
        "segments": [{**segment, "confidence": segment["score"]} for segment in person["segments"]],
    }
