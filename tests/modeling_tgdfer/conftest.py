"""A CLIP and class prompts of toy size, made in code."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tgdfer import TGDFERForVideoClassification

BOS, EOS, DIM, SIDE = 98, 99, 24, 32


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


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(tiny_clip_config()).save_pretrained(folder)
    return folder


@pytest.fixture
def prompts() -> dict:
    return make_prompts(["anger", "fear", "happiness", "neutral", "surprise"])


@pytest.fixture
def untrained(clip_folder: Path, prompts: dict) -> TGDFERForVideoClassification:
    """A model as `from_clip` gives it."""
    return TGDFERForVideoClassification.from_clip(clip_folder, prompts, lora_layers=2, lora_text_layers=1)


@pytest.fixture
def model(untrained: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    """A model of which every part has left its start, as training would have it."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in untrained.named_parameters():
            if ".clip." not in name and not name.endswith("scale"):
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    untrained.tgdfer.train(False)
    return untrained


@pytest.fixture
def frames() -> torch.Tensor:
    """(B, T, 3, H, W) pixels of two clips."""
    return torch.randn(2, 6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
