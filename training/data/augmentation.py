"""Augmentation: random changes of training clips. They keep the expression and are the same for all frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

GREY = 128


@dataclass(frozen=True)
class Augmentation:
    """Changes clips at random. All frames of a clip are changed alike.

    The clip is slightly rotated, shifted and scaled, as the face crops of different detectors are. Hue does not
    change, and saturation does not change by default, because blushing is part of an expression.

    Attributes:
        flip (`float`, *optional*, defaults to 0.5): Share of the clips that are mirrored horizontally.
        degrees (`float`, *optional*, defaults to 8.0): Maximum rotation in degrees, in both directions.
        shift (`float`, *optional*, defaults to 0.05): Maximum shift as a share of height and width.
        scale (`Sequence[float]`, *optional*, defaults to `(0.95, 1.15)`): Minimum and maximum scale factor.
        brightness (`float`, *optional*, defaults to 0.25): Maximum relative change of the brightness.
        contrast (`float`, *optional*, defaults to 0.25): Maximum relative change of the contrast.
        saturation (`float`, *optional*, defaults to 0.0): Maximum relative change of the saturation.
        crop (`float`, *optional*, defaults to 1.0): Minimum share of the area that is cropped and resized to the
            original size. 1 disables cropping.
        erase (`float`, *optional*, defaults to 0.0): Share of the clips in which a rectangle is covered, as by a hand
            or a microphone.

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
                raise ValueError(f"The {name} of an augmentation must be between 0 and 1, not {getattr(self, name)}.")
        if not self.crop:
            raise ValueError("The crop of an augmentation must be above 0, so that part of the picture remains.")

    def __call__(self, frames: Tensor, seed: int | Sequence[int]) -> Tensor:
        """Changes a clip, or each clip of a batch independently. The global random state is not affected.

        Args:
            frames (`Tensor` of shape `(T, 3, H, W)` or `(B, T, 3, H, W)`): RGB frames as uint8, on any device.
            seed (`int` or `Sequence[int]`): Seed of the change, or one seed per clip of a batch. A seed has the same
                effect on every device.

        Returns:
            Frames of the same shape, type and device.

        Raises:
            ValueError: If the number of seeds is not the number of clips.
        """
        if frames.ndim == 4:
            return self._change(frames, seed)  # type: ignore[arg-type]
        if isinstance(seed, int) or len(seed) != len(frames):
            raise ValueError(f"A batch of {len(frames)} clips needs as many seeds; give one for each clip.")
        return torch.stack([self._change(clip, clip_seed) for clip, clip_seed in zip(frames, seed, strict=True)])

    def _change(self, frames: Tensor, seed: int) -> Tensor:
        # The transforms use the CPU generator, regardless of the device of the frames.
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
        # The optional transforms are last, so that they do not affect the random numbers of the others.
        if self.crop < 1:
            shape = (size[1] / size[0] * math.sqrt(3 / 4), size[1] / size[0] * math.sqrt(4 / 3))
            transforms.append(v2.RandomResizedCrop(list(size), (self.crop, 1.0), shape, antialias=True))
        if self.erase:
            transforms.append(v2.RandomErasing(self.erase, scale=(0.02, 0.15), value=GREY))
        return v2.Compose(transforms)
