"""From stored pictures to what the towers see: each one framed, lit and coloured anew."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Means and standard deviations of the rendered pictures' channels; what the image processor says.
IMAGE_MEAN, IMAGE_STD = (0.50, 0.44, 0.40), (0.24, 0.23, 0.22)


def augment_rendered(images: np.ndarray, generator: torch.Generator) -> Tensor:
    """Frame and light rendered pictures anew; what captions say of faces and places stays true.

    Args:
        images: uint8 (N, H, W, 3).
        generator: Source of chance.

    Returns:
        float32 (N, 3, H, W) in 0..1. Half of them are grey, as the photographs are; a colour that their captions
        name is then to be guessed from its shade.
    """
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    chance = _Chance(len(pixels), generator)
    pixels = _frame(pixels, chance, angle=0.0, scale=0.1, stretch=0.0, shift=0.08, flip=0.0)
    pixels = torch.where(chance() < 0.5, _grey(pixels), pixels)
    return _expose(pixels, chance, gamma=0.3, contrast=0.4, noise=0.02)


def augment_photographs(images: np.ndarray, generator: torch.Generator, coarse: float = 0.0) -> Tensor:
    """Frame and light photographs anew, further than rendered pictures, of which there is no end.

    Args:
        images: uint8 (N, H, W), grey.
        generator: Source of chance.
        coarse: Share of the pictures that become as coarse as one of 48 pixels.

    Returns:
        float32 (N, 3, H, W) in 0..1.
    """
    pixels = torch.from_numpy(np.array(images))[:, None].float() / 255
    chance = _Chance(len(pixels), generator)
    if coarse:
        pixels = torch.where(chance() < coarse, _coarsen(pixels), pixels)
    pixels = _frame(pixels, chance, angle=0.5, scale=0.3, stretch=0.15, shift=0.2, flip=0.5)
    pixels = _expose(pixels, chance, gamma=0.8, contrast=0.8, noise=0.04)
    return _erase(pixels, chance).expand(-1, 3, -1, -1)


def tint(pixels: Tensor, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """Give `share` of the grey pictures (N, 3, H, W) in 0..1 a colour, as film, light and skin do.

    Dark and light places take colours of their own, so that no single factor undoes it.
    """
    chance = _Chance(len(pixels), generator)
    # Of a face, red is the strongest and blue the weakest.
    powers = torch.tensor([-0.25, 0.0, 0.2]).view(1, 3, 1, 1) * 2 * chance() + 0.3 * (chance(3, 1, 1) - 0.5)
    gains = 1 + 0.3 * (chance(3, 1, 1) - 0.5)
    coloured = (gains * pixels.clamp(min=1e-3) ** powers.exp()).clamp(0, 1)
    return torch.where(chance() < share, coloured, pixels)


def normalise(pixels: Tensor) -> Tensor:
    """Normalise (N, 3, H, W) in 0..1 as the image processor does."""
    mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return (pixels - mean) / std


class _Chance:
    """Draws one number 0..1 for each of N pictures, or several."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def __call__(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *(shape or (1, 1, 1)), generator=self.generator)


def _frame(
    pixels: Tensor, chance: _Chance, angle: float, scale: float, stretch: float, shift: float, flip: float
) -> Tensor:
    """Turn, scale, stretch, shift and mirror; each number is the width of the range."""
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
    """Shrink to the 48 pixels of FER2013, and enlarge again."""
    small = F.interpolate(pixels, size=48, mode="bilinear", antialias=True)
    return F.interpolate(small, size=pixels.shape[-2:], mode="bicubic").clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    return pixels.mean(1, keepdim=True).expand_as(pixels)


def _expose(pixels: Tensor, chance: _Chance, gamma: float, contrast: float, noise: float) -> Tensor:
    """Another gamma, contrast, sharpness and noise for each."""
    pixels = pixels.clamp(1e-3, 1) ** torch.exp(gamma * (chance() - 0.5))
    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - middle) * (1 + contrast * (chance() - 0.5)) + middle
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear", align_corners=False)
    pixels = torch.where(chance() < 0.2, soft, pixels)
    grain = torch.randn(pixels.shape[0], 1, *pixels.shape[2:], generator=chance.generator)
    return (pixels + noise * chance() * grain).clamp(0, 1)


def _erase(pixels: Tensor, chance: _Chance) -> Tensor:
    """Cover a box in two of five."""
    height, width = pixels.shape[2:]
    y, x = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    high, wide = ((0.07 + 0.27 * chance()) * side for side in (height, width))
    box = ((y - chance() * height).abs() < high / 2) & ((x - chance() * width).abs() < wide / 2)
    return torch.where(box & (chance() < 0.4), chance(), pixels)
