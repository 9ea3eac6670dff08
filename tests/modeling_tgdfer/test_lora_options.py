"""Fields of peft's `LoraConfig`: which may be set, and that adapters and merged models give the same outputs."""

import dataclasses
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.checkpoints_tgdfer import ADAPTER_NAME
from tgdfer.modeling_tgdfer.lora_tgdfer import LORA_FIELDS, REFUSED_LORA_FIELDS

from .conftest import Maker, differ, move, move_all_but_clip

OPTIONS = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "r": 4},
    "biases_of_the_tower": {"bias": "all"},
    "biases_of_lora": {"bias": "lora_only", "lora_bias": True},
    "ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3.5}, "init_lora_weights": "gaussian"},
    "mlp": {"target_modules": ["fc1", "fc2"], "layers_to_transform": [0, 2], "use_dora": True},
    "expression": {"target_modules": r".*layers\.0\..*proj", "init_lora_weights": "orthogonal"},
}


def move_trained(model: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    """Moves LoRA and the biases that it trains from their start."""
    biases = {f"tgdfer.clip.{name}" for name in model.lora_biases}
    move(model, lambda name: "lora_" in name or name in biases, by=0.05)
    return model.eval()


def with_fields(model: TGDFERForVideoClassification, **fields: object) -> TGDFERForVideoClassification:
    """Sets fields of the config, which are no arguments of `from_clip` here because they are dictionaries."""
    for name, value in fields.items():
        setattr(model.config, name, value)
    return model


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS)
def options(request: pytest.FixtureRequest) -> dict:
    return request.param


@pytest.fixture
def adapting(from_clip: Maker, options: dict) -> TGDFERForVideoClassification:
    """A model whose towers both have LoRA with the options, every part of it away from its start."""
    text = {name: value for name, value in options.items() if name != "layers_to_transform"}
    model = move_all_but_clip(from_clip(lora_layers=2, lora_text_layers=1))
    with_fields(model, lora_options=options, lora_text_options=text)
    model.attach_lora()
    return move_trained(model)


@pytest.mark.slow
@torch.no_grad()
def test_merged_saved_and_adapted_models_give_the_same_outputs(
    adapting: TGDFERForVideoClassification, clip_folder: Path, tmp_path: Path, frames: torch.Tensor
) -> None:
    expected = adapting(frames).logits
    adapting.save_adapter(tmp_path / "adapter")
    loaded = TGDFERForVideoClassification.from_adapter(tmp_path / "adapter", clip=clip_folder)
    assert torch.equal(loaded(frames).logits, expected)
    assert loaded.config.lora_options == adapting.config.lora_options
    trained = {name for name, parameter in adapting.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in loaded.named_parameters() if parameter.requires_grad} == trained
    loaded.save_adapter(tmp_path / "again")
    first, again = (load_file(tmp_path / name / ADAPTER_NAME) for name in ("adapter", "again"))
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)

    adapting.save_pretrained(tmp_path / "separate")
    separate = TGDFERForVideoClassification.from_pretrained(tmp_path / "separate")
    assert torch.equal(separate(frames).logits, expected)
    separate.save_adapter(tmp_path / "third")
    assert load_file(tmp_path / "third" / ADAPTER_NAME).keys() == first.keys()

    adapting.save_pretrained(tmp_path / "merged", merge_lora=True)
    assert not any("lora_" in name for name in load_file(tmp_path / "merged" / "model.safetensors"))
    merged = TGDFERForVideoClassification.from_pretrained(tmp_path / "merged")
    assert differ(merged(frames).logits, expected) < 1e-4
    adapting.merge_lora()
    assert differ(adapting(frames).logits, expected) < 1e-4
    with pytest.raises(ValueError, match="CLIP of this model is not the one it started from"):
        adapting.save_adapter(tmp_path / "late")


