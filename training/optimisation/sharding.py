"""Sharding the weights of a model over processes with FSDP2.

FSDP2 cannot shard scalars, such as the scale of the cosines. Every process keeps them as a whole.
"""

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn


def prepare_sharding(model: nn.Module, accelerator: Accelerator) -> None:
    """Prepares a model that Accelerate will shard with FSDP2. Otherwise nothing changes.

    Args:
        model (`nn.Module`): Model on the device of the accelerator.
        accelerator (`Accelerator`): Accelerator that will prepare the model.
    """
    if not getattr(accelerator, "is_fsdp2", False):
        return
    plugin = accelerator.state.fsdp_plugin
    plugin.ignored_modules = [nn.ParameterList(keep_scalars_whole(model))]
    # It would load all weights as shards, and fail for scalars and for the buffers of the class texts.
    plugin.cpu_ram_efficient_loading = False


def keep_scalars_whole(model: nn.Module) -> set[nn.Parameter]:
    """Averages the gradients of scalar parameters over the processes, as FSDP2 does it for those that it shards.

    Returns:
        The scalar parameters, which `fully_shard` must ignore.
    """
    scalars = {parameter for parameter in model.parameters() if not parameter.ndim}
    for parameter in scalars:
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_average_gradient)
    return scalars


@torch.no_grad()
def _average_gradient(parameter: Tensor) -> None:
    """Replaces a gradient by its mean over the processes. Sums of several steps stay right, because a mean is kept."""
    if parameter.grad is not None:
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()
