"""Builds the dual encoder for training: a convolutional vision tower, and the text tower of earlier weights."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import nn
from transformers import (
    AutoModel,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from recipes.clip_tiny_faces.augmentation import IMAGE_MEAN, IMAGE_STD
from recipes.clip_tiny_faces.ferplus import SIZE

DualEncoder: TypeAlias = CLIPModel | VisionTextDualEncoderModel

# Channels of the four stages. For pictures of 112 pixels, their feature maps have sizes of 28, 14, 7 and 4.
CHANNELS = (64, 128, 192, 256)
# Number of blocks in each stage. A block has two convolutions.
DEPTHS = (1, 1, 2, 1)


def build_dual_encoder(start: Path) -> tuple[VisionTextDualEncoderModel, CLIPTokenizer]:
    """Builds a dual encoder in float32, and loads its tokenizer.

    Args:
        start (`Path`): Folder of earlier weights with a text tower and a tokenizer. If they are those of a
            `VisionTextDualEncoderModel`, its vision tower is used too. Otherwise the vision tower has random weights.
    """
    tokenizer = CLIPTokenizer.from_pretrained(start)
    # On CPUs, the backward pass of fused attention takes longer than the rest of the step.
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    earlier = AutoModel.from_pretrained(start, **options)
    if isinstance(earlier, VisionTextDualEncoderModel):
        return earlier, tokenizer
    vision = build_vision_tower()
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision.config, earlier.text_model.config, projection_dim=earlier.config.projection_dim
    )
    model = VisionTextDualEncoderModel(config, vision, earlier.text_model)
    model.text_projection.load_state_dict(earlier.text_projection.state_dict())
    model.logit_scale.data.copy_(earlier.logit_scale.data)
    return model, tokenizer


def build_vision_tower() -> PreTrainedModel:
    """Builds a small ResNet-D (He et al., 2019) of 2.6 million parameters with random weights."""
    sizes = {"layers": list(DEPTHS), "channels": list(CHANNELS), "stem_width": 16}
    config = TimmWrapperConfig(architecture="resnet18d", model_args=sizes)
    # `VisionTextDualEncoderModel` reads this field, which timm stores under another name.
    config.hidden_size = CHANNELS[-1]
    model: nn.Module = TimmWrapperModel(config)
    return cast(PreTrainedModel, model.to(memory_format=torch.channels_last))


def load_dual_encoder(folder: Path) -> tuple[DualEncoder, CLIPTokenizer]:
    """Loads a trained dual encoder, or an earlier plain CLIP, in evaluation mode, and its tokenizer."""
    return AutoModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)


def build_image_processor() -> CLIPImageProcessor:
    """Builds the image processor of these models."""
    return CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )


@lru_cache
def bfloat16_is_fast(device: torch.device) -> bool:
    """Returns whether training in bfloat16 is faster than in float32.

    It halves the time on devices with bfloat16 instructions. Other CPUs emulate it, and take up to twenty times as
    long.
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
