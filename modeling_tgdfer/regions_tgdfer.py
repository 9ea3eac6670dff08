"""Where in a frame a description is seen: how much less the frame fits the description if a place is hidden.

A picture is divided into `GRID` x `GRID` places. Each place in turn is replaced by a blurred copy, and the picture is
encoded again (Zeiler & Fergus, 2014, "Visualizing and Understanding Convolutional Networks"; blurred instead of grey
as in Fong & Vedaldi, 2017, "Interpretable Explanations of Black Boxes by Meaningful Perturbation"). Only the outputs
of the vision tower are compared, so this works for every tower.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .layers_tgdfer import at_least_fp32, cosines, unit

# Places on each side of a picture. A place of an aligned face is about as large as an eye.
GRID = 7


def hide_places(pictures: Tensor) -> Iterator[Tensor]:
    """Yields copies of pictures in which one place is blurred: (N, C, H, W) -> P times (N, C, H, W), row by row.

    The blurred picture is the mean colour of every place, interpolated linearly between their centres.
    """
    size = pictures.shape[-2:]
    blurred = F.interpolate(F.adaptive_avg_pool2d(pictures, GRID), size, mode="bilinear")
    rows, columns = ([side * i // GRID for i in range(GRID + 1)] for side in size)
    for (top, bottom), (left, right) in product(pairwise(rows), pairwise(columns)):
        copy = pictures.clone()
        copy[..., top:bottom, left:right] = blurred[..., top:bottom, left:right]
        yield copy


def region_relevance(encode: Callable[[Tensor], Tensor], pictures: Tensor, texts: Tensor) -> Tensor:
    """Computes how much the cosine of each picture and text falls if a place of the picture is hidden.

    Args:
        encode (`Callable`): Encodes pictures (N, 3, H, W) in the joint space: (N, D).
        pictures (`Tensor` of shape `(N, 3, H, W)`): Normalised pictures.
        texts (`Tensor` of shape `(E, D)`): Texts of unit length.

    Returns:
        `Tensor` of shape `(N, E, P)`: Fall of the cosine, in float32. P is `GRID * GRID`, row by row.
    """

    def fit(shown: Tensor) -> Tensor:
        return cosines(unit(at_least_fp32(encode(shown))), texts)

    whole = fit(pictures)
    return torch.stack([whole - fit(hidden) for hidden in hide_places(at_least_fp32(pictures))], dim=-1)


class RegionEvidence:
    """Mixin of a classifier with `get_region_relevance`."""

    tgdfer: Any

    @torch.no_grad()
    def get_region_relevance(self, pixel_values_videos: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Computes where in each frame each description is seen.

        The value of a place is the fall of the cosine of frame and description if this place is hidden. It is positive
        where the frame shows what the description says, and negative where it shows something else. The cosine is that
        of CLIP, before the temporal network, so the other frames have no influence. Each frame is encoded once for
        each of the 49 places: pass the frames of interest only. The model should be in `eval` mode.

        Args:
            pixel_values_videos (`Tensor` of shape `(B, T, 3, H, W)`): Normalised frames.
            frame_mask (`Tensor` of shape `(B, T)`, *optional*): True for valid frames.

        Returns:
            `Tensor` of shape `(B, T, K, M, P)`: Values of P = 7 * 7 places, row by row. They are zero for masked
            frames, and for the padding of classes with fewer than M descriptions.

        Raises:
            ValueError: If `pixel_values_videos` does not have five dimensions.
        """
        shape = pixel_values_videos.shape[:2]

        def encode(pictures: Tensor) -> Tensor:
            return self.tgdfer.get_frame_features(pictures.unflatten(0, shape), frame_mask).flatten(0, 1)

        texts = self.tgdfer.class_texts()
        padding = ~texts["description_mask"].unsqueeze(-1)
        descriptions = texts["description_embeds"].masked_fill(padding, 0.0)  # (K, M, D)
        relevance = region_relevance(encode, pixel_values_videos.flatten(0, 1), descriptions.flatten(0, 1))
        return relevance.unflatten(1, descriptions.shape[:2]).unflatten(0, shape)
