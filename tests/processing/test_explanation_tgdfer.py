"""Explanations in words: when, which descriptions, and what becomes of clips without times or without a moment."""

import json

import pytest
import torch

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.processing.explanation_tgdfer import decisive_frames, explain_clip
from tgdfer.processing.processing_tgdfer import TGDFERProcessor

TEXTS = ["brows raised", "mouth open", "a startled person"]
RELEVANCE = torch.tensor([0.02, 0.03, 0.3, 0.3, 0.05, 0.05, 0.2, 0.05])
SECONDS = torch.arange(8) / 5
# Of each description in the decisive frames (2, 3 and 6) and in the others.
IN, OUT = torch.tensor([0.5, 0.75, 1.0]), torch.tensor([0.25, 0.25, 1.0])
COSINES = torch.where(torch.tensor([False, False, True, True, False, False, True, False]).unsqueeze(1), IN, OUT)


def test_sentence_names_the_moment_and_what_fits_it():
    found = explain_clip("surprise", 0.8, RELEVANCE, COSINES, TEXTS, SECONDS)
    assert str(found) == "surprise, 0.3 s to 0.7 s and 1.1 s to 1.3 s: mouth open; brows raised"
    assert [(one.text, one.cosine, one.gain) for one in found.descriptions] == [
        ("a startled person", 1.0, 0.0),
        ("mouth open", 0.75, 0.5),
        ("brows raised", 0.5, 0.25),
    ]
    first, second = found.spans
    assert (first.first, first.last) == (2, 3) and first.relevance == pytest.approx(0.6)
    assert (second.first, second.last) == (6, 6) and second.relevance == pytest.approx(0.2)
    # Halfway to the frames around it.
    assert (found.start, found.end) == pytest.approx((0.3, 0.7))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["sentence"] == str(found) and told["spans"][0]["end"] == pytest.approx(0.7)
    assert told["descriptions"][1] == {"text": "mouth open", "cosine": 0.75, "gain": 0.5, "z_score": None}


def test_what_fits_always_is_not_named():
    """The person fits every frame best, and no frame more than the others."""
    assert explain_clip("surprise", 0.8, RELEVANCE, -COSINES, TEXTS, SECONDS).named == []
    fading = COSINES * torch.tensor([1.0, -1.0, 1.0])
    assert explain_clip("surprise", 0.8, RELEVANCE, fading, TEXTS, SECONDS).named == ["brows raised"]


def test_frames_that_count_more_than_the_average():
    assert decisive_frames(RELEVANCE).nonzero().flatten().tolist() == [2, 3, 6]
    assert decisive_frames(torch.tensor([0.1, 0.4, 0.1, 0.4])).tolist() == [False, True, False, True]
    assert decisive_frames(torch.tensor([0.9, 0.1])).tolist() == [True, False]
    assert decisive_frames(torch.ones(1)).tolist() == [True]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_clip_that_is_alike_throughout_is_explained_as_a_whole(noise):
    relevance = (torch.ones(16) + noise * torch.randn(16)).softmax(0)
    found = explain_clip("neutral", 0.8, relevance, IN.expand(16, 3), TEXTS, torch.arange(16) / 10)
    assert str(found) == "neutral, 0.0 s to 1.5 s: a startled person; mouth open"
    assert {one.gain for one in found.descriptions} == {None}


def test_two_moments_are_told_in_the_order_of_time_and_the_stronger_is_the_first():
    relevance = torch.tensor([0.02, 0.2, 0.02, 0.02, 0.35, 0.35, 0.04])
    relevance[1] = 0.45
    found = explain_clip("fear", 0.8, relevance, torch.zeros(7, 0), [], torch.arange(7) / 2)
    assert str(found) == "fear, 0.2 s to 0.8 s and 1.8 s to 2.8 s"
    assert [span.first for span in found.spans] == [4, 1] and found.start == 1.75
    assert found.descriptions == [] and found.named == []


