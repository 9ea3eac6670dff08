"""What transformers asks of its own models: of both classes, with and without LoRA attached."""

import inspect
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification

from tgdfer import TGDFERConfig, TGDFERForVideoClassification, TGDFERModel

from .conftest import differ, make_prompts, move, move_lora, switch_off_dropout

Network = TGDFERModel | TGDFERForVideoClassification
CLASSES = [TGDFERModel, TGDFERForVideoClassification]
AUTO = {TGDFERModel: AutoModel, TGDFERForVideoClassification: AutoModelForVideoClassification}
MASK = torch.tensor([[True] * 6, [True, False, True, True, False, True]])


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def cls(request: pytest.FixtureRequest) -> type[Network]:
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "lora"])
def network(request: pytest.FixtureRequest, cls: type[Network], model: TGDFERForVideoClassification) -> Network:
    """A model of each class of which every part, LoRA too where it is attached, has left its start."""
    switch_off_dropout(model)
    if request.param:
        model.attach_lora()
        move_lora(model)
    return model if cls is TGDFERForVideoClassification else model.tgdfer


def tensors(output: dict) -> dict[str, torch.Tensor]:
    """All tensors of an output, those in tuples too."""
    found = {name: value for name, value in output.items() if torch.is_tensor(value)}
    nested = {name: value for name, value in output.items() if isinstance(value, tuple)}
    return found | {f"{name}[{i}]": value for name, values in nested.items() for i, value in enumerate(values)}


def loss_of(network: Network, frames: torch.Tensor) -> torch.Tensor:
    if isinstance(network, TGDFERForVideoClassification):
        return network(frames, MASK, labels=torch.tensor([0, 1])).loss
    seen = network(frames, MASK)
    return (seen.pooler_output @ seen.text_embeds.T).square().sum()


@torch.no_grad()
def test_save_load(network: Network, cls: type[Network], tmp_path: Path, frames: torch.Tensor) -> None:
    expected = network(frames, MASK)
    network.save_pretrained(tmp_path, merge_lora=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "configuration_tgdfer.py",
        "modeling_tgdfer.py",
        "checkpoints_tgdfer.py",
        "dual_encoders_tgdfer.py",
        "layers_tgdfer.py",
        "lora_tgdfer.py",
        "losses_tgdfer.py",
        "optional_parts_tgdfer.py",
        "regions_tgdfer.py",
        "visual_prompts_tgdfer.py",
    }
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TGDFERConfig)
    loaded, report = AUTO[cls].from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is cls and not loaded.training and not loaded.has_lora
    assert not any(report[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    found = loaded(frames, MASK)
    for name, value in tensors(expected).items():  # LoRA is merged into what was saved
        tolerance = 1e-3 if "logits" in name else 1e-5
        assert differ(found[name].float(), value.float()) <= (tolerance if network.has_lora else 0), name
    loaded.save_pretrained(tmp_path / "again")
    again = cls.from_pretrained(tmp_path / "again")
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), loaded.parameters(), strict=True))


def test_a_classifier_loads_as_a_base_model(
    model: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor
) -> None:
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(base(frames).last_hidden_state, model.tgdfer(frames).last_hidden_state)


def test_can_use_safetensors(network: Network, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path, merge_lora=True)
    assert not list(tmp_path.glob("*.bin"))
    with safe_open(tmp_path / "model.safetensors", "pt") as saved:
        assert set(saved.keys()) == set(network.merged_copy().state_dict())


def test_can_init_all_missing_weights(cls: type[Network], model: TGDFERForVideoClassification) -> None:
    """All that is not CLIP, where a checkpoint lacks it, starts as in a new model."""
    model = model if cls is TGDFERForVideoClassification else model.tgdfer
    kept = {name: value for name, value in model.state_dict().items() if "clip." in name}
    loaded = cls.from_pretrained(None, config=model.config, state_dict=dict(kept))
    new = cls(model.config)
    expected = dict(new.named_parameters()) | dict(new.named_buffers())
    found = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
    assert found.keys() == expected.keys()
    for name, value in found.items():
        other = kept.get(name, expected[name])
        if name not in kept and name.endswith("weight") and other.numel() > 1 and other.std() > 0:  # random
            assert differ(value.mean(), other.mean()) < 0.1 and differ(value.std(), other.std()) < 0.1, name
        else:
            assert torch.equal(value, other), name


@torch.no_grad()
def test_determinism(network: Network, frames: torch.Tensor) -> None:
    one, other = tensors(network(frames, MASK)), tensors(network(frames, MASK))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@torch.no_grad()
def test_batching_equivalence(network: Network, frames: torch.Tensor) -> None:
    together = tensors(network(frames, MASK))
    for index in range(len(frames)):
        alone = tensors(network(frames[index : index + 1], MASK[index : index + 1]))
        for name, value in alone.items():
            of_the_batch = together[name]
            if len(of_the_batch) == len(frames):  # and not one for all classes
                of_the_batch = of_the_batch[index : index + 1]
            assert differ(of_the_batch.float(), value.float()) < (1e-3 if "logits" in name else 1e-5), name


