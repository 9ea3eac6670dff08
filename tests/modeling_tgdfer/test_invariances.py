"""What a clip is must depend neither on what stands beside it nor on how it is written down."""

from collections.abc import Callable

import pytest
import torch

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.layers_tgdfer import pooling_weights
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFEROutput

from .conftest import DIM, PARTS, Maker, differ, move_all_but_clip

# Where the six frames of a clip stand among masked ones.
PADDINGS = {"at_the_end": [0, 1, 2, 3, 4, 5], "at_the_start": [3, 4, 5, 6, 7, 8], "in_holes": [0, 2, 3, 5, 6, 8]}
SECONDS = torch.arange(6.0).expand(2, 6) / 4


@pytest.fixture(params=[{}, *PARTS.values()], ids=["default", *PARTS])
def variant(request: pytest.FixtureRequest, from_clip: Maker) -> TGDFERForVideoClassification:
    """A model in each state of its parts, each away from its start."""
    return move_all_but_clip(from_clip(**request.param))


def assert_same(
    found: TGDFEROutput, expected: TGDFEROutput, frames: Callable[[torch.Tensor], torch.Tensor] = lambda every: every
) -> None:
    """The tolerances that hold in fp32: 1e-5 on cosines and relevance, 1e-3 on logits."""
    assert differ(found.logits, expected.logits) < 1e-3
    assert differ(frames(found.frame_logits), expected.frame_logits) < 1e-3
    assert differ(frames(found.frame_relevance), expected.frame_relevance) < 1e-5
    assert differ(frames(found.description_relevance), expected.description_relevance) < 1e-5
    assert differ(found.video_embeds, expected.video_embeds) < 1e-5
    assert differ(found.text_embeds, expected.text_embeds) < 1e-5


@pytest.mark.parametrize("places", PADDINGS.values(), ids=PADDINGS)
@torch.no_grad()
def test_masked_frames_change_nothing(
    variant: TGDFERForVideoClassification, frames: torch.Tensor, places: list[int]
) -> None:
    padded = torch.full((2, 9, *frames.shape[2:]), float("nan"))
    padded[:, places] = frames
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, places] = True
    times = torch.full((2, 9), 100.0)
    times[:, places] = SECONDS
    # With every term of the loss.
    variant.config.separation_weight = variant.config.smoothness_weight = 1.0
    labels = torch.tensor([0, 3])
    output, expected = variant(padded, mask, times, labels=labels), variant(frames, timestamps=SECONDS, labels=labels)
    assert_same(output, expected, lambda every: every[:, places])
    assert differ(output.loss, expected.loss) < 1e-4
    assert output.frame_relevance[~mask].abs().max() == 0
    # Where nobody gives the seconds, unmasked frames follow each other.
    assert_same(variant(padded, mask), variant(frames), lambda every: every[:, places])


