"""Options that change time and memory of training, but not what is learned: gradient checkpointing and compilation."""

import logging

import torch
from torch import Tensor

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)


def require_compiler(device: torch.device) -> None:
    """Checks that `torch.compile` works on a device, by compiling a small function.

    It needs a C++ compiler on a CPU, and Triton and a C compiler on a GPU.

    Args:
        device (`torch.device`): The device.

    Raises:
        UserError: If it does not work.
    """

    def double_and_sum(values: Tensor) -> Tensor:
        return (2 * values).sum()

    torch._dynamo.config.suppress_errors = False  # Otherwise the function would run without being compiled.
    try:
        torch.compile(double_and_sum)(torch.ones(8, device=device))
    except Exception as error:  # Compilers, Triton and torch raise all kinds of errors.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"torch_compile cannot be used on this machine ({type(error).__name__}: {reason}): install a C++ compiler,"
            " such as g++, or leave out torch_compile."
        ) from error


def accelerate_training(model: TGDFERForVideoClassification, options: OptimisationConfig) -> None:
    """Switches on gradient checkpointing and compilation, if the options say so. The names of weights do not change.

    Args:
        model (`TGDFERForVideoClassification`): The network.
        options (`OptimisationConfig`): `gradient_checkpointing` and `torch_compile`.

    Raises:
        UserError: If the towers do not support gradient checkpointing.
    """
    if options.gradient_checkpointing:
        try:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise UserError(f"gradient_checkpointing is not supported by this CLIP: {error}") from error
    if options.torch_compile:
        model.compile()
