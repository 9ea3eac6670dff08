"""`Trainer` with our model: what it saves is what it loads, with and without LoRA."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from tgdfer import TGDFERForVideoClassification

from .conftest import DIM, SIDE, Maker, differ, move_lora, switch_off_dropout

CLIPS = 8


class Clips(torch.utils.data.Dataset):
    """Random clips (T, 3, H, W) of five classes, or their features (T, D)."""

    def __init__(self, pixels: bool = False) -> None:
        generator = torch.Generator().manual_seed(4)
        shape = (CLIPS, 3, 3, SIDE, SIDE) if pixels else (CLIPS, 3, DIM)
        self.name = "pixel_values_videos" if pixels else "frame_features"
        self.values = torch.randn(shape, generator=generator)

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, index: int) -> dict[str, Any]:
        mask = torch.tensor([True, True, index % 2 == 0])
        return {self.name: self.values[index], "frame_mask": mask, "labels": index % 5}


def trainer(model: TGDFERForVideoClassification, folder: Path, pixels: bool = False, **options: Any) -> Trainer:
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
    }
    extra = {name: options.pop(name) for name in ("compute_metrics", "callbacks") if name in options}
    clips = Clips(pixels)
    return Trainer(
        model,
        TrainingArguments(str(folder), **arguments | options),
        train_dataset=clips,
        eval_dataset=clips,
        **extra,
    )


@pytest.fixture
def started(from_clip: Maker) -> TGDFERForVideoClassification:
    """Without anything random in a step."""
    model = from_clip(lora_layers=1, lora_text_layers=1)
    switch_off_dropout(model)
    return model


def test_accumulation_changes_nothing(from_clip: Maker, tmp_path: Path) -> None:
    """Two batches of two are one of four: the same loss, the same step."""
    losses, weights = [], []
    for size, steps in ((4, 1), (2, 2)):
        model = from_clip()
        switch_off_dropout(model)
        model.config.alignment_weight = model.config.instance_weight = 0.0  # these look at a batch as a whole
        run = trainer(
            model,
            tmp_path / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=2,
            optim="sgd",
            logging_steps=1,
        )
        assert not run.model_accepts_loss_kwargs
        run.train()
        losses.append([row["loss"] for row in run.state.log_history if "loss" in row])
        weights.append({name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad})
    assert np.allclose(losses[0], losses[1], atol=1e-4), losses
    start = dict(from_clip().named_parameters())
    assert max(differ(weights[0][name], start[name]) for name in weights[0]) > 1e-3
    assert all(differ(weights[0][name], weights[1][name]) < 1e-5 for name in weights[0])


class Stop(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            control.should_training_stop = True


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
def test_train_stop_resume(
    started: TGDFERForVideoClassification, from_clip: Maker, tmp_path: Path, lora: bool
) -> None:
    """A run that was cut off goes on as if it had not been, and the checkpoint alone is a model."""

    def model() -> TGDFERForVideoClassification:
        fresh = from_clip(lora_layers=1, lora_text_layers=1)
        switch_off_dropout(fresh)
        torch.manual_seed(0)  # which LoRA starts from
        if lora:
            fresh.attach_lora()
        return fresh

    saved = {"save_strategy": "steps", "save_steps": 2, "pixels": True}
    whole = trainer(model(), tmp_path / "whole", **saved)
    whole.train()
    cut = trainer(model(), tmp_path / "cut", callbacks=[Stop()], **saved)
    cut.train()
    checkpoint = tmp_path / "cut" / "checkpoint-2"
    names = load_file(checkpoint / "model.safetensors").keys()
    assert names == cut.model.state_dict().keys()
    assert any("lora_B" in name for name in names) == lora

    resumed = trainer(model(), tmp_path / "cut", **saved)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert differ(value.float(), expected[name].float()) < 1e-5, name
        if "lora_B" in name:
            assert value.abs().max() > 0, name

    loaded = TGDFERForVideoClassification.from_pretrained(checkpoint)
    assert loaded.has_lora == lora
    assert all(torch.equal(value, cut.model.state_dict()[name]) for name, value in loaded.state_dict().items())
    trained = {name for name, parameter in cut.model.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in loaded.named_parameters() if parameter.requires_grad} == trained


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
def test_the_best_model_is_loaded_at_the_end(
    started: TGDFERForVideoClassification, tmp_path: Path, lora: bool
) -> None:
    if lora:
        started.attach_lora()
    run = trainer(
        started,
        tmp_path,
        pixels=True,
        learning_rate=0.3,  # so that the first epoch is best
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="first",
        compute_metrics=lambda _: {"first": -run.state.epoch},
    )
    run.train()
    best = load_file(Path(run.state.best_model_checkpoint) / "model.safetensors")
    last = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert run.state.best_model_checkpoint.endswith("checkpoint-2")
    state = run.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in best.items())
    learnt = [name for name in best if not torch.equal(best[name], last[name])]
    assert any("lora_B" in name for name in learnt) == lora and len(learnt) > 5


def test_metrics_are_given_the_logits(started: TGDFERForVideoClassification, tmp_path: Path) -> None:
    seen = []

    def note(prediction: Any) -> dict[str, float]:
        seen.append(prediction.predictions)
        return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    run = trainer(started, tmp_path, compute_metrics=note, per_device_eval_batch_size=3)
    assert "eval_accuracy" in run.evaluate()
    (logits,) = seen
    clips = Clips()
    with torch.no_grad():
        expected = started(
            frame_features=clips.values, frame_mask=torch.stack([clips[i]["frame_mask"] for i in range(CLIPS)])
        ).logits
    assert logits.shape == (CLIPS, 5) and np.allclose(logits, expected.numpy(), atol=1e-4)


# What is saved, without `Trainer`.


@pytest.fixture
def adapting(model: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    model.attach_lora()
    move_lora(model)
    return model


@torch.no_grad()
def test_a_model_with_lora_is_loaded_as_it_was(
    adapting: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor
) -> None:
    adapting.save_pretrained(tmp_path / "kept")
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path / "kept")
    assert loaded.has_lora and torch.equal(loaded(frames).logits, adapting(frames).logits)
    loaded.save_pretrained(tmp_path / "merged", merge_lora=True)
    merged = TGDFERForVideoClassification.from_pretrained(tmp_path / "merged")
    assert not merged.has_lora and loaded.has_lora and loaded.config.lora_attached
    assert not any("lora" in name for name in merged.state_dict())
    assert differ(merged(frames).logits, adapting(frames).logits) < 1e-3


@pytest.mark.parametrize("merge_lora", [False, True])
@torch.no_grad()
def test_other_weights_are_saved_where_they_are_given(
    adapting: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor, merge_lora: bool
) -> None:
    """As FSDP and DeepSpeed gather them."""
    before = adapting(frames).logits
    given = {
        name: value * 1.1 if value.is_floating_point() else value for name, value in adapting.state_dict().items()
    }
    adapting.save_pretrained(tmp_path, state_dict=dict(given), merge_lora=merge_lora)
    assert torch.equal(adapting(frames).logits, before)
    adapting.load_state_dict(given)
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path)
    assert loaded.has_lora != merge_lora
    assert differ(loaded(frames).logits, adapting(frames).logits) < 1e-3
    assert differ(loaded(frames).logits, before) > 1e-2


def test_lora_that_is_missing_is_named(model: TGDFERForVideoClassification, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"lora_attached": True}))
    with pytest.raises(ValueError, match="says that LoRA is attached, but the weights of LoRA are missing"):
        TGDFERForVideoClassification.from_pretrained(tmp_path)
