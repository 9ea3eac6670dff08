"""Backbones other than a plain CLIP: everything that works with CLIP works with them."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_backbones import DIM, PAD_OF_BERT, SIDE, TEXT, convnext_config, make_backbone, resnet_config
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModelForVideoClassification,
    BertConfig,
    CLIPTextConfig,
    DistilBertConfig,
    PreTrainedModel,
    ResNetConfig,
    Siglip2Config,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.checkpoints_tgdfer import fingerprint
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of, lora_targets

from .conftest import EOS, LABELS, differ, make_prompts, move_all_but_clip, move_lora, switch_off_dropout
from .test_compile_and_export import assert_exports

KINDS = ("clip", "resnet", "convnext", "siglip", "bert", "roberta")
# Equal weights at other addresses in memory: some CPUs then round convolutions differently.
CLOSE = 1e-5
# Where the text of a prompt starts.
START = dict.fromkeys(KINDS, 1) | {"siglip": 0}
# The names in the vision tower, and in the text tower, of what LoRA adapts in the last block of each.
TARGETS = {
    "clip": ({f"encoder.layers.1.self_attn.{name}_proj" for name in ("q", "k", "v", "out")}, "encoder.layers.1."),
    "siglip": ({f"encoder.layers.1.self_attn.{name}_proj" for name in ("q", "k", "v", "out")}, "encoder.layers.1."),
    "resnet": ({f"timm_model.layer4.0.{name}" for name in ("conv1", "conv2", "downsample.1")}, "encoder.layers.1."),
    "convnext": ({f"encoder.stages.1.layers.1.pwconv{number}" for number in (1, 2)}, "encoder.layers.1."),
    "bert": ({f"layers.1.attention.{name}_proj" for name in ("q", "k", "v", "o")}, "encoder.layer.1.attention."),
    "roberta": ({f"encoder.layers.1.self_attn.{name}_proj" for name in ("q", "k", "v", "out")}, "encoder.layer.1."),
}


def prompts_of(kind: str, labels: list[str] = LABELS, **options: int) -> dict:
    """Prompts as the tokenizer of this backbone makes them."""
    prompts = make_prompts(labels, **options)
    ids = prompts["input_ids"]
    after = (ids == EOS).cumsum(-1) > 1  # padding
    if kind == "siglip":
        ids = F.pad(ids.masked_fill(after, 0)[..., 1:], (0, TEXT["max_position_embeddings"] - 8))
    elif "bert" in kind:
        ids = ids.masked_fill(after, PAD_OF_BERT)
    return prompts | {"input_ids": ids}


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make_backbone(kind).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(kind: str, folder: Path) -> TGDFERForVideoClassification:
    return TGDFERForVideoClassification.from_clip(folder, prompts_of(kind), lora_layers=1, lora_text_layers=1)


@pytest.fixture
def untrained(made: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    return copy.deepcopy(made)


@pytest.fixture(scope="module")
def backbone(kind: str, folder: Path) -> PreTrainedModel:
    """The backbone as transformers loads it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_backbone(kind)


