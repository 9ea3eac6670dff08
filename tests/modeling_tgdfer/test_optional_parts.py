"""Parts of neighbouring methods: what they are at the start, and what they cost if they are off."""

import pytest
import torch

from tgdfer.modeling_tgdfer.optional_parts_tgdfer import TGDFERTemporalAdapter, motion_weights

from .conftest import DIM, Maker, differ, move_all_but_clip

MASK = torch.tensor([[True, True, False, True, True, True], [True] * 6])


def features() -> torch.Tensor:
    return torch.randn(2, 6, DIM, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def test_the_adapter_is_an_identity_at_the_start(from_clip: Maker) -> None:
    model = from_clip(temporal_adapter=True).eval()
    adapter, frames, seconds = model.tgdfer.temporal_adapter, features(), torch.arange(6.0).expand(2, -1)
    assert isinstance(adapter, TGDFERTemporalAdapter)
    assert torch.equal(adapter(frames, seconds, MASK), frames)
    plain = from_clip().eval()
    report = model.load_state_dict(plain.state_dict(), strict=False)
    assert not report.unexpected_keys and all("temporal_adapter" in name for name in report.missing_keys)
    assert torch.equal(model(frame_features=frames).logits, plain(frame_features=frames).logits)
    move_all_but_clip(model)
    assert differ(adapter(frames, seconds, MASK), frames) > 0.1


@torch.no_grad()
def test_a_still_clip_has_equal_weights() -> None:
    still = torch.nn.functional.normalize(torch.randn(2, 1, DIM), dim=-1).expand(-1, 6, -1)
    found = motion_weights(still + 1e-7 * torch.randn(2, 6, DIM), MASK)
    torch.testing.assert_close(found, MASK / MASK.sum(1, keepdim=True), atol=1e-4, rtol=0)
    one = motion_weights(still, torch.eye(6)[:2].bool())
    assert torch.equal(one, torch.eye(6)[:2]), "a clip of one frame"


@torch.no_grad()
def test_frames_in_motion_weigh_more() -> None:
    """Two frames at right angles: only the two at the jump move. Both have half of its squared distance of two."""
    axes = torch.eye(DIM)
    frames = torch.stack([axes[0], axes[0], axes[0], axes[1], axes[1], axes[1]]).unsqueeze(0)
    weights = motion_weights(frames, torch.ones(1, 6, dtype=torch.bool))[0]
    by_hand = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]) / (2 / 6)
    torch.testing.assert_close(weights, by_hand.softmax(0), atol=1e-4, rtol=0)
    hidden = torch.tensor([[True, True, False, False, True, True]])
    assert motion_weights(frames, hidden)[0, 2:4].tolist() == [0, 0]
    assert motion_weights(frames, hidden)[0, 1] == motion_weights(frames, hidden)[0, 4], "a jump over masked frames"


@torch.no_grad()
def test_emotion_part_and_residue_are_orthogonal(from_clip: Maker) -> None:
    residue = from_clip(residue_width=5).tgdfer.residue
    frames = features()
    found = residue(frames)
    torch.testing.assert_close((found * (frames - found)).sum(-1), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(residue(found), found, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(residue.basis().T @ residue.basis(), torch.eye(5), atol=1e-5, rtol=0)


def test_parts_that_are_off_have_no_weights(from_clip: Maker) -> None:
    model = from_clip()
    assert model.tgdfer.residue is None and model.tgdfer.temporal_adapter is None
    assert not [name for name in model.state_dict() if "adapter" in name or "residue" in name]
    assert model.tgdfer(frame_features=features()).motion is None
    assert set(from_clip(motion_weights=True).state_dict()) == set(model.state_dict()), "weights of motion need none"


@pytest.mark.parametrize(("width", "sentence"), [(-1, "must be at least 0"), (DIM, "must be below the width 24")])
def test_widths_that_leave_nothing_are_refused(from_clip: Maker, width: int, sentence: str) -> None:
    with pytest.raises(Exception) as refused:  # noqa: B017
        from_clip(residue_width=width)
    assert sentence in str(refused.value.__cause__ or refused.value)
