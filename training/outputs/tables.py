"""CSV tables of predictions: one row per sampled frame, or one row per segment."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tgdfer.training.files import printable

Results = Mapping[str, Mapping[str, Any]]


def frame_table(results: Results) -> str:
    """Creates a CSV table with a row for each sampled frame of each person.

    The columns are the file; the person; the label of the person in the whole video and its probability; the index of
    the frame among those of the person; its time in seconds; its relevance; the box of the face in pixels; and the
    probability of each class in this frame. Person and box are empty if faces were not detected.

    Args:
        results (`Results`): Output of the pipeline for each video.
    """
    people = [(video, person) for video, result in results.items() for person in result["people"]]
    labels = list(people[0][1]["frame_scores"]) if people else []
    sides = ["left", "top", "right", "bottom"]
    header = ["file", "person", "label", "score", "frame", "seconds", "relevance", *sides, *labels]
    return _csv(header, (row for video, person in people for row in _frame_rows(video, person, labels)))


def _frame_rows(video: str, person: Mapping[str, Any], labels: Sequence[str]) -> Iterable[list[Any]]:
    """Yields the rows of a person."""
    seconds = person["timestamps"]
    boxes = person.get("boxes") or [None] * len(person["frame_relevance"])
    for index, relevance in enumerate(person["frame_relevance"]):
        yield [
            printable(video),
            _blank(person["person"]),
            person["label"],
            f"{person['score']:.4f}",
            index,
            f"{seconds[index]:.3f}",
            f"{relevance:.4f}",
            *([""] * 4 if boxes[index] is None else [f"{side:.1f}" for side in boxes[index]]),
            *(f"{person['frame_scores'][label][index]:.4f}" for label in labels),
        ]


def segment_table(results: Results) -> str:
    """Creates a CSV table with a row for each segment.

    The columns are the file; the person; start and end in seconds; the label and its probability; the candidates of an
    "unsure" segment; and a sentence that explains the label.

    Args:
        results (`Results`): Output of the pipeline for each video, with explained segments.
    """
    header = ["file", "person", "start", "end", "label", "score", "candidates", "sentence"]
    return _csv(
        header,
        (
            [
                printable(video),
                _blank(person["person"]),
                f"{segment['start']:.3f}",
                f"{segment['end']:.3f}",
                segment["label"],
                f"{segment['score']:.4f}",
                " or ".join(segment["candidates"]),
                segment.get("sentence", ""),
            ]
            for video, result in results.items()
            for person in result["people"]
            for segment in person["segments"]
        ),
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return table.getvalue()


def _blank(value: Any) -> Any:
    return "" if value is None else value
