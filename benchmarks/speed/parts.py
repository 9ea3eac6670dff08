"""Parts of the speed benchmark. Each part measures one thing: `python -m benchmarks.speed.parts SPEC`.

`processes.py` runs each part in a new process, and passes the sizes and the arguments as JSON. The argument `way` of a
part is a name in `TRAINING_MODES`.
"""

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from transformers import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

from benchmarks.speed.meters import memory, peak_memory, time_alternately
from benchmarks.speed.networks import (
    SHALLOW,
    TRAINING_MODES,
    Sizes,
    Step,
    TrainingMode,
    cached_clips,
    emotions,
    network,
    precision,
    random_pixels,
    training_batch,
)
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.optimisation.loop import TrainingLoop, start_accelerator


def parts_of(sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Returns the arguments of `measure` for each part, by name."""
    parts: dict[str, dict[str, Any]] = {}
    for frames, batch in itertools.product(sizes.frames, sizes.batches):
        parts[f"inference-{frames}x{batch}"] = {"kind": "inference", "frames": frames, "batch": batch}
    for axis, training in itertools.product(sizes.growth, (False, True)):
        name = f"{axis}-{'training' if training else 'inference'}"
        parts[f"growth-{name}"] = {"kind": "growth", "axis": axis, "training": training}
        parts[f"growth-memory-{name}"] = {"kind": "growth-memory", "axis": axis, "training": training}
    for batch, way in itertools.product(sizes.batches, TRAINING_MODES):
        parts[f"training-memory-{way}-{batch}"] = {"kind": "training-memory", "way": way, "batch": batch}
    for way in ("lora", "context"):
        parts[f"epoch-{way}"] = {"kind": "epoch", "way": way, "batch": max(sizes.batches)}
    for batch, way in itertools.product(sizes.batches, TRAINING_MODES):
        parts[f"training-{way}-{batch}"] = {"kind": "training", "way": way, "batch": batch}
    return parts


def measure(sizes: Sizes, device: str, kind: str, **arguments: Any) -> dict[str, Any]:
    """Measures a part.

    Args:
        sizes (`Sizes`): Sizes of the network and of the batches.
        device (`str`): "cpu" or "cuda".
        kind (`str`): Kind of the measurement.
        **arguments: Arguments of this kind.

    Returns:
        `seconds` of every repetition by name, or the `peak` of the memory in MiB.
    """
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
    """Times the network from pixels with cached class texts, and its own vision tower on the same frames."""
    model = network(sizes, device, classes=emotions()).eval()
    tower = model.tgdfer.clip.vision_model
    if device.type == "cuda":
        model.bfloat16()
    pixels = random_pixels(sizes, device, batch, frames).to(model.dtype)
    functions = {"tower": lambda: tower(pixels.flatten(0, 1)), "network": lambda: model(pixel_values_videos=pixels)}
    with torch.inference_mode():
        return {"seconds": time_alternately(functions, sizes.repetitions, device)}


def _training(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """Times a training step from pixels, and the vision tower of CLIP on the same frames without gradients."""
    step, clips = Step(sizes, device, TRAINING_MODES[way]), training_batch(sizes, device, batch)
    tower = CLIPVisionModel._from_config(CLIPConfig(**sizes.clip).vision_config).eval().to(device)

    def run_tower() -> None:
        with torch.inference_mode(), precision(device):
            tower(clips["pixel_values_videos"].flatten(0, 1))

    functions = {"tower": run_tower, "step": lambda: step(clips)}
    return {"seconds": time_alternately(functions, sizes.repetitions, device)}


def _training_memory(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """Measures the peak memory of training: weights, gradients, optimizer state and activations."""
    before = peak_memory(device)
    step, clips = Step(sizes, device, TRAINING_MODES[way]), training_batch(sizes, device, batch)
    for _ in range(2):  # The first step creates the optimizer state.
        step(clips)
    return {"peak": peak_memory(device) - before}


def _epoch(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """Times an epoch on cached features, which trains the part after CLIP, and a training step from pixels."""
    model = network(sizes, device, emotions(), TRAINING_MODES[way].context)
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": 1e-5}]
    accelerator = start_accelerator("bf16" if device.type == "cuda" else "no")
    options = OptimisationConfig(batch_size=sizes.epoch_batch)
    loop = TrainingLoop(model, cached_clips(sizes), groups, options, accelerator)
    step, clips = Step(sizes, device, TRAINING_MODES[way]), training_batch(sizes, device, batch)
    functions = {"epoch": lambda: loop.train_epoch(0), "step": lambda: step(clips)}
    return {"seconds": time_alternately(functions, sizes.repetitions, device), "batch": batch}


def _growth(sizes: Sizes, device: torch.device, axis: str, training: bool) -> dict[str, Any]:
    """Times a forward pass or a training step of the part after CLIP on features, while the size of `axis` grows."""
    runs = {size: _after_clip(sizes, device, axis, size, training) for size in sizes.growth[axis]}
    # These runs are short, so more rounds are measured.
    return {"seconds": time_alternately(runs, 4 * sizes.repetitions, device), "batch": max(sizes.batches)}


def _growth_memory(sizes: Sizes, device: torch.device, axis: str, training: bool) -> dict[str, Any]:
    """Measures the peak memory of the same passes, including the weights of the part after CLIP."""
    _after_clip(sizes, device, axis, 1, training)()  # Triggers lazy imports.
    before = memory(device)
    peaks: dict[int, float] = {}
    for size in sorted(sizes.growth[axis]):  # In ascending order, because the peak of a process never falls.
        _after_clip(sizes, device, axis, size, training)()
        peaks[size] = peak_memory(device) - before
    return {"peak": peaks}


def _after_clip(sizes: Sizes, device: torch.device, axis: str, size: int, training: bool) -> Callable[[], Any]:
    """Returns a function that runs the part after CLIP on features with `size` elements along `axis`."""
    numbers = {**sizes.usual, axis: size}
    classes = {f"class {number}": ["a face"] * numbers["descriptions"] for number in range(numbers["classes"])}
    features = torch.randn(max(sizes.batches), numbers["frames"], sizes.clip["projection_dim"], device=device)
    shallow = {tower: sizes.clip[tower] | SHALLOW for tower in ("vision_config", "text_config")}
    sizes = Sizes(**{**vars(sizes), "clip": {**sizes.clip, **shallow}})
    if training:
        step = Step(sizes, device, TrainingMode("", ""), classes)
        labels = torch.arange(len(features), device=device) % len(classes)
        return lambda: step({"frame_features": features, "labels": labels})
    model = network(sizes, device, classes).eval()
    if device.type == "cuda":
        model.bfloat16()
    features = features.to(model.dtype)

    def run_model() -> None:
        with torch.inference_mode():
            model(frame_features=features)

    run_model()  # Encodes and caches the texts.
    return run_model


def main(spec: str) -> None:
    """Prints the measurement of a part as JSON."""
    values = json.loads(spec)
    print(json.dumps(measure(Sizes(**values["sizes"]), **values["arguments"])))


if __name__ == "__main__":
    main(sys.argv[1])
