"""The dual encoder before its training: a vision tower beside the text tower of earlier weights."""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from transformers import (
    AutoModel,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    ConvNextV2Config,
    ConvNextV2Model,
    LevitConfig,
    LevitModel,
    PreTrainedModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from recipes.clip_tiny_faces.augmentation import IMAGE_MEAN, IMAGE_STD
from recipes.clip_tiny_faces.ferplus import SIZE

Tower: TypeAlias = Literal["vit", "levit", "convnext"]
Configuration = TypeVar("Configuration", LevitConfig, ConvNextV2Config)
DualEncoder: TypeAlias = CLIPModel | VisionTextDualEncoderModel


def build_dual_encoder(tower: Tower, start: Path) -> tuple[DualEncoder, CLIPTokenizer]:
    """A dual encoder in float32 and its tokenizer.

    Args:
        tower: "vit" goes on from the vision tower of `start` and gives a plain `CLIPModel`; the others begin with
            random weights and give a `VisionTextDualEncoderModel`.
        start: Folder of a `CLIPModel`, whose text tower and tokenizer are taken.
    """
    tokenizer = CLIPTokenizer.from_pretrained(start)
    # On CPUs the fused attention's backward pass takes longer than all the rest.
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    clip = CLIPModel.from_pretrained(start, **options)
    if tower == "vit":
        return clip, tokenizer
    vision = _convolutional(tower)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision.config, clip.text_model.config, projection_dim=clip.config.projection_dim
    )
    model = VisionTextDualEncoderModel(config, vision, clip.text_model)
    model.text_projection.load_state_dict(clip.text_projection.state_dict())
    model.logit_scale.data.copy_(clip.logit_scale.data)
    return model, tokenizer


def load_dual_encoder(folder: Path) -> tuple[DualEncoder, CLIPTokenizer]:
    """A trained dual encoder of either kind, in `eval` mode, and its tokenizer."""
    return AutoModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)


def build_image_processor() -> CLIPImageProcessor:
    """What makes pixels of a picture for these models."""
    return CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )


@lru_cache
def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether training in bfloat16 pays: it halves the time where there are instructions for it.

    A CPU that has none emulates it, and takes up to twenty times as long.
    """
    if device.type != "cpu":
        return True
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(512, 512, dtype=dtype)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - begin)
        seconds[dtype] = min(times)
    return seconds[torch.bfloat16] < seconds[torch.float32]


def _convolutional(tower: Tower) -> PreTrainedModel:
    if tower == "levit":
        return LevitModel(
            _with_hidden_size(
                LevitConfig,
                image_size=SIZE,
                hidden_sizes=[160, 224, 256],
                num_attention_heads=[5, 7, 8],
                depths=[3, 3, 2],
                key_dim=[16, 16, 16],
            )
        )
    return ConvNextV2Model(
        _with_hidden_size(
            ConvNextV2Config,
            image_size=SIZE,
            patch_size=8,
            num_stages=3,
            hidden_sizes=[96, 192, 256],
            depths=[1, 4, 1],
            drop_path_rate=0.0,
        )
    )


def _with_hidden_size(kind: Callable[..., Configuration], **sizes: Any) -> Configuration:
    """A configuration that says its `hidden_size`, as `VisionTextDualEncoderModel` asks it to."""
    return kind(**sizes, hidden_size=sizes["hidden_sizes"][-1])
