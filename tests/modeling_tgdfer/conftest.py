"""A CLIP and class prompts of toy size, made in code."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tgdfer import TGDFERForVideoClassification

BOS, EOS, DIM, SIDE = 98, 99, 24, 32

# What gives models by the fields of their config.
Maker = Callable[..., TGDFERForVideoClassification]

# Each part in another of its states.
PARTS = {
    "no_short_term": {"short_term": False},
    "no_long_range": {"long_range": False},
    "no_visual_prompts": {"visual_prompts": False},
    "class_text": {"relevance_text": "label"},
    "contrast": {"visual_prompt_source": "contrast", "relevance_text": "label"},
    "temporal_adapter": {"temporal_adapter": True},
    "motion_weights": {"motion_weights": True},
    "residue": {"residue_width": 5},
    "topk": {"mil_pooling": "topk"},
    "mean": {"mil_pooling": "mean"},
    "max": {"mil_pooling": "max"},
    "no_context": {"context": "none"},
    "class_context": {"context": "class"},
}


def tiny_clip_config(eos_token_id: int = EOS) -> CLIPConfig:
    return CLIPConfig(
        text_config={
            "vocab_size": 100,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 20,
            "bos_token_id": BOS,
            "eos_token_id": eos_token_id,
            "pad_token_id": EOS,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
        },
        projection_dim=DIM,
    )


def make_prompts(labels: list[str], descriptions: int = 3, context_length: int = 3, seed: int = 0) -> dict:
    """Random prompts of one context phrase; the last class has a description less, if it has several."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 97, (len(labels), descriptions, 9), generator=generator)
    ids[..., 0], ids[..., -1] = BOS, EOS
    ids[..., 1 : 1 + context_length] = torch.arange(5, 5 + context_length)
    ids[0, 0, 6:] = EOS  # a shorter prompt, padded
    mask = torch.ones(len(labels), descriptions, dtype=torch.bool)
    mask[-1, -1] = descriptions == 1
    return {"labels": labels, "input_ids": ids, "description_mask": mask, "context_length": context_length}


def differ(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference between two tensors of one shape."""
    assert one.shape == other.shape, (one.shape, other.shape)
    return (one - other).abs().max().item()


def move(model: torch.nn.Module, chosen: Callable[[str], bool], by: float = 0.2) -> None:
    """Takes parameters from their start, as training would; the same ones to the same place."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if chosen(name):
                parameter += by * torch.randn(parameter.shape, generator=generator)


def move_all_but_clip(model: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    move(model, lambda name: ".clip." not in name and not name.endswith("scale"))
    return model.eval()


def move_lora(model: torch.nn.Module) -> None:
    move(model, lambda name: "lora_" in name, by=0.1)
    model.eval()


def switch_off_dropout(model: TGDFERForVideoClassification) -> None:
    model.config.feature_dropout = model.config.instance_dropout = model.config.long_range_dropout = 0.0


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(tiny_clip_config()).save_pretrained(folder)
    return folder


LABELS = ["anger", "fear", "happiness", "neutral", "surprise"]


@pytest.fixture
def prompts() -> dict:
    return make_prompts(LABELS)


@pytest.fixture(scope="session")
def from_clip(clip_folder: Path) -> Maker:
    """Gives models with every part that `from_clip` makes of `prompts`; each kind is made once."""

    @functools.cache
    def make(**options: object) -> TGDFERForVideoClassification:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            options = {"long_range": True, "context": "shared"} | options
            return TGDFERForVideoClassification.from_clip(clip_folder, make_prompts(LABELS), **options)

    return lambda **options: copy.deepcopy(make(**options))


@pytest.fixture
def untrained(from_clip: Maker) -> TGDFERForVideoClassification:
    """A model as it is before training."""
    return from_clip(lora_layers=2, lora_text_layers=1)


@pytest.fixture
def model(untrained: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    """A model of which every part has left its start, as training would have it."""
    return move_all_but_clip(untrained)


@pytest.fixture
def frames() -> torch.Tensor:
    """(B, T, 3, H, W) pixels of two clips."""
    return torch.randn(2, 6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
