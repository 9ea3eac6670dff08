"""Half precision, autocast, masked frames anywhere, labels that are ignored, and what no device must wait for."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.layers_tgdfer import TGDFERTemporalAttention
from tgdfer.modeling_tgdfer.losses_tgdfer import separation_loss

from .conftest import DIM, PARTS, Maker, differ, make_prompts, move_all_but_clip, move_lora, switch_off_dropout

EVERY_LOSS = {"alignment_weight": 0.1, "separation_weight": 0.1, "smoothness_weight": 0.1, "instance_weight": 0.1}
MASKS = {
    "one_frame_left": [[True] * 6, [False, False, False, True, False, False]],
    "first_and_last_masked": [[False, True, True, True, True, False], [True] * 6],
    "holes": [[True, False, True, False, True, True], [True, False, False, True, False, True]],
    "padded": [[True] * 6, [True, True, False, False, False, False]],
}
HALF = [torch.float16, torch.bfloat16]


def probabilities(model: TGDFERForVideoClassification, *inputs: torch.Tensor) -> torch.Tensor:
    return model(*inputs).logits.float().softmax(-1)


def all_finite(output: dict) -> bool:
    return all(torch.isfinite(value).all() for value in output.values())


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("dtype", HALF, ids=str)
@torch.no_grad()
def test_half_precision_with_masked_frames(
    model: TGDFERForVideoClassification, frames: torch.Tensor, mask: list, dtype: torch.dtype
) -> None:
    frame_mask = torch.tensor(mask)
    expected = model(frames, frame_mask)
    found = model.to(dtype)(frames, frame_mask)
    assert all_finite(found)
    assert all(value.dtype == dtype for value in found.values())
    assert differ(found.logits.float().softmax(-1), expected.logits.softmax(-1)) < 2e-2
    assert differ(found.frame_relevance.float().sum(1), torch.ones(2, 5)) < 1e-2
    assert found.frame_relevance[~frame_mask].abs().max() == 0 if not frame_mask.all() else True


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@torch.no_grad()
def test_autocast(model: TGDFERForVideoClassification, frames: torch.Tensor, mask: list, dtype: torch.dtype) -> None:
    frame_mask = torch.tensor(mask)
    expected = model(frames, frame_mask)
    with torch.autocast("cpu", dtype):
        found = model(frames, frame_mask)
    assert all_finite(found) and found.logits.dtype == torch.float32
    assert differ(found.logits.softmax(-1), expected.logits.softmax(-1)) < 2e-2


@pytest.mark.slow
@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_every_part_learns_in_half_precision(from_clip: Maker, options: dict, dtype: torch.dtype) -> None:
    model = move_all_but_clip(from_clip(**options, **EVERY_LOSS)).to(dtype).train()
    output = model(
        frame_features=torch.randn(2, 6, DIM),
        frame_mask=torch.tensor(MASKS["holes"]),
        labels=torch.tensor([0, -100]),
    )
    assert torch.isfinite(output.loss)
    output.loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@torch.no_grad()
def test_one_frame_and_one_class(from_clip: Maker, frames: torch.Tensor, dtype: torch.dtype) -> None:
    model = from_clip(**EVERY_LOSS)
    model.set_classes(make_prompts(["joy"]))
    output = model.to(dtype)(frames[:, :1], labels=torch.tensor([0, 0]))
    assert all_finite(output) and output.logits.shape == (2, 1)
    assert separation_loss(torch.randn(1, 8)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@torch.no_grad()
def test_padded_batches(model: TGDFERForVideoClassification, frames: torch.Tensor, dtype: torch.dtype) -> None:
    """What stands on masked frames, even NaN and infinity, is not seen, and shorter clips answer as they do alone."""
    model = model.to(dtype)
    frame_mask, seconds = torch.tensor(MASKS["padded"]), torch.arange(6.0).repeat(2, 1) / 8
    alone = model(frames[1:, :2], timestamps=seconds[1:, :2]).logits
    for rubbish in (0.0, torch.nan, torch.inf):
        pixels, times = frames.clone(), seconds.clone()
        pixels[~frame_mask] = times[~frame_mask] = rubbish
        found = model(pixels, frame_mask, times)
        assert all_finite({"logits": found.logits, "relevance": found.frame_relevance})
        assert differ(found.logits[1:].float().softmax(-1), alone.float().softmax(-1)) < (
            1e-4 if dtype == torch.float32 else 2e-2
        )
        features = model.get_frame_features(frames).masked_fill(~frame_mask.unsqueeze(-1), rubbish)
        assert all_finite(model(frame_features=features, frame_mask=frame_mask, timestamps=times))


@torch.no_grad()
def test_a_conversion_and_back_rounds_weights_alone(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """Time is not rounded, whatever the model has been converted to."""
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.bfloat16())
    seconds = torch.arange(6.0).repeat(2, 1) * 1.7
    expected = rounded(frames, timestamps=seconds).logits
    assert torch.equal(model.bfloat16().float()(frames, timestamps=seconds).logits, expected)
    attention = next(module for module in model.modules() if isinstance(module, TGDFERTemporalAttention))
    expected = 2 * torch.pi * torch.logspace(-5, 2, attention.head_dim // 2, base=2.0)
    assert differ(attention.half().frequencies(), expected) < 1e-5


# Labels that are ignored.


def test_ignored_labels(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    for name, weight in EVERY_LOSS.items():
        setattr(model.config, name, weight)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    expected = model(frames[:1], labels=torch.tensor([2]), class_weights=weights).loss
    found = model(frames, labels=torch.tensor([2, -100]), class_weights=weights).loss
    assert differ(found, expected) < 1e-5
    nobody = model(frames, labels=torch.tensor([-100, -100])).loss
    model.config.separation_weight = 0.0
    assert torch.isfinite(nobody) and model(frames, labels=torch.tensor([-100, -100])).loss == 0


def test_the_loss_on_the_bag_is_that_of_pytorch(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    for name in EVERY_LOSS:
        setattr(model.config, name, 0.0)
    labels, weights = torch.tensor([1, 4]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    for smoothing, chosen in ((0.0, None), (0.0, weights), (0.1, None)):  # Both together are not as in PyTorch.
        model.config.label_smoothing = smoothing
        output = model(frames, labels=labels, class_weights=chosen)
        expected = F.cross_entropy(output.logits, labels, weight=chosen, label_smoothing=smoothing)
        assert differ(output.loss, expected) < 1e-6


# Devices.


@pytest.mark.slow
@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_no_value_is_looked_at_on_the_way(from_clip: Maker, options: dict) -> None:
    """Tensors on the meta device have no values: whatever a GPU would have to wait for fails there."""
    model = from_clip(**options, **EVERY_LOSS, lora_layers=1, lora_text_layers=1)
    model.attach_lora()
    model = model.to("meta").train()
    batch = {
        "pixel_values_videos": torch.empty(2, 6, 3, 32, 32, device="meta"),
        "frame_mask": torch.empty(2, 6, dtype=torch.bool, device="meta"),
        "timestamps": torch.empty(2, 6, device="meta"),
        "labels": torch.empty(2, dtype=torch.long, device="meta"),
    }
    model(**batch, class_weights=torch.empty(5, device="meta")).loss.backward()
    with torch.no_grad():
        model.eval()(**batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_on_a_gpu(model: TGDFERForVideoClassification, frames: torch.Tensor, dtype: torch.dtype) -> None:
    """As on the CPU, and without one synchronisation in a training step."""
    switch_off_dropout(model)
    frame_mask = torch.tensor(MASKS["holes"])
    expected = probabilities(model, frames, frame_mask)
    model.attach_lora()
    model = model.to("cuda", dtype)
    batch = {"pixel_values_videos": frames.cuda(), "frame_mask": frame_mask.cuda(), "labels": torch.tensor([0, 1])}
    batch["labels"] = batch["labels"].cuda()
    for _ in range(2):  # the first compiles kernels
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            output = model.train()(**batch)
            output.loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    with torch.no_grad():
        found = model.eval()(**batch)
    assert all_finite(found)
    assert differ(found.logits.float().softmax(-1).cpu(), expected) < (1e-3 if dtype == torch.float32 else 2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@torch.no_grad()
def test_device_map(
    model: TGDFERForVideoClassification,
    frames: torch.Tensor,
    tmp_path: Path,
    device_map: str | dict,
    dtype: torch.dtype,
) -> None:
    model.save_pretrained(tmp_path)
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path, device_map=device_map, dtype=dtype)
    assert differ(loaded(frames).logits.float().softmax(-1), model(frames).logits.softmax(-1)) < 2e-2
    loaded = loaded.float().cpu()
    if dtype == torch.float32:
        assert torch.equal(loaded(frames).logits, model(frames).logits)


# Replicas of `DataParallel`, made as it makes them: their parameters are plain tensors, not parameters.


def replicas(model: torch.nn.Module, count: int) -> list[torch.nn.Module]:
    copies = []
    for _ in range(count):
        of = {module: module._replicate_for_data_parallel() for module in model.modules()}
        for module, replica in of.items():
            for name, child in module._modules.items():
                replica._modules[name] = None if child is None else of[child]
            for name, parameter in module._parameters.items():
                replica._former_parameters = getattr(replica, "_former_parameters", {})
                value = None if parameter is None else parameter * 1
                replica._parameters.pop(name, None)
                setattr(replica, name, value)
                replica._former_parameters[name] = value
            for name, buffer in module._buffers.items():
                setattr(replica, name, buffer)
        copies.append(of[model])
    return copies


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_data_parallel(model: TGDFERForVideoClassification, frames: torch.Tensor, training: bool) -> None:
    switch_off_dropout(model)
    model.attach_lora()
    move_lora(model)
    model.train(training)
    labels = torch.tensor([0, 3])
    outputs = [
        replica(frames[row : row + 1], labels=labels[row : row + 1]) for row, replica in enumerate(replicas(model, 2))
    ]
    whole = model(frames)
    assert differ(torch.cat([output.logits for output in outputs]), whole.logits) < 1e-4
    sum(output.loss for output in outputs).backward()
    assert model.tgdfer.text_guidance.context.weight.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
