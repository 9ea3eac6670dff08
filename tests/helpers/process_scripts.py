"""What each of several processes does in `tests/training/test_processes.py`: `process_scripts.py NAME FOLDER`.

`process_scripts.py broken COMMAND` runs a command of `tgdfer` in which a clip breaks in the second process.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tgdfer import command_line
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.training import train as loop
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.data.loading import load_clips
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.features import Views, frame_features
from tgdfer.training.models import start_model
from tgdfer.training.processes import process_state
from tgdfer.training.train import train


def features(config: TrainingConfig, folder: Path, result: Path) -> dict:
    """Encodes the test clips, trains on frozen features and evaluates."""
    clips = load_clips(config.data.dataset, "test")
    model, processor = start_model(config.model, ["happiness", "neutral", "sadness"])
    seen = frame_features(model, processor.video_processor, clips, Views(2, batch_size=4))
    save_file({name: value.contiguous() for name, value in vars(seen).items()}, result.with_suffix(".safetensors"))
    run = train(config)
    seed = torch.initial_seed()
    metrics = evaluate_model(run, EvaluationData(), output=folder / "evaluated", batch_size=4, baseline=True)
    few = evaluate_model(run, EvaluationData(), output=folder / "few", batch_size=16)
    return {"seed": seed, "metrics": metrics, "few": few}


def lora(config: TrainingConfig, folder: Path, result: Path) -> dict:
    """Trains with LoRA, once as a whole and once with an interruption in the middle of the second epoch."""
    train(config.with_options(output=str(folder / "whole")))
    seed, after_update, stopped = torch.initial_seed(), loop._Run._after_update, []

    def after_update_or_stop(self):
        after_update(self)
        if self.loop.epoch == 1:
            stopped.append(self.loop.batches)
            raise KeyboardInterrupt

    loop._Run._after_update = after_update_or_stop  # type: ignore[method-assign]
    try:
        train(config)
    except KeyboardInterrupt:
        loop._Run._after_update = after_update  # type: ignore[method-assign]
    train(config.with_options(resume=True))
    return {"seed": seed, "interrupted": stopped == [1]}


def broken(arguments: list[str]) -> int:
    """Runs a command, and has a clip break in one of the processes after the first few."""
    get, seen = ClipDataset.__getitem__, []

    def get_or_fail(self: ClipDataset, index: int) -> dict:
        seen.append(index)
        if len(seen) > 6 and process_state().process_index == 1:
            raise VideoDecodeError("b.mp4 is not a video; download it again.")
        return get(self, index)

    ClipDataset.__getitem__ = get_or_fail  # type: ignore[method-assign]
    return command_line.main(arguments)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    if name == "broken":
        sys.exit(broken(sys.argv[2:]))
    config = TrainingConfig.from_options(**json.loads((folder / "options.json").read_text()))
    state = process_state()
    result = folder / f"rank-{state.process_index}.json"
    found = {"features": features, "lora": lora}[name](config, folder, result)
    result.write_text(json.dumps(found | {"processes": state.num_processes}))


if __name__ == "__main__":
    main()
