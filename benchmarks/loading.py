"""Time to load TG-DFER with the shapes of ViT-B/16, compared with its CLIP alone: `python -m benchmarks.loading`.

`transformers` compiles a regular expression for the name of each weight that it loads, so the time depends on the
number and the length of the names. For comparison, a third model has the same weights as TG-DFER, with the same names,
but none of its code. The difference between TG-DFER and this model is the time that the code of this package takes.
"""

import gc
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from torch import nn
from transformers import CLIPConfig, CLIPModel, PreTrainedModel
from transformers.utils import logging

from benchmarks.harness.tables import markdown_table
from benchmarks.speed.networks import Sizes
from tgdfer import TGDFERConfig, TGDFERForVideoClassification
from tgdfer.help_pages import run


class WeightsOnlyModel(PreTrainedModel):
    """A model with all weights of TG-DFER under their names, but without the code that uses them."""

    config_class = CLIPConfig
    base_model_prefix = "tgdfer"
    _supports_sdpa = True
    other_weights: Mapping[str, torch.Tensor] = {}

    def __init__(self, config: CLIPConfig):
        super().__init__(config)
        self.tgdfer = nn.Module()
        self.tgdfer.clip = CLIPModel(config)
        for name, weight in self.other_weights.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            empty = torch.empty(weight.shape, dtype=weight.dtype)
            module.register_parameter(last, nn.Parameter(empty, requires_grad=empty.is_floating_point()))
        self.post_init()


def save_models(folder: Path) -> dict[str, Callable[[], object]]:
    """Saves the three models with random weights, and returns functions that load them."""
    config = CLIPConfig(**Sizes().clip)
    with torch.no_grad():
        clip = CLIPModel(config)
        model = TGDFERForVideoClassification(TGDFERConfig(clip_config=config))
    WeightsOnlyModel.other_weights = {
        name: weight for name, weight in model.state_dict().items() if ".clip." not in name
    }
    clip.save_pretrained(folder / "clip")
    model.save_pretrained(folder / "tgdfer")
    WeightsOnlyModel(CLIPConfig(**Sizes().clip)).save_pretrained(folder / "weights")
    return {
        "CLIP": lambda: CLIPModel.from_pretrained(folder / "clip"),
        "the weights of TG-DFER, without its code": lambda: WeightsOnlyModel.from_pretrained(folder / "weights"),
        "TG-DFER": lambda: TGDFERForVideoClassification.from_pretrained(folder / "tgdfer"),
    }


def loading_times(loaders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Loads each model in turn, and returns the CPU times in seconds.

    Compiled regular expressions are deleted before each load, as if a new process had started.
    """
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(repeats):
        for name, load in loaders.items():
            re.purge()
            gc.collect()
            start = time.process_time()
            load()
            times[name].append(time.process_time() - start)
    return times


def main(repeats: Annotated[int, typer.Option(help="How often each model is loaded.", min=1)] = 30) -> None:
    """Load the models in turn on one thread, and print the fastest and the median time of each."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        loaders = save_models(Path(folder))
        loading_times(loaders, 1)
        seconds = loading_times(loaders, repeats)
    base = seconds["CLIP"]
    rows = [
        [name, f"{min(s):.3f}", f"{median(s):.3f}", f"{min(s) / min(base):.2f}", f"{median(s) / median(base):.2f}"]
        for name, s in seconds.items()
    ]
    typer.echo(
        markdown_table(["loaded", "fastest, CPU s", "median, CPU s", "ratio of fastest", "ratio of medians"], rows)
    )


if __name__ == "__main__":
    run(main)
