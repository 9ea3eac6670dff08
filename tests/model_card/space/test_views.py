"""The HTML of the answers, without a browser."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tgdfer.model_card.space.clips import MAX_PEOPLE
from tgdfer.model_card.space.limits import Limitations
from tgdfer.model_card.space.views import answers_html, error_html, frame_words, limits_html

NASTY = '<script>alert("1")</script> & \' ${1+1} {{x}}'
EMPTY = {"img", "input", "path", "br"}


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects them with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_answer_has_label_timeline_strip_segments_explanation_and_files(analysis):
    html = answers_html(analysis)
    tags = Tags(html).tags
    (person,) = analysis.result["people"]
    assert "unsure happiness 71% or neutral 18%" in text_of(html)
    assert sum(tag == "path" for tag, _ in tags) == 5  # four classes and the relevance
    radios = [attributes for tag, attributes in tags if tag == "input"]
    assert len(radios) == sum(tag == "figure" for tag, _ in tags) == 12
    assert sum("checked" in one for one in radios) == 1
    assert sum(tag == "tr" for tag, _ in tags) == 1 + len(person["segments"])
    assert person["explanation"]["sentence"].partition(": ")[2] in text_of(html)
    links = [attributes for tag, attributes in tags if tag == "a"]
    assert [one["download"].rpartition(".")[2] for one in links] == ["csv", "json", "vtt"]


def test_the_html_refers_to_nothing_outside(analysis):
    for _, attributes in Tags(answers_html(analysis)).tags:
        assert attributes.get("src", "data:").startswith("data:image/jpeg;base64,") or "src" not in attributes
        assert attributes.get("href", "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]


def test_names_labels_and_words_are_escaped(recogniser, analysis):
    own = recogniser.relabel(analysis, f"{NASTY.replace(':', '')}: a broad smile <b>\nother: half-closed eyes <b>")
    html = answers_html(replace(own, name=f"{NASTY}.mp4"))
    tags = {tag for tag, _ in Tags(html).tags}
    assert "script" not in tags and "b" not in tags
    assert "&lt;script&gt;" in html and ("smile &lt;b&gt;" in html or "eyes &lt;b&gt;" in html)
    assert "script" not in {tag for tag, _ in Tags(error_html(NASTY)).tags}
    assert "script" not in {tag for tag, _ in Tags(limits_html(Limitations(remarks=[NASTY]))).tags}


def test_own_classes_are_said_to_be_not_calibrated(recogniser, analysis):
    own = recogniser.relabel(analysis, "joy: a broad smile\nboredom: half-closed eyes")
    assert "Their probabilities are not calibrated" in text_of(answers_html(own))
    assert "not calibrated" not in text_of(answers_html(analysis))


def test_many_people_are_shortened(analysis):
    (person,) = analysis.result["people"]
    crowd = [person | {"person": number} for number in range(1, MAX_PEOPLE + 3)]
    html = answers_html(replace(analysis, result=analysis.result | {"people": crowd}))
    assert html.count('<section class="person"') == MAX_PEOPLE
    assert "2 more people are only in the files" in html
    Tags(html)


def test_a_face_outside_the_picture_and_a_missing_face_are_drawn(analysis):
    (person,) = analysis.result["people"]
    boxes = [[-50.0, -50.0, 400.0, 400.0], None, *person["boxes"][2:]]
    for result in (
        analysis.result | {"people": [person | {"boxes": boxes}]},
        analysis.result | {"people": [{name: value for name, value in person.items() if name != "boxes"}]},
    ):
        Tags(answers_html(replace(analysis, result=result)))


@pytest.mark.parametrize("name", ["one frame", "cuts"])
def test_short_and_cut_clips_are_drawn(recogniser, rendered_recording, tmp_path, name):
    if name == "cuts":
        html = answers_html(recogniser.analyse(rendered_recording("two shots").path))
        assert 'class="cut"' in html
    else:
        html = answers_html(recogniser.analyse(first_frame_of(rendered_recording("alone").path, tmp_path / "one.png")))
    Tags(html)
    assert "nan" not in html.lower().replace("data:", "")[: html.find("<fieldset")]


def first_frame_of(video: Path, path: Path) -> Path:
    import av

    with av.open(str(video)) as container:
        next(container.decode(video=0)).to_image().save(path)
    return path


def test_the_words_of_a_frame_fit_its_segment(analysis):
    (person,) = analysis.result["people"]
    assert person["candidates"][0] == "happiness"
    happy = next(one for one in person["segments"] if one["label"] == "happiness")
    inside = [place for place, second in enumerate(person["timestamps"]) if happy["start"] < second < happy["end"]]
    assert any("lip corners" in frame_words(analysis, person, place) for place in inside)
    neutral = person["segments"][0]
    assert frame_words(analysis, person, 0) == neutral["sentence"].partition(": ")[2]
