"""The moving average of the weights, compared with one by hand."""

import torch
from torch import nn

from tgdfer.training.optimisation.ema import WeightAverage


def updated(model: nn.Module, average: WeightAverage, steps: int, start: int = 0) -> list[float]:
    """Sets the trained weight to the square of each step, and returns its values."""
    values = [float(step * step) for step in range(start, start + steps)]
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    return values


def small_network() -> nn.Linear:
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    return model


def by_hand(values: list[float], decay: float) -> float:
    mean = values[0]
    for n, value in enumerate(values[1:], 1):
        d = min(decay, (1 + n) / (10 + n))
        mean = d * mean + (1 - d) * value
    return mean


def test_average_is_that_by_hand_and_can_be_resumed() -> None:
    for decay in (0.3, 0.999):
        model = small_network()
        average = WeightAverage(model, decay)
        values = updated(model, average, 5)
        again = WeightAverage(small_network(), decay)
        again.load_state_dict(average.state_dict())
        other = small_network()
        again._trained[0] = other.weight
        values += updated(model, average, 4, start=5)
        updated(other, again, 4, start=5)
        with average.applied():
            assert abs(model.weight.item() - by_hand(values, decay)) < 1e-4
            found = model.weight.item()
        assert model.weight.item() == values[-1]
        with again.applied():
            assert other.weight.item() == found


def test_frozen_weights_are_not_copied() -> None:
    model = small_network()
    average = WeightAverage(model, 0.9)
    assert [value.numel() for value in average.state_dict().values()] == [1, 1]  # the number of updates, the weight
    updated(model, average, 3)
    address = model.weight.data_ptr()
    with average.applied():
        assert model.weight.data_ptr() == address and model.weight.item() != 4
    assert model.weight.item() == 4


def test_weights_come_back_after_an_error() -> None:
    model = small_network()
    average = WeightAverage(model, 0.9)
    updated(model, average, 3)
    try:
        with average.applied():
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert model.weight.item() == 4
