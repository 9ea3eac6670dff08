"""The boxes and the HTML of an answer."""

from html.parser import HTMLParser

import numpy as np
import pytest

from tgdfer.model_card.live.session import Answer
from tgdfer.model_card.live.views import answer_message

NASTY = "<img src=x onerror=alert(1)> & \"'"


def person(number: int | None, label: str = "happiness", is_there: bool = True, words: str = "lip corners raised"):
    return {
        "person": number,
        "is_there": is_there,
        "label": label,
        "score": 0.83,
        "candidates": ["happiness", NASTY] if label == "unsure" else [label],
        "scores": {"happiness": 0.83, NASTY: 0.17},
        "words": words,
        "segments": [{"label": label, "start": 18.0, "end": 19.0, "score": 0.83}],
        "timestamps": [18.0, 18.5, 19.0],
        "frame_scores": {"happiness": [0.8] * 3, NASTY: [0.2] * 3},
        "frame_relevance": [0.2, 0.3, 0.5],
    }


def answer(*people, boxes=None, own_classes: bool = False, calibrated: bool = True) -> Answer:
    result = {"duration": 20.0, "cuts": [], "timestamps": [18.0, 18.5, 19.0, 20.0], "people": list(people)}
    return Answer(1.0, (200, 100), boxes or {}, result, own_classes, calibrated)


class Tags(HTMLParser):
    """Collects the tags and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += f" {data}"


def test_a_box_has_its_place_label_and_colour():
    message = answer_message(answer(person(2), boxes={2: np.array([20.0, 10, 100, 60])}))
    (box,) = message["boxes"]
    assert (box["left"], box["top"], box["right"], box["bottom"]) == (0.1, 0.1, 0.5, 0.6)
    assert box["text"] == "2 · happiness 83%" and box["colour"] == "#c2ab00" and box["ink"] == "#000000"
    assert message["spoken"] == "Person 2: happiness"


def test_a_box_ends_at_the_edge_of_the_picture():
    (box,) = answer_message(answer(boxes={1: np.array([-20.0, -1, 300, 60])}))["boxes"]
    assert (box["left"], box["top"], box["right"]) == (0, 0, 1) and box["text"] == "1 · …"


def test_an_unsure_answer_names_both_candidates():
    message = answer_message(answer(person(1, "unsure"), boxes={1: np.zeros(4)}))
    assert message["boxes"][0]["text"] == f"1 · unsure: happiness or {NASTY}"
    assert "unsure happiness 83% or " in " ".join(Tags(message["html"]).text.split())


def test_everything_is_escaped():
    message = answer_message(answer(person(1, NASTY, words=NASTY), person(2, NASTY, is_there=False), own_classes=True))
    shown = Tags(message["html"])
    assert "img" not in shown.tags and "script" not in shown.tags
    assert f"What the face shows: {NASTY}." in shown.text
    assert "These are your own classes" in shown.text


def test_label_words_and_curves_are_shown():
    shown = Tags(answer_message(answer(person(1)))["html"])
    for part in ("Person 1", "happiness", "83%", "lip corners raised", "20 s ago", "10 s ago", "now"):
        assert part in shown.text
    assert "path" in shown.tags
    assert "No description stands out." in Tags(answer_message(answer(person(1, words="")))["html"]).text


def test_who_has_left_comes_last_and_has_no_label():
    message = answer_message(answer(person(1, is_there=False), person(2)))
    text = Tags(message["html"]).text
    assert text.index("Person 2") < text.index("Person 1") < text.index("Not in the picture for 1 s.")
    assert message["spoken"] == "Person 2: happiness"


@pytest.mark.parametrize(
    ("boxes", "sentence"), [({}, "No face is in the picture."), ({1: np.zeros(4)}, "Looking at the face …")]
)
def test_what_is_shown_before_there_is_an_answer(boxes, sentence):
    assert sentence in answer_message(answer(boxes=boxes))["html"]


def test_a_whole_picture_has_no_number():
    message = answer_message(answer(person(None)))
    assert "Person" not in message["html"] and message["spoken"] == "The picture: happiness"


def test_a_model_that_is_not_calibrated_says_so():
    assert "is not calibrated" in answer_message(answer(person(1), calibrated=False))["html"]
