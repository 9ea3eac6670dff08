"""Times a model in PyTorch and as exported files, in a process with a fixed number of threads.

`python -m benchmarks.onnx.timing THREADS MODEL FOLDER REPEATS` prints the times as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from tgdfer.training.models import load_trained

BATCHES = (1, 8)
FRAMES = 16
FILES = {"onnxruntime, fp32": "model.onnx", "onnxruntime, int8": "model_quantized.onnx"}


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Opens an exported file with a number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def example(batch: int, side: int) -> dict[str, torch.Tensor]:
    """Returns a batch of random clips."""
    return {
        "pixel_values_videos": torch.randn(batch, FRAMES, 3, side, side),
        "frame_mask": torch.ones(batch, FRAMES, dtype=torch.bool),
        "timestamps": (torch.arange(FRAMES) * 0.125).repeat(batch, 1),
    }


def candidates(model: Any, folder: Path, batch: int, side: int, threads: int) -> dict[str, Callable[[], Any]]:
    """Returns functions that classify the same clips: PyTorch eager and compiled, and both exported files."""
    clip = example(batch, side)
    arrays = {name: value.numpy() for name, value in clip.items()}
    sessions = {name: session(folder / file, threads) for name, file in FILES.items()}
    compiled = torch.compile(model)

    def in_torch(network: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return network(**clip)

        return run

    def in_onnx(opened: onnxruntime.InferenceSession) -> Callable[[], Any]:
        return lambda: opened.run(None, arrays)

    return {
        "PyTorch, eager": in_torch(model),
        "PyTorch, compiled": in_torch(compiled),
        **{name: in_onnx(opened) for name, opened in sessions.items()},
    }


def shortest_times(functions: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> dict:
    """Returns the shortest time of each function in seconds. The functions take turns, after two warm-up calls."""
    for function in (*functions.values(), *functions.values()):
        function()
    seconds = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds


def main(threads: int, model: str, folder: Path, repeats: int) -> None:
    """Times all candidates for each size of the batch, and prints the times."""
    torch.set_num_threads(threads)
    network, processor = load_trained(model)
    side = int(processor.video_processor.crop_size["height"])
    # Other programs disturb the CPU time of one thread less. That of several threads contains time spent waiting.
    clock = time.process_time if threads == 1 else time.perf_counter
    times = {}
    for batch in BATCHES:
        torch.compiler.reset()
        functions = candidates(network, folder, batch, side, threads)
        times[str(batch)] = shortest_times(functions, repeats, clock)
    print(json.dumps(times))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
