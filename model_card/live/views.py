"""What the live page shows of an answer: the boxes in the picture, and the HTML beside it."""

from collections.abc import Mapping
from html import escape
from typing import Any

from tgdfer.model_card.live.expressions import HISTORY
from tgdfer.model_card.live.session import Answer
from tgdfer.model_card.space.views import label_html, timeline_html
from tgdfer.processing.explanation_tgdfer import UNSURE
from tgdfer.training.colours import class_colours, text_colour

AXIS = (f"{HISTORY:g} s ago", f"{HISTORY / 2:g} s ago", "now")


def answer_message(answer: Answer) -> dict[str, Any]:
    """Creates the message for the page about an answer.

    Args:
        answer (`Answer`): The answer.

    Returns:
        `dict[str, Any]`: Plain values: `captured`, the time of the frame; `boxes`, for each face the edges as shares
        of the picture, `text`, `colour` and `ink`; `html`, everything else, escaped; and `spoken`, a text for screen
        readers, which changes only with a label.
    """
    people = {person["person"]: person for person in answer.result["people"]}
    there = [person for person in people.values() if person["is_there"]]
    gone = [person for person in people.values() if not person["is_there"]]
    waiting = [number for number in answer.boxes if number not in people]
    sections = [_person_html(answer.result, person) for person in [*there, *gone]]
    if not sections:
        text = "Looking at the face …" if waiting else "No face is in the picture."
        sections = [f'<p class="quiet">{text}</p>']
    return {
        "captured": answer.captured,
        "boxes": [_box(number, people.get(number), answer) for number in answer.boxes],
        "html": _notes_html(answer) + "".join(sections),
        "spoken": "; ".join(f"{_who(person)}: {person['label']}" for person in there),
    }


def _notes_html(answer: Answer) -> str:
    if answer.own_classes:
        note = "These are your own classes. Their probabilities are not calibrated: do not take them literally."
    elif not answer.calibrated:
        note = "The model is not calibrated: its probabilities do not say how often such answers are right."
    else:
        return ""
    return f'<p class="note">{note}</p>'


def _who(person: Mapping[str, Any]) -> str:
    return "The picture" if person["person"] is None else f"Person {person['person']}"


def _box(number: int, person: Mapping[str, Any] | None, answer: Answer) -> dict[str, Any]:
    """Creates the box of a face. Its text has no answer while there are too few frames."""
    width, height = answer.size
    left, top, right, bottom = answer.boxes[number].tolist()
    edges = {"left": left / width, "top": top / height, "right": right / width, "bottom": bottom / height}
    label = UNSURE if person is None else person["label"]
    colour = class_colours([label])[label]
    text = "…"
    if person is not None:
        text = f"{label} {person['score']:.0%}" if label != UNSURE else f"unsure: {' or '.join(person['candidates'])}"
    return {
        **{side: min(max(0.0, edge), 1.0) for side, edge in edges.items()},
        "text": f"{number} · {text}",
        "colour": colour,
        "ink": text_colour(colour),
    }


def _person_html(result: Mapping[str, Any], person: Mapping[str, Any]) -> str:
    """The section of a person: label, words and curves. Somebody who has left has only curves."""
    who = _who(person)
    title = "" if person["person"] is None else f'<p class="who">{who}</p>'
    if person["is_there"]:
        words = f"What the face shows: {escape(person['words'])}." if person["words"] else "No description stands out."
        now = f'{label_html(person)}<p class="words">{words}</p>'
    else:
        away = HISTORY - person["timestamps"][-1]
        now = f'<p class="quiet">Not in the picture for {away:.0f} s.</p>'
    return f'<section class="person" aria-label="{who}">{title}{now}{timeline_html(result, person, AXIS)}</section>'
