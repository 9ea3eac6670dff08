"""Freezing and unfreezing: names of parts and patterns, and the table of what is trained."""

import io

import pytest
import torch
from rich.console import Console

from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.models import start_model
from tgdfer.training.optimisation import freezing
from tgdfer.training.optimisation.freezing import PARTS, choose_trainable, parameter_counts, part_of, print_parameters
from tgdfer.training.optimisation.loop import parameter_groups

CLASSES = ["happiness", "neutral", "sadness"]


def model_of(options, **changes):
    config = TrainingConfig.from_options(**options | changes)
    return start_model(config.model, CLASSES)[0], config


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture
def model(options):
    parts = {"long_range": True, "residue_width": 2, "temporal_adapter": True}
    return model_of(options, model_options={"lora_layers": 1, **parts})[0]


def test_every_parameter_belongs_to_a_part(model):
    parts = {name: part_of(name) for name, _ in model.named_parameters()}
    assert {name.split(".")[-1] for name, part in parts.items() if part is None} == {"logit_scale"}
    assert set(parts.values()) - {None} == set(PARTS)
    assert (
        sum(total for total, _ in parameter_counts(model).values()) == sum(p.numel() for p in model.parameters()) - 1
    )


def test_parts_and_patterns(model):
    before = trained(model)
    choose_trainable(model, ["relevance", "*short_term*"], [])
    assert before - trained(model) == {name for name in before if "relevance" in name or "short_term" in name}
    choose_trainable(model, [], ["clip.vision_model.encoder.layers.1.self_attn.q_proj.*"])
    assert trained(model) - before == {
        f"tgdfer.clip.vision_model.encoder.layers.1.self_attn.q_proj.base_layer.{name}" for name in ("weight", "bias")
    }
    choose_trainable(model, ["*.self_attn.*"], ["vision"])
    of_clip = {name for name in trained(model) if ".clip." in name}
    assert of_clip and not any("self_attn" in name or "text" in name for name in of_clip)


def test_weights_of_clip_have_their_learning_rate(options):
    model, config = model_of(options, unfreeze=["text"], clip_lr=1e-6, weight_decay=0.1)
    choose_trainable(model, [], config.optimisation.unfreeze)
    groups = [group for group in parameter_groups(model, config.optimisation) if group["name"] == "clip"]
    assert {group["lr"] for group in groups} == {1e-6} and {group["weight_decay"] for group in groups} == {0.1, 0.0}
    text = {name: parameter for name, parameter in model.named_parameters() if part_of(name) == "text"}
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in text.values()}


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "sentence"),
    [
        (["visoin"], [], "freeze has 'visoin', but no part .* has this name; did you mean 'vision'"),
        ([], ["*nothing*"], "unfreeze has '\\*nothing\\*', but no part"),
        (["*"], ["text"], "freeze leaves no parameter to train"),
    ],
)
def test_what_cannot_be_used_is_named(model, freeze, unfreeze, sentence):
    with pytest.raises(UserError, match=sentence):
        choose_trainable(model, freeze, unfreeze)


def test_frozen_features_leave_the_vision_tower_frozen(options):
    model, _ = model_of(options, frozen_features=True)
    choose_trainable(model, [], ["text"], frozen_features=True)
    assert any(part_of(name) == "text" for name in trained(model))
    with pytest.raises(UserError, match="freeze has 'lora', but the network has no LoRA: leave it out"):
        choose_trainable(model, ["lora"], [], frozen_features=True)
    with pytest.raises(UserError, match="unfreeze has '\\*norm\\*', which trains weights of the vision tower"):
        choose_trainable(model, [], ["*norm*"], frozen_features=True)


def test_table(options, monkeypatch):
    model, config = model_of(options, freeze=["relevance"], lora_lr=3e-4)
    choose_trainable(model, ["relevance", "relevance.*"], [])
    console = Console(width=100, record=True, file=io.StringIO())
    monkeypatch.setattr(freezing, "get_console", lambda: console)
    print_parameters(model, parameter_groups(model, config.optimisation))
    rows = {line.split("  ")[0].strip(): line.split() for line in console.export_text().splitlines()}
    lora = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert rows["LoRA"][1:] == ["lora", f"{lora:,}", "all", "0.0003"]
    assert rows["vision tower"][-1] == rows["relevance"][-1] == "frozen"
    assert torch.tensor([float(rows["short-term grain"][-1])]).item() == pytest.approx(5e-4)
    assert "long-range grain" not in rows
