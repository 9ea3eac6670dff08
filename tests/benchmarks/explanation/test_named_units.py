"""The action units that the built-in descriptions name."""

from benchmarks.explanation.named_units import NAMED_UNITS, NOT_RENDERED, rendered_units
from recipes.clip_tiny_faces.captions import FACE
from tgdfer.modeling_tgdfer.configuration_tgdfer import BASIC_EMOTIONS
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.training.rendered_faces import ACTION_UNITS, PROTOTYPES


def test_every_description_of_what_a_face_does_has_its_units():
    for label, texts in built_in_descriptions(NAMED_UNITS).items():
        *faces, _situation = texts
        assert list(NAMED_UNITS[label]) == faces, label
        for text, units in NAMED_UNITS[label].items():
            assert set(units) <= {*ACTION_UNITS, *NOT_RENDERED}, text
            assert list(units) == sorted(set(units)) and (units or label == "neutral"), text
    assert not set(ACTION_UNITS) & set(NOT_RENDERED)


def test_named_units_agree_with_the_captions():
    """A phrase that captions use of one action unit, or of several, must name it, or one of them, here too."""
    checked = 0
    for words in NAMED_UNITS.values():
        for text, units in words.items():
            used = {p: needs for needs, phrases in FACE.items() for p in phrases if p in text and " " in p}
            for phrase, needs in used.items():
                present = {need for need in needs if not need.startswith("no ")}
                # Eyes narrowed by the cheeks are not narrowed by their lids.
                part_of_another = any(phrase in other for other in used if other != phrase)
                if present and not part_of_another:
                    assert present & set(units), (text, phrase)
                    checked += 1
    assert checked > 20


def test_named_units_are_of_the_prototypes():
    for label in set(BASIC_EMOTIONS) - {"neutral"}:
        shown = {unit for variant in PROTOTYPES[label] for unit in variant}
        for text in NAMED_UNITS[label]:
            assert rendered_units(text) and shown & set(rendered_units(text)), text


def test_units_that_are_not_rendered_and_words_that_are_not_built_in():
    assert rendered_units("upper lids drooping, eyes wet and cast down, dull gaze") == ("AU43",)
    assert rendered_units("a sad person grieving over a loss or a farewell, head bowed") == ()
