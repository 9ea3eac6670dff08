"""The CLIP before its training: its sizes, its tokenizer, and where its weights begin."""

import time
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from recipes.clip_tiny_faces.captions import FACTS, all_words, caption
from recipes.clip_tiny_faces.tokenizer import MAX_LENGTH, train_tokenizer
from tgdfer.processing.descriptions import built_in_descriptions


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP of four million parameters for 112 x 112 pictures, with random weights."""
    text = {
        "vocab_size": len(tokenizer),
        "projection_dim": 192,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_act": "gelu",
    }
    vision = {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "projection_dim": 192,
        "image_size": 112,
        "patch_size": 16,
        "hidden_act": "gelu",
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=192)
    # On CPUs the fused attention's backward pass takes longer than all the rest.
    model = CLIPModel._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        # Places as sines, which tell neighbours from strangers; the noise of 0.02 of CLIP hides under the pixels.
        model.vision_model.embeddings.position_embedding.weight.copy_(
            0.5 * _sines(7, config.vision_config.hidden_size)
        )
    return model


@torch.no_grad()
def whiten_patches(model: CLIPModel, pixels: Tensor) -> None:
    """Let the patch embedding begin with the whitened principal components of patches.

    Light and colour make up nearly all of the variance of a patch; what a brow does is in the fine remainder.

    Args:
        model: Whose patch embedding to set.
        pixels: (N, 3, H, W), normalised.
    """
    weight = model.vision_model.embeddings.patch_embedding.weight
    patches = F.unfold(pixels, weight.shape[-1], stride=weight.shape[-1]).transpose(1, 2).flatten(0, 1)
    variance, components = torch.linalg.eigh(torch.cov(patches.T))
    first = slice(-len(weight), None)
    weight.copy_((0.5 * components[:, first] / (variance[first] + 0.05).sqrt()).T.reshape(weight.shape))


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


def _sines(side: int, width: int) -> Tensor:
    """Embeddings (1 + side * side, width) of the class token, which has no place, and of a square of patches."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequencies = 20.0 ** -(torch.arange(width // 4) / (width // 4))
    waves = [wave(axis.reshape(-1, 1) * frequencies) for axis in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, width), torch.cat(waves, 1)])


def build_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """The tokenizer, learned from captions and from the words of the built-in class descriptions."""
    rng = np.random.default_rng([seed, 1])
    words = [text for texts in built_in_descriptions().values() for text in texts] + list(all_words())
    captions = (caption(rng.uniform(size=len(FACTS)) < 0.3, rng)[0] for _ in range(4000))
    return train_tokenizer([*words, *words, *captions])
