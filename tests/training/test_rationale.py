"""Whether explanations support their answers: sentences, a text tower whose cosines are known, and the model."""

import math
from types import SimpleNamespace

import pytest
import torch

from tgdfer import tgdfer_tiny
from tgdfer.processing.explanation_tgdfer import Description, Explanation, Span
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained
from tgdfer.training.rationale import RationaleVerifier, sentences_of

# Directions of words, and the descriptions of two labels and a half.
WORDS = {"frown": (1, 0, 0), "glare": (0.8, 0.6, 0), "smile": (0, 0, 1), "grin": (0, 0.6, 0.8), "gape": (0.6, 0, 0.8)}
DESCRIPTIONS = {"anger": ["frown", "glare"], "joy": ["smile", "grin"], "surprise": ["gape"]}


class Tower:
    """A model and a processor whose words have known directions."""

    descriptions = DESCRIPTIONS
    device = torch.device("cpu")
    tgdfer = SimpleNamespace(clip=SimpleNamespace(logit_scale=torch.tensor(math.log(10.0))))

    def phrase_prompts(self, texts):
        if unknown := [text for text in texts if text.lower().rstrip(".") not in WORDS]:
            raise ValueError(f'The phrase "{unknown[0]}" has characters that the tokenizer does not know; reword it.')
        return {"input_ids": torch.tensor([list(WORDS).index(text.lower().rstrip(".")) for text in texts])}

    def encode_phrases(self, ids):
        return torch.tensor(list(WORDS.values()), dtype=torch.float)[ids]


@pytest.fixture
def verifier() -> RationaleVerifier:
    return RationaleVerifier(Tower(), Tower())


def test_the_words_of_the_sentence_itself_do_not_count(verifier):
    """Frowning has the cosines 0.8 with glaring, 0 with smiling and grinning, and 0.6 with gaping."""
    found = verifier.probabilities(["frown"])[0]
    by_hand = torch.tensor([10 * 0.8, 0.0, 10 * 0.6]).softmax(0)
    torch.testing.assert_close(found, by_hand)
    mean = math.log((math.exp(10 * 0.0) + math.exp(10 * 0.6 * 0.6)) / 2)
    torch.testing.assert_close(verifier.probabilities(["Glare."])[0], torch.tensor([8.0, mean, 4.8]).softmax(0))
    assert verifier.probabilities(["gape"])[0].argmax() == 2, "the only description of a label counts"


def test_every_sentence_has_to_support_the_answer(verifier):
    both = verifier.verify(["frown", "glare"], "anger")
    assert both.is_consistent and both.share == 1 and both.sentences[0].emotions == ("anger", "surprise")
    mixed = verifier.verify("frown; smile", "anger")
    assert not mixed.is_consistent and mixed.share == 0.5
    assert [one.supports for one in mixed.sentences] == [True, False]
    assert mixed.sentences[1].probability < 0.1 and "anger" not in mixed.sentences[1].emotions
    nothing = verifier.verify([], "anger")
    assert nothing.share is None and nothing.is_consistent is None


def test_explanations_name_their_answer(verifier):
    shown, hidden = Description("frown", 0.9, 0.1), Description("glare", 0.8, -0.1)
    one = Explanation("anger", 0.9, [Span(0, 1, 0.0, 0.4, 1.0)], [shown, hidden], ["anger"])
    assert [check.text for check in verifier.verify(one).sentences] == ["frown"]
    unsure = Explanation("unsure", 0.4, one.spans, [shown], ["joy", "anger"])
    assert verifier.verify(unsure).label == "joy" and not verifier.verify(unsure).is_consistent
    assert [check.text for check in verifier.verify(str(one), "anger").sentences] == ["frown"]


def test_texts_are_split_into_sentences():
    assert sentences_of("surprise, 0.8 s to 1.4 s: jaw dropped; brows raised") == ["jaw dropped", "brows raised"]
    assert sentences_of("unsure (fear or joy), frames 2 to 5: eyes wide") == ["eyes wide"]
    assert sentences_of("joy, 0.8 s to 1.4 s") == []
    assert sentences_of("The jaw drops. The brows: high!\nA gasp") == ["The jaw drops", "The brows: high", "A gasp"]
    assert sentences_of(["one;two", " ", "three."]) == ["one;two", "three"]


def test_wrong_labels_and_sentences_are_named(verifier):
    with pytest.raises(UserError, match="no descriptions of 'angry'; did you mean 'anger'"):
        verifier.verify(["frown"], "angry")
    with pytest.raises(UserError, match="give the label"):
        verifier.verify("frown")
    with pytest.raises(UserError, match='"☃" has characters'):
        verifier.verify(["☃"], "joy")
    bare = Tower()
    bare.descriptions = None
    with pytest.raises(UserError, match="has no descriptions"):
        RationaleVerifier(bare, bare)


def test_the_model_in_the_package_understands_most_descriptions():
    verifier = RationaleVerifier(*load_trained(tgdfer_tiny()))
    assert verifier.own_reliability() > 0.6
    assert verifier.verify("The brows are raised high. The jaw is dropped.", "surprise").is_consistent
    assert not verifier.verify("A broad smile with raised cheeks.", "anger").is_consistent
