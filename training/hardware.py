"""Where and in which number format a model computes."""

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
    """Where and how a model computes.

    Attributes:
        device: "auto" takes the GPU where there is one; or a device of PyTorch, such as "cpu" or "cuda:1".
        dtype: number format of the parameters: "auto" leaves them as they were saved, or one of `DTYPES`.
        batch_size: clips or windows at a time; None leaves it to the caller.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None

    def torch_device(self) -> torch.device:
        """The device. Under `accelerate launch`, each process of a machine has a GPU of its own.

        Raises:
            UserError: there is no such device.
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
        # PyTorch has an error of its own for each kind of device that is missing.
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UserError(f"There is no device {self.device!r} here; give auto or cpu.") from error
        return device

    def loading(self) -> dict[str, Any]:
        """Options of `from_pretrained`.

        Raises:
            UserError: the number format is not known.
        """
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is {self.dtype!r}, but must be one of {', '.join(DTYPES)}.")
        return {} if self.dtype == "auto" else {"dtype": getattr(torch, self.dtype)}


def _own_gpu() -> int:
    """The number of the GPU of this process."""
    return int(os.environ.get("LOCAL_RANK", 0)) % max(1, torch.cuda.device_count())


def return_large_blocks() -> None:
    """Makes glibc return memory blocks of 1 MiB and more to the system when they are freed.

    By default glibc keeps blocks of up to 32 MiB. Frames and activations of different sizes then leave gaps that are
    too small to be used again. Other C libraries are left as they are.
    """
    # Windows has no library of this name, and other C libraries have no such function.
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)
