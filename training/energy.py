"""The energy that the GPUs of a training use, read from their own counters."""

import logging

import torch
from accelerate import Accelerator

logger = logging.getLogger(__name__)

_JOULES_PER_KWH = 3.6e6


class GpuEnergy:
    """The energy of the GPU of each process since the last reading.

    It is measured by the counter of the driver, which GPUs have since Volta (2017). The energy of the CPU and of the
    memory of the machine is not included. Nothing is measured on a CPU, without the library `pynvml`, or if several
    processes share a GPU.

    Args:
        accelerator (`Accelerator`): Accelerator of the training.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.last = self._read()

    def since_last(self) -> float | None:
        """Returns the energy of all GPUs since the last call in kWh, or None if it cannot be measured.

        Every process must call this method.
        """
        before, self.last = self.last, self._read()
        used = torch.tensor(
            [-1.0 if before is None or self.last is None else self.last - before],
            dtype=torch.float32,
            device=self.accelerator.device,
        )
        joules = self.accelerator.gather(used)
        return None if bool((joules < 0).any()) else float(joules.sum()) / _JOULES_PER_KWH

    def _read(self) -> float | None:
        """Reads the counter of the GPU of this process in joules."""
        device = self.accelerator.device
        if device.type != "cuda" or self.accelerator.num_processes > torch.cuda.device_count():
            return None
        try:
            import pynvml

            pynvml.nvmlInit()
            # NVML numbers all GPUs of the machine, torch only those that are visible, so the id must be compared.
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            torch.cuda.synchronize(device)
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except ImportError:
            return None
        except Exception as error:  # NVML raises errors of its own for GPUs and drivers without a counter.
            logger.debug("The energy of %s cannot be measured: %s", device, error)
            return None
