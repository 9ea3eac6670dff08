"""How true words and frames are, on explanations whose figures are known by hand."""

import numpy as np
import pytest

from benchmarks.explanation.named_units import NAMED_UNITS
from benchmarks.explanation.rows import shuffled
from benchmarks.explanation.truth import check_descriptions, check_frames, check_rationales
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.processing.explanation_tgdfer import Description, Explanation, Span
from tgdfer.training.rationale import SentenceCheck, Verification
from tgdfer.training.rendered_faces import ACTION_UNITS

BROWS, JAW, GASP = (list(NAMED_UNITS["surprise"])[index] for index in (0, 2, 3))
SMILE, CHEEKS = list(NAMED_UNITS["happiness"])[:2]
STARTLED, CALM = "startled", list(NAMED_UNITS["neutral"])[3]
WORDS = {"surprise": [BROWS, JAW, STARTLED], "happiness": [SMILE, CHEEKS], "neutral": [CALM]}


def explanation(label: str, texts: list[str], spans=((0, 0),), gains=(1.0,) * 3) -> Explanation:
    """Whose descriptions fit best in this order."""
    ranked = [Description(text, 1 / (1 + place), gains[place]) for place, text in enumerate(texts)]
    return Explanation(label, 0.9, [Span(*span, None, None, 0.5) for span in spans], ranked)


def active(*frames: set[str]) -> np.ndarray:
    return np.array([[unit in shown for unit in ACTION_UNITS] for shown in frames])


def test_truth_of_words_by_hand():
    """Of the brows' two units both are active in one frame of two, of the jaw's two one in one."""
    shown = active({"AU01", "AU02", "AU25"}, set())
    found = check_descriptions(
        [explanation("surprise", [STARTLED, JAW, BROWS], gains=(1.0, 0.1, 0.2))], [shown], WORDS
    )
    assert found == {
        "explained": 0.25,  # the jaw; who is startled names no unit
        "cosine": 0.25,
        "gain": 0.5,
        "same_class": 0.375,
        "any_class": 0.1875,  # and nobody smiles
        "best": 0.5,
        "clips": 1,
        "named": 1.0,
        "precision": 0.25,
        "base_rate": 0.1875,
    }
    fading = explanation("surprise", [JAW, BROWS], gains=(-0.1, 0.2))
    found = check_descriptions([fading, explanation("neutral", [CALM])], [shown, shown], WORDS)
    assert (found["explained"], found["cosine"], found["clips"]) == (0.5, 0.25, 1)
    found = check_descriptions([explanation("happiness", [SMILE, CHEEKS])], [active({"AU12"})], WORDS)
    assert found["explained"] == 0.5 and found["any_class"] == 0.125, "half of the smile is AU12"
    assert check_descriptions([explanation("neutral", [CALM])], [shown], WORDS) == {"clips": 0}


class Verifier:
    """Understands the words of surprise and nothing else."""

    def verify(self, explanation, label=None):
        label = label or explanation.label
        checks = [SentenceCheck(text, (), 0.5, label == "surprise" and text != STARTLED) for text in explanation.named]
        return Verification(label, tuple(checks))

    def own_reliability(self):
        return 0.75


def test_explanations_of_right_and_wrong_answers_are_counted_apart():
    right = explanation("surprise", [JAW, BROWS])
    half = explanation("surprise", [JAW, STARTLED])  # one of two sentences
    wrong = explanation("happiness", [JAW, BROWS])  # supports surprise
    silent = explanation("surprise", [JAW], gains=(-1.0,) * 3)
    found = check_rationales([right, half, wrong, silent], ["surprise"] * 4, Verifier())
    assert found == {
        "right": 0.5,
        "wrong": 0.0,
        "wrong_for_truth": 1.0,
        "described": 0.75,
        "reliability": 0.75,
    }
    assert check_rationales([right], ["surprise"], Verifier())["wrong"] is None


def test_what_fits_like_any_clip_is_not_named():
    """The jaw fits best, but as in clips in general; the brows clearly better than there."""
    shown = active({"AU01", "AU02"})
    known = [Description(JAW, 0.9, 1.0, 0.4), Description(BROWS, 0.8, 1.0, 1.5)]
    found = check_descriptions([Explanation("surprise", 0.9, [], known)], [shown], WORDS)
    assert (found["explained"], found["precision"], found["named"]) == (1.0, 1.0, 1.0)
    vague = Explanation("surprise", 0.9, [], [Description(JAW, 0.9, 1.0, 0.4), Description(BROWS, 0.8, 1.0, 0.9)])
    found = check_descriptions([vague], [shown], WORDS)
    assert (found["explained"], found["named"]) == (found["same_class"], 0.0) and "precision" not in found
    # Where some clips have a named description, these alone count, and are compared with themselves.
    found = check_descriptions([vague, Explanation("surprise", 0.9, [], known)], [active(set()), shown], WORDS)
    assert (found["precision"], found["named"], found["base_rate"]) == (1.0, 0.5, 0.25)
    assert found["any_class"] == 0.125


def test_where_nothing_stands_out_there_is_no_choice_and_a_whole_clip_has_one():
    shown = active({"AU01", "AU02"})
    for gains, expected in (((0.0, -0.1), 0.5), ((None, None), 1.0)):
        found = check_descriptions([explanation("surprise", [BROWS, JAW], gains=gains)], [shown], WORDS)
        assert (found["explained"], found["same_class"], found["best"]) == (expected, 0.5, 1.0)


def test_truth_of_frames_by_hand():
    spans = [(0, 1), (3, 3)]
    found = check_frames(
        [explanation(label, [], spans) for label in ("fear", "fear", "neutral", "anger")],
        ["fear", "anger", "neutral", "anger"],
        [[1.0, 0.4, 0.6, 0.9, 0.0], [1.0] * 5, [0.0] * 5, [0.0] * 5],  # mistaken, neutral, never shown
    )
    assert found == {"right": pytest.approx(2 / 3), "found": pytest.approx(2 / 3), "chance": 0.6, "clips": 1}


def test_shuffled_descriptions_are_those_of_others():
    words = built_in_descriptions()
    words["fear"] = words["fear"][:4]
    mixed = shuffled(words, seed=3)
    assert mixed["neutral"] == words["neutral"]
    assert {label: len(texts) for label, texts in mixed.items()} == {
        label: len(texts) for label, texts in words.items()
    }
    for label in set(words) - {"neutral"}:
        assert not set(mixed[label]) & set(words[label])
    assert sorted(sum(mixed.values(), [])) == sorted(sum(words.values(), []))
    assert shuffled(words, seed=3) == mixed != shuffled(words, seed=4)
