"""Device, number format and batch size of a model, and memory settings."""

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from tgdfer.training.errors import UserError

# From malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Hardware:
    """Device, number format and batch size of a model.

    Attributes:
        device (`str`, *optional*, defaults to `"auto"`): "auto" for the GPU if there is one, otherwise the CPU; or a
            PyTorch device, such as "cpu" or "cuda:1".
        dtype (`str`, *optional*, defaults to `"auto"`): Number format of the parameters, one of `DTYPES`. "auto" is
            the format in which they were saved.
        batch_size (`int`, *optional*): Clips per step, or groups of 16 frames of a recording. None for the
            default of the caller.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None

    def torch_device(self) -> torch.device:
        """Returns the device. Under `accelerate launch`, each process of a machine has its own GPU.

        Raises:
            UserError: If the device does not exist.
        """
        if self.device == "auto":
            if torch.cuda.is_available():
                return torch.device("cuda", _own_gpu())
            return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            if device == torch.device("cuda"):
                device = torch.device("cuda", _own_gpu())
            torch.empty(0, device=device)
        # PyTorch raises a different error for each kind of missing device.
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UserError(f"There is no device {self.device!r} on this machine; choose auto or cpu.") from error
        return device

    def loading_options(self) -> dict[str, Any]:
        """Returns the options of `from_pretrained`.

        Raises:
            UserError: If the number format is unknown.
        """
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is {self.dtype!r}, but must be one of {', '.join(DTYPES)}.")
        return {} if self.dtype == "auto" else {"dtype": getattr(torch, self.dtype)}


def _own_gpu() -> int:
    """Returns the index of the GPU of this process."""
    return int(os.environ.get("LOCAL_RANK", 0)) % max(1, torch.cuda.device_count())


def return_large_blocks() -> None:
    """Makes glibc return memory blocks of 1 MiB or more to the system when they are freed.

    By default glibc keeps blocks of up to 32 MiB. Frames and activations of different sizes then leave gaps that are
    too small to be reused. Other C libraries are not affected.
    """
    # Windows has no such library, and other C libraries have no such function.
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)
