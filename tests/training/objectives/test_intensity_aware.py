"""The intensity-aware loss in closed form."""

import math

import pytest
import torch

from tgdfer.training.objectives.intensity_aware import intensity_aware_loss


def test_is_the_cross_entropy_of_the_label_and_its_strongest_rival():
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, 2])
    loss = intensity_aware_loss(logits, labels)
    by_hand = (math.log1p(math.exp(0.5 - 2.0)) + math.log1p(math.exp(3.0 - 1.0))) / 2
    assert loss.item() == pytest.approx(by_hand)
    pairs = torch.stack([logits[0, [0, 1]], logits[1, [2, 1]]])
    assert torch.nn.functional.cross_entropy(pairs, torch.tensor([0, 0])).item() == pytest.approx(by_hand)
    loss.backward()
    assert logits.grad[0, 2] == 0 and logits.grad[1, 0] == 0, "the other classes"
    wrong = 1 / (1 + math.exp(2.0 - 0.5)) / 2
    assert logits.grad[0].tolist() == pytest.approx([-wrong, wrong, 0.0])


def test_clips_without_a_label_do_not_count():
    logits = torch.randn(3, 4)
    some = intensity_aware_loss(logits, torch.tensor([-100, 1, -100]))
    assert torch.equal(some, intensity_aware_loss(logits[1:2], torch.tensor([1])))
    assert intensity_aware_loss(logits, torch.tensor([-100] * 3)) == 0
    assert intensity_aware_loss(logits[:, :1], torch.tensor([0] * 3)) == 0, "a single class has no rival"
