"""Several processes, as `torchrun` and `accelerate launch` start them: the share of each, and the results of all."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


def on_cpu() -> bool:
    """Whether processes compute on the CPU: there is nothing else, or `ACCELERATE_USE_CPU` says so.

    Accelerate has to be told. Otherwise the processes that `torchrun` starts on a machine without a GPU do not know of
    each other, and each of them runs as if it were the only one.
    """
    return not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")


def process_state() -> PartialState:
    """The number of processes and the place of this one among them."""
    return PartialState(cpu=on_cpu())


def own_batches(count: int, batch_size: int) -> list[list[int]]:
    """The batches of this process, if the batches of `count` items are dealt out in turns.

    The batches are those of a single process, so that what a model says of them is the same to the last bit.
    """
    state = process_state()
    return _batches(count, batch_size)[state.process_index :: state.num_processes]


def gather_batches(own: Sequence[T]) -> list[T]:
    """What all processes have made of their batches, in the order of the batches; every process calls it.

    Args:
        own: a result for each batch of `own_batches`.

    Returns:
        A result for each batch, the same list in every process.
    """
    if process_state().num_processes == 1:
        return list(own)
    missing = object()
    of_each: list[Sequence[T]] = gather_object([list(own)])
    turns = zip_longest(*of_each, fillvalue=cast(Any, missing))
    return [result for result in chain.from_iterable(turns) if result is not missing]


def loader_of(data: Any, batches: list[list[int]], workers: int = 0) -> DataLoader:
    """Loads the given batches of a data set, whose `collate` makes a batch of items if it has one."""
    return DataLoader(
        cast(Dataset, data), batch_sampler=batches, num_workers=workers, collate_fn=getattr(data, "collate", None)
    )


def rounds(count: int, batch_size: int) -> list[list[list[int]]]:
    """The batches of `count` items in rounds, in each of which every process has at most one batch."""
    batches, every = _batches(count, batch_size), process_state().num_processes
    return [batches[start : start + every] for start in range(0, len(batches), every)]


def all_have(own: bool) -> bool:
    """Whether something is true in every process; every process calls it."""
    return all(gather_batches([own]))


def _batches(count: int, batch_size: int) -> list[list[int]]:
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