def test_no_span_reaches_over_a_gap_in_the_time_stamps():
    relevance = torch.tensor([0.01, 0.2, 0.28, 0.2, 0.2, 0.11])
    seconds = torch.tensor([0.0, 0.2, 0.4, 9.0, 9.2, 9.4])
    found = explain_clip("surprise", 0.9, relevance, torch.zeros(6, 1), ["jaw dropped"], seconds)
    assert sorted((span.start, span.end) for span in found.spans) == [(0.1, 0.5), (8.9, 9.3)]
    assert "0.1 s to 0.5 s and 8.9 s to 9.3 s" in str(found)


@pytest.mark.parametrize("seconds", [None, torch.full((8,), torch.nan)])
def test_times_that_are_unknown(seconds):
    found = explain_clip("surprise", 0.8, RELEVANCE, COSINES, TEXTS, seconds)
    assert str(found) == "surprise, frames 2 to 3 and frame 6: mouth open; brows raised"
    assert found.start is None and found.end is None
    single = torch.tensor([0.1, 0.7, 0.1, 0.1])
    assert str(explain_clip("fear", 0.8, single, torch.zeros(4, 0), [])) == "fear, frame 1"


def test_clip_of_one_frame_has_one_time():
    found = explain_clip("fear", 0.8, torch.ones(1), IN.unsqueeze(0), TEXTS[:2], torch.tensor([0.4]))
    assert str(found) == "fear, 0.4 s: mouth open; brows raised"


# Processor -----------------------------------------------------------------------------------------------------------

WORDS = {"anger": ["brows low", "a hard stare"], "awe": ["mouth open"]}


@pytest.fixture
def processor(clip_folder):
    return TGDFERProcessor.from_clip(str(clip_folder), WORDS)


REFERENCES = {"a startled person": [0.5, 0.2], "mouth open": [0.2, 0.5], "brows raised": [0.45, 0.1]}


def test_only_what_clearly_exceeds_its_own_mean_is_named():
    found = explain_clip("surprise", 0.8, RELEVANCE, COSINES, TEXTS, SECONDS, references=REFERENCES)
    z_scores = {one.text: one.z_score for one in found.descriptions}
    # (1 - 0.5) / 0.2, (0.75 - 0.2) / 0.5 and (0.5 - 0.45) / 0.1
    assert z_scores == pytest.approx({"a startled person": 2.5, "mouth open": 1.1, "brows raised": 0.5})
    assert found.named == ["mouth open"], "one fits the other frames as well, one is no more than usual"
    one_known = explain_clip(
        "surprise", 0.8, RELEVANCE, COSINES, TEXTS, SECONDS, references={"mouth open": [0.7, 0.1]}
    )
    assert one_known.named == ["brows raised"], "without a reference, it need only exceed the other frames"
    assert [one.text for one in found.descriptions] == [one.text for one in one_known.descriptions]


def test_unsure_answer_has_both_candidates():
    found = explain_clip(["surprise", "fear"], 0.4, RELEVANCE, COSINES, TEXTS, SECONDS)
    assert (found.label, found.candidates, found.score) == ("unsure", ["surprise", "fear"], 0.4)
    assert str(found) == "unsure (surprise or fear), 0.3 s to 0.7 s and 1.1 s to 1.3 s: mouth open; brows raised"


def test_calibration_of_the_model_is_used(processor):
    plain = processor.post_process_explanation(outputs(), labels=["anger", "awe"])
    config = TGDFERConfig(id2label={0: "anger", 1: "awe"}, num_labels=2)
    assert processor.post_process_explanation(outputs(), config=config) == plain, "without calibration nothing changes"
    config.temperature, config.unsure_below = 2.0, 0.75
    config.description_references = {"awe": {"mouth open": [0.45, 0.1]}}
    angry, awed = processor.post_process_explanation(outputs(), config=config)
    assert angry.score == pytest.approx(torch.tensor([1.0, 0.0]).softmax(0)[0].item())
    assert str(angry) == "unsure (anger or awe), frames 1 to 2: a hard stare"
    assert str(awed) == "awe, frame 4" and awed.score == pytest.approx(torch.tensor([1.5, 0]).softmax(0)[0].item())


