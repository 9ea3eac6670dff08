"""Convolutional network that is trained on votes for expressions, and is the teacher of the CLIP."""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes.clip_tiny_faces.ferplus import CLASSES
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import ACTION_UNITS

# Number of blocks in each stage. Each stage doubles the channels and halves the resolution.
_DEPTHS = (1, 1, 2, 1)
# Input size, which is twice the size of the photographs in FER2013. The first convolution halves it.
_SIZE = 96


class NetOutput(NamedTuple):
    """Outputs of the network for N pictures.

    Attributes:
        map (`torch.Tensor` of shape `(N, C, 6, 6)`): Last feature map.
        features (`torch.Tensor` of shape `(N, C)`): Mean of the feature map.
        logits (`torch.Tensor` of shape `(N, 8)`): Logits of `CLASSES`.
        units (`torch.Tensor` of shape `(N, A)`): Intensities of `ACTION_UNITS`.
    """

    map: Tensor
    features: Tensor
    logits: Tensor
    units: Tensor


class ExpressionNet(nn.Module):
    """A small ResNet (He et al., 2016) for grey pictures, with average pooling in its shortcuts (He et al., 2019).

    Args:
        width (`int`, *optional*, defaults to `32`): Number of channels in the first stage. The last stage has eight
            times as many. A width of 32 gives 1.5 million parameters.
        dropout (`float`, *optional*, defaults to `0.3`): Dropout of the pooled features.
    """

    def __init__(self, width: int = 32, dropout: float = 0.3) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        blocks, inputs = [], width
        for stage, depth in enumerate(_DEPTHS):
            for block in range(depth):
                blocks.append(_Block(inputs, width * 2**stage, 2 if stage and not block else 1))
                inputs = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.drop = nn.Dropout(dropout)
        self.emotions, self.units = nn.Linear(inputs, len(CLASSES)), nn.Linear(inputs, len(ACTION_UNITS))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> NetOutput:
        """Processes pictures (N, 3 or 1, 112, 112), 0 to 1."""
        grey = F.interpolate(pixels.mean(1, keepdim=True), size=_SIZE, mode="bilinear", align_corners=False)
        # Brightness and contrast of every picture are standardised.
        grey = (grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 0.05)
        feature_map = self.blocks(self.stem(grey.contiguous(memory_format=torch.channels_last)))
        features = feature_map.mean((2, 3))
        pooled = self.drop(features)
        return NetOutput(feature_map, features, self.emotions(pooled), self.units(pooled))


class _Block(nn.Module):
    """Residual block with two convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.second, self.second_norm = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def save_net(net: ExpressionNet, file: Path) -> None:
    """Writes the weights in half precision, with the width of the network, to a `.safetensors` file."""
    weights = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in net.state_dict().items()
    }
    draft = file.with_suffix(".part")
    save_file(weights, draft, metadata={"width": str(net.width)})
    draft.replace(file)


def load_net(file: Path) -> ExpressionNet:
    """Loads a network that `save_net` has written, in float32 and evaluation mode.

    Raises:
        UserError: If the file does not exist.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist: train the teacher first.")
    with safe_open(file, "pt") as opened:
        net = ExpressionNet(int((opened.metadata() or {})["width"]))
    net.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in load_file(file).items()})
    return net.eval()
