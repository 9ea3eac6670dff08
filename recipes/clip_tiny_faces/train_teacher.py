"""Training of the convolutional teacher on votes, labelled stills and rendered faces."""

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
    """Parameters of the teacher's training.

    Attributes:
        epochs: Passes over the voted photographs.
        voted: Voted photographs a step.
        labelled: Labelled stills a step.
        rendered: Rendered pictures a step.
        aligned: Share of the voted photographs that are cut as in prediction; the others are seen whole.
        coarse: Share of the stills and rendered pictures that become as coarse as the voted photographs.
        rate: Highest learning rate of SGD, after a fifth of the steps (one cycle).
        decay: Weight decay.
        width: Channels of the first stage.
        balance: Labelled stills are drawn with the frequency of their label to the power of minus this.
        smoothing: Of the labels of stills, which are noisy, and of rendered pictures.
        average: Decay of the running average of the weights, which is what teaches.
        unit_weight: Weight of the regression of the rendered pictures' action units.
        adjust: How far the classes are told apart as if all were equally frequent, 0 to 1, after the training.
        seed: Decides everything.
        checkpoint_every: Steps between two checkpoints.
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
    """What the teacher sees."""

    voted: VotedFaces
    validation: VotedFaces
    labelled: Photographs
    rendered: Stills


class Batch(NamedTuple):
    """N grey pictures: voted photographs, then labelled stills, then rendered faces.

    Attributes:
        pixels: float32 (N, 3, 112, 112) in 0..1.
        targets: float32 (N, 8), what people say of each; a row of zeros has no label.
        units: float32 (R, A), action units of the rendered ones.
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
    """Train the teacher, or go on where its training was interrupted.

    Args:
        folder: Work folder, for `teacher.pt` and `teacher.jsonl`.
        recipe: Parameters.
        data: Pictures; validation is measured on after each epoch, and nothing is chosen by it here.
        device: Where to compute.
        progress: Called with ("teacher", done, in all).

    Returns:
        The running average of the weights, with adjusted biases and in `eval` mode, and the seconds of training.
    """
    torch.manual_seed(recipe.seed)
    net = ExpressionNet(recipe.width).to(device)
    average = torch.optim.swa_utils.AveragedModel(net, avg_fn=running_average(recipe.average), use_buffers=True)
    epoch = max(1, len(data.voted) // recipe.voted)
    steps = recipe.epochs * epoch
    optimizer = torch.optim.SGD(net.parameters(), recipe.rate, 0.9, weight_decay=recipe.decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, steps))
    both = nn.ModuleList([net, average])
    run = ResumableTraining(
        folder, "teacher", recipe, both, [optimizer, schedule], recipe.checkpoint_every, data.voted.fingerprint
    )
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
    return adjusted(cast(ExpressionNet, average.module.eval()), data.voted.votes, recipe.adjust), run.seconds


def adjusted(net: ExpressionNet, votes: np.ndarray, strength: float) -> ExpressionNet:
    """Take `strength` times the logarithm of each class's share of the votes (N, 8) off its bias (Menon et al., 2021).

    It costs nothing, and finds more of the rare emotions.
    """
    shares = torch.from_numpy(votes.mean(0)).clamp(min=1e-4).to(net.emotions.bias.device)
    with torch.no_grad():
        net.emotions.bias.sub_(strength * shares.log())
    return net


def one_cycle(step: int, steps: int, rise: float = 0.2) -> float:
    """Share of the highest rate: linear up over `rise` of the steps, then down to nothing as a cosine."""
    place = (step + 1) / (steps + 1)
    return place / rise if place < rise else 0.5 * (1 + math.cos(math.pi * (place - rise) / (1 - rise)))


def running_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """A running average that forgets where the weights began."""

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return average + (current - average) * (1 - kept)

    return update


def draw_balanced(labels: np.ndarray, count: int, balance: float, rng: np.random.Generator) -> np.ndarray:
    """Indices (count,) of labelled pictures, drawn with the frequency of their label to the power of `-balance`."""
    labelled = np.flatnonzero(labels >= 0)
    frequency = np.bincount(labels[labelled], minlength=len(EMOTIONS))[labels[labelled]].astype(float)
    weight = frequency**-balance
    return rng.choice(labelled, count, p=weight / weight.sum())


def draw_crops(faces: VotedFaces, rows: np.ndarray, aligned: float, rng: np.random.Generator) -> np.ndarray:
    """Pictures (N, 112, 112) of some rows: `aligned` of them cut as in prediction, the others whole."""
    cut = rng.uniform(size=len(rows)) < aligned
    return np.stack(
        [faces.aligned[row] if c else enlarge(faces.plain[row], SIZE) for row, c in zip(rows, cut, strict=True)]
    )


def teaching_batch(recipe: TeacherRecipe, data: TeachingData, step: int, epoch: int) -> Batch:
    """One batch; which pictures and how they are changed follows from seed and step."""
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
    named = F.one_hot(labels.clamp(min=0), len(CLASSES)).float()
    named = (1 - recipe.smoothing) * named + recipe.smoothing / len(CLASSES)
    named[labels < 0] = 0
    targets = torch.cat([torch.from_numpy(data.voted.votes[rows]), named])
    return Batch(torch.cat(pixels), targets, torch.from_numpy(data.rendered.action_units[drawn]))


def _losses(net: ExpressionNet, recipe: TeacherRecipe, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        seen = net(batch.pixels.to(device))
    targets, units = batch.targets.to(device), batch.units.to(device)
    emotion = -(targets * seen.logits.float().log_softmax(-1)).sum() / targets.sum().clamp(min=1)
    read = seen.units.float()[len(targets) - len(units) :]
    regression = (((read - units) / UNIT_DEVIATION) ** 2).mean()
    return {"loss": emotion + recipe.unit_weight * regression, "emotion": emotion, "units": regression}


@torch.inference_mode()
def answer(net: ExpressionNet, pictures: np.ndarray, device: torch.device) -> np.ndarray:
    """Logits (N, 8) of grey pictures, uint8 (N, H, W), each the mean over the picture and its mirror image."""
    net.eval()
    parts = []
    for start in range(0, len(pictures), 128):
        chunk = np.stack([enlarge(picture, SIZE) for picture in pictures[start : start + 128]])
        pixels = torch.from_numpy(chunk)[:, None].float().to(device) / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
            logits = [net(view).logits.float() for view in (pixels, pixels.flip(-1))]
        parts.append(torch.stack(logits).mean(0).cpu())
    return torch.cat(parts).numpy()


def name_expression(net: ExpressionNet, picture: np.ndarray, most: int = 3) -> str:
    """The most probable classes of a grey picture (H, W), with their probabilities in percent."""
    shares = torch.from_numpy(answer(net, picture[None], torch.device("cpu"))[0]).softmax(-1)
    best = shares.argsort(descending=True)[:most].tolist()
    return ", ".join(f"{CLASSES[i]} {100 * float(shares[i]):.0f} %" for i in best)


def validate(net: ExpressionNet, faces: VotedFaces, device: torch.device) -> dict[str, Tensor]:
    """Scores on the photographs with a clear majority, aligned and plain."""
    clear = faces.clear()
    scores: dict[str, Tensor] = {}
    for crop in ("aligned", "plain"):
        predicted = answer(net, getattr(faces, crop)[clear], device)[:, : len(EMOTIONS)].argmax(1)
        scores |= {f"{crop} {name}": torch.tensor(v) for name, v in summarise(faces.labels[clear], predicted).items()}
    return scores