def outputs(frames=8, clips=2, dtype=torch.float32) -> dict[str, torch.Tensor]:
    """Of two clips, the first angry and the second awed: by different frames and words."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]])[:clips]
    relevance = torch.full((2, frames, 2), 0.01)
    relevance[0, 1:3, 0] = relevance[1, 4, 1] = 1.0
    relevance = relevance / relevance.sum(1, keepdim=True)
    cosines = torch.zeros(2, frames, 2, 2)
    cosines[0, 1:3, 0, 1] = cosines[1, 4, 1, 0] = 0.5
    cosines[1, :, 1, 1] = torch.nan  # padding, of whatever value
    found = {"logits": logits, "frame_relevance": relevance[:clips], "description_relevance": cosines[:clips]}
    return {name: value.to(dtype) for name, value in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_of_clips(processor, dtype):
    seconds = torch.stack([torch.arange(8) / 5, torch.arange(8) / 2.5])
    angry, awed = processor.post_process_explanation(outputs(dtype=dtype), seconds)
    assert str(angry) == "anger, 0.1 s to 0.5 s: a hard stare"
    assert str(awed) == "awe, 1.4 s to 1.8 s: mouth open"
    assert angry.score == pytest.approx(torch.tensor([2.0, 0.0]).softmax(0)[0].item(), abs=1e-2)
    assert [str(alone) for alone in processor.post_process_explanation(outputs(clips=1, dtype=dtype), seconds)] == [
        str(angry)
    ]
    assert str(processor.post_process_explanation(outputs(dtype=dtype))[1]) == "awe, frame 4: mouth open"


def test_masked_frames_change_nothing(processor):
    plain = processor.post_process_explanation(outputs(), torch.arange(8).expand(2, 8) / 10)
    places = torch.tensor([1, 2, 3, 5, 6, 7, 8, 9])
    holed = {"logits": outputs()["logits"]}
    for name in ("frame_relevance", "description_relevance"):
        value = outputs()[name]
        holed[name] = torch.full((2, 11, *value.shape[2:]), 9.0 if name.startswith("d") else 0.0)
        holed[name][:, places] = value
    mask, seconds = torch.zeros(2, 11), torch.full((2, 11), torch.nan)
    mask[:, places], seconds[:, places] = 1, torch.arange(8) / 10
    found = processor.post_process_explanation(holed, seconds, mask)
    assert [str(one) for one in found] == [str(one) for one in plain]
    assert [(one.spans[0].first, one.spans[0].last) for one in found] == [(2, 3), (6, 6)]
    for one, other in zip(found, plain, strict=True):
        assert one.descriptions == other.descriptions


@pytest.mark.parametrize("words", [None, {"awe": ["mouth open"]}, {"awe": ["mouth open"], "joy": ["a smile"]}])
def test_words_of_another_model_are_refused(processor, words):
    processor.descriptions = words
    with pytest.raises(ValueError, match="2 classes with up to 2 descriptions.*processor.descriptions"):
        processor.post_process_explanation(outputs())


@pytest.mark.parametrize("labels", [{0: "awe", 1: "anger"}, {"1": "anger", "0": "awe"}, ["awe", "anger"]])
def test_classes_in_the_order_of_the_model(processor, labels):
    """As after `set_classes` with an order that is not by name."""
    turned = {name: value.flip(2 if value.ndim > 2 else 1) for name, value in outputs().items()}
    angry, awed = processor.post_process_explanation(turned, labels=labels)
    assert (angry.label, str(awed)) == ("anger", "awe, frame 4: mouth open")
    assert str(angry) == "anger, frames 1 to 2: a hard stare"
    assert [one.label for one in processor.post_process_explanation(turned)] == ["awe", "anger"], (
        "without labels, by name"
    )


@pytest.mark.parametrize(
    "labels, named",
    [
        (["awe", "joy"], "awe, joy, but the processor describes anger, awe"),
        (["awe"], "labels are awe, but"),
        (["anger", "awe", "awe"], "labels are anger, awe, awe, but"),
        ({0: "anger", 1: "awe", 2: "joy"}, "labels are anger, awe, joy, but"),
    ],
)
def test_labels_without_words_are_refused(processor, labels, named):
    with pytest.raises(ValueError, match=f"{named}.*set `processor.descriptions`"):
        processor.post_process_explanation(outputs(), labels=labels)
