"""Speed, FLOP utilisation and memory on a GPU in bfloat16, with the shapes of ViT-B/16: `python -m benchmarks.gpu`."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.command_options import FIGURES, REPORTS, errors_as_sentences, new_app, print_written
from benchmarks.harness.provenance import versions
from benchmarks.harness.tables import markdown_table, paragraph
from benchmarks.speed.meters import time_alternately
from benchmarks.speed.networks import TRAINING_MODES, Sizes, Step, emotions, network, random_pixels, training_batch
from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text
from tgdfer.training.provenance import commit

app = new_app()

# Clips per batch, with 16 frames each.
BATCHES = (1, 8, 32)
TRAINED = ("lora", "lora-checkpointing", "vision", "vision-checkpointing", "all")
# Dense bfloat16 operations per second in the data sheets of the makers.
DATA_SHEETS = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "L40S": 362e12}
# Side of the square matrices whose product gives the highest rate that is measured on this GPU.
SIDE = 8192


def measure_inference(sizes: Sizes, device: torch.device, batch: int) -> dict[str, list[float]]:
    """Times the vision tower of CLIP alone and the network from pixels on the same frames, both in bfloat16.

    Args:
        sizes (`Sizes`): Sizes of the network.
        device (`torch.device`): Device on which the functions run. On a CPU they run in float32.
        batch (`int`): Number of clips.

    Returns:
        `dict[str, list[float]]`: Seconds of every round of "tower" and "network".
    """
    model = network(sizes, device, emotions()).eval()
    if device.type == "cuda":
        model.bfloat16()
    tower = model.tgdfer.clip.vision_model
    pixels = random_pixels(sizes, device, batch, sizes.train_frames).to(model.dtype)
    functions = {"tower": lambda: tower(pixels.flatten(0, 1)), "network": lambda: model(pixel_values_videos=pixels)}
    with torch.inference_mode():
        return time_alternately(functions, sizes.repetitions, device)


def measure_training(
    sizes: Sizes, device: torch.device, way: str, batch: int, flops: int | None = None
) -> dict[str, Any] | None:
    """Measures a training step from pixels: forward pass, backward pass, gradient clipping and AdamW.

    Args:
        sizes (`Sizes`): Sizes of the network.
        device (`torch.device`): Device of the training.
        way (`str`): Name in `TRAINING_MODES`.
        batch (`int`): Number of clips.
        flops (`int`, *optional*): Useful operations of a step. None counts them, which is right without gradient
            checkpointing only, because the operations that it repeats are not useful.

    Returns:
        `dict[str, Any]`, *optional*: `seconds` of every round, useful operations (`flops`), and the `peak` of the
        memory in MiB, which is 0 on a CPU. None if the memory of the GPU is too small.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        step, clips = Step(sizes, device, TRAINING_MODES[way]), training_batch(sizes, device, batch)
        seconds = time_alternately({"step": lambda: step(clips)}, sizes.repetitions, device)["step"]
        peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
        counter = FlopCounterMode(display=False)
        with counter:
            step(clips)
    except torch.OutOfMemoryError:
        return None
    return {"seconds": seconds, "flops": flops or counter.get_total_flops(), "peak": peak}


def measure_peak(device: torch.device, side: int = SIDE) -> float:
    """Returns the operations per second of a product of two square bfloat16 matrices, the best of ten products."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = time_alternately({"product": lambda: left @ right}, 10, device)["product"]
    return 2 * side**3 / min(seconds)


def measure(sizes: Sizes, device: torch.device, batches: Sequence[int] = BATCHES, side: int = SIDE) -> dict[str, Any]:
    """Measures everything that the report shows.

    Args:
        sizes (`Sizes`): Sizes of the network.
        device (`torch.device`): Device to measure.
        batches (`Sequence[int]`, *optional*): Numbers of clips per batch.
        side (`int`, *optional*): Side of the matrices of `measure_peak`.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    result: dict[str, Any] = {
        "device": name,
        "commit": commit(),
        "versions": versions(),
        "frames": sizes.train_frames,
        "product": measure_peak(device, side),
        "data_sheet": next((rate for part, rate in DATA_SHEETS.items() if part in name), None),
        "inference": {str(batch): measure_inference(sizes, device, batch) for batch in batches},
        "training": {},
    }
    training = result["training"]
    for way, batch in itertools.product(TRAINED, batches):
        plain = training.get(f"{way.removesuffix('-checkpointing')} {batch}")
        training[f"{way} {batch}"] = measure_training(sizes, device, way, batch, plain and plain["flops"])
    return result


