"""How much of the time of training is spent waiting for data."""

import time
from collections.abc import Iterator, Sized
from typing import Any


class WaitingTimer:
    """Iterates over a loader, and measures which share of the time the loader takes.

    A GPU computes while the next batch is read, so only the time is counted in which there is no batch yet.

    Args:
        loader (`Any`): The loader.

    Attributes:
        shares (`list[float]`): Share of each step that was spent waiting, 0 to 1. A step ends when the next one
            starts.
        share (`float`): Share of all steps together.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.shares: list[float] = []
        self.waited = self.total = 0.0

    @property
    def share(self) -> float:
        return self.waited / self.total if self.total else 0.0

    def __len__(self) -> int:
        loader: Sized = self.loader
        return len(loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            waited = time.perf_counter() - start
            self.waited += waited
            yield batch
            total = time.perf_counter() - start
            self.shares.append(waited / total if total else 0.0)
            self.total += total