def test_what_is_adapted_and_trained(from_clip: Maker) -> None:
    options = OPTIONS["mlp"] | {"bias": "lora_only", "rank_pattern": {"fc1": 3}}
    model = with_fields(from_clip(lora_layers=1), lora_options=options)
    model.attach_lora()
    layers = {name: module for name, module in model.tgdfer.clip.named_modules() if hasattr(module, "lora_A")}
    assert set(layers) == {f"vision_model.encoder.layers.{n}.mlp.fc{i}" for n in (0, 2) for i in (1, 2)}
    assert {name[-3:]: next(iter(layer.r.values())) for name, layer in layers.items()} == {"fc1": 3, "fc2": 8}
    of_clip = {n for n, parameter in model.tgdfer.clip.named_parameters() if parameter.requires_grad}
    assert {name for name in of_clip if "lora_" not in name} == {f"{name}.base_layer.bias" for name in layers}
    groups = model.parameter_groups()
    assert len(groups["lora"]) == len(of_clip) == len(layers) * 4 and "clip" not in groups
    assert sum(map(len, groups.values())) == sum(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_scale_of_rslora(from_clip: Maker) -> None:
    for options, scale in (({"r": 4}, 4.0), ({"r": 4, "use_rslora": True}, 8.0), ({"lora_alpha": 2.5}, 2.5 / 8)):
        model = with_fields(from_clip(lora_layers=1, lora_alpha=16), lora_options=options)
        model.attach_lora()
        layer = model.tgdfer.clip.vision_model.encoder.layers[2].self_attn.q_proj
        assert layer.scaling == {"tgdfer": scale}


def test_every_field_of_peft_is_known() -> None:
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert not LORA_FIELDS.keys() & REFUSED_LORA_FIELDS.keys()
    assert fields <= LORA_FIELDS.keys() | REFUSED_LORA_FIELDS.keys()
    assert LORA_FIELDS.keys() <= fields


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"use_dorra": True}, "`lora_options` has the unknown field 'use_dorra'; did you mean 'use_dora'?"),
        ({"task_type": "SEQ_CLS"}, "`lora_options` cannot set 'task_type': it is for the heads of peft"),
        ({"use_dora": "yes"}, "has the value 'yes' for 'use_dora'; it must be true or false"),
        ({"r": 0}, "has the value 0 for 'r'; it must be a whole number above 0"),
        ({"init_lora_weights": "pissa"}, "'pissa' for 'init_lora_weights'; it must be true, false, gaussian"),
        ({"target_modules": ["nothing"]}, "`lora_options` does not fit the tower: Target modules"),
        ({"rank_pattern": {"fc9": 2}}, "`lora_options` has 'fc9' in 'rank_pattern', but no module with LoRA"),
        ({"layers_pattern": "layers"}, "does not fit the tower"),
    ],
)
def test_what_cannot_be_used_is_named(from_clip: Maker, options: dict, sentence: str) -> None:
    model = from_clip(lora_layers=1)
    model.config.lora_options = options
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        model.attach_lora()


def test_options_without_anything_to_adapt(from_clip: Maker) -> None:
    model = with_fields(from_clip(lora_layers=1), lora_text_options={"use_dora": True})
    with pytest.raises(ValueError, match="`lora_text_options` is set, but `lora_text_layers` is 0"):
        model.attach_lora()


def test_other_options_than_those_that_are_attached(from_clip: Maker) -> None:
    model = with_fields(from_clip(lora_layers=1), lora_options={"use_rslora": True})
    model.attach_lora()
    model.attach_lora()
    model.config.lora_options = {"use_rslora": False}
    with pytest.raises(ValueError, match="attached LoRA does not match the config"):
        model.attach_lora()


def test_biases_of_another_clip_make_no_adapter(from_clip: Maker, tmp_path: Path) -> None:
    """The weights that LoRA leaves as they are must be those of the CLIP that the model started from."""
    model = with_fields(from_clip(lora_layers=1), lora_options={"bias": "all"})
    model.attach_lora()
    model.save_adapter(tmp_path / "first")
    with torch.no_grad():
        model.tgdfer.clip.vision_model.encoder.layers[0].mlp.fc1.weight[0, 0] += 1
    with pytest.raises(ValueError, match="CLIP of this model is not the one"):
        model.save_adapter(tmp_path / "second")
