"""Changes to a training clip that leave the expression as it is, the same for all of its frames."""

import torch
from torch import Tensor
from torchvision.transforms import v2

# The face is turned, moved and scaled a little, as an aligned face is by another detector; edges are cut off by the
# shift. Hue and saturation stay: a blush is part of the expression.
_AUGMENTATION = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(
            degrees=8,
            translate=(0.05, 0.05),
            scale=(0.95, 1.15),
            interpolation=v2.InterpolationMode.BILINEAR,
            fill=128,
        ),
        v2.ColorJitter(brightness=0.25, contrast=0.25),
    ]
)


def augment(frames: Tensor, seed: int) -> Tensor:
    """Changes a clip at random, all frames alike.

    Args:
        frames: uint8 (T, 3, H, W), RGB.
        seed: decides the change; the global random state is left as it was.

    Returns:
        Frames of the same shape and type.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _AUGMENTATION(frames)
