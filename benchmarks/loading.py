"""Time to load a model of the shapes of ViT-B/16, beside its CLIP alone: `python -m benchmarks.loading`.

`transformers` compiles a pattern for each weight that it loads, whose cost grows with the name. So a third model is
loaded, which has the weights of TG-DFER under their names and no code of ours: the rest is what our code takes.
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


class WeightsAlone(PreTrainedModel):
    """A CLIP at the place that it has in TG-DFER, with the other weights of TG-DFER beside it and no code for them."""

    config_class = CLIPConfig
    base_model_prefix = "tgdfer"
    _supports_sdpa = True
    beside: Mapping[str, torch.Tensor] = {}

    def __init__(self, config: CLIPConfig):
        super().__init__(config)
        self.tgdfer = nn.Module()
        self.tgdfer.clip = CLIPModel(config)
        for name, weight in self.beside.items():
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
    """Saves the three models with random weights, and returns how each is loaded."""
    config = CLIPConfig(**Sizes().clip)
    with torch.no_grad():
        clip = CLIPModel(config)
        model = TGDFERForVideoClassification(TGDFERConfig(clip_config=config))
    WeightsAlone.beside = {name: weight for name, weight in model.state_dict().items() if ".clip." not in name}
    clip.save_pretrained(folder / "clip")
    model.save_pretrained(folder / "tgdfer")
    WeightsAlone(CLIPConfig(**Sizes().clip)).save_pretrained(folder / "weights")
    return {
        "CLIP": lambda: CLIPModel.from_pretrained(folder / "clip"),
        "the weights of TG-DFER, without its code": lambda: WeightsAlone.from_pretrained(folder / "weights"),
        "TG-DFER": lambda: TGDFERForVideoClassification.from_pretrained(folder / "tgdfer"),
    }


def seconds_of(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each load, in turns. Compiled patterns are dropped before each, as in a process that starts."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, load in ways.items():
            re.purge()
            gc.collect()
            start = time.process_time()
            load()
            found[name].append(time.process_time() - start)
    return found


def main(repeats: Annotated[int, typer.Option(help="How often each is loaded.", min=1)] = 30) -> None:
    """Load each model in turns on one thread, and print the fastest and the median load."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        ways = save_models(Path(folder))
        seconds_of(ways, 1)
        seconds = seconds_of(ways, repeats)
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
