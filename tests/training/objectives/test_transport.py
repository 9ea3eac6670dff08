"""Optimal transport: marginals, padding, small epsilon, and the words and patches that it aligns."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from small_backbones import save_resnet, save_siglip

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor
from tgdfer.training.errors import UserError
from tgdfer.training.objectives import transport
from tgdfer.training.objectives.registry import Objectives
from tgdfer.training.objectives.transport import (
    Transport,
    description_words,
    patch_embeddings,
    sinkhorn,
    transport_costs,
    transport_loss,
)

from .conftest import TEXTS


def test_plans_have_equal_masses_on_rows_and_columns():
    plan = sinkhorn(torch.rand(2, 5, 7), epsilon=0.1, iterations=200)
    torch.testing.assert_close(plan.sum(-1), torch.full((2, 5), 1 / 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(plan.sum(-2), torch.full((2, 7), 1 / 7), atol=1e-5, rtol=0)


def test_products_and_logarithms_give_the_same_plan(monkeypatch):
    """Also at the largest differences of cost that there are."""
    cost = 2 * torch.rand(3, 6, 5).round()
    rows, columns = torch.arange(6) < 4, torch.tensor([False, True, True, True, False])
    plans = []
    for small in (0.0, 1.0):
        monkeypatch.setattr(transport, "SMALL_EPSILON", small)
        plans.append(sinkhorn(cost, rows, columns, epsilon=0.03))
    torch.testing.assert_close(*plans, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("small_epsilon", [0.0, 1.0])
def test_padding_has_no_mass_and_no_influence(small_epsilon, monkeypatch):
    monkeypatch.setattr(transport, "SMALL_EPSILON", small_epsilon)
    cost = torch.rand(4, 3)
    whole = sinkhorn(cost, iterations=300)
    longer = torch.full((6, 5), 9.0)
    longer[:4, 1:4] = cost
    rows, columns = torch.arange(6) < 4, torch.tensor([False, True, True, True, False])
    padded = sinkhorn(longer, rows, columns, iterations=300)
    torch.testing.assert_close(padded[:4, 1:4], whole, atol=1e-6, rtol=1e-4)
    assert padded[4:].abs().sum() == 0 and padded[:, [0, 4]].abs().sum() == 0
    nothing = sinkhorn(longer, rows, torch.zeros(5, dtype=torch.bool))
    assert nothing.abs().sum() == 0 and bool(nothing.isfinite().all())


def test_a_small_epsilon_gives_the_best_assignment():
    cost = torch.rand(6, 6, generator=torch.Generator().manual_seed(3))
    plan = 6 * sinkhorn(cost, epsilon=0.003, iterations=3000)
    rows, columns = linear_sum_assignment(cost.numpy())
    expected = np.zeros((6, 6))
    expected[rows, columns] = 1
    np.testing.assert_allclose(plan.numpy(), expected, atol=0.05)
    assert float((plan * cost).sum()) == pytest.approx(float(cost[rows, columns].sum()), abs=0.02)


def test_a_large_epsilon_spreads_every_row_over_all_columns():
    torch.testing.assert_close(sinkhorn(torch.rand(3, 4), epsilon=1e4), torch.full((3, 4), 1 / 12), atol=1e-4, rtol=0)


def test_costs_are_means_over_descriptions():
    """Patches that equal the words cost nothing. Those at right angles to them cost one."""
    axes = torch.eye(4)
    words = torch.stack([axes[[0, 1]], axes[[2, 3]]]).unsqueeze(1)  # (K, M, L, D): two classes, one description
    words = torch.cat([words, torch.zeros_like(words)], 1)  # and a padded one
    mask = torch.tensor([[[True, True], [False, False]]] * 2)
    found = transport_costs(axes[[0, 1]].unsqueeze(0), words, mask)
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0]]), atol=1e-4, rtol=0)


def test_the_loss_moves_patches_towards_the_words_of_the_label():
    axes = torch.eye(4)
    words, mask = torch.stack([axes[[0, 1]], axes[[2, 3]]]).unsqueeze(1), torch.ones(2, 1, 2, dtype=torch.bool)
    patches = (0.5 + 0.1 * torch.randn(1, 3, 2, 4)).requires_grad_()
    frames = torch.tensor([[True, True, False]])
    loss = transport_loss(patches, frames, torch.tensor([1]), words, mask)
    loss.backward()
    assert patches.grad[0, :2, :, 2:].sum() < 0 < patches.grad[0, :2, :, :2].sum()
    assert patches.grad[0, 2].abs().sum() == 0, "a masked frame"
    assert transport_loss(patches, frames, torch.tensor([-100]), words, mask) == 0


def test_words_are_the_tokens_of_the_descriptions(make_model):
    model = make_model()
    words, mask = description_words(model)
    tokens = [[len(text.replace(" ", "")) for text in texts] for texts in TEXTS.values()]  # a token for each letter
    assert [[int(n) for n in row if n] for row in mask.sum(-1)] == tokens
    assert words.shape == (*mask.shape, 16) and mask.shape[:2] == (3, 3)
    torch.testing.assert_close(words.norm(dim=-1)[mask], torch.ones(int(mask.sum())))


@pytest.mark.parametrize("kind", ["clip", "siglip", "resnet"])
def test_gradients_reach_the_vision_tower(kind, clip_folder, tmp_path):
    folder = clip_folder
    if kind == "siglip":
        folder = save_siglip(tmp_path / "siglip")
    elif kind == "resnet":
        folder = save_resnet(tmp_path / "resnet", clip_folder)
    prompts = TGDFERProcessor.from_clip(folder, TEXTS).class_prompts()
    model = TGDFERForVideoClassification.from_clip(folder, prompts, lora_layers=1)
    model.freeze_clip()
    model.attach_lora()
    objective = Transport(model)
    batch = {"pixel_values_videos": torch.randn(2, 3, 3, 32, 32), "labels": torch.tensor([0, 2])}
    objective(model.train()(**batch), batch).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained and all("lora_" in name and "vision_model" in name for name in trained)
    with torch.no_grad():
        model.eval()(**batch)
    assert not objective.captured, "nothing is kept outside training"


def test_the_mean_of_the_patches_of_a_resnet_is_its_feature(clip_folder, tmp_path):
    folder = save_resnet(tmp_path / "resnet", clip_folder)
    model = TGDFERForVideoClassification.from_clip(folder, TGDFERProcessor.from_clip(folder, TEXTS).class_prompts())
    pixels, clip = torch.randn(1, 2, 3, 32, 32), model.tgdfer.clip
    with torch.no_grad():
        states = clip.vision_model(pixel_values=pixels[0]).last_hidden_state
        patches = patch_embeddings(clip, states)
        torch.testing.assert_close(patches.mean(1), model.get_frame_features(pixels)[0], atol=1e-5, rtol=1e-4)


def test_frozen_features_have_no_patches(make_model):
    with pytest.raises(UserError, match="'transport' needs the patches"):
        Objectives({"transport": 1.0}, make_model(), epochs=1, frozen_features=True)