@pytest.fixture
def adapting(untrained: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    """A model of which every part, LoRA too, has left its start."""
    move_all_but_clip(untrained).attach_lora()
    move_lora(untrained)
    return untrained


every_kind = pytest.mark.parametrize("kind", KINDS, scope="module")
few_kinds = pytest.mark.parametrize("kind", ["resnet", "siglip"], scope="module")


def one_text_each(kind: str, backbone: PreTrainedModel, prompts: dict) -> dict[str, torch.Tensor]:
    """Inputs of the text tower, with the mask that BERT needs."""
    ids = prompts["input_ids"].flatten(0, 1)
    return {"input_ids": ids} | ({"attention_mask": (ids != PAD_OF_BERT).long()} if "bert" in kind else {})


@every_kind
@torch.no_grad()
def test_the_start_is_zero_shot(kind: str, folder: Path, backbone: PreTrainedModel, frames: torch.Tensor) -> None:
    prompts = prompts_of(kind, ["anger", "fear", "joy"], descriptions=1)
    model = TGDFERForVideoClassification.from_clip(folder, prompts, initial_scale=7.0)
    texts = one_text_each(kind, backbone, prompts)
    scores = backbone(pixel_values=frames.flatten(0, 1), **texts).logits_per_image
    cosines = (scores - getattr(backbone, "logit_bias", 0.0)) / backbone.logit_scale.exp()
    assert differ(model(frames).frame_logits.flatten(0, 1), 7.0 * cosines) < 1e-5


@every_kind
@torch.no_grad()
def test_features_are_those_of_the_backbone(
    kind: str, untrained: TGDFERForVideoClassification, backbone: PreTrainedModel, frames: torch.Tensor
) -> None:
    seen = untrained.get_frame_features(frames)
    assert seen.shape == (2, 6, DIM)
    assert differ(seen.flatten(0, 1), backbone.get_image_features(frames.flatten(0, 1)).pooler_output) < 1e-6
    read = backbone.get_text_features(**one_text_each(kind, backbone, prompts_of(kind))).pooler_output
    assert (
        differ(untrained.tgdfer.get_text_features().last_hidden_state.flatten(0, 1), F.normalize(read, dim=-1)) < 1e-6
    )


@every_kind
@pytest.mark.parametrize("context", ["shared", "class"])
@torch.no_grad()
def test_context_starts_at_the_phrase_and_is_read_in_its_place(
    kind: str, folder: Path, backbone: PreTrainedModel, context: str
) -> None:
    prompts = prompts_of(kind)
    model = TGDFERForVideoClassification.from_clip(folder, prompts, context=context)
    learnt = model.tgdfer.text_guidance.context
    embeddings = backbone.text_model.get_input_embeddings()
    phrase = embeddings(torch.arange(5, 8))
    assert torch.equal(learnt.weight, phrase.repeat(len(learnt.weight) // 3, 1))
    words = torch.randint(0, 97, (learnt.num_embeddings,))
    learnt.weight.copy_(embeddings(words))
    other = {"input_ids": prompts["input_ids"].clone()}
    other["input_ids"][..., START[kind] : START[kind] + 3] = words.view(-1, 1, 3)
    expected = backbone.get_text_features(**one_text_each(kind, backbone, other)).pooler_output
    assert (
        differ(model.tgdfer.get_text_features().last_hidden_state.flatten(0, 1), F.normalize(expected, dim=-1)) < 1e-6
    )


@pytest.mark.slow
@every_kind
@torch.no_grad()
def test_save_load_and_new_classes(
    kind: str, untrained: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor
) -> None:
    expected = move_all_but_clip(untrained)(frames)
    untrained.save_pretrained(tmp_path)
    assert (tmp_path / "dual_encoders_tgdfer.py").is_file()
    loaded, report = AutoModelForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert differ(loaded(frames).logits, expected.logits) < CLOSE
    assert type(loaded.tgdfer.clip) is type(untrained.tgdfer.clip)
    assert loaded.config.clip_config.to_dict() == untrained.config.clip_config.to_dict()
    loaded.set_classes(prompts_of(kind, ["awe", "fear"]))
    assert loaded(frames).logits.shape == (2, 2)


@every_kind
def test_the_last_block_of_each_tower_is_adapted(kind: str, untrained: TGDFERForVideoClassification) -> None:
    tower = untrained.tgdfer.clip.vision_model
    blocks = [name for name, _ in blocks_of(tower)]
    untrained.attach_lora()
    assert [name for name, _ in blocks_of(tower)] == blocks
    adapted = {
        name.partition(".clip.")[2] for name, module in untrained.named_modules() if hasattr(module, "lora_dropout")
    }
    vision, text = TARGETS[kind]
    assert {name.removeprefix("vision_model.") for name in adapted if name.startswith("vision_model.")} == vision
    words = {name.removeprefix("text_model.") for name in adapted if name.startswith("text_model.")}
    assert len(words) == 4 and all(name.startswith(text) for name in words)


@pytest.mark.slow
@every_kind
def test_lora_trains_merges_and_leaves_the_backbone(
    kind: str, folder: Path, untrained: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor
) -> None:
    with torch.no_grad():
        start = untrained(frames)
    untrained.attach_lora()
    switch_off_dropout(untrained)
    base = {name: value.clone() for name, value in untrained.tgdfer.clip.state_dict().items() if "lora_" not in name}
    optimizer = torch.optim.AdamW([p for p in untrained.parameters() if p.requires_grad], lr=1e-2)
    untrained.train()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = untrained(frames, labels=torch.tensor([0, 1])).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = [name for name, value in untrained.named_parameters() if "lora_B" in name and value.abs().sum() > 0]
    assert len(moved) == len([name for name, _ in untrained.named_parameters() if "lora_B" in name]) > 0
    after = untrained.eval().tgdfer.clip.state_dict()
    assert all(torch.equal(after[name], value) for name, value in base.items()), "statistics of BatchNorm as well"
    assert fingerprint(untrained.tgdfer.clip) == untrained.config.clip_sha256

    with torch.no_grad():
        trained = untrained(frames)
        assert differ(trained.logits, start.logits) > 1e-2
        untrained.save_adapter(tmp_path / "adapter")
        again = TGDFERForVideoClassification.from_adapter(tmp_path / "adapter", clip=folder)
        assert again.has_lora and differ(again(frames).logits, trained.logits) < CLOSE
        untrained.save_pretrained(tmp_path / "whole", merge_lora=True)
        assert not any("lora" in name for name in load_file(tmp_path / "whole" / "model.safetensors"))
        whole = TGDFERForVideoClassification.from_pretrained(tmp_path / "whole")
        untrained.merge_lora()
        for merged in (untrained, whole):
            assert differ(merged(frames).logits, trained.logits) < 1e-4


@few_kinds
def test_an_adapter_knows_its_backbone(kind: str, untrained: TGDFERForVideoClassification, tmp_path: Path) -> None:
    untrained.save_adapter(tmp_path / "adapter")
    torch.manual_seed(7)
    other = make_backbone(kind)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="does not have the weights that this adapter was trained with"):
        TGDFERForVideoClassification.from_adapter(tmp_path / "adapter", clip=tmp_path / "other")


# In training the backbone stays as in `eval` mode.


@every_kind
def test_the_frozen_backbone_sees_the_same_in_training(
    kind: str, adapting: TGDFERForVideoClassification, frames: torch.Tensor
) -> None:
    with torch.no_grad():
        expected = adapting.get_frame_features(frames), adapting.tgdfer.get_text_features().last_hidden_state
        adapting.train()
        assert torch.equal(adapting.get_frame_features(frames), expected[0])
        assert differ(adapting.tgdfer.get_text_features().last_hidden_state, expected[1]) < 1e-6


def test_batch_norm_would_move_otherwise(frames: torch.Tensor) -> None:
    tower = make_backbone("resnet").vision_model
    before = tower.timm_model.bn1.running_mean.clone()
    tower.train()(pixel_values=frames.flatten(0, 1))
    assert not torch.equal(tower.timm_model.bn1.running_mean, before)


@few_kinds
def test_dropout_of_lora_follows_the_mode(kind: str, untrained: TGDFERForVideoClassification) -> None:
    untrained.config.lora_dropout = 0.5
    untrained.attach_lora()
    drops = [
        module for module in untrained.tgdfer.clip.modules() if isinstance(module, nn.Dropout) and module.p == 0.5
    ]
    for mode in (True, False):
        untrained.train(mode)
        assert drops and all(drop.training == mode for drop in drops)


@every_kind
def test_gradient_checkpointing_changes_no_gradient(
    kind: str, adapting: TGDFERForVideoClassification, frames: torch.Tensor
) -> None:
    switch_off_dropout(adapting)
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            adapting.activation_checkpointing_enable()
        adapting.train().zero_grad()
        adapting(frames, labels=torch.tensor([0, 1])).loss.backward()
        found.append([p.grad.clone() for p in adapting.parameters() if p.grad is not None])
    for plain, recomputed in zip(*found, strict=True):
        assert differ(plain, recomputed) < 1e-5
    if kind == "resnet":
        assert adapting.tgdfer.clip.vision_model.timm_model.grad_checkpointing
        adapting.activation_checkpointing_disable()
        assert not adapting.tgdfer.clip.vision_model.timm_model.grad_checkpointing


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(
    kind: str, adapting: TGDFERForVideoClassification, frames: torch.Tensor, dtype: torch.dtype
) -> None:
    expected = adapting(frames)
    found = adapting.to(dtype)(frames)
    assert found.text_embeds.dtype == dtype
    tolerance = 0.02 if dtype == torch.float16 else 0.15
    assert differ(found.description_relevance.float(), expected.description_relevance) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resnet", "siglip"], scope="module")
@torch.no_grad()
def test_compiles_as_one_graph(kind: str, adapting: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    expected = adapting(frames).logits
    torch.compiler.reset()
    compiled = torch.compile(adapting, fullgraph=True, backend="eager")
    assert differ(compiled(frames).logits, expected) < 1e-4


@pytest.mark.slow  # a graph of both towers takes long to export
@few_kinds
@torch.no_grad()
def test_exports_as_one_graph(kind: str, adapting: TGDFERForVideoClassification) -> None:
    assert_exports(adapting, "pixel_values_videos", (3, SIDE, SIDE))


WITHOUT_THE_PACKAGE = """
import sys

sys.modules["tgdfer"] = None
import torch
from transformers import AutoModelForVideoClassification

given, results, *folders = sys.argv[1:]
frames = torch.load(given)
models = [AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True) for folder in folders]
with torch.no_grad():
    torch.save([model(frames).logits for model in models], results)
"""


@pytest.mark.slow
def test_saved_models_load_without_this_package(tmp_path: Path, frames: torch.Tensor) -> None:
    kinds, expected = ("resnet", "siglip"), []
    for kind in kinds:
        make_backbone(kind).save_pretrained(tmp_path / "clip" / kind)
        model = TGDFERForVideoClassification.from_clip(tmp_path / "clip" / kind, prompts_of(kind))
        model.save_pretrained(tmp_path / kind)
        with torch.no_grad():
            expected.append(model(frames).logits)
    torch.save(frames, tmp_path / "frames.pt")
    folders = [tmp_path / kind for kind in kinds]
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, tmp_path / "frames.pt", tmp_path / "results.pt", *folders]
    subprocess.run(command, check=True, cwd=tmp_path)
    for found, logits in zip(torch.load(tmp_path / "results.pt"), expected, strict=True):
        assert differ(found, logits) < 1e-5


# What is refused.


def save_config(folder: Path, vision: object, text: object) -> Path:
    VisionTextDualEncoderConfig(vision_config=vision, text_config=text).save_pretrained(folder)
    return folder


def test_flexible_resolution_is_refused(tmp_path: Path) -> None:
    Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"NaFlex.*such as google/siglip2-base-patch16-224\.$"):
        TGDFERForVideoClassification.from_clip(tmp_path)


def test_a_text_tower_that_takes_no_context_is_refused(tmp_path: Path) -> None:
    save_config(tmp_path, resnet_config(), DistilBertConfig())
    with pytest.raises(ValueError, match="is of type distilbert.*use a text tower of CLIP, BERT, RoBERTa or XLM"):
        TGDFERForVideoClassification.from_clip(tmp_path)


def test_a_vision_tower_of_unknown_width_is_refused(tmp_path: Path) -> None:
    for name, config in {"resnet": resnet_config(), "convnext": convnext_config()}.items():
        del config.hidden_size
        save_config(tmp_path / name, config, CLIPTextConfig())
        with pytest.raises(ValueError, match="set `hidden_size` in its `vision_config`"):
            TGDFERForVideoClassification.from_clip(tmp_path / name)


def test_a_vision_tower_that_pools_to_no_vector_is_refused(tmp_path: Path, frames: torch.Tensor) -> None:
    vision = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", hidden_size=8)
    text = BertConfig(vocab_size=100, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    VisionTextDualEncoderModel(
        VisionTextDualEncoderConfig(vision_config=vision, text_config=text, projection_dim=DIM)
    ).save_pretrained(tmp_path)
    model = TGDFERForVideoClassification.from_clip(tmp_path, prompts_of("bert"))
    with pytest.raises(ValueError, match=r"a ResNetModel, gives a pooled output of shape \(12, 8, 1, 1\)"):
        model(frames)


def test_siglip_reads_padded_texts_only(tmp_path: Path) -> None:
    make_backbone("siglip").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="have 9 tokens, but the text tower needs prompts that are padded to 20"):
        TGDFERForVideoClassification.from_clip(tmp_path, make_prompts(LABELS))


def test_more_blocks_than_a_convolutional_tower_has() -> None:
    with pytest.raises(ValueError, match="`lora_layers` is 6, but the vision tower has 5 blocks"):
        lora_targets(make_backbone("resnet").vision_model, 6, "vision")


def test_blocks_of_other_networks() -> None:
    """What timm and transformers call their blocks, found by structure alone."""
    import timm

    small = {"pretrained": False, "num_classes": 0}
    vit = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, embed_dim=16, depth=3, num_heads=2, **small)
    assert [name for name, _ in blocks_of(vit)] == ["blocks.0", "blocks.1", "blocks.2"]
    assert lora_targets(vit, 1, "vision") == ["blocks.2.attn.qkv", "blocks.2.attn.proj"]
    net = timm.create_model("convnext_atto", depths=(1, 1, 2, 1), dims=(4, 4, 8, 8), **small)
    assert [name for name, _ in blocks_of(net)][-2:] == ["stages.2.blocks.1", "stages.3.blocks.0"]
    assert all("dw" not in name for name in lora_targets(net, 4, "vision"))
