"""The parts of the speed benchmark, each of which measures one thing: `python -m benchmarks.speed.parts SPEC`.

`processes.py` runs each part in a process of its own and passes its sizes and arguments as JSON.
"""

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from transformers import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

from benchmarks.speed.meters import in_turns, memory, peak_memory
from benchmarks.speed.networks import (
    SHALLOW,
    WAYS,
    Sizes,
    Step,
    Way,
    cached_clips,
    emotions,
    network,
    pixels_of,
    precision,
    training_batch,
)
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.train import TrainingLoop, start_accelerator


def parts_of(sizes: Sizes) -> dict[str, dict[str, Any]]:
    """The arguments of `measure` for each part, by name."""
    found: dict[str, dict[str, Any]] = {}
    for frames, batch in itertools.product(sizes.frames, sizes.batches):
        found[f"inference-{frames}x{batch}"] = {"kind": "inference", "frames": frames, "batch": batch}
    for axis, training in itertools.product(sizes.growth, (False, True)):
        name = f"{axis}-{'training' if training else 'inference'}"
        found[f"growth-{name}"] = {"kind": "growth", "axis": axis, "training": training}
        found[f"growth-memory-{name}"] = {"kind": "growth-memory", "axis": axis, "training": training}
    for batch, way in itertools.product(sizes.batches, WAYS):
        found[f"training-memory-{way}-{batch}"] = {"kind": "training-memory", "way": way, "batch": batch}
    for way in ("lora", "context"):
        found[f"epoch-{way}"] = {"kind": "epoch", "way": way, "batch": max(sizes.batches)}
    for batch, way in itertools.product(sizes.batches, WAYS):
        found[f"training-{way}-{batch}"] = {"kind": "training", "way": way, "batch": batch}
    return found


def measure(sizes: Sizes, device: str, kind: str, **arguments: Any) -> dict[str, Any]:
    """Measures a part: `seconds` of every repetition by name, or the `peak` of the memory in MiB."""
    torch.set_num_threads(sizes.threads)
    torch.manual_seed(0)
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "inference": _inference,
        "training": _training,
        "training-memory": _training_memory,
        "epoch": _epoch,
        "growth": _growth,
        "growth-memory": _growth_memory,
    }
    return measures[kind](sizes, torch.device(device), **arguments)


def _inference(sizes: Sizes, device: torch.device, frames: int, batch: int) -> dict[str, Any]:
    """The network from pixels with cached class texts, beside its own vision tower on the same frames."""
    model = network(sizes, device, classes=emotions()).eval()
    tower = model.tgdfer.clip.vision_model
    if device.type == "cuda":
        model.bfloat16()
    pixels = pixels_of(sizes, device, batch, frames).to(model.dtype)
    ways = {"tower": lambda: tower(pixels.flatten(0, 1)), "network": lambda: model(pixel_values_videos=pixels)}
    with torch.inference_mode():
        return {"seconds": in_turns(ways, sizes.repetitions, device)}


def _training(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """A training step from pixels, beside the vision tower of CLIP on the same frames without gradients."""
    step, clips = Step(sizes, device, WAYS[way]), training_batch(sizes, device, batch)
    tower = CLIPVisionModel._from_config(CLIPConfig(**sizes.clip).vision_config).eval().to(device)

    def look() -> None:
        with torch.inference_mode(), precision(device):
            tower(clips["pixel_values_videos"].flatten(0, 1))

    return {"seconds": in_turns({"tower": look, "step": lambda: step(clips)}, sizes.repetitions, device)}


def _training_memory(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """Peak memory of training: weights, gradients, state of the optimizer and activations."""
    before = peak_memory(device)
    step, clips = Step(sizes, device, WAYS[way]), training_batch(sizes, device, batch)
    for _ in range(2):  # the first step creates the state of the optimizer
        step(clips)
    return {"peak": peak_memory(device) - before}


def _epoch(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """An epoch of everything after CLIP on cached features, beside a training step from pixels."""
    after = network(sizes, device, emotions(), WAYS[way].context)
    groups: list[dict[str, Any]] = [{"params": [p for p in after.parameters() if p.requires_grad], "lr": 1e-5}]
    accelerator = start_accelerator("bf16" if device.type == "cuda" else "no")
    options = OptimisationConfig(batch_size=sizes.epoch_batch)
    loop = TrainingLoop(after, cached_clips(sizes), groups, options, accelerator)
    step, clips = Step(sizes, device, WAYS[way]), training_batch(sizes, device, batch)
    ways = {"epoch": lambda: loop.train_epoch(0), "step": lambda: step(clips)}
    return {"seconds": in_turns(ways, sizes.repetitions, device), "batch": batch}


def _growth(sizes: Sizes, device: torch.device, axis: str, training: bool) -> dict[str, Any]:
    """A forward pass or a training step of what comes after CLIP, on features, while `axis` grows."""
    runs = {size: _after_clip(sizes, device, axis, size, training) for size in sizes.growth[axis]}
    # These runs are short, so there are more rounds.
    return {"seconds": in_turns(runs, 4 * sizes.repetitions, device), "batch": max(sizes.batches)}


def _growth_memory(sizes: Sizes, device: torch.device, axis: str, training: bool) -> dict[str, Any]:
    """The peak memory of the same passes, with the weights of what comes after CLIP."""
    _after_clip(sizes, device, axis, 1, training)()  # loads what is loaded lazily
    before = memory(device)
    peaks: dict[int, float] = {}
    for size in sorted(sizes.growth[axis]):  # ascending, because the peak of a process never falls
        _after_clip(sizes, device, axis, size, training)()
        peaks[size] = peak_memory(device) - before
    return {"peak": peaks}


def _after_clip(sizes: Sizes, device: torch.device, axis: str, size: int, training: bool) -> Callable[[], Any]:
    """A pass of what comes after CLIP, on features with `size` elements along `axis`."""
    amount = {**sizes.usual, axis: size}
    classes = {f"class {number}": ["a face"] * amount["descriptions"] for number in range(amount["classes"])}
    features = torch.randn(max(sizes.batches), amount["frames"], sizes.clip["projection_dim"], device=device)
    shallow = {tower: sizes.clip[tower] | SHALLOW for tower in ("vision_config", "text_config")}
    sizes = Sizes(**{**vars(sizes), "clip": {**sizes.clip, **shallow}})
    if training:
        step = Step(sizes, device, Way("", ""), classes)
        labels = torch.arange(len(features), device=device) % len(classes)
        return lambda: step({"frame_features": features, "labels": labels})
    model = network(sizes, device, classes).eval()
    if device.type == "cuda":
        model.bfloat16()
    features = features.to(model.dtype)

    def look() -> None:
        with torch.inference_mode():
            model(frame_features=features)

    look()  # encodes and caches the texts
    return look


def main(spec: str) -> None:
    """Prints the measurement of a part as JSON."""
    given = json.loads(spec)
    print(json.dumps(measure(Sizes(**given["sizes"]), **given["arguments"])))


if __name__ == "__main__":
    main(sys.argv[1])
