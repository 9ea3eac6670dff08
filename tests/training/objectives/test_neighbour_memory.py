"""The memory of S2D: targets by hand, the oldest clips, and the weight over the training."""

from types import SimpleNamespace

import pytest
import torch

from tgdfer.training.objectives.neighbour_memory import SLOTS, NeighbourMemory, weight_at


@pytest.fixture
def memory(make_model) -> NeighbourMemory:
    return NeighbourMemory(make_model())


def unit_vectors(*directions: tuple[float, float]) -> torch.Tensor:
    """Vectors of unit length in the first two of 16 dimensions."""
    vectors = torch.zeros(len(directions), 16)
    vectors[:, :2] = torch.tensor(directions)
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_targets_are_the_predictions_for_the_two_nearest_clips_of_the_class(memory):
    clips = unit_vectors((1, 0), (1, 0.2), (0, 1), (1, 0.1))
    predictions = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    memory.remember(clips, predictions, torch.tensor([0, 0, 0, 1]))  # the nearest one belongs to another class
    targets, known = memory.soft_targets(unit_vectors((1, 0.1), (0, 1), (1, 0.1)), torch.tensor([0, 1, -100]))
    assert known.tolist() == [True, False, False], "class 1 has one clip, and the third clip has no label"
    torch.testing.assert_close(targets[0], torch.tensor([0.6, 0.25, 0.15]))


def test_the_loss_is_the_divergence_from_the_targets(memory):
    clips = unit_vectors((1, 0), (1, 0.2))
    memory.remember(clips, torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]]), torch.tensor([0, 0]))
    logits = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    output = SimpleNamespace(logits=logits, video_embeds=3 * clips[:1])
    memory.start_epoch(16, 20)
    loss = memory(output, {"labels": torch.tensor([0])})
    target, predicted = torch.tensor([0.7, 0.2, 0.1]), logits.detach().softmax(-1)[0]
    assert loss.item() == pytest.approx((target * (target / predicted).log()).sum().item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(logits.grad[0], predicted - target)
    assert memory.written.tolist() == [3, 0, 0, 0], "the clip itself is remembered afterwards"


def test_new_clips_replace_the_oldest(memory):
    for number in range(SLOTS + 2):
        share = torch.full((1, 3), float(number))
        memory.remember(unit_vectors((1, 0)), share, torch.tensor([2]))
    assert sorted(memory.predictions[2, :, 0].tolist()) == list(range(2, SLOTS + 2))
    several = torch.arange(100.0, 100 + SLOTS + 3).unsqueeze(1).expand(-1, 3)
    memory.remember(unit_vectors(*[(1, 0)] * len(several)), several, torch.tensor([1] * len(several)))
    assert sorted(memory.predictions[1, :, 0].tolist()) == list(range(103, 103 + SLOTS)), "the last of a large batch"
    memory.remember(unit_vectors((1, 0)), torch.full((1, 3), 7.0), torch.tensor([-100]))
    assert not (memory.predictions[:3] == 7).all(-1)[[0, 1]].any()


def test_the_weight_rises_over_the_training():
    found = [weight_at(epoch / 100) for epoch in (0, 29, 30, 49, 50, 60, 79, 80, 99)]
    assert found == [0, 0, 0.01, 0.01, 0.1, 0.5, 0.5, 1.0, 1.0]


def test_the_memory_is_its_state(memory, make_model):
    memory.remember(unit_vectors((1, 0)), torch.full((1, 3), 0.4), torch.tensor([1]))
    other = NeighbourMemory(make_model())
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.predictions, memory.predictions) and other.written[1] == 1
    assert not list(memory.parameters())
