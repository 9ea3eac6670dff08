"""The energy of a training is measured or not told."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from tgdfer.training.config import TrainingConfig
from tgdfer.training.energy import GpuEnergy
from tgdfer.training.train import train


class Counter:
    """A driver whose GPU uses 3600 J between two readings."""

    def __init__(self) -> None:
        self.millijoules = 5_000_000

    def nvmlInit(self) -> None:  # noqa: N802
        """As in NVML."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert uuid == "GPU-1234"
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        self.millijoules += 3_600_000
        return self.millijoules


@pytest.fixture
def gpu(monkeypatch) -> SimpleNamespace:
    """An accelerator that seems to have a GPU with a counter."""
    monkeypatch.setitem(sys.modules, "pynvml", Counter())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    # The tensors of a test lie on the CPU, although the device is called a GPU.
    monkeypatch.setattr(torch, "tensor", lambda values, dtype, device: torch.as_tensor(values, dtype=dtype))
    return SimpleNamespace(device=torch.device("cuda", 0), num_processes=1, gather=lambda value: value)


def test_energy_is_the_difference_of_two_readings(gpu):
    meter = GpuEnergy(gpu)
    assert meter.since_last() == meter.since_last() == pytest.approx(0.001)


def test_no_energy_without_a_counter_of_ones_own(gpu, monkeypatch):
    gpu.num_processes = 2
    assert GpuEnergy(gpu).since_last() is None
    gpu.num_processes = 1
    meter = GpuEnergy(gpu)
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace())
    assert meter.since_last() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuEnergy(gpu).since_last() is None
    assert GpuEnergy(Accelerator(cpu=True)).since_last() is None


@pytest.mark.slow
@pytest.mark.parametrize("energy", [None, 0.25])
def test_facts_of_a_run_have_the_energy_of_all_epochs(options, tmp_path, monkeypatch, energy):
    monkeypatch.setattr(GpuEnergy, "since_last", lambda self: energy)
    options |= {"epochs": 2, "frozen_features": True, "feature_views": 1, "output": tmp_path / "run"}
    run = train(TrainingConfig.from_options(**options))
    facts = json.loads((run / "training.json").read_text())
    assert facts.get("energy_kwh") == (None if energy is None else 0.5)