@torch.no_grad()
def test_model_outputs_equivalence(network: Network, frames: torch.Tensor) -> None:
    wanted = {"output_hidden_states": True}
    as_dict, as_tuple = network(frames, **wanted), network(frames, return_dict=False, **wanted)
    assert isinstance(as_tuple, tuple)
    as_dict = [value for value in as_dict.values() if value is not None]
    assert len(as_tuple) == len(as_dict)
    for one, other in zip(as_tuple, as_dict, strict=True):
        assert torch.equal(one, other) if torch.is_tensor(one) else all(map(torch.equal, one, other))


@pytest.mark.parametrize("by", ["argument", "config"])
@torch.no_grad()
def test_hidden_states_output(network: Network, frames: torch.Tensor, by: str) -> None:
    assert network(frames).hidden_states is None
    wanted = {"output_hidden_states": True}
    if by == "config":
        network.config.output_hidden_states = True
        wanted = {}
    # Those of the long-range Transformer alone, whether or not the texts are read on the way.
    shape = (2, 6, network.config.long_range_width)
    for _ in range(2):
        assert [state.shape for state in network(frames, **wanted).hidden_states] == [shape] * 2


@torch.no_grad()
def test_attention_outputs(network: Network, frames: torch.Tensor) -> None:
    network.set_attn_implementation("eager")
    assert network(frames).attentions is None
    network.eval()
    for _ in range(2):
        (weights,) = network(frames, MASK, output_attentions=True).attentions
        assert weights.shape == (2, 4, 6, 6)
        assert differ(weights.sum(-1), torch.ones(2, 4, 6)) < 1e-5
        seen_by_unmasked = weights[1, :, MASK[1]]
        assert seen_by_unmasked[..., ~MASK[1]].abs().max() == 0 and seen_by_unmasked[..., MASK[1]].min() > 0


@torch.no_grad()
def test_eager_matches_sdpa(network: Network, frames: torch.Tensor) -> None:
    assert {module.config._attn_implementation for module in network.modules() if hasattr(module, "is_causal")} == {
        "sdpa"
    }
    sdpa = tensors(network(frames, MASK))
    network.set_attn_implementation("eager")
    network.eval()
    assert {module.config._attn_implementation for module in network.modules() if hasattr(module, "is_causal")} == {
        "eager"
    }
    for name, value in tensors(network(frames, MASK)).items():
        assert differ(value.float(), sdpa[name].float()) < (1e-3 if "logits" in name else 1e-5), name


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
def test_can_be_initialized_on_meta(cls: type[Network], model: TGDFERForVideoClassification, lora: bool) -> None:
    with torch.device("meta"):
        on_meta = cls(model.config)
        if lora:
            on_meta.attach_lora()
    assert all(parameter.is_meta for parameter in on_meta.parameters())
    assert on_meta.has_lora == lora


def test_training(network: Network, frames: torch.Tensor) -> None:
    network.train()
    loss_of(network, frames).backward()
    without = {
        name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None
    }
    assert not without
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name in dict(network.named_parameters()) if "clip." in name and "lora_" not in name}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # renamed in transformers 5.23
def test_gradient_checkpointing(network: Network, frames: torch.Tensor) -> None:
    network.train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            network.gradient_checkpointing_enable()
            assert network.is_gradient_checkpointing
        network.zero_grad()
        loss = loss_of(network, frames)
        loss.backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.requires_grad} | {"": loss})
    plain, checkpointed = gradients
    for name, value in plain.items():
        assert differ(checkpointed[name], value) < 1e-5 * max(1.0, value.abs().max().item()), name


def bytes_kept(network: Network, frames: torch.Tensor) -> int:
    """What a forward pass keeps for the backward pass, parameters aside."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_the_model:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    of_the_model = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of(network, frames)  # held to the end, or storages would be used again
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # renamed in transformers 5.23
def test_gradient_checkpointing_keeps_less(network: Network, frames: torch.Tensor) -> None:
    """Without LoRA too: the learnt context is trained through the whole text tower."""
    network.train()
    plain = bytes_kept(network, frames)
    network.gradient_checkpointing_enable()
    checkpointed = bytes_kept(network, frames)
    assert checkpointed < plain / 2


def test_main_input_name(cls: type[Network]) -> None:
    assert cls.main_input_name == list(inspect.signature(cls.forward).parameters)[1] == "pixel_values_videos"


def test_a_loaded_model_has_its_clip_frozen(
    cls: type[Network], untrained: TGDFERForVideoClassification, tmp_path: Path
):
    untrained.save_pretrained(tmp_path)
    for loader in (cls, AUTO[cls]):
        loaded = loader.from_pretrained(tmp_path)
        assert not any(parameter.requires_grad for parameter in loaded.base_model.clip.parameters())
        assert any(parameter.requires_grad for parameter in loaded.parameters())


def test_more_classes_than_the_default(clip_folder: Path, tmp_path: Path, frames: torch.Tensor) -> None:
    model = TGDFERForVideoClassification.from_clip(clip_folder, make_prompts([f"label {i}" for i in range(30)]))
    move(model, lambda name: "bias" in name)
    model.save_pretrained(tmp_path)
    assert torch.equal(TGDFERForVideoClassification.from_pretrained(tmp_path)(frames).logits, model(frames).logits)
