"""LoRA on cached inputs of the first adapted block gives what the whole model gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_results import bags, pixels
from small_backbones import save_resnet, save_siglip
from torch import nn

from benchmarks.harness.benchmark_dataset import real_dataset
from benchmarks.harness.fitting import Recipe, frame_statistics, predict, train_head
from benchmarks.harness.heads import AdaptedHead, LinearHead
from benchmarks.harness.lora import LORA_BLOCKS, LORA_OPTIONS
from benchmarks.harness.row import targets_of
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of
from tgdfer.training.models import start_model


@pytest.fixture(params=["clip", "resnet"])
def dataset(request, dataset, clip_folder, tmp_path_factory):
    """The data set of the other tests, with either kind of vision tower."""
    if request.param == "resnet":
        torch.manual_seed(0)
        folder = save_resnet(tmp_path_factory.mktemp("backbone") / "resnet", clip_folder)
        dataset = real_dataset(replace(dataset.settings, model=str(folder)), dataset.folder)
    return dataset


@pytest.fixture
def first(dataset) -> int:
    """The first adapted block: the CLIP has as many blocks as are adapted, the ResNet has three more."""
    return len(blocks_of(dataset.network[0].tgdfer.clip.vision_model)) - LORA_BLOCKS


@pytest.fixture
def adapted(dataset) -> AdaptedHead:
    model, _ = start_model(dataset.config(model_options=dict(LORA_OPTIONS)).model, dataset.classes)
    head = LinearHead(*frame_statistics(dataset.features("train"), np.arange(len(dataset.train))), 3, "mean")
    torch.nn.init.normal_(head.linear.weight)
    adapted = AdaptedHead(model, head, head_rate=1e-3)
    adapted.clip_of_test = [model]  # a list, so that it is no part of the head
    return adapted.eval()


def test_lora_starts_at_what_the_frozen_clip_sees(dataset, adapted, first):
    frozen, activations = dataset.features("test"), dataset.activations("test", block=first)
    assert activations.features.shape == (1, 15, 4, *((12, 2, 2) if first else (5, 32)))
    ours, frames = predict(adapted, activations)
    theirs, frozen_frames = predict(adapted.head, frozen)
    torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.02)  # both were kept in half precision
    torch.testing.assert_close(frames, frozen_frames, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("block", [0, 1])
def test_cached_activations_give_the_logits_of_the_whole_model(dataset, adapted, first, block):
    """With LoRA trained, and through every block or the last alone."""
    (model,), batch = adapted.clip_of_test, pixels(dataset)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
        whole = model.get_frame_features(batch["pixel_values_videos"], batch["frame_mask"])
        tower, inputs = model.tgdfer.clip.vision_model, []
        if first:
            blocks_of(tower)[first + block][1].register_forward_pre_hook(lambda _, given: inputs.extend(given))
        output = tower(batch["pixel_values_videos"].flatten(0, 1), output_hidden_states=not first)
        states = inputs[0] if first else output.hidden_states[block]
        adapted.blocks = adapted.blocks[block:]
        exact = adapted.frame_features(states).unflatten(0, (15, 4))
    torch.testing.assert_close(exact, whole, atol=1e-5, rtol=1e-4)
    if block == 0:  # what is kept on disk comes before LoRA, in half precision
        logits = predict(adapted, dataset.activations("test", block=first))[0]
        torch.testing.assert_close(logits, predict(adapted.head, bags(whole[None]))[0], atol=0.1, rtol=0.02)


def test_activations_of_every_block_are_kept_apart(dataset):
    first, second = (dataset.activations("test", block).features for block in (0, 1))
    assert first.dtype == torch.float16 and not torch.equal(first, second)
    assert torch.equal(dataset.activations("test", 0).features, first)


def test_lora_learns_and_the_rest_of_clip_stays(dataset, adapted, first):
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    seen = dataset.activations("train", block=first)
    recipe = Recipe(rate=1e-2, epochs=2, batch_size=8, frames=2)
    train_head(adapted, seen, targets_of(dataset), np.arange(len(dataset.train)), recipe, 0)
    moved = {name for name, value in adapted.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if "lora_B" in name} and "head.linear.weight" in moved
    assert all("lora_" in name or "head.linear" in name for name in moved)


def test_other_towers_are_one_sentence(dataset):
    folder = save_siglip(dataset.folder.parent / "siglip")
    model, _ = start_model(dataset.config(model=str(folder), model_options=dict(LORA_OPTIONS)).model, dataset.classes)
    with pytest.raises(ValueError, match="need a vision tower of CLIP or a ResNet of timm, not a SiglipVisionModel"):
        AdaptedHead(model, nn.Identity(), head_rate=1e-3)
