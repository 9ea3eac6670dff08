"""Made-up results of `EmotionTimelinePipeline`: people who come and go, cuts, gaps and answers that are unsure."""

from typing import Any

import numpy as np

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
# A label that a user gives is of any length and in any alphabet.
LONG = "müde und ein wenig gelangweilt, aber nicht unfreundlich (усталость)"


def made_up_person(
    number: int | None,
    seconds: np.ndarray,
    spans: list[tuple[float, float, str]],
    every: np.ndarray,
    labels: tuple[str, ...] = LABELS,
    boxes: np.ndarray | None = None,
    thumbnails: int = 0,
    unsure: tuple[str, str] = ("fear", "surprise"),
) -> dict[str, Any]:
    """A person who is present at `seconds` (T,) of the sampled times `every`.

    Args:
        number: Number of the person.
        seconds: Times at which the person is in the picture.
        spans: (start, end, label) of the segments; the label "unsure" stands between the two classes of `unsure`.
        every: Times of all sampled frames.
        labels: Names of the classes.
        boxes: (T, 4) in pixels.
        thumbnails: Number of thumbnails; each is a grey square with the number of the person as its shade.
        unsure: Candidates of segments that are unsure.
    """
    rng = np.random.default_rng(number or 0)
    values = rng.uniform(0.02, 0.08, (len(labels), len(seconds)))
    segments = []
    for start, end, label in spans:
        candidates = list(unsure) if label == "unsure" else [label]
        on = (seconds >= start) & (seconds < end)
        for name, height in zip(candidates, (1.0, 0.8), strict=False):
            values[labels.index(name), on] += height
        segments.append(
            {"label": label, "start": start, "end": end, "score": 0.83, "candidates": candidates, "person": number}
        )
    values /= values.sum(0)
    relevance = values.max(0) ** 4
    longest = max(spans, key=lambda span: span[1] - span[0])[2]
    candidates = list(unsure) if longest == "unsure" else [longest]
    person: dict[str, Any] = {
        "person": number,
        "label": longest,
        "score": float(values.mean(1)[labels.index(candidates[0])]),
        "candidates": candidates,
        "scores": dict(zip(labels, values.mean(1).tolist(), strict=True)),
        "timestamps": seconds.tolist(),
        "frame_scores": dict(zip(labels, values.tolist(), strict=True)),
        "frame_relevance": (relevance / relevance.sum()).tolist(),
        "description_relevance": [relevance.tolist()],
        "without_face": [] if boxes is None else [second for second in every.tolist() if second not in seconds],
        "warnings": [],
        "segments": segments,
    }
    if boxes is not None:
        person["boxes"] = boxes.tolist()
    if thumbnails:
        shade = 30 * (number or 0) % 256
        places = ((np.arange(thumbnails) + 0.5) * len(seconds) / thumbnails).astype(int)
        person["thumbnails"] = np.full((thumbnails, 32, 32, 3), shade, np.uint8)
        person["thumbnail_seconds"] = seconds[places].tolist()
    return person


def made_up_result(
    people: list[dict[str, Any]], every: np.ndarray, duration: float | None, **changes: Any
) -> dict[str, Any]:
    """A result of 640 x 360 pixels with the given people."""
    return {
        "duration": duration,
        "width": 640,
        "height": 360,
        "detector": "yunet",
        "cuts": [],
        "timestamps": every.tolist(),
        "calibrated": True,
        "people": people,
        **changes,
    }


def three_people(thumbnails: int = 4, width: int = 640, height: int = 360) -> dict[str, Any]:
    """20 seconds with cuts at 6.0 and 13.0, four frames a second.

    Person 1 is there but for a gap from 8 to 10, and once unsure. Person 2 is there in the second shot. Person 3 is
    there in the first and the third, with a long label. The faces of 1 and 3 move to the right.
    """
    every = np.arange(0.125, 20, 0.25)
    labels = (*LABELS, LONG)
    side = height / 4

    def boxes(seconds: np.ndarray, left: float, speed: float, top: float) -> np.ndarray:
        lefts = width * (left + speed * seconds / 20)
        return np.stack([lefts, lefts * 0 + top * height, lefts + side, lefts * 0 + top * height + side], 1)

    first = every[(every < 8) | (every > 10)]
    second = every[(every > 6) & (every < 13)]
    third = every[(every < 6) | (every > 13)]
    people = [
        made_up_person(
            1,
            first,
            [
                (0.0, 2.5, "neutral"),
                (2.5, 6.0, "happiness"),
                (6.0, 8.0, "surprise"),
                (10.0, 13.0, "unsure"),
                (13.0, 16.5, "happiness"),
                (16.5, 20.0, "anger"),
            ],
            every,
            labels,
            boxes(first, 0.05, 0.3, 0.3),
            thumbnails,
        ),
        made_up_person(
            3,
            third,
            [(0.0, 6.0, LONG), (13.0, 20.0, LONG)],
            every,
            labels,
            boxes(third, 0.4, 0.3, 0.55),
            thumbnails,
        ),
        made_up_person(
            2,
            second,
            [(6.0, 9.0, "fear"), (9.0, 10.5, "unsure"), (10.5, 13.0, "sadness")],
            every,
            labels,
            boxes(second, 0.65, 0.0, 0.2),
            thumbnails,
        ),
    ]
    people[1]["warnings"] = ["The face is small: less than 32 pixels wide in 80 % of its frames."]
    return made_up_result(people, every, 20.0, cuts=[6.0, 13.0], width=width, height=height)
