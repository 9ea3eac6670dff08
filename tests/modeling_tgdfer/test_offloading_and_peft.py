"""Weights that lie elsewhere until they are needed, and adapters of peft beside ours."""

from pathlib import Path

import peft
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model, infer_auto_device_map

from tgdfer import TGDFERForVideoClassification

from .conftest import DIM, PARTS, Maker, differ, move_all_but_clip, move_lora

MASK = torch.tensor([[True] * 6, [True, False, True, True, False, True]])


@pytest.fixture(params=["plain", "lora"])
def network(request: pytest.FixtureRequest, model: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    if request.param == "lora":
        model.attach_lora()
        move_lora(model)
    return model


def assert_same_answers(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("buffers", [False, True], ids=["", "buffers"])
@pytest.mark.parametrize("kind", ["cpu", "disk"])
@torch.no_grad()
def test_offloading(
    network: TGDFERForVideoClassification, frames: torch.Tensor, tmp_path: Path, kind: str, buffers: bool
) -> None:
    expected = network(frames, MASK)
    if kind == "cpu":
        cpu_offload(network, torch.device("cpu"), offload_buffers=buffers)
    else:
        disk_offload(network, tmp_path, torch.device("cpu"), offload_buffers=buffers)
    assert all(parameter.is_meta for parameter in network.parameters())
    for _ in range(2):
        assert_same_answers(network(frames, MASK), expected)
    assert_same_answers(network.get_text_features(), network.tgdfer.get_text_features())


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
@torch.no_grad()
def test_offloading_of_every_part(from_clip: Maker, frames: torch.Tensor, options: dict) -> None:
    model = move_all_but_clip(from_clip(**options))
    expected = model(frames, MASK)
    cpu_offload(model, torch.device("cpu"))
    assert_same_answers(model(frames, MASK), expected)


@torch.no_grad()
def test_dispatch(network: TGDFERForVideoClassification, frames: torch.Tensor, tmp_path: Path) -> None:
    """Modules that must not be split are on one device each."""
    expected = network(frames, MASK)
    size = sum(weight.nbytes for weight in network.state_dict().values())
    for share in (0.5, 0.7):
        model = TGDFERForVideoClassification.from_pretrained(
            None, config=network.config, state_dict=network.state_dict()
        )
        device_map = infer_auto_device_map(
            model, {"cpu": int(share * size), "disk": 10**9}, no_split_module_classes=list(model._no_split_modules)
        )
        assert {"cpu", "disk"} == set(device_map.values())
        model = dispatch_model(
            model.eval(), device_map, main_device="cpu", offload_dir=tmp_path / str(share), force_hooks=True
        )
        assert any(parameter.is_meta for parameter in model.parameters())
        assert_same_answers(model(frames, MASK), expected)


@torch.no_grad()
def test_a_folder_is_loaded_from_disk(
    model: TGDFERForVideoClassification, frames: torch.Tensor, tmp_path: Path
) -> None:
    expected = model(frames, MASK)
    model.save_pretrained(tmp_path / "model")
    device_map = {"tgdfer.clip": "disk", "tgdfer.text_guidance": "disk", "tgdfer.short_term": "cpu"}
    device_map |= {name: "cpu" for name in ("tgdfer.long_range", "relevance", "visual_prompts", "bias", "log_scale")}
    loaded = TGDFERForVideoClassification.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offloaded"
    )
    assert_same_answers(loaded(frames, MASK), expected)


# Ours, once more.


def test_lora_that_is_attached_stays(network: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    network.attach_lora()
    move_lora(network)
    expected = network(frames).logits
    network.attach_lora()
    assert torch.equal(network.eval()(frames).logits, expected)
    network.config.lora_rank = 4
    with pytest.raises(ValueError, match="`lora_rank`\\); call `merge_lora` first"):
        network.attach_lora()
    network.merge_lora()
    network.attach_lora()
    assert differ(network.eval()(frames).logits, expected) < 1e-3


@torch.no_grad()
def test_lora_of_an_adapter_stays(
    model: TGDFERForVideoClassification, clip_folder: Path, tmp_path: Path, frames: torch.Tensor
) -> None:
    model.attach_lora()
    move_lora(model)
    model.save_adapter(tmp_path)
    loaded = TGDFERForVideoClassification.from_adapter(tmp_path, clip=clip_folder)
    loaded.attach_lora()
    assert torch.equal(loaded.eval()(frames).logits, model(frames).logits)


# Adapters of peft.

TARGETS = ["tgdfer.long_range.down", "tgdfer.short_term.down"]
ALSO_OURS = r"tgdfer\.clip\.vision_model\..*\.(q_proj|v_proj)|tgdfer\.long_range\.down"


@pytest.mark.parametrize("targets", [TARGETS, ALSO_OURS], ids=["beside", "on_top"])
def test_get_peft_model_keeps_ours(
    model: TGDFERForVideoClassification, frames: torch.Tensor, targets: list[str] | str
) -> None:
    model.attach_lora()
    move_lora(model)
    expected, ours = model(frames).logits, {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets, r=2)).eval()
    assert differ(wrapped(frames).logits, expected) < 1e-5, "theirs starts at zero, and ours is heard"
    kept = wrapped.base_model.model.state_dict()
    for name, value in ours.items():
        if "lora_" in name:
            assert torch.equal(kept[name], value), name
    wrapped.train()(frames, labels=torch.tensor([0, 1])).loss.backward()
    trained = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    assert any(".default." in name for name in trained)


@pytest.mark.parametrize("task", ["FEATURE_EXTRACTION", "SEQ_CLS", None])
def test_every_task_type_of_peft(
    model: TGDFERForVideoClassification, frames: torch.Tensor, tmp_path: Path, task: str | None
) -> None:
    expected = model(frames, MASK).logits
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type=task, target_modules=TARGETS, r=2)).eval()
    batch = {"pixel_values_videos": frames, "frame_mask": MASK}
    assert differ(wrapped(**batch).logits, expected) < 1e-5
    loss = wrapped.train()(**batch, labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert any(parameter.grad is not None for name, parameter in wrapped.named_parameters() if "lora_" in name)
    wrapped.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()


def test_text_arguments_are_refused(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    model(frames, input_ids=None, attention_mask=None, inputs_embeds=None)
    with pytest.raises(ValueError, match="`attention_mask` is not an input of TG-DFER"):
        model(frames, attention_mask=torch.ones(2, 6))
    with pytest.raises(ValueError, match="`input_ids` is not an input of TG-DFER"):
        model.tgdfer(frame_features=torch.randn(1, 2, DIM), input_ids=torch.ones(2, 6))


def test_lora_that_peft_has_merged_is_not_missed(untrained, frames, tmp_path):
    untrained.config.lora_layers = 1
    untrained.attach_lora()
    move_lora(untrained)
    expected = untrained.eval()(frames).logits
    config = peft.LoraConfig(target_modules=["tgdfer.short_term.down"])
    merged = peft.get_peft_model(untrained, config).merge_and_unload()
    merged.save_pretrained(tmp_path)
    again = TGDFERForVideoClassification.from_pretrained(tmp_path)
    assert not again.has_lora and differ(again(frames).logits, expected) < 1e-4


def test_adapters_of_transformers(untrained, frames, tmp_path, monkeypatch):
    """They are merged with ours, and are not added beside ours. transformers may ask for a later version of peft."""
    monkeypatch.setattr("transformers.integrations.peft.check_peft_version", lambda **_: None)
    config = peft.LoraConfig(target_modules=["tgdfer.short_term.down"], init_lora_weights=False)
    untrained.add_adapter(config)
    expected = untrained.eval()(frames).logits
    untrained.save_pretrained(tmp_path, merge_lora=True)
    again = TGDFERForVideoClassification.from_pretrained(tmp_path)
    assert not again.has_lora and differ(again(frames).logits, expected) < 1e-4
    again.config.lora_layers = 1
    again.attach_lora()
    with pytest.raises(ValueError, match="LoRA is attached already; call `merge_lora` first"):
        again.add_adapter(config)
