"""Whole weights of a model whose weights are sharded over processes (FSDP2, DeepSpeed ZeRO-3)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor


def whole_model(accelerator: Accelerator, model: Any) -> Any:
    """Returns a model that can be saved. Every process must call this function.

    Args:
        accelerator (`Accelerator`): Accelerator that has prepared the model.
        model (`Any`): The model.

    Returns:
        The model itself, without what Accelerate has wrapped around it. If its weights are sharded, a copy on the CPU
        with the whole weights in the main process, and None in the others.
    """
    network = accelerator.unwrap_model(model)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        state = accelerator.get_state_dict(model)
        return _copy_with(network, state) if accelerator.is_main_process else None
    if not any(isinstance(parameter, DTensor) for parameter in network.parameters()):
        return network
    # The other processes receive no weights, but they send theirs.
    state = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return _copy_with(network, state) if accelerator.is_main_process else None


def _copy_with(network: Any, state: Mapping[str, Any]) -> Any:
    """Creates a model of the same configuration with the given weights."""
    with torch.device("meta"):
        whole = type(network)(copy.deepcopy(network.config))
    whole.load_state_dict(state, assign=True)
    return whole
