"""The network as one graph: compiled, and exported with any number of clips and frames."""

import pytest
import torch
from torch.export import Dim

from tgdfer import TGDFERForVideoClassification

from .conftest import DIM, SIDE, differ

# The backend matters to speed alone; "eager" shows that the graph is whole.
COMPILE = {"fullgraph": True, "backend": "eager"}


@torch.no_grad()
def test_compile(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, True]])
    expected = model(frames, mask)
    compiled = torch.compile(model, **COMPILE)
    for _ in range(2):
        found = compiled(frames, mask)
        assert differ(found.logits, expected.logits) < 1e-4
        assert differ(found.frame_relevance, expected.frame_relevance) < 1e-5


def test_compile_in_training(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """With learnable context, so that the texts are read inside the graph."""
    model.config.instance_dropout = 0.0
    model.tgdfer.feature_dropout.p = model.tgdfer.long_range.drop = 0.0
    model.train()
    labels = torch.tensor([0, 1])
    plain = model(frames, labels=labels).loss
    plain.backward()
    gradient = model.tgdfer.text_guidance.context.weight.grad.clone()
    model.zero_grad()
    loss = torch.compile(model, **COMPILE)(frames, labels=labels).loss
    loss.backward()
    assert differ(loss, plain) < 1e-5
    assert differ(model.tgdfer.text_guidance.context.weight.grad, gradient) < 1e-5


class Logits(torch.nn.Module):
    """The model as a function of tensors to a tensor."""

    def __init__(self, model: TGDFERForVideoClassification, given: str):
        super().__init__()
        self.model, self.given = model, given

    def forward(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        return self.model(**{self.given: frames}, frame_mask=mask, timestamps=seconds).logits


@pytest.mark.parametrize(
    "given, shape", [("frame_features", (DIM,)), ("pixel_values_videos", (3, SIDE, SIDE))], ids=["features", "pixels"]
)
@torch.no_grad()
def test_export(model: TGDFERForVideoClassification, given: str, shape: tuple[int, ...]) -> None:
    def inputs(clips: int, length: int) -> tuple[torch.Tensor, ...]:
        mask = torch.ones(clips, length, dtype=torch.bool)
        mask[-1, 1:] = torch.rand(length - 1) > 0.5
        return torch.randn(clips, length, *shape), mask, torch.arange(float(length)).repeat(clips, 1)

    model.get_text_features()  # exported as it is, read
    sizes = {0: Dim("clips", min=1, max=64), 1: Dim("frames", min=1, max=256)}
    network = Logits(model, given)
    program = torch.export.export(network, inputs(2, 6), dynamic_shapes=(sizes, sizes, sizes)).module()
    for clips, length in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 9)):
        example = inputs(clips, length)
        assert differ(program(*example), network(*example)) < 1e-4, (clips, length)
