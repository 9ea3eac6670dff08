"""Mean losses of an epoch and of the updates between two rows of a log."""

from typing import Any

import torch
from accelerate import Accelerator


class Averages:
    """Mean loss of the epoch, and mean loss and terms of the loss since the last reading.

    Values are summed on the device, and copied to the host only when they are read. All sums are in float32, so that
    they are restored from JSON to the last bit.

    Args:
        accelerator (`Accelerator`): Accelerator of the training. Means are those over all processes.

    Attributes:
        clips (`int`): Number of clips of this process since the last reading, or since a state was loaded.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.names: list[str] = []
        self.start_epoch()
        self._start_window()

    def start_epoch(self) -> None:
        """Sets the sum of the epoch to zero."""
        self._epoch = torch.zeros((), device=self.accelerator.device)

    def _start_window(self) -> None:
        self._window = torch.zeros(1 + len(self.names), device=self.accelerator.device)
        self._batches = self.clips = 0

    def add(self, output: Any, clips: int) -> None:
        """Adds a batch.

        Args:
            output (`Any`): Output of the model with `loss` and, if the model has terms of the loss, `loss_dict`.
            clips (`int`): Number of clips in the batch.
        """
        terms = getattr(output, "loss_dict", None) or {}
        if not self.names and terms:
            self.names = list(terms)
            self._start_window()
        self._epoch += output.loss.detach()
        self._window += torch.stack([output.loss.detach(), *terms.values()]).float()
        self._batches += 1
        self.clips += clips

    def of_epoch(self, batches: int) -> float:
        """Returns the mean loss of the batches of the epoch. Every process must call this method.

        Args:
            batches (`int`): Number of batches of this process in the epoch.
        """
        return float(self.accelerator.reduce(self._epoch, "mean")) / batches

    def read(self) -> tuple[float, dict[str, float]]:
        """Returns the mean loss and the mean terms since the last reading. Every process must call this method."""
        means = (self.accelerator.reduce(self._window, "mean") / self._batches).tolist()
        self._start_window()
        return means[0], dict(zip(self.names, means[1:], strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Returns the sums of all processes as values for JSON. Every process must call this method."""
        sums = torch.cat([self._epoch[None], self._window])
        rows = self.accelerator.gather(sums[None]).tolist()
        return {"names": self.names, "sums": rows, "batches": self._batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the sums of this process."""
        self.names = list(state["names"])
        sums = torch.tensor(state["sums"][self.accelerator.process_index], device=self.accelerator.device)
        self._epoch, self._window = sums[0], sums[1:]
        self._batches, self.clips = state["batches"], 0