@torch.no_grad()
def test_a_batch_gives_what_its_clips_give(variant: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    together = variant(frames, mask, SECONDS)
    for index in range(len(frames)):
        kept = mask[index]
        alone = variant(frames[index : index + 1, kept], timestamps=SECONDS[index : index + 1, kept])
        here = TGDFEROutput(
            **{
                name: value[index : index + 1]
                for name, value in together.items()
                if torch.is_tensor(value) and value.shape[0] == 2
            }
        )
        if here.text_embeds is None:
            here.text_embeds, alone.text_embeds = together.text_embeds, together.text_embeds
        assert_same(here, alone, lambda every, kept=kept: every[:, kept])


@torch.no_grad()
def test_only_differences_in_time_matter(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    here, later = model(frames, timestamps=SECONDS), model(frames, timestamps=SECONDS + 50)
    slower = model(frames, timestamps=SECONDS * 3)
    assert_same(later, here)
    assert differ(here.logits, slower.logits) > 1e-3


@torch.no_grad()
def test_time_matters(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    backwards = model(frames.flip(1))
    assert differ(backwards.logits, model(frames).logits) > 1e-3


@torch.no_grad()
def test_one_to_128_frames(model: TGDFERForVideoClassification) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = torch.randn(2, 128, DIM)
    for length in range(1, 129):
        output = model(frame_features=features[:, :length])
        assert output.frame_relevance.shape == output.frame_logits.shape == (2, length, 5)
        assert differ(output.frame_relevance.sum(1), torch.ones(2, 5)) < 1e-5
        assert torch.isfinite(output.logits).all()
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("pooling", ["attention", "topk", "mean", "max"])
@torch.no_grad()
def test_relevance_is_a_share(model: TGDFERForVideoClassification, frames: torch.Tensor, pooling: str) -> None:
    model.config.mil_pooling = pooling
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    output = model(frames, mask)
    assert differ(output.frame_relevance.sum(1), torch.ones(2, 5)) < 1e-5
    assert output.frame_relevance[~mask].abs().max() == 0
    # For every pooling, the two outputs show what decides.
    assert differ((output.frame_relevance * output.frame_logits).sum(1), output.logits) < 1e-4
    if pooling in ("attention", "mean"):
        assert output.frame_relevance[mask].min() > 0


def test_pooling(model: TGDFERForVideoClassification) -> None:
    evidence = torch.tensor([[3.0, 1.0, 2.0, 9.0, 0.0], [1.0, 2.0, 9.0, 9.0, 9.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, True, False, True], [True, True, False, False, False]])
    relevance = torch.rand(2, 5, 1)
    model.config.topk_fraction = 0.5
    expected = {
        "attention": relevance.squeeze(-1),
        "topk": torch.tensor([[0.5, 0, 0.5, 0, 0], [0, 1.0, 0, 0, 0]]),
        "mean": torch.tensor([[0.25, 0.25, 0.25, 0, 0.25], [0.5, 0.5, 0, 0, 0]]),
        "max": torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]]),
    }
    for pooling, weights in expected.items():
        model.config.mil_pooling = pooling
        found = pooling_weights(model.config, evidence, relevance, mask)
        assert differ(found.squeeze(-1), weights) < 1e-6, pooling


@torch.no_grad()
def test_the_order_of_classes_swaps_columns_and_nothing_else(
    variant: TGDFERForVideoClassification, prompts: dict, frames: torch.Tensor
) -> None:
    before = variant(frames)
    order = [3, 0, 4, 2, 1]
    weight = variant.tgdfer.text_guidance.description_weight.detach()[order]
    swapped = {key: value[order] for key, value in prompts.items() if torch.is_tensor(value)}
    variant.set_classes({**prompts, **swapped, "labels": [prompts["labels"][index] for index in order]})
    variant.tgdfer.text_guidance.description_weight.data = weight
    after = variant(frames)
    assert differ(after.logits, before.logits[:, order]) < 1e-4
    assert differ(after.frame_logits, before.frame_logits[..., order]) < 1e-4
    assert differ(after.frame_relevance, before.frame_relevance[..., order]) < 1e-5
    assert differ(after.description_relevance, before.description_relevance[:, :, order]) < 1e-5
    assert differ(after.text_embeds, before.text_embeds[..., order, :]) < 1e-5
    assert differ(after.video_embeds, before.video_embeds) < 1e-5


