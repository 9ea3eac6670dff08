"""The colours of classes."""

import itertools

import numpy as np
from matplotlib.colors import to_rgb

from tgdfer.training.colours import class_colours, text_colour, to_bytes

KNOWN = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
    "contempt",
    "unsure",
    "anxiety",
    "helplessness",
    "disappointment",
)


def luminance(colour: str) -> float:
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_colour_of_a_label_does_not_depend_on_the_others() -> None:
    labels = [*KNOWN, "bored", "müde", "skeptical"]
    together = class_colours(labels)
    assert list(together) == labels
    assert all(class_colours([label])[label] == together[label] for label in reversed(labels))
    assert class_colours(["Happiness"])["Happiness"] == together["happiness"], "data sets differ in capitals"
    assert len(set(together.values())) == len(labels)


def test_the_colour_of_a_label_is_the_same_in_every_process() -> None:
    """Python's own hash of a text differs from process to process; these colours were drawn before."""
    assert class_colours(["bored", "müde"]) == {"bored": "#795ded", "müde": "#5d8116"}


def test_colours_are_readable_on_white_and_on_black() -> None:
    for label, colour in class_colours([*KNOWN, *map(str, range(200))]).items():
        assert 1.05 / (luminance(colour) + 0.05) >= 2.25, label
        assert (luminance(colour) + 0.05) / 0.05 >= 2.25, label


def test_colours_of_the_usual_classes_differ_for_colour_blind_people() -> None:
    """Under full protanopia and deuteranopia (matrices of Machado et al., 2009) no two colours fall together."""
    colours = np.array([to_rgb(colour) for colour in class_colours(KNOWN).values()])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    for matrix in (np.eye(3), np.array(protan), np.array(deutan)):
        seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
        apart = min(np.abs(one - other).sum() for one, other in itertools.combinations(seen, 2))
        assert apart > 0.12


def test_text_is_readable_on_its_colour() -> None:
    assert (text_colour("#ffff00"), text_colour("#000080")) == ("#000000", "#ffffff")
    for colour in class_colours(KNOWN).values():
        pair = sorted([luminance(colour), luminance(text_colour(colour))])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, "WCAG 2, level AA"


def test_bytes_of_a_colour() -> None:
    assert to_bytes("#0a80ff") == (10, 128, 255)
