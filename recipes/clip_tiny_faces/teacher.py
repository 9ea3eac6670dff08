"""A convolutional net: it learns from few photographs what a Transformer of this size does not, and then teaches it.

It is trained on rendered faces and photographs together and thrown away when `clip-tiny-faces` is trained. Its last
map has 7 x 7 places, as many as the pupil has patches, so that it says of every patch what is to be seen there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.clip_tiny_faces.augmentation import augment_photographs, augment_rendered
from recipes.clip_tiny_faces.model import bfloat16_is_fast
from recipes.clip_tiny_faces.photographs import Photographs
from recipes.clip_tiny_faces.resumable import ResumableTraining
from recipes.clip_tiny_faces.stills import Stills
from tgdfer.training.rendered_faces import ACTION_UNITS, EMOTIONS

# Typical standard deviation of an action unit's intensity over the pictures.
UNIT_DEVIATION = 0.25


@dataclass(frozen=True)
class TeacherRecipe:
    """Parameters of the teacher's training.

    Attributes:
        steps: Updates.
        photographs: Photographs a step.
        drawn: Rendered pictures a step.
        rate: Highest learning rate of AdamW; a cosine after a short warm-up.
        decay: Weight decay.
        width: Channels of the first block; the last one has six times as many.
        balance: Photographs are drawn with the frequency of their label to the power of minus this: 1 draws every
            emotion equally often.
        mixup: Parameter of the Beta distribution by which pictures are mixed (Zhang et al., 2018).
        average: Decay of the running average of the weights, which is what teaches.
        unit_weight: Weight of the regression of the rendered pictures' action units.
        seed: Decides everything.
    """

    steps: int = 2_500
    photographs: int = 48
    drawn: int = 24
    rate: float = 2e-3
    decay: float = 0.05
    width: int = 32
    balance: float = 1.0
    mixup: float = 0.2
    average: float = 0.998
    unit_weight: float = 0.3
    seed: int = 0


class Teacher(nn.Module):
    """A small ResNet (He et al., 2016) on grey pictures.

    Args:
        width: Channels of the first block.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width // 2, width, 2 * width, 4 * width, 6 * width]
        self.stem = nn.Sequential(
            nn.Conv2d(1, sizes[0], 5, 2, 2, bias=False), nn.BatchNorm2d(sizes[0]), nn.ReLU(inplace=True)
        )
        strides = (2, 2, 2, 1)
        self.blocks = nn.Sequential(*(_Block(sizes[i], sizes[i + 1], stride) for i, stride in enumerate(strides)))
        self.drop = nn.Dropout(0.3)
        self.emotions, self.units = nn.Linear(sizes[-1], len(EMOTIONS)), nn.Linear(sizes[-1], len(ACTION_UNITS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What it sees.

        Args:
            pixels: (N, 3, 112, 112) in 0..1.

        Returns:
            Map (N, C, 7, 7), logits of `EMOTIONS` (N, 7), and action units (N, A).
        """
        grey = pixels.mean(1, keepdim=True)
        # Every picture at its own brightness and contrast.
        grey = (grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 0.05)
        seen = self.blocks(self.stem(grey.contiguous(memory_format=torch.channels_last)))
        pooled = self.drop(seen.mean((2, 3)))
        return seen, self.emotions(pooled), self.units(pooled)


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.second, self.second_norm = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def train_teacher(
    folder: Path,
    recipe: TeacherRecipe,
    stills: Stills,
    photographs: Photographs,
    device: torch.device,
    progress: Callable[[str, int, int], None],
) -> tuple[Teacher, float]:
    """Train the teacher, or go on where its training was interrupted.

    Args:
        folder: Work folder, for `teacher.pt` and `teacher.jsonl`.
        recipe: Parameters.
        stills: Rendered pictures.
        photographs: Photographs; those without a label are left out.
        device: Where to compute.
        progress: Called with ("teacher", done, in all).

    Returns:
        The running average of the weights, in `eval` mode, and the seconds that its training took.
    """
    torch.manual_seed(recipe.seed)
    teacher = Teacher(recipe.width).to(memory_format=torch.channels_last).to(device)
    average = torch.optim.swa_utils.AveragedModel(teacher, avg_fn=_average(recipe.average), use_buffers=True)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1, step / recipe.steps))),
    )
    both = nn.ModuleList([teacher, average])
    run = ResumableTraining(folder, "teacher", recipe, both, [optimizer, schedule], 200, photographs.fingerprint)
    teacher.train()
    for step in run.steps(recipe.steps, progress):
        losses = _losses(teacher, recipe, stills, photographs, step, device)
        optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(teacher)
        if (step + 1) % 20 == 0:
            run.log(step, losses)
    return cast(Teacher, average.module.eval()), run.seconds


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """A running average that forgets where the weights began."""

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return average + (current - average) * (1 - kept)

    return update


def _losses(
    teacher: Teacher, recipe: TeacherRecipe, stills: Stills, photographs: Photographs, step: int, device: torch.device
) -> dict[str, Tensor]:
    """Losses of one batch; which pictures and how they are changed follows from seed and step."""
    rng = np.random.default_rng([recipe.seed, 5, step])
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    drawn = np.sort(rng.choice(len(stills.images), min(recipe.drawn, len(stills.images)), replace=False))
    taken = draw_balanced(photographs.labels, recipe.photographs, recipe.balance, rng)
    pixels = torch.cat(
        [
            augment_rendered(stills.images[drawn], generator),
            augment_photographs(photographs.images[taken], generator),
        ]
    )
    labels = torch.from_numpy(np.concatenate([stills.labels[drawn], photographs.labels[taken]]))
    units = torch.from_numpy(stills.action_units[drawn])
    targets = F.one_hot(labels.clamp(min=0), len(EMOTIONS)).float()
    known = (labels >= 0).float()
    # Mixed within their own kind, so that no picture is half a drawing.
    share = float(rng.beta(recipe.mixup, recipe.mixup))
    order = torch.from_numpy(np.concatenate([rng.permutation(len(drawn)), len(drawn) + rng.permutation(len(taken))]))
    pixels = share * pixels + (1 - share) * pixels[order]
    targets = share * targets + (1 - share) * targets[order]
    known = known * known[order]
    units = share * units + (1 - share) * units[order[: len(drawn)]]

    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        _, logits, read = teacher(pixels.to(device))
    logits, read = logits.float(), read.float()
    emotion = F.cross_entropy(logits, targets.to(device), label_smoothing=0.1, reduction="none")
    known = known.to(device)
    emotion = (emotion * known).sum() / known.sum().clamp(min=1)
    regression = (((read[: len(units)] - units.to(device)) / UNIT_DEVIATION) ** 2).mean()
    loss = emotion + recipe.unit_weight * regression
    return {"loss": loss, "emotion": emotion, "units": regression}


def draw_balanced(labels: np.ndarray, count: int, balance: float, rng: np.random.Generator) -> np.ndarray:
    """Indices (count,) of labelled pictures, drawn with the frequency of their label to the power of `-balance`."""
    labelled = np.flatnonzero(labels >= 0)
    frequency = np.bincount(labels[labelled], minlength=len(EMOTIONS))[labels[labelled]].astype(float)
    weight = frequency**-balance
    return rng.choice(labelled, count, p=weight / weight.sum())