def report(result: dict[str, Any]) -> str:
    """Returns the report in Markdown."""
    frames = result["frames"]
    inference = []
    for batch, seconds in result["inference"].items():
        tower, whole = (int(batch) / median(seconds[name]) for name in ("tower", "network"))
        ratios = [t / n for t, n in zip(seconds["tower"], seconds["network"], strict=True)]
        ratio = f"{median(ratios):.3f} [{min(ratios):.3f}–{max(ratios):.3f}]"
        inference.append([batch, f"{tower:,.0f}", f"{whole:,.0f}", ratio])
    training = []
    for name, measured in result["training"].items():
        way, batch = name.rsplit(" ", 1)
        title = TRAINING_MODES[way].title
        if way.endswith("-checkpointing"):
            title = f"{TRAINING_MODES[way.removesuffix('-checkpointing')].title}, gradient checkpointing"
        if measured is None:
            training.append([title, batch, "out of memory", "", "", "", ""])
            continue
        seconds = median(measured["seconds"])
        rate = measured["flops"] / seconds
        shares = [f"{100 * rate / peak:.0f} %" if peak else "" for peak in (result["product"], result["data_sheet"])]
        speed = f"{int(batch) / seconds:,.0f}"
        training.append([title, batch, f"{1000 * seconds:,.0f}", speed, *shares, f"{measured['peak']:,.0f}"])
    packages = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    texts = [
        "`python -m benchmarks.gpu` generates this page. Change the text in `benchmarks/gpu.py`. The weights are"
        " random, the shapes are those of `openai/clip-vit-base-patch16`, and the frames are random and on the GPU"
        f" already. A clip has {frames} frames of 224 pixels. Measured on one {result['device']}, commit"
        f" {result['commit']}, {packages}.",
        "The network runs from pixels, with cached class texts, in bfloat16. The ratio is the number of clips per"
        " second of the network relative to CLIP's vision tower alone on the same frames: the median over the rounds,"
        " with the lowest and the highest value in brackets. The target is at least 0.95.",
        "A training step from pixels has a forward pass under bfloat16 autocast, a backward pass, gradient clipping"
        " and AdamW. FLOP utilisation is the number of useful floating-point operations per second, relative to the"
        f" product of two bfloat16 matrices of side {SIDE:,} on this GPU ({result['product'] / 1e12:,.0f} TFLOP/s) and"
        " to the data sheet. `torch.utils.flop_counter` counts the operations. Those that gradient checkpointing"
        " repeats do not count.",
    ]
    about, at_inference, in_training = (paragraph(text) for text in texts)
    speed_table = markdown_table(["clips", "tower, clips/s", "TG-DFER, clips/s", "ratio"], inference)
    head = ["trained", "clips", "step, ms", "clips/s", "of product", "of data sheet", "peak, MiB"]
    parts = ["# On a GPU", about, "## Inference", at_inference, speed_table]
    return "\n\n".join([*parts, "## Training", in_training, markdown_table(head, training)]) + "\n"


@app.command()
def gpu(
    repetitions: Annotated[int, typer.Option(help="Number of times that each measurement is repeated.", min=1)] = 10,
    output: Annotated[Path, typer.Option(help="Markdown file of the report.")] = REPORTS / "gpu.md",
    figures: Annotated[Path, typer.Option(help="JSON file of the figures.")] = FIGURES / "gpu.json",
) -> None:
    """Measure speed, FLOP utilisation and memory of the network on a GPU."""
    with errors_as_sentences():
        if not torch.cuda.is_available():
            raise UserError("This benchmark needs a GPU with CUDA, and PyTorch finds none. Run it on another machine.")
        result = measure(Sizes(repetitions=repetitions), torch.device("cuda"))
    write_text(figures, json.dumps(result, indent=1) + "\n")
    write_text(output, report(result))
    print_written(output)


if __name__ == "__main__":
    app()
