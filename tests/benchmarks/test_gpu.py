"""The benchmark for GPUs: what it measures and its report, tried on the CPU with a small network."""

import copy
import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.speed.networks import VIT_B_16, Sizes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result() -> dict:
    clip = copy.deepcopy(VIT_B_16)
    for tower in ("text_config", "vision_config"):
        clip[tower] |= {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    sizes = Sizes(clip=clip, train_frames=2, repetitions=2)
    return gpu.measure(sizes, torch.device("cpu"), batches=(1, 2), side=64)


def test_the_report_has_a_row_for_each_measurement(result: dict) -> None:
    text = gpu.report(json.loads(json.dumps(result)))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * 2 + 2 + len(gpu.TRAINED) * 2
    assert "LoRA on the last four vision blocks, gradient checkpointing | 2 |" in text


def test_repeated_operations_do_not_count(result: dict) -> None:
    flops = {name: measured["flops"] for name, measured in result["training"].items()}
    assert flops["lora 2"] == flops["lora-checkpointing 2"] < flops["vision 2"] < flops["all 2"]
    # All frames pass the vision tower, so twice the clips need twice the operations.
    assert flops["vision 2"] / flops["vision 1"] == pytest.approx(2, rel=0.05)


def test_a_full_memory_is_a_row_of_the_report(result: dict) -> None:
    full = result | {"training": {"vision 8": None}}
    assert "| full vision tower | 8 | out of memory |" in gpu.report(full)


def test_the_target_is_the_speed_of_the_tower(result: dict) -> None:
    seconds = {"tower": [0.9, 1.0, 1.1], "network": [1.0, 1.0, 1.0]}
    text = gpu.report(result | {"inference": {"4": seconds}})
    assert "| 4 | 4 | 4 | 1.000 [0.900–1.100] |" in text
