"""The updates of a training loop, on a model with a single weight."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tgdfer.training.config import OptimisationConfig
from tgdfer.training.optimisation.loop import TrainingLoop, start_accelerator

ACCUMULATION = 4


class Ones(torch.utils.data.Dataset):
    """Items whose loss has a gradient of one."""

    def __init__(self, number):
        self.targets = [0] * number

    def set_epoch(self, epoch):
        pass

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return {"value": torch.tensor(1.0), "labels": torch.tensor(self.targets[index])}


class Weight(nn.Module):
    """A weight whose product with an item is the loss."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, value, labels):
        return SimpleNamespace(loss=(self.weight * value).mean())


def loop_of(number):
    """A loop over batches of one item, and the norms of the gradients of its updates."""
    model, options = Weight(), OptimisationConfig(batch_size=1, gradient_accumulation=ACCUMULATION, epochs=2)
    groups = [{"params": list(model.parameters()), "name": "new", "lr": 0.1}]
    loop = TrainingLoop(model, Ones(number), groups, options, start_accelerator(None, ACCUMULATION))
    norms: list[float] = []
    loop.after_update = lambda: norms.append(float(loop.gradient_norm))
    return loop, norms


@pytest.mark.parametrize("number", [3, 4, 5, 10])
def test_the_last_update_of_an_epoch_has_the_mean_gradient_of_its_batches(number):
    loop, norms = loop_of(number)
    for epoch in range(2):
        loop.train_epoch(epoch)
    assert norms == pytest.approx([1.0] * 2 * loop.updates_per_epoch)


def test_an_epoch_that_is_continued_has_the_same_last_update():
    loop, _ = loop_of(2 * ACCUMULATION + 1)
    states: list[dict] = []
    loop.after_update = lambda: states.append(loop.state_dict())
    loop.train_epoch(0)
    again, norms = loop_of(2 * ACCUMULATION + 1)
    again.load_state_dict(states[0])
    again.train_epoch(0)
    assert norms == pytest.approx([1.0, 1.0])
