"""Augmentation: random changes to training clips, the same for all frames of a clip, that keep the expression."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

GREY = 128


@dataclass(frozen=True)
class Augmentation:
    """Changes clips at random, all frames of a clip alike.

    The face is turned, moved and scaled a little, as an aligned face is by another detector; edges are cut off by the
    shift. The hue stays, and unless asked for the saturation, too: a blush is part of the expression.

    Attributes:
        flip: how often, as a share of the clips, left and right are exchanged.
        degrees: largest angle it is turned by, to either side.
        shift: farthest it is moved, as a share of height and width.
        scale: smallest and largest factor it is scaled by.
        brightness: largest change of the brightness, as a share.
        contrast: largest change of the contrast, as a share.
        saturation: largest change of the saturation, as a share.
        crop: smallest share of the area that is kept and brought back to the full size; 1 crops nothing.
        erase: how often, as a share of the clips, a rectangle is covered, as a hand or a microphone would.

    Example:
        ```python
        augment = Augmentation(erase=0.25)
        frames = augment(frames, seed=7)  # (T, 3, H, W)
        batch = augment(batch, seed=[7, 8])  # (2, T, 3, H, W)
        ```
    """

    flip: float = 0.5
    degrees: float = 8.0
    shift: float = 0.05
    scale: Sequence[float] = (0.95, 1.15)
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.0
    crop: float = 1.0
    erase: float = 0.0

    def __post_init__(self):
        for name in ("flip", "shift", "brightness", "contrast", "saturation", "crop", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"The {name} of an augmentation is between 0 and 1, not {getattr(self, name)}.")
        if not self.crop:
            raise ValueError("The crop of an augmentation is above 0: something of the picture must be left.")

    def __call__(self, frames: Tensor, seed: int | Sequence[int]) -> Tensor:
        """Changes a clip, or each clip of a batch in a way of its own.

        Args:
            frames: uint8 (T, 3, H, W) or (B, T, 3, H, W), RGB, on any device.
            seed: decides the change, the same on every device; of a batch, one for each clip. The global random state
                is left as it was.

        Returns:
            Frames of the same shape, type and device.

        Raises:
            ValueError: a batch without a seed for each clip.
        """
        if frames.ndim == 4:
            return self._change(frames, seed)  # type: ignore[arg-type]
        if isinstance(seed, int) or len(seed) != len(frames):
            raise ValueError(f"A batch of {len(frames)} clips needs as many seeds; give one for each clip.")
        return torch.stack([self._change(clip, one) for clip, one in zip(frames, seed, strict=True)])

    def _change(self, frames: Tensor, seed: int) -> Tensor:
        # The transforms draw on the CPU wherever the frames are.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._transforms(frames.shape[-2:])(frames)

    def _transforms(self, size: torch.Size) -> v2.Compose:
        transforms: list[v2.Transform] = [
            v2.RandomHorizontalFlip(self.flip),
            v2.RandomAffine(
                degrees=self.degrees,
                translate=(self.shift, self.shift),
                scale=tuple(self.scale),
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=GREY,
            ),
            v2.ColorJitter(brightness=self.brightness, contrast=self.contrast, saturation=self.saturation),
        ]
        # These draw after the others, so that what is off changes nothing of what they do.
        if self.crop < 1:
            shape = (size[1] / size[0] * math.sqrt(3 / 4), size[1] / size[0] * math.sqrt(4 / 3))
            transforms.append(v2.RandomResizedCrop(list(size), (self.crop, 1.0), shape, antialias=True))
        if self.erase:
            transforms.append(v2.RandomErasing(self.erase, scale=(0.02, 0.15), value=GREY))
        return v2.Compose(transforms)
