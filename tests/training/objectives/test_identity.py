"""The loss that separates identity and emotion, on frames whose parts are known."""

import pytest
import torch

from tgdfer.training.errors import UserError
from tgdfer.training.objectives.identity import Identity, identity_loss, scatters

PEOPLE, LABELS, FRAMES = 4, 2, 5


def frames_of_known_parts() -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of every person with every label: people differ in dimensions 0 and 1, expressions in 2 and 3."""
    generator = torch.Generator().manual_seed(0)
    person, label = torch.randn(PEOPLE, 2, generator=generator), torch.randn(LABELS, 2, generator=generator)
    frames = torch.zeros(PEOPLE, LABELS, FRAMES, 6)
    frames[..., :2] = person[:, None, None]
    frames[..., 2:4] = torch.linspace(0, 1, FRAMES).view(-1, 1) * label[None, :, None]
    return frames.flatten(0, 1), torch.arange(LABELS).repeat(PEOPLE)


def loss_of(*dimensions: int) -> float:
    frames, labels = frames_of_known_parts()
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    return identity_loss(*scatters(frames, mask, labels), torch.eye(6)[:, list(dimensions)]).item()


def test_is_zero_if_the_residue_has_the_identity_and_two_if_it_has_the_emotion():
    assert loss_of(0, 1) == pytest.approx(0, abs=1e-5)
    assert loss_of(2, 3) == pytest.approx(2, abs=1e-5)
    assert loss_of(4, 5) == pytest.approx(1, abs=1e-5), "a residue of nothing loses the whole identity"
    frames, labels = frames_of_known_parts()
    clips = frames.mean(1)
    identity = clips - torch.stack([clips[labels == label].mean(0) for label in labels])
    share = (identity[:, 0].square().sum() / identity.square().sum()).item()
    assert loss_of(0) == pytest.approx(1 - share, abs=1e-5)


def test_masked_frames_and_clips_without_a_label_do_not_count():
    frames, labels = frames_of_known_parts()
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    expected = scatters(frames, mask, labels)
    more = torch.cat([frames, torch.randn(1, FRAMES, 6)])
    padded = torch.cat([more, torch.zeros(len(more), 2, 6)], 1)
    masks = torch.cat([torch.ones(len(more), FRAMES), torch.zeros(len(more), 2)], 1).bool()
    found = scatters(padded, masks, torch.cat([labels, torch.tensor([-100])]))
    torch.testing.assert_close(found, expected)


def test_scatters_by_hand():
    """Two clips of one label and one of another, with one dimension for people and one for expressions."""
    frames = torch.tensor([[[1.0, 0.0], [1.0, 2.0]], [[-1.0, 0.0], [-1.0, 2.0]], [[0.0, 4.0], [0.0, 4.0]]])
    identity, emotion = scatters(frames, torch.ones(3, 2, dtype=torch.bool), torch.tensor([0, 0, 1]))
    torch.testing.assert_close(identity, torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    # Within two clips the expression differs from its mean by one; the labels by -1, -1 and 2 from the mean of two.
    torch.testing.assert_close(emotion, torch.tensor([[0.0, 0.0], [0.0, 2.0 + 1 + 1 + 4]]))
    alone = scatters(frames, torch.ones(3, 2, dtype=torch.bool), torch.tensor([0, 1, 2]))[0]
    assert alone.abs().sum() == 0 and identity_loss(alone, emotion, torch.eye(2)[:, :1]) == 1


def test_training_finds_the_directions_of_the_identity(make_model):
    """The directions are turned into the subspace of the identity, and nothing else is trained."""
    model = make_model(residue_width=2)
    frames, labels = frames_of_known_parts()
    features = torch.zeros(*frames.shape[:2], 16)
    features[..., :6] = frames + torch.tensor([0, 0, 0, 0, 2.0, 0])
    batch = {"frame_features": features, "labels": labels}
    objective = Identity(model)
    optimizer = torch.optim.Adam([model.tgdfer.residue.directions], lr=0.05)
    losses = []
    for _ in range(150):
        loss = objective(model.eval()(**batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5 and losses[-1] < 0.15, losses[-1]
    basis = model.tgdfer.residue.basis()
    assert basis[:2].square().sum() > 1.7, "both directions are those of people"


def test_a_model_without_a_residue_is_refused(make_model):
    with pytest.raises(UserError, match="needs a residue: add --model-options residue_width=32"):
        Identity(make_model())
