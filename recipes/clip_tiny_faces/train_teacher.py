"""Trains the convolutional teacher on photographs with votes, labelled photographs and rendered faces."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.clip_tiny_faces.augmentation import augment_photographs
from recipes.clip_tiny_faces.expression_net import ExpressionNet
from recipes.clip_tiny_faces.ferplus import CLASSES, SIZE, VotedFaces, enlarge
from recipes.clip_tiny_faces.photographs import Photographs
from recipes.clip_tiny_faces.resumable import ResumableTraining
from recipes.clip_tiny_faces.scores import summarise
from recipes.clip_tiny_faces.stills import Stills
from recipes.clip_tiny_faces.towers import bfloat16_is_fast
from tgdfer.training.rendered_faces import EMOTIONS

# Typical standard deviation of an action unit's intensity over the rendered pictures.
UNIT_DEVIATION = 0.25


@dataclass(frozen=True)
class TeacherRecipe:
    """Parameters of the training of the teacher.

    Attributes:
        epochs (`int`, *optional*, defaults to `10`): Number of epochs over the photographs with votes.
        voted (`int`, *optional*, defaults to `112`): Number of photographs with votes per step.
        labelled (`int`, *optional*, defaults to `8`): Number of labelled photographs per step.
        rendered (`int`, *optional*, defaults to `8`): Number of rendered pictures per step.
        aligned (`float`, *optional*, defaults to `0.6`): Share of the photographs with votes that are cropped as in
            prediction. The others are not cropped.
        coarse (`float`, *optional*, defaults to `0.4`): Share of the other pictures that are reduced to the resolution
            of the photographs with votes.
        rate (`float`, *optional*, defaults to `0.1`): Highest learning rate of SGD, which is reached after a fifth of
            the steps (one cycle).
        decay (`float`, *optional*, defaults to `0.0005`): Weight decay.
        width (`int`, *optional*, defaults to `32`): Number of channels in the first stage.
        balance (`float`, *optional*, defaults to `0.5`): Labelled photographs are drawn with the frequency of their
            label to the power of `-balance`.
        smoothing (`float`, *optional*, defaults to `0.1`): Label smoothing for labelled photographs, whose labels are
            noisy, and for rendered pictures.
        average (`float`, *optional*, defaults to `0.998`): Decay of the running average of the weights. The average is
            the result of the training.
        unit_weight (`float`, *optional*, defaults to `0.1`): Weight of the regression of the action units of rendered
            pictures.
        adjust (`float`, *optional*, defaults to `0.15`): Strength (0 to 1) of the correction for class frequency after
            the training; see `adjust_biases`.
        seed (`int`, *optional*, defaults to `0`): Random seed of the training.
        checkpoint_every (`int`, *optional*, defaults to `100`): Number of steps between checkpoints.
    """

    epochs: int = 10
    voted: int = 112
    labelled: int = 8
    rendered: int = 8
    aligned: float = 0.6
    coarse: float = 0.4
    rate: float = 0.1
    decay: float = 5e-4
    width: int = 32
    balance: float = 0.5
    smoothing: float = 0.1
    average: float = 0.998
    unit_weight: float = 0.1
    adjust: float = 0.15
    seed: int = 0
    checkpoint_every: int = 100


class TeachingData(NamedTuple):
    """Pictures for the training of the teacher."""

    voted: VotedFaces
    validation: VotedFaces
    labelled: Photographs
    rendered: Stills


class Batch(NamedTuple):
    """N grey pictures: photographs with votes, then labelled photographs, then rendered faces.

    Attributes:
        pixels (`torch.Tensor` of shape `(N, 3, 112, 112)`): Pictures, float32, 0 to 1.
        targets (`torch.Tensor` of shape `(N, 8)`): Shares of the votes or smoothed labels, float32. A row of zeros has
            no label.
        units (`torch.Tensor` of shape `(R, A)`): Action units of the rendered pictures, float32.
    """

    pixels: Tensor
    targets: Tensor
    units: Tensor


def train_teacher(
    folder: Path,
    recipe: TeacherRecipe,
    data: TeachingData,
    device: torch.device,
    progress: Callable[[str, int, int], None],
) -> tuple[ExpressionNet, float]:
    """Trains the teacher, or resumes an interrupted training.

    Args:
        folder (`Path`): Work folder for `teacher.pt` and `teacher.jsonl`.
        recipe (`TeacherRecipe`): Parameters of the training.
        data (`TeachingData`): Pictures. The validation split is measured after each epoch, and is not used for choices
            here.
        device (`torch.device`): Device of the training.
        progress (`Callable`): Called with "teacher", the number of finished steps and the total.

    Returns:
        `tuple[ExpressionNet, float]`: The network with averaged weights and adjusted biases, in evaluation mode, and
        the duration of the training in seconds.
    """
    torch.manual_seed(recipe.seed)
    net = ExpressionNet(recipe.width).to(device)
    average = torch.optim.swa_utils.AveragedModel(net, avg_fn=running_average(recipe.average), use_buffers=True)
    epoch = max(1, len(data.voted) // recipe.voted)
    steps = recipe.epochs * epoch
    optimizer = torch.optim.SGD(net.parameters(), recipe.rate, 0.9, weight_decay=recipe.decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, steps))
    both = nn.ModuleList([net, average])
    pictures = data.voted.fingerprint + data.labelled.fingerprint
    run = ResumableTraining(folder, "teacher", recipe, both, [optimizer, schedule], recipe.checkpoint_every, pictures)
    for step in run.steps(steps, progress):
        net.train()
        losses = _losses(net, recipe, teaching_batch(recipe, data, step, epoch), device)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        if (step + 1) % 20 == 0:
            run.log(step, losses)
        if (step + 1) % epoch == 0:
            run.log(step, validate(cast(ExpressionNet, average.module), data.validation, device))
    return adjust_biases(cast(ExpressionNet, average.module.eval()), data.voted.votes, recipe.adjust), run.seconds


def adjust_biases(net: ExpressionNet, votes: np.ndarray, strength: float) -> ExpressionNet:
    """Subtracts `strength` times the logarithm of the class frequency in the votes (N, 8) from the bias of each class.

    This increases the recall of rare emotions without further training (Menon et al., 2021).
    """
    shares = torch.from_numpy(votes.mean(0)).clamp(min=1e-4).to(net.emotions.bias.device)
    with torch.no_grad():
        net.emotions.bias.sub_(strength * shares.log())
    return net


def one_cycle(step: int, steps: int, rise: float = 0.2) -> float:
    """Returns the factor of the learning rate: a linear rise over a share of the steps, then a cosine to 0."""
    progress = (step + 1) / (steps + 1)
    return progress / rise if progress < rise else 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def running_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Returns the update of a running average of weights, whose decay is lower in the beginning."""

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        current_decay = min(decay, (1 + int(count)) / (10 + int(count)))
        return average + (current - average) * (1 - current_decay)

    return update


