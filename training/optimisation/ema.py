"""An exponential moving average (EMA) of the trained weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """An exponential moving average of the trained weights of a network. Frozen weights are not copied.

    After the first update, the average is a copy of the weights. After update `n + 1`, it is
    `d * average + (1 - d) * weights` with `d = min(decay, (1 + n) / (10 + n))`. The smaller decay at the start keeps
    the untrained weights of short runs out of the average.

    Args:
        model (`nn.Module`): The network, on its device.
        decay (`float`): Decay of the average, between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._trained = nn.ParameterList(parameter for parameter in model.parameters() if parameter.requires_grad)
        self._average = AveragedModel(self._trained, multi_avg_fn=self._average_of)

    def update(self) -> None:
        """Adds the current weights to the average. It is called after each update of the weights."""
        self._average.update_parameters(self._trained)

    def _average_of(self, averages: Any, weights: Any, _: Any) -> None:
        # This copy of the number of updates is on the CPU, so that reading it does not wait for a GPU.
        updates = int(self._average.n_averaged)
        get_ema_multi_avg_fn(min(self.decay, (1 + updates) / (10 + updates)))(averages, weights, updates)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context manager in which the network has the averaged weights."""
        own = [weight.detach().clone() for weight in self._trained]
        self._copy(self._average.parameters())
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: Iterable[Tensor]) -> None:
        for weight, value in zip(self._trained, values, strict=True):
            weight.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Returns the average and the number of updates, for a checkpoint."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._average.load_state_dict(state)