def test_padded_descriptions_have_no_say(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    guidance = model.tgdfer.text_guidance
    assert not guidance.description_mask[-1, -1] and guidance.description_weight[-1, -1] != 0
    before = model(frames)
    assert before.description_relevance[:, :, -1, -1].abs().max() == 0
    assert before.description_relevance[:, :, guidance.description_mask].abs().min() > 0
    before.logits.sum().backward()
    assert guidance.description_weight.grad[-1, -1] == 0
    assert guidance.description_weight.grad[guidance.description_mask].abs().min() > 0
    # Neither its words nor its weight matter.
    guidance.prompt_ids[-1, -1, 4:8] = 1
    guidance.description_weight.data[-1, -1] += 5
    model.eval()
    assert torch.equal(model(frames).logits, before.logits)


@torch.no_grad()
def test_features_stand_for_pixels(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    features = model.get_frame_features(frames)
    assert features.shape == (2, 6, DIM)
    assert torch.equal(model(frame_features=features).logits, model(frames).logits)


@torch.no_grad()
def test_autocast(variant: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rounded = variant(frames)
    exact = variant(frames)
    assert not torch.equal(rounded.logits.float(), exact.logits)
    assert differ(exact.logits.softmax(-1), rounded.logits.float().softmax(-1)) < 2e-2
    assert differ(rounded.frame_relevance.sum(1), torch.ones(2, 5)) < 1e-5


# Bad input.


def test_bad_input_is_named(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    masked = torch.tensor([[True] * 6, [False] * 6])
    for inputs in ({"pixel_values_videos": frames}, {"frame_features": torch.randn(2, 6, DIM)}):
        for network in (model, model.tgdfer):
            with pytest.raises(ValueError, match="Every frame of a clip is masked"):
                network(**inputs, frame_mask=masked)
    with pytest.raises(ValueError, match="either .*; neither was given"):
        model()
    with pytest.raises(ValueError, match="either .*; both were given"):
        model(frames, frame_features=torch.randn(2, 6, DIM))
    with pytest.raises(ValueError, match="shape"):
        model(frames[0])


@torch.no_grad()
def test_times_may_count_from_any_moment(variant: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """Only differences in time matter, also for seconds since 1970, which float32 cannot tell apart."""
    assert_same(variant(frames, timestamps=SECONDS.double() + 1.7e9), variant(frames, timestamps=SECONDS))


@torch.no_grad()
def test_unknown_times_are_those_of_the_config(variant: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """A clip whose times are not known does not change the other clips of its batch."""
    times = SECONDS.clone()
    times[1] = torch.nan
    found = variant(frames, timestamps=times)
    for row, expected in enumerate([variant(frames, timestamps=SECONDS), variant(frames)]):
        assert differ(found.logits[row], expected.logits[row]) < 1e-3
        assert differ(found.frame_relevance[row], expected.frame_relevance[row]) < 1e-5
    times[0, 2] = torch.nan
    mask = torch.arange(6).expand(2, 6) != 2
    assert_same(variant(frames, mask, times), variant(frames, mask, torch.where(mask, times, 0)))


def test_zero_features_get_no_gradient(from_clip: Maker) -> None:
    """Cached features of masked frames are zero. Used without the mask, they must not drown the other gradients."""
    model = from_clip().train()
    model.config.feature_dropout = model.config.instance_dropout = model.config.long_range_dropout = 0.0
    features = torch.randn(2, 6, DIM, generator=torch.Generator().manual_seed(0))
    features[1, 4:] = 0
    model(frame_features=features, labels=torch.tensor([0, 3])).loss.backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    assert max(norms.values()) < 100, max(norms.items(), key=lambda item: item[1])
    assert norms["tgdfer.short_term.up.weight"] > 0


def test_frames_and_masks_that_do_not_fit(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="clips of 0 frames were given; give at least one"):
        model(frames[:, :0])
    with pytest.raises(ValueError, match="^0 clips"):
        model(frames[:0])
    with pytest.raises(ValueError, match=r"`frame_mask` has shape \(1, 3\), but there are"):
        model(frames, frame_mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="`frame_mask` has shape"):
        model(frame_features=model.get_frame_features(frames), frame_mask=torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.parametrize("pooling", ["attention", "topk", "mean", "max"])
def test_a_masked_clip_leaves_the_gradients_of_the_others(
    from_clip: Maker, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled graph and a GPU cannot refuse it."""
    model = from_clip(mil_pooling=pooling)
    mask = torch.tensor([[True] * 6, [False] * 6])
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    model(frame_features=torch.randn(2, 6, DIM), frame_mask=mask, labels=torch.tensor([1, -100])).loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