def draw_balanced(labels: np.ndarray, count: int, balance: float, rng: np.random.Generator) -> np.ndarray:
    """Draws indices (count,) of labelled pictures, by the frequency of their label to the power of `-balance`."""
    labelled = np.flatnonzero(labels >= 0)
    frequency = np.bincount(labels[labelled], minlength=len(EMOTIONS))[labels[labelled]].astype(float)
    weight = frequency**-balance
    return rng.choice(labelled, count, p=weight / weight.sum())


def draw_crops(faces: VotedFaces, rows: np.ndarray, aligned: float, rng: np.random.Generator) -> np.ndarray:
    """Returns pictures (N, 112, 112). A random share `aligned` is cropped as in prediction, the others are not."""
    is_aligned = rng.uniform(size=len(rows)) < aligned
    return np.stack(
        [
            faces.aligned[row] if crop else enlarge(faces.plain[row], SIZE)
            for row, crop in zip(rows, is_aligned, strict=True)
        ]
    )


def teaching_batch(recipe: TeacherRecipe, data: TeachingData, step: int, epoch: int) -> Batch:
    """Draws and augments the pictures of a step. The result depends only on the seed and the step."""
    rng = np.random.default_rng([recipe.seed, 5, step])
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    order = np.random.default_rng([recipe.seed, 6, step // epoch]).permutation(len(data.voted))
    rows = order[step % epoch * recipe.voted :][: recipe.voted]
    stills = draw_balanced(data.labelled.labels, recipe.labelled, recipe.balance, rng)
    drawn = rng.choice(len(data.rendered.images), min(recipe.rendered, len(data.rendered.images)), replace=False)
    drawn = np.sort(drawn)
    sharp = [data.labelled.images[stills], data.rendered.images[drawn].mean(-1).astype(np.uint8)]
    pixels = [
        augment_photographs(draw_crops(data.voted, rows, recipe.aligned, rng), generator),
        augment_photographs(np.concatenate(sharp), generator, coarse=recipe.coarse),
    ]
    labels = torch.from_numpy(np.concatenate([data.labelled.labels[stills], data.rendered.labels[drawn]]))
    smoothed = F.one_hot(labels.clamp(min=0), len(CLASSES)).float()
    smoothed = (1 - recipe.smoothing) * smoothed + recipe.smoothing / len(CLASSES)
    smoothed[labels < 0] = 0
    targets = torch.cat([torch.from_numpy(data.voted.votes[rows]), smoothed])
    return Batch(torch.cat(pixels), targets, torch.from_numpy(data.rendered.action_units[drawn]))


def _losses(net: ExpressionNet, recipe: TeacherRecipe, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        output = net(batch.pixels.to(device))
    targets, units = batch.targets.to(device), batch.units.to(device)
    emotion = -(targets * output.logits.float().log_softmax(-1)).sum() / targets.sum().clamp(min=1)
    predicted_units = output.units.float()[len(targets) - len(units) :]
    regression = (((predicted_units - units) / UNIT_DEVIATION) ** 2).mean()
    return {"loss": emotion + recipe.unit_weight * regression, "emotion": emotion, "units": regression}


@torch.inference_mode()
def predict_logits(net: ExpressionNet, pictures: np.ndarray, device: torch.device) -> np.ndarray:
    """Returns logits (N, 8) of grey uint8 pictures (N, H, W), averaged over each picture and its mirror image."""
    net.eval()
    parts = []
    for start in range(0, len(pictures), 128):
        chunk = np.stack([enlarge(picture, SIZE) for picture in pictures[start : start + 128]])
        pixels = torch.from_numpy(chunk)[:, None].float().to(device) / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
            logits = [net(view).logits.float() for view in (pixels, pixels.flip(-1))]
        parts.append(torch.stack(logits).mean(0).cpu())
    return torch.cat(parts).numpy()


def name_expression(net: ExpressionNet, picture: np.ndarray, top: int = 3) -> str:
    """Returns the most probable classes of a grey picture (H, W), with their probabilities in percent."""
    shares = torch.from_numpy(predict_logits(net, picture[None], torch.device("cpu"))[0]).softmax(-1)
    best = shares.argsort(descending=True)[:top].tolist()
    return ", ".join(f"{CLASSES[i]} {100 * float(shares[i]):.0f}%" for i in best)


def validate(net: ExpressionNet, faces: VotedFaces, device: torch.device) -> dict[str, Tensor]:
    """Measures the network on the photographs with a clear majority, aligned and uncropped."""
    rows = faces.majority_indices()
    scores: dict[str, Tensor] = {}
    for crop in ("aligned", "plain"):
        predicted = predict_logits(net, getattr(faces, crop)[rows], device)[:, : len(EMOTIONS)].argmax(1)
        scores |= {f"{crop} {name}": torch.tensor(v) for name, v in summarise(faces.labels[rows], predicted).items()}
    return scores
