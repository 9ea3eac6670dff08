"""Distributed processes, as `torchrun` and `accelerate launch` start them: sharing batches and gathering results."""

import atexit
import os
from collections.abc import Sequence
from functools import cache
from itertools import chain, zip_longest
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED

T = TypeVar("T")

# Batches that each worker process prepares ahead.
PREFETCH = 4


def on_cpu() -> bool:
    """Returns whether processes compute on the CPU: without an accelerator, or if `ACCELERATE_USE_CPU` is set.

    Accelerate must be told explicitly. Otherwise, on a machine without a GPU, each process that `torchrun` starts runs
    as if it were the only one.
    """
    return not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")


def process_state() -> PartialState:
    """Returns the number of processes and the rank of this process."""
    state = PartialState(cpu=on_cpu())
    if state.num_processes > 1:
        _end_group_at_exit()
    return state


@cache
def _end_group_at_exit() -> None:
    """Destroys the process group when Python ends. Otherwise, its threads abort some processes as they end."""
    atexit.register(PartialState(cpu=on_cpu()).destroy_process_group)


def own_batches(count: int, batch_size: int) -> list[list[int]]:
    """Returns the batches of this process, if `count` items are batched and the processes take batches in turn.

    The batches are the same as with a single process. So the outputs of a model are identical to the last bit.

    Args:
        count (`int`): Number of items.
        batch_size (`int`): Number of items in a batch.

    Returns:
        The indices of the items of each batch.
    """
    state = process_state()
    return _batches(count, batch_size)[state.process_index :: state.num_processes]


def gather_batches(own: Sequence[T]) -> list[T]:
    """Gathers the results of all processes, in the order of the batches. Every process must call it.

    Args:
        own (`Sequence[T]`): A result for each batch of `own_batches`.

    Returns:
        A result for each batch, the same list in every process.
    """
    if process_state().num_processes == 1:
        return list(own)
    missing = object()
    per_process: list[Sequence[T]] = gather_object([list(own)])
    turns = zip_longest(*per_process, fillvalue=cast(Any, missing))
    return [result for result in chain.from_iterable(turns) if result is not missing]


def batch_loader(data: Any, batches: list[list[int]], workers: int | None = 0) -> DataLoader:
    """Creates a loader of the given batches. It uses the method `collate` of the data set if there is one.

    Args:
        data (`Any`): The data set.
        batches (`list[list[int]]`): Indices of the items of each batch.
        workers (`int`, *optional*, defaults to 0): Number of worker processes. None stands for that of `num_workers`.
    """
    workers = num_workers(workers)
    return DataLoader(
        cast(Dataset, data),
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        collate_fn=getattr(data, "collate", None),
    )


def num_workers(workers: int | None) -> int:
    """Returns the number of worker processes that decode clips for each process.

    Args:
        workers (`int`, *optional*): The number that the user wants. By default the CPUs of this process without one,
            at most 8, if it computes on a GPU. On a CPU, more processes would take time from the network, so the
            default is 0.
    """
    if workers is not None:
        return workers
    if on_cpu():
        return 0
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, available // process_state().num_processes - 1))


def batch_rounds(count: int, batch_size: int) -> list[list[list[int]]]:
    """Returns the batches of `count` items in rounds. In a round, every process has at most one batch."""
    batches, per_round = _batches(count, batch_size), process_state().num_processes
    return [batches[start : start + per_round] for start in range(0, len(batches), per_round)]


def ignore_repeated_clips(batch: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """Removes the labels of clips that only fill the last batches of an epoch up to the size of the others.

    All processes need batches of the same size. If too few clips are left, Accelerate repeats the first ones of the
    epoch. Without a label they do not count in the loss, so several processes learn from each clip exactly once.

    Args:
        batch (`dict[str, Tensor]`): Batch of this process, from a loader that Accelerate iterates over, with `labels`.
        accelerator (`Accelerator`): Accelerator that has prepared the loader.

    Returns:
        The batch. It is unchanged for a single process, and before the end of an epoch.
    """
    state, labels = accelerator.gradient_state, batch["labels"]
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return batch
    # In a step, the clips of an epoch are dealt out to the processes in the order of their ranks.
    own = state.remainder - accelerator.process_index * len(labels)
    places = torch.arange(len(labels), device=labels.device).view(-1, *[1] * (labels.ndim - 1))
    return batch | {"labels": labels.masked_fill(places >= own, IGNORED)}


def from_main_process(value: T) -> T:
    """Returns the value of the main process. Every process must call it."""
    return value if process_state().num_processes == 1 else broadcast_object_list([value])[0]


def true_in_any_process(*own: bool) -> list[bool]:
    """Returns for each value whether it is true in any process. Every process must call it.

    It does not wait for a GPU, so that training can call it after every update.
    """
    if process_state().num_processes == 1:
        return list(own)
    values = torch.tensor(own, dtype=torch.uint8)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=_cpu_group())
    return values.bool().tolist()


@cache
def _cpu_group() -> Any:
    """Returns a group of all processes that exchanges values of the CPU. Every process must call it."""
    return torch.distributed.new_group(backend="gloo")


def _batches(count: int, batch_size: int) -> list[list[int]]:
    """Cuts the indices of `count` items into batches."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
