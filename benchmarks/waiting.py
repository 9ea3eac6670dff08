"""Share of the time that training waits for data: `python -m benchmarks.waiting`.

LoRA is trained on rendered clips, with different numbers of worker processes. The first epoch starts the processes, so
the last one counts.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.tables import markdown_table
from tgdfer.help_pages import run
from tgdfer.training.config import TrainingConfig
from tgdfer.training.rendered_faces import write_dataset
from tgdfer.training.train import train


def main(
    clips: Annotated[int, typer.Option(help="Clips of each label.", min=2)] = 12,
    workers: Annotated[list[int], typer.Option(help="Number of worker processes. Can be repeated.")] = [0, 1, 2],  # noqa: B006
    batch_size: Annotated[int, typer.Option(help="Clips per step.", min=1)] = 8,
) -> None:
    """Train with different numbers of worker processes, and print the share of the time spent waiting for data."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_dataset(Path(temporary) / "clips", clips={"train": clips})
        for number in workers:
            config = TrainingConfig.from_options(
                dataset=str(folder),
                output=str(Path(temporary) / f"run_{number}"),
                model_options={"lora_layers": 2},
                validation_fraction=0.0,
                epochs=3,
                batch_size=batch_size,
                workers=number,
            )
            log = (train(config) / "log.jsonl").read_text(encoding="utf-8").splitlines()
            last = json.loads(log[-1])
            rows.append([str(number), f"{100 * last['waiting']:.1f} %", f"{last['seconds']:.1f}"])
    print(markdown_table(["workers", "waiting", "epoch, s"], rows))


if __name__ == "__main__":
    run(main)
