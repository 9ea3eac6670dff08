"""The HTML of the answers: label, timeline, film strip, segments, explanation, and links to files.

Everything that comes from a person or a model is escaped. Pictures and files are part of the HTML, so the server keeps
no file of them. Frames are selected with radio buttons and CSS, which works with the keyboard and without a script.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from tgdfer.model_card.space.clips import MAX_PEOPLE, Analysis, files_of, strip_seconds
from tgdfer.model_card.space.limits import Limitations
from tgdfer.processing.explanation_tgdfer import UNSURE, explain_segment
from tgdfer.training.colours import class_colours, text_colour
from tgdfer.training.figures.presence import TOLERANCE, frame_seconds, segment_at, stretches, video_duration
from tgdfer.training.outputs.names import format_time

# Number of classes whose curves are drawn, and whose probabilities are shown for a frame.
CURVES, BARS = 4, 3
# Height and width of the drawing of a timeline in its own units. The browser stretches it.
HEIGHT, WIDTH = 100, 1000
# Side of the faces in the film strip in pixels, and margin around a face as a share of its size.
THUMBNAIL, MARGIN = 88, 0.25
# Example of the classes that a person may enter, one in each line.
OWN_CLASSES = "smiling: a broad smile, cheeks raised\nbored: half-closed eyes; a slack mouth\nastonished: jaw dropped"
MEDIA_TYPES = {".csv": "text/csv", ".json": "application/json", ".vtt": "text/vtt"}


def answers_html(analysis: Analysis) -> str:
    """Creates the HTML of all answers about a clip.

    Args:
        analysis (`Analysis`): The analysis.

    Returns:
        `str`: HTML without scripts and without links to other files.
    """
    people = analysis.shown_people
    hidden = len(analysis.result["people"]) - len(people)
    notes = []
    if hidden:
        notes.append(f"{hidden} more people are only in the files: the {MAX_PEOPLE} most prominent ones are shown.")
    if analysis.relabelled:
        notes.append("These are your own classes. Their probabilities are not calibrated: do not take them literally.")
    elif not analysis.result["calibrated"]:
        notes.append("The model is not calibrated: its probabilities do not say how often such answers are right.")
    return (
        f'<div class="answers" aria-live="polite"><h2>{escape(analysis.name)}</h2>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
        + "".join(_person_html(analysis, person, index) for index, person in enumerate(people))
        + _downloads_html(analysis)
        + "</div>"
    )


def error_html(sentence: str) -> str:
    """Creates the HTML of an error message."""
    return f'<div class="answers"><p class="problem" role="alert">{escape(sentence)}</p></div>'


def limits_html(limits: Limitations) -> str:
    """Creates the HTML of the limits. Remarks about the data are behind a button."""
    more = (
        f"<details><summary>More about the test</summary>{_list(limits.remarks)}</details>" if limits.remarks else ""
    )
    return f'<div class="limits">{_list([*limits.general, *limits.weak])}{more}</div>'


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in sentences) + "</ul>"


# One person


def _person_html(analysis: Analysis, person: Mapping[str, Any], index: int) -> str:
    number = person["person"]
    title = "" if number is None else f"<p class='who'>Person {number}</p>"
    sentence = person["explanation"]["sentence"].partition(": ")[2]
    why = f"<p>What the face shows: {escape(sentence)}.</p>" if sentence else ""
    return (
        f'<section class="person" aria-label="{"Answer" if number is None else f"Person {number}"}">'
        f"{title}{label_html(person)}"
        f"<p>Decisive: {escape(_decisive(person))}.</p>{why}"
        + "".join(f'<p class="warning">{escape(one)}</p>' for one in person["warnings"])
        + timeline_html(analysis.result, person)
        + _strip_html(analysis, person, index)
        + _segments_html(person)
        + "</section>"
    )


def label_html(person: Mapping[str, Any]) -> str:
    """Creates the HTML of an answer: the label with its probability, or "unsure" with the two candidates."""
    colour = class_colours([person["label"]])[person["label"]]
    swatch = f'<span class="swatch" style="background:{colour}"></span>'
    if person["label"] != UNSURE:
        return f'<p class="label">{swatch}{escape(person["label"])} <span>{person["score"]:.0%}</span></p>'
    likely = " or ".join(f"{one} {person['scores'][one]:.0%}" for one in person["candidates"])
    return f'<p class="label">{swatch}unsure <span>{escape(likely)}</span></p>'


def _decisive(person: Mapping[str, Any]) -> str:
    spans = sorted(person["explanation"]["spans"][:2], key=lambda span: span["first"])
    return " and ".join(_span(one["start"], one["end"]) for one in spans)


def _span(start: float, end: float) -> str:
    first, last = f"{start:.1f} s", f"{end:.1f} s"
    return first if first == last else f"{first} to {last}"


# Timeline


def timeline_html(result: Mapping[str, Any], person: Mapping[str, Any], axis: Sequence[str] | None = None) -> str:
    """Creates the HTML of curves of the probabilities, relevance as an area, and segments, on one axis of time.

    Args:
        result (`Mapping[str, Any]`): Output of the pipeline.
        person (`Mapping[str, Any]`): One of its people.
        axis (`Sequence[str]`, *optional*): Texts below the start, the middle and the end of the axis. They are seconds
            by default.
    """
    length = video_duration(result)
    start, middle, end = axis or ("0 s", f"{length / 2:.1f} s", f"{length:.1f} s")
    labels = sorted(person["scores"], key=lambda label: -max(person["frame_scores"][label]))[:CURVES]
    labels += [label for label in person["candidates"] if label not in labels]
    colours = class_colours([*labels, *(one["label"] for one in person["segments"])])
    parts = [(one.first, one.last + 1) for one in stretches(result, person)]
    x = WIDTH * frame_seconds(person) / length
    relevance = np.asarray(person["frame_relevance"])
    drawn = [_area(x[a:b], HEIGHT * 0.5 * relevance[a:b] / max(relevance.max(), 1e-9)) for a, b in parts]
    for label in reversed(labels):
        heights = HEIGHT * np.asarray(person["frame_scores"][label])
        drawn += [f'<path d="{_line(x[a:b], heights[a:b])}" stroke="{colours[label]}"/>' for a, b in parts]
    drawn += [
        f'<path class="cut" d="M{WIDTH * cut / length:.1f} 0V{HEIGHT}" stroke="currentColor"/>'
        for cut in result["cuts"]
    ]
    spoken = ", ".join(f"{one['label']} {_span(one['start'], one['end'])}" for one in person["segments"])
    bars = "".join(_bar_html(one, length, colours) for one in person["segments"])
    legend = "".join(
        f'<li><span class="swatch" style="background:{colours[label]}"></span>{escape(label)}'
        f" {person['scores'][label]:.0%}</li>"
        for label in labels
    )
    return (
        f'<div class="timeline"><svg role="img" aria-label="Timeline: {escape(spoken)}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' preserveAspectRatio="none">{"".join(drawn)}</svg><div class="bars" aria-hidden="true">{bars}</div>'
        f'<div class="axis" aria-hidden="true"><span>{start}</span><span>{middle}</span>'
        f"<span>{end}</span></div><ul class='legend'>{legend}"
        '<li><span class="swatch relevance"></span>how much a moment counts</li></ul></div>'
    )


def _line(x: np.ndarray, heights: np.ndarray) -> str:
    points = " ".join(f"{a:.1f},{HEIGHT - b:.1f}" for a, b in zip(x, heights, strict=True))
    # A line of length zero with round ends is a point.
    return f"M{points} L{points}" if len(x) == 1 else f"M{points}"


def _area(x: np.ndarray, heights: np.ndarray) -> str:
    points = " ".join(f"{a:.1f},{HEIGHT - b:.1f}" for a, b in zip(x, heights, strict=True))
    return f'<path class="relevance" d="M{x[0]:.1f},{HEIGHT} {points} {x[-1]:.1f},{HEIGHT}Z"/>'


def _bar_html(segment: Mapping[str, Any], length: float, colours: Mapping[str, str]) -> str:
    colour = colours[segment["label"]]
    left, width = (100 * one / length for one in (segment["start"], segment["end"] - segment["start"]))
    return (
        f'<div style="left:{left:.2f}%;width:{width:.2f}%;background:{colour};color:{text_colour(colour)}"'
        f' title="{escape(segment["label"])}">{escape(segment["label"])}</div>'
    )


# Film strip


def _strip_html(analysis: Analysis, person: Mapping[str, Any], index: int) -> str:
    """The film strip of a person: a radio button for each frame, and the large frames, of which CSS shows one."""
    seconds = [second for second in strip_seconds(person) if second in analysis.pictures]
    if not seconds:
        return ""
    places = [person["timestamps"].index(second) for second in seconds]
    chosen = max(range(len(places)), key=lambda one: person["frame_relevance"][places[one]])
    buttons, frames = [], []
    for number, (place, second) in enumerate(zip(places, seconds, strict=True)):
        picture: Any = cv2.imdecode(np.frombuffer(analysis.pictures[second], np.uint8), cv2.IMREAD_COLOR)
        box = _box_in_picture(analysis.result, person, place, picture.shape)
        checked = " checked" if number == chosen else ""
        buttons.append(
            f'<label><input type="radio" name="strip-{index}"{checked} aria-label="Frame at {second:.1f} s">'
            f'<img alt="" src="{_image(_face(picture, box))}" width="{THUMBNAIL}" height="{THUMBNAIL}">'
            f"<span>{format_time(second)}</span></label>"
        )
        frames.append(
            f'<figure><div class="frame"><img alt="The frame at {second:.1f} s"'
            f' src="{_data(analysis.pictures[second])}">'
            f"{_box_html(box, picture.shape)}</div>{_words_html(analysis, person, place)}</figure>"
        )
    return (
        f'<fieldset class="strip"><legend>Select a frame to see it large</legend>'
        f'<div class="reel">{"".join(buttons)}</div><div class="frames">{"".join(frames)}</div></fieldset>'
    )


def _words_html(analysis: Analysis, person: Mapping[str, Any], place: int) -> str:
    """The caption of a large frame: its time, its most probable classes, how much it counts, and its words."""
    scores = {label: values[place] for label, values in person["frame_scores"].items()}
    colours = class_colours(scores)
    bars = "".join(
        f'<li><span class="name">{escape(label)}</span><span class="bar"><span style="width:{score:.0%};'
        f'background:{colours[label]}"></span></span><span class="share">{score:.0%}</span></li>'
        for label, score in sorted(scores.items(), key=lambda one: -one[1])[:BARS]
    )
    weight = person["frame_relevance"][place] * len(person["frame_relevance"])
    words = frame_words(analysis, person, place)
    said = f"<p>{escape(words)}</p>" if words else '<p class="quiet">No description stands out here.</p>'
    return (
        f'<figcaption><p class="quiet">{person["timestamps"][place]:.1f} s · counts {weight:.1f} times as much as an'
        f" average frame</p><ul>{bars}</ul>{said}</figcaption>"
    )


def frame_words(analysis: Analysis, person: Mapping[str, Any], place: int) -> str:
    """Returns the descriptions that fit a frame, separated by semicolons, or "".

    They are those of the first candidate of the person. In a segment with another candidate, they are those of the
    segment, because the result contains no cosines of single frames for other classes.

    Args:
        analysis (`Analysis`): The analysis.
        person (`Mapping[str, Any]`): One of its people.
        place (`int`): Index of the frame among those of the person.
    """
    segment = segment_at(person, person["timestamps"][place] + TOLERANCE)
    label = person["candidates"][0]
    if segment is not None and segment["candidates"][0] != label:
        return segment["sentence"].partition(": ")[2]
    frame = {
        "label": label,
        "candidates": [label],
        "start": person["timestamps"][place],
        "end": person["timestamps"][place],
        "description_relevance": [cosines[place] for cosines in person["description_relevance"]],
    }
    return explain_segment(frame, analysis.descriptions.get(label, []), analysis.references.get(label, {})).partition(
        ": "
    )[2]


def _box_in_picture(
    result: Mapping[str, Any], person: Mapping[str, Any], place: int, shape: Sequence[int]
) -> tuple[float, float, float, float] | None:
    """Returns left, top, right and bottom of the face in pixels of a reduced picture, or None."""
    box = (person.get("boxes") or {place: None})[place]
    if box is None or not result["width"]:
        return None
    scale = shape[1] / result["width"]
    left, top, right, bottom = (scale * side for side in box)
    return left, top, right, bottom


def _box_html(box: tuple[float, ...] | None, shape: Sequence[int]) -> str:
    if box is None:
        return ""
    left, right = (100 * min(max(0.0, side), shape[1]) / shape[1] for side in (box[0], box[2]))
    top, bottom = (100 * min(max(0.0, side), shape[0]) / shape[0] for side in (box[1], box[3]))
    return (
        f'<span class="box" style="left:{left:.1f}%;top:{top:.1f}%;width:{right - left:.1f}%;'
        f'height:{bottom - top:.1f}%"></span>'
    )


def _face(picture: np.ndarray, box: tuple[float, ...] | None) -> np.ndarray:
    """Crops the square around a face, or the middle of a picture without one, and resizes it."""
    height, width = picture.shape[:2]
    if box is None:
        side, x, y = float(min(height, width)), width / 2, height / 2
    else:
        side = (1 + 2 * MARGIN) * max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    side = max(2.0, min(side, height, width))
    left = round(min(max(0.0, x - side / 2), width - side))
    top = round(min(max(0.0, y - side / 2), height - side))
    square = picture[top : top + round(side), left : left + round(side)]
    return cv2.resize(square, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def _image(picture: np.ndarray) -> str:
    return _data(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())


def _data(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


# Segments and files


def _segments_html(person: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{format_time(one['start'])} – {format_time(one['end'])}</td>"
        f"<td>{escape(_segment_label(one))}</td><td>{one['score']:.0%}</td>"
        f"<td>{escape(one['sentence'].partition(': ')[2])}</td></tr>"
        for one in person["segments"]
    )
    return (
        '<div class="segments"><table><thead><tr><th scope="col">time</th><th scope="col">expression</th>'
        f'<th scope="col">probability</th><th scope="col">what the face shows</th></tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _segment_label(segment: Mapping[str, Any]) -> str:
    if segment["label"] != UNSURE:
        return segment["label"]
    return f"unsure: {' or '.join(segment['candidates'])}"


def _downloads_html(analysis: Analysis) -> str:
    links = []
    for name, text in files_of(analysis).items():
        suffix = Path(name).suffix
        # Browsers would shorten or reject other characters.
        saved = re.sub(r"[^\w.-]+", "_", name)
        links.append(
            f'<a download="{escape(saved)}" href="data:{MEDIA_TYPES[suffix]};charset=utf-8,{quote(text)}">'
            f"{suffix.removeprefix('.').upper()}</a>"
        )
    return f'<p class="downloads">Download: {" ".join(links)}</p>'
