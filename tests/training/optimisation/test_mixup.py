"""Mixup, compared with a mixture by hand."""

import pytest
import torch
from torch import Tensor

from tgdfer.training.optimisation.mixup import Mixup, partner_frames


class FixedShares:
    def __init__(self, values: list[float]) -> None:
        self.values = torch.tensor(values)

    def sample(self, shape: tuple[int]) -> Tensor:
        return self.values


@pytest.fixture
def mixup(monkeypatch: pytest.MonkeyPatch) -> Mixup:
    """Mixes two clips with each other, with shares of 0.75 and 0.6."""
    mixing = Mixup(0.2, num_classes=3)
    mixing.shares = FixedShares([0.25, 0.6])  # type: ignore[assignment]
    monkeypatch.setattr(torch, "randperm", lambda count: torch.arange(count - 1, -1, -1))
    return mixing


@pytest.mark.parametrize("name", ["pixel_values_videos", "frame_features"])
def test_frames_and_labels_by_hand(mixup: Mixup, name: str) -> None:
    shape = (2, 4, 3, 2, 2) if name == "pixel_values_videos" else (2, 4, 5)
    frames, times = torch.randn(shape), torch.rand(2, 4)
    mask = torch.ones(2, 4, dtype=torch.bool)
    mixed = mixup({name: frames, "labels": torch.tensor([0, 2]), "frame_mask": mask, "timestamps": times})
    assert torch.allclose(mixed[name][0], 0.75 * frames[0] + 0.25 * frames[1])
    assert torch.allclose(mixed[name][1], 0.6 * frames[1] + 0.4 * frames[0])
    assert torch.allclose(mixed["labels"], torch.tensor([[0.75, 0, 0.25], [0.4, 0, 0.6]]))
    assert torch.equal(mixed["frame_mask"], mask) and torch.equal(mixed["timestamps"], times)


def test_masked_frames_are_mixed_into_no_frame(mixup: Mixup) -> None:
    frames = torch.tensor([[[1.0], [2.0], [3.0], [4.0]], [[10.0], [torch.nan], [30.0], [torch.nan]]])
    mask = torch.tensor([[True] * 4, [True, False, True, False]])
    mixed = mixup({"frame_features": frames, "frame_mask": mask, "labels": torch.tensor([0, 1])})["frame_features"]
    assert torch.allclose(mixed[0, :, 0], torch.tensor([0.75 + 2.5, 1.5 + 2.5, 2.25 + 7.5, 3 + 7.5]))
    assert torch.allclose(mixed[1, [0, 2], 0], torch.tensor([6 + 0.4, 18 + 1.2]))


def test_partners_at_the_same_relative_position() -> None:
    mask = torch.tensor([[False, True, True, True, False], [True, True, False, False, False]])
    partner = torch.tensor([[True, False, False, True, True], [False, True, True, True, True]])
    chosen = partner_frames(mask, partner)
    assert chosen[0, 1:4].tolist() == [0, 3, 4] and chosen[1, :2].tolist() == [1, 3]


def test_votes_and_clips_without_a_label(mixup: Mixup) -> None:
    frames = torch.zeros(2, 1, 5)
    votes = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(
        mixup({"frame_features": frames, "labels": votes})["labels"],
        torch.tensor([[0.375, 0.375, 0.25], [0.2, 0.2, 0.6]]),
    )
    unlabelled = mixup({"frame_features": frames, "labels": torch.tensor([-100, 1])})["labels"]
    assert (unlabelled < 0).all()


def test_larger_share_is_that_of_the_clip_itself() -> None:
    labels = torch.zeros(400, dtype=torch.long)
    labels[::2] = 1
    mixed = Mixup(1.0, 2)({"frame_features": torch.zeros(400, 1, 1), "labels": labels})["labels"]
    assert torch.allclose(mixed.sum(1), torch.ones(400)) and torch.equal(mixed.argmax(1), labels)
    assert 0.5 < mixed.max(1).values[mixed.max(1).values < 1].mean() < 0.9
