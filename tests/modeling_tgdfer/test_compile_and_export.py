"""The network as one graph: compiled, and exported with any number of clips and frames."""

from pathlib import Path

import pytest
import torch
from torch.export import Dim
from transformers import CLIPModel

from tgdfer import TGDFERForVideoClassification

from .conftest import DIM, SIDE, differ, move_all_but_clip, move_lora, switch_off_dropout, tiny_clip_config

# The backend matters to speed alone; "eager" shows that the graph is whole.
COMPILE = {"fullgraph": True, "backend": "eager"}
# A graph takes seconds to trace, so the other states of the parts come several at a time.
VARIANTS = {
    "no_short_term": {"short_term": False, "mil_pooling": "topk", "context": "class"},
    "no_long_range": {
        "long_range": False,
        "mil_pooling": "max",
        "context": "none",
        "visual_prompt_source": "contrast",
    },
    "no_visual_prompts": {"visual_prompts": False, "mil_pooling": "mean", "short_term": False},
}
Outputs = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def shallow_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with as few blocks as show all kinds, plain and adapted: each block takes long to trace."""
    config = tiny_clip_config()
    config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers = 2, 1
    folder = tmp_path_factory.mktemp("shallow")
    torch.manual_seed(1)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(shallow_clip: Path, prompts: dict) -> TGDFERForVideoClassification:
    """A model of which every part has left its start; LoRA would adapt a block of each tower."""
    return move_all_but_clip(
        TGDFERForVideoClassification.from_clip(
            shallow_clip, prompts, lora_layers=1, lora_text_layers=1, context="shared"
        )
    )


def inputs(clips: int, length: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Frames of one shape, a mask with holes, and seconds."""
    mask = torch.ones(clips, length, dtype=torch.bool)
    mask[-1, 1:] = torch.rand(length - 1) > 0.5
    return torch.randn(clips, length, *shape), mask, torch.arange(float(length)).repeat(clips, 1)


def assert_same(found: Outputs, expected: Outputs) -> None:
    """All outputs: 1e-4 on logits, 1e-5 on cosines, relevance and embeddings."""
    assert found.keys() == expected.keys() and len(found) >= 6
    for name, value in expected.items():
        assert differ(found[name].float(), value.float()) < (1e-4 if "logits" in name else 1e-5), name


def assert_compiles(network: torch.nn.Module, given: str, shape: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    """First with the texts not read yet, then with clips that have another number of frames."""
    torch.compiler.reset()
    compiled = torch.compile(network, **COMPILE)
    for length in lengths:
        frames, frame_mask, timestamps = inputs(2, length, shape)
        clip = {given: frames, "frame_mask": frame_mask, "timestamps": timestamps}
        assert_same(dict(compiled(**clip)), dict(network(**clip)))


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_compile(shallow_clip: Path, prompts: dict, options: dict) -> None:
    model = move_all_but_clip(TGDFERForVideoClassification.from_clip(shallow_clip, prompts, **options))
    assert_compiles(model, "frame_features", (DIM,), (6, 1) if "visual_prompts" in options else (2,))


@pytest.mark.slow  # graphs of both towers take long to trace
@pytest.mark.parametrize("is_base, lengths", [(False, (6, 1)), (True, (2,))], ids=["classifier", "base_model"])
@torch.no_grad()
def test_compile_from_pixels_with_lora(
    model: TGDFERForVideoClassification, is_base: bool, lengths: tuple[int, ...]
) -> None:
    model.attach_lora()
    move_lora(model)
    assert_compiles(model.tgdfer if is_base else model, "pixel_values_videos", (3, SIDE, SIDE), lengths)


@pytest.mark.slow
def test_compile_in_training(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """With learnable context, so that the texts are read inside the graph."""
    switch_off_dropout(model)
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


class Exported(torch.nn.Module):
    """The model as a function of tensors to a dict of tensors."""

    def __init__(self, model: torch.nn.Module, given: str):
        super().__init__()
        self.model, self.given = model, given

    def forward(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> Outputs:
        return dict(self.model(**{self.given: frames}, frame_mask=mask, timestamps=seconds))


def assert_exports(model: torch.nn.Module, given: str, shape: tuple[int, ...]) -> None:
    """One program for any number of clips and frames."""
    model.get_text_features()  # exported as it is, read
    sizes = {0: Dim("clips", min=1, max=64), 1: Dim("frames", min=1, max=256)}
    network = Exported(model, given)
    program = torch.export.export(network, inputs(2, 6, shape), dynamic_shapes=(sizes, sizes, sizes)).module()
    for clips, length in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 9)):
        example = inputs(clips, length, shape)
        assert_same(program(*example), network(*example))


@pytest.mark.slow
@torch.no_grad()
def test_export(model: TGDFERForVideoClassification) -> None:
    assert_exports(model, "frame_features", (DIM,))


@pytest.mark.slow  # a graph of both towers takes long to export
@torch.no_grad()
def test_export_from_pixels_with_lora(model: TGDFERForVideoClassification) -> None:
    model.attach_lora()
    move_lora(model)
    assert_exports(model, "pixel_values_videos", (3, SIDE, SIDE))
