"""Augments pictures for training: framing, light and colour."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Channel means and standard deviations of the rendered pictures. The image processor uses the same values.
IMAGE_MEAN, IMAGE_STD = (0.50, 0.44, 0.40), (0.24, 0.23, 0.22)


def augment_rendered(images: np.ndarray, generator: torch.Generator) -> Tensor:
    """Augments framing and light of rendered pictures. The changes are small enough that their captions stay true.

    Args:
        images (`np.ndarray`): Uint8 pictures (N, H, W, 3).
        generator (`torch.Generator`): Random generator.

    Returns:
        `Tensor`: Float32 pictures (N, 3, H, W), 0 to 1. Half of them are grey, like the photographs. If a caption
        mentions a colour, the model can then only use its brightness.
    """
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    chance = _RandomValues(len(pixels), generator)
    pixels = _frame(pixels, chance, angle=0.0, scale=0.1, stretch=0.0, shift=0.08, flip=0.0)
    pixels = torch.where(chance() < 0.5, _grey(pixels), pixels)
    return _expose(pixels, chance, gamma=0.3, contrast=0.4, noise=0.02)


def augment_photographs(images: np.ndarray, generator: torch.Generator, coarse: float = 0.0) -> Tensor:
    """Augments framing and light of photographs. The changes are larger than for rendered pictures.

    Any number of pictures can be rendered, but the number of photographs is limited.

    Args:
        images (`np.ndarray`): Uint8 grey pictures (N, H, W).
        generator (`torch.Generator`): Random generator.
        coarse (`float`, *optional*, defaults to `0.0`): Share of the pictures that are reduced to a resolution of 48
            pixels.

    Returns:
        `Tensor`: Float32 pictures (N, 3, H, W), 0 to 1.
    """
    pixels = torch.from_numpy(np.array(images))[:, None].float() / 255
    chance = _RandomValues(len(pixels), generator)
    if coarse:
        pixels = torch.where(chance() < coarse, _coarsen(pixels), pixels)
    pixels = _frame(pixels, chance, angle=0.5, scale=0.3, stretch=0.15, shift=0.2, flip=0.5)
    pixels = _expose(pixels, chance, gamma=0.8, contrast=0.8, noise=0.04)
    return _erase(pixels, chance).expand(-1, 3, -1, -1)


def tint(pixels: Tensor, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """Tints a share of the grey pictures (N, 3, H, W), 0 to 1, like film, light and skin.

    Dark and bright areas get different tints, so the tint is not a constant factor.
    """
    chance = _RandomValues(len(pixels), generator)
    # In faces, red is the strongest channel and blue the weakest.
    powers = torch.tensor([-0.25, 0.0, 0.2]).view(1, 3, 1, 1) * 2 * chance() + 0.3 * (chance(3, 1, 1) - 0.5)
    gains = 1 + 0.3 * (chance(3, 1, 1) - 0.5)
    coloured = (gains * pixels.clamp(min=1e-3) ** powers.exp()).clamp(0, 1)
    return torch.where(chance() < share, coloured, pixels)


def normalise(pixels: Tensor) -> Tensor:
    """Normalises pictures (N, 3, H, W), 0 to 1, like the image processor."""
    mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return (pixels - mean) / std


class _RandomValues:
    """Draws random values (0 to 1) for each of N pictures: one value, or an array of the given shape."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def __call__(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *(shape or (1, 1, 1)), generator=self.generator)


def _frame(
    pixels: Tensor, chance: _RandomValues, angle: float, scale: float, stretch: float, shift: float, flip: float
) -> Tensor:
    """Rotates, scales, stretches, shifts and mirrors pictures. Each argument is the width of the random range."""
    count = len(pixels)
    turned = angle * (chance().view(count) - 0.5)
    wide = 1 + scale * (chance().view(count) - 0.5)
    high = wide * (1 + stretch * (chance().view(count) - 0.5))
    wide = torch.where(chance().view(count) < flip, -wide, wide)
    grid = torch.stack([turned.cos() * wide, -turned.sin() * high, turned.sin() * wide, turned.cos() * high], 1)
    grid = torch.cat([grid.view(count, 2, 2), shift * (chance(2, 1) - 0.5)], 2)
    sampling = F.affine_grid(grid, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, sampling, padding_mode="border", align_corners=False)


def _coarsen(pixels: Tensor) -> Tensor:
    """Reduces pictures to the 48 pixels of FER2013, and enlarges them again."""
    small = F.interpolate(pixels, size=48, mode="bilinear", antialias=True)
    return F.interpolate(small, size=pixels.shape[-2:], mode="bicubic").clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    return pixels.mean(1, keepdim=True).expand_as(pixels)


def _expose(pixels: Tensor, chance: _RandomValues, gamma: float, contrast: float, noise: float) -> Tensor:
    """Changes gamma, contrast, sharpness and noise of each picture at random."""
    pixels = pixels.clamp(1e-3, 1) ** torch.exp(gamma * (chance() - 0.5))
    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - middle) * (1 + contrast * (chance() - 0.5)) + middle
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear", align_corners=False)
    pixels = torch.where(chance() < 0.2, soft, pixels)
    grain = torch.randn(pixels.shape[0], 1, *pixels.shape[2:], generator=chance.generator)
    return (pixels + noise * chance() * grain).clamp(0, 1)


def _erase(pixels: Tensor, chance: _RandomValues) -> Tensor:
    """Covers a random box in 40% of the pictures."""
    height, width = pixels.shape[2:]
    y, x = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    high, wide = ((0.07 + 0.27 * chance()) * side for side in (height, width))
    box = ((y - chance() * height).abs() < high / 2) & ((x - chance() * width).abs() < wide / 2)
    return torch.where(box & (chance() < 0.4), chance(), pixels)
