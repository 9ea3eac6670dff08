"""What each of two processes does in `tests/training/test_global_batch.py`: `global_batch.py NAME FOLDER`."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.models import start_model
from tgdfer.training.objectives.registry import OBJECTIVES, Objectives
from tgdfer.training.optimisation import loop
from tgdfer.training.optimisation.sharding import keep_scalars_whole
from tgdfer.training.processes import process_state
from tgdfer.training.runs.checkpoints import Checkpoints
from tgdfer.training.train import train


def gradients(folder: Path, accelerator: Accelerator) -> dict:
    """The loss and the gradients of a process, for each batch in the folder."""
    found = {}
    for path in sorted(folder.glob("batch-*.safetensors")):
        batch = load_file(path)
        weights = batch.pop("class_weights")
        rank, number = accelerator.process_index, accelerator.num_processes
        own = {name: values.chunk(number)[rank] for name, values in batch.items()}
        model = TGDFERForVideoClassification.from_pretrained(folder / "model").train()
        model.freeze_clip()
        loss = model(**own, class_weights=weights).loss
        loss.backward()
        for parameter in model.parameters():
            if parameter.grad is not None and accelerator.num_processes > 1:
                distributed.all_reduce(parameter.grad, distributed.ReduceOp.SUM)
                parameter.grad /= accelerator.num_processes
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        save_file(grads, folder / f"gradients-{accelerator.num_processes}-{path.stem}.safetensors")
        found[path.stem] = float(accelerator.reduce(loss.detach(), "mean"))
    return found


def order(folder: Path, accelerator: Accelerator) -> dict:
    """The clips of each step of this process, and the labels that they have in the loss."""
    steps: list[dict] = []
    collate, ignore = ClipDataset.collate, loop.ignore_repeated_clips

    def collate_with_index(self: ClipDataset, items: list) -> dict:
        batch = collate(self, items)
        return batch | {"index": torch.tensor([item["index"] for item in items])} if self.training else batch

    def note(batch: dict, accelerator: Accelerator) -> dict:
        index = batch.pop("index")
        batch = ignore(batch, accelerator)
        steps.append({"clips": index.tolist(), "labels": batch["labels"].tolist()})
        return batch

    ClipDataset.collate = collate_with_index  # type: ignore[method-assign]
    loop.ignore_repeated_clips = note
    try:
        train(TrainingConfig.from_options(**json.loads((folder / "options.json").read_text())))
    finally:
        ClipDataset.collate, loop.ignore_repeated_clips = collate, ignore  # type: ignore[method-assign]
    return {"steps": steps}


def _started(folder: Path) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Returns the same model in every process, with LoRA that changes its answers."""
    options = json.loads((folder / "options.json").read_text())
    torch.manual_seed(0)
    model, processor = start_model(TrainingConfig.from_options(**options).model, ["happiness", "neutral", "sadness"])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model, processor


def sharded(folder: Path, accelerator: Accelerator) -> dict:
    """Trains a step with sharded weights (FSDP2), and saves the whole model."""
    model, processor = _started(folder)
    if accelerator.num_processes > 1:
        fully_shard(model, ignored_params=keep_scalars_whole(model))
    batch = load_file(folder / "batch.safetensors")
    rank, number = accelerator.process_index, accelerator.num_processes
    own = {name: values.chunk(number)[rank] for name, values in batch.items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = model.train()(**own).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    Checkpoints(folder, accelerator, processor).save_model(model, f"saved-{number}")
    shards = sum(isinstance(parameter, DTensor) for parameter in model.parameters())
    return {"loss": float(accelerator.reduce(loss.detach(), "mean")), "shards": shards}


def objectives(folder: Path, accelerator: Accelerator) -> dict:
    """The objectives of two steps, their gradients, and what they remember of the clips."""
    model, _ = _started(folder)
    losses = Objectives(dict.fromkeys(OBJECTIVES, 1.0), model, epochs=10)
    losses.start_epoch(9)
    rank, number = accelerator.process_index, accelerator.num_processes
    found = {}
    for step in (1, 2):
        batch = load_file(folder / f"step-{step}.safetensors")
        own = {name: values.chunk(number)[rank] for name, values in batch.items()}
        terms = [part(model.train()(**own), own) for part in losses.parts.values()]
        sum(terms).backward()
        found[f"step-{step}"] = accelerator.reduce(torch.stack(terms).detach(), "mean").tolist()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    means = {name: accelerator.reduce(grad, "mean").contiguous() for name, grad in grads.items()}
    save_file(means, folder / f"gradients-{number}.safetensors")
    save_file(losses.state_dict(), folder / f"memories-{rank}-of-{number}.safetensors")
    return found


def outcome(name: str, folder: Path) -> None:
    """Writes what this process finds."""
    state = process_state()
    accelerator = Accelerator(cpu=True)
    tasks = {"gradients": gradients, "order": order, "sharded": sharded, "objectives": objectives}
    found = tasks[name](folder, accelerator)
    (folder / f"rank-{state.process_index}-of-{state.num_processes}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    outcome(sys.argv[1], Path(sys.argv[2]))
