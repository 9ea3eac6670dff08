"""What learns, and what is done to clips and loss in training alone."""

from pathlib import Path

import pytest
import torch

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.layers_tgdfer import drop_instances

from .conftest import DIM, PARTS


def test_it_overfits_a_few_clips(untrained: TGDFERForVideoClassification) -> None:
    features, labels = torch.randn(8, 6, DIM), torch.arange(8) % 5
    groups = untrained.parameter_groups()
    optimizer = torch.optim.AdamW([parameter for group in groups.values() for parameter in group], lr=1e-2)
    untrained.train()
    for _ in range(60):
        loss = untrained(frame_features=features, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    untrained.eval()
    assert (untrained(frame_features=features).logits.argmax(-1) == labels).all()


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_every_trainable_parameter_learns(
    clip_folder: Path, prompts: dict, frames: torch.Tensor, options: dict
) -> None:
    every_loss = {"alignment_weight": 0.1, "separation_weight": 0.1, "smoothness_weight": 0.1, "instance_weight": 0.1}
    dropouts = {"feature_dropout": 0.0, "instance_dropout": 0.3, "long_range_dropout": 0.0}
    model = TGDFERForVideoClassification.from_clip(
        clip_folder, prompts, lora_layers=1, **options, **every_loss, **dropouts
    )
    model.attach_lora()
    with torch.no_grad():  # away from the zeros of the start, behind which nothing has a gradient yet
        for parameter in [parameter for group in model.parameter_groups().values() for parameter in group]:
            parameter += 0.1 * torch.randn_like(parameter)
    model.train()
    model(frames, labels=torch.tensor([0, 3])).loss.backward()
    still = {
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    }
    assert not still


def test_dropped_instances_spare_one(untrained: TGDFERForVideoClassification) -> None:
    mask = torch.tensor([[True] * 6, [False, True, True, False, False, False]])
    for _ in range(20):
        kept = drop_instances(mask, 0.99)
        assert kept.any(1).all() and not (kept & ~mask).any()
    frames = torch.randn(2, 6, DIM)
    untrained.config.instance_dropout = 0.99
    assert torch.equal(untrained.eval().tgdfer(frame_features=frames, frame_mask=mask).frame_mask, mask)
    assert untrained.train().tgdfer(frame_features=frames, frame_mask=mask).frame_mask.sum() < mask.sum()


def test_imbalance_changes_the_loss_alone(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    labels = torch.tensor([0, 1])
    plain = model(frames, labels=labels)
    weighted = model(frames, labels=labels, class_weights=torch.tensor([5.0, 1, 1, 1, 1]))
    adjusted = model(frames, labels=labels, logit_adjustment=torch.tensor([0.0, 0, 3, 0, 0]))
    assert len({plain.loss.item(), weighted.loss.item(), adjusted.loss.item()}) == 3
    assert torch.equal(plain.logits, weighted.logits) and torch.equal(plain.logits, adjusted.logits)


def test_it_trains_under_autocast(untrained: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    untrained.attach_lora()
    untrained.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = untrained(frames, labels=torch.tensor([0, 1])).loss
    loss.backward()
    gradients = [parameter.grad for parameter in untrained.parameters() if parameter.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
