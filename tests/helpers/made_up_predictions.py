"""Made-up predictions, as the pipeline gives them, for tests of what is written and printed."""

from typing import Any

LABELS = ["happiness", "neutral", "sadness"]


def segment(label: str, start: float, end: float, person: int | None = 1, second: str | None = None) -> dict[str, Any]:
    """A segment; one with a second candidate is unsure."""
    return {
        "label": label if second is None else "unsure",
        "start": start,
        "end": end,
        "score": 0.83 if second is None else 0.45,
        "candidates": [label] if second is None else [label, second],
        "person": person,
        "sentence": f"{label}, {start:.1f} s to {end:.1f} s: a sign of {label}",
    }


def person(number: int | None, segments: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A person who is seen twice a second during the segments."""
    seconds = [s["start"] + i / 2 for s in segments for i in range(max(1, int(2 * (s["end"] - s["start"]))))]
    count = max(1, len(seconds))
    found = {
        "person": number,
        "label": "happiness",
        "score": 0.87,
        "candidates": ["happiness"],
        "scores": dict(zip(LABELS, (0.87, 0.1, 0.03), strict=True)),
        "timestamps": seconds,
        "frame_scores": {label: [1 / 3] * count for label in LABELS},
        "frame_relevance": [1 / count] * count,
        "description_relevance": [[0.2] * count, [0.1] * count],
        "without_face": [],
        "warnings": [],
        "segments": segments,
        "explanation": {
            "sentence": "happiness, 1.0 s to 2.0 s: lip corners raised",
            "label": "happiness",
            "score": 0.87,
            "spans": [{"first": 0, "last": 0, "start": 1.0, "end": 2.0, "relevance": 1 / count}],
            "descriptions": [{"text": "lip corners raised", "cosine": 0.2, "gain": None, "z_score": 1.5}],
            "candidates": ["happiness"],
        },
    }
    if number is not None:
        found["boxes"] = [[10.0, 20.0, 50.0, 60.5]] * (count - 1) + [None]
    return {**found, **changes}


def prediction(*people: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A video of 12.4 seconds with a cut at 4.1 seconds."""
    found = {
        "duration": 12.4,
        "width": 640,
        "height": 360,
        "detector": "yunet",
        "cuts": [4.1],
        "timestamps": [i / 2 for i in range(25)],
        "calibrated": True,
        "people": list(people),
    }
    return {**found, **changes}


def two_people() -> dict[str, Any]:
    """Two people, of whom the second comes after the cut and goes again; with a gap and an unsure segment."""
    first = person(1, [segment("happiness", 0.0, 1.8), segment("neutral", 1.8, 4.1), segment("sadness", 6.0, 9.25)])
    second = [segment("happiness", 4.1, 5.0, 2, "sadness"), segment("happiness", 5.0, 12.4, 2)]
    small = "The face is small: less than 32 pixels wide in 80 % of its frames."
    return prediction(first, person(2, second, warnings=[small], without_face=[0.0, 0.5]))


def of_frames() -> dict[str, Any]:
    """A folder of two frames at the assumed rate of 25 per second. Faces were not detected."""
    seconds = [0.0, 0.04]
    one = person(None, [segment("happiness", 0.0, 0.08, None)], timestamps=seconds, frame_relevance=[0.5, 0.5])
    one["description_relevance"] = [[0.1, 0.2]]
    one["frame_scores"] = {label: [0.3, 0.4] for label in LABELS}
    return prediction(one, duration=0.08, detector=None, cuts=[], timestamps=seconds, calibrated=False)
