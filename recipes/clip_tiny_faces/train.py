"""Training of `clip-tiny-faces` on rendered faces and captions, and on photographs with the help of a teacher."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from recipes.clip_tiny_faces.augmentation import augment_photographs, augment_rendered, normalise
from recipes.clip_tiny_faces.captions import FACTS, caption, facts_of_prototype
from recipes.clip_tiny_faces.model import (
    bfloat16_is_fast,
    build_model,
    build_tokenizer,
    load_weights,
    whiten_patches,
)
from recipes.clip_tiny_faces.muon import Muon
from recipes.clip_tiny_faces.photographs import Photographs, facts_of_photograph
from recipes.clip_tiny_faces.resumable import ResumableTraining
from recipes.clip_tiny_faces.stills import Stills, cached_stills
from recipes.clip_tiny_faces.teacher import (
    UNIT_DEVIATION,
    Teacher,
    TeacherRecipe,
    draw_balanced,
    train_teacher,
)
from tgdfer.training.rendered_faces import ACTION_UNITS, EMOTIONS

# A caption of a class is one of so many that are drawn for it in every step.
_CLASS_CAPTIONS = 3


@dataclass(frozen=True)
class Recipe:
    """All parameters of the training.

    Attributes:
        images: Rendered pictures.
        people: People they show.
        ramp: So many pictures, the first to be seen, grow from easy to as varied as the rest.
        pairs: Pictures seen in training, each with a caption.
        batch: Pictures a step.
        photographs: Share of the batch that are photographs, where there are any.
        labelled: Share of these that have a label; the others are drawn from all photographs.
        patches: Share of the patches that the vision tower sees in training (Li et al., 2023, FLIP), which costs as
            much less; in the last fifth of the steps it sees all.
        rate: Highest learning rate of AdamW; warm-up over 5 % of the steps, then a cosine.
        muon_rate: That of Muon (Jordan et al., 2024), which trains the matrices of both towers.
        decay: Weight decay.
        unit_weight: Weight of the auxiliary regression of (standardised) action units from the pooled image.
        fact_weight: Weight of the auxiliary recognition of all facts that captions speak of, likewise.
        map_weight: Weight of the auxiliary regression of the teacher's map from the patches.
        class_weight: Weight of the cross-entropy between the captions of the classes, towards what the teacher says
            and the label where there is one.
        teacher: Parameters of the teacher.
        start: Hash of the weights to go on from, at half of both rates and without easy pictures; None starts anew.
        seed: Decides everything.
        checkpoint_every: Steps between two checkpoints.
    """

    images: int = 40_000
    people: int = 8_000
    ramp: int = 8_000
    pairs: int = 450_000
    batch: int = 128
    photographs: float = 0.5
    labelled: float = 0.5
    patches: float = 0.75
    rate: float = 1e-3
    muon_rate: float = 0.02
    decay: float = 0.05
    unit_weight: float = 1.0
    fact_weight: float = 5.0
    map_weight: float = 2.0
    class_weight: float = 1.0
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    start: str | None = None
    seed: int = 0
    checkpoint_every: int = 100


class Ground(NamedTuple):
    """What the training sees: rendered pictures, and, where there are any, photographs and their teacher."""

    stills: Stills
    photographs: Photographs | None
    teacher: Teacher | None


class Learner(nn.Module):
    """The CLIP, and heads that read what is known of a picture from it; they are thrown away.

    Args:
        clip: Untrained.
        channels: Of the teacher's map.
    """

    def __init__(self, clip: CLIPModel, channels: int) -> None:
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.units, self.facts = nn.Linear(width, len(ACTION_UNITS)), nn.Linear(width, len(FACTS))
        self.map, self.emotions = nn.Linear(width, channels), nn.Linear(width, len(EMOTIONS))

    def look(self, pixels: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The vision tower on a part of the patches.

        Args:
            pixels: (N, 3, H, W), normalised.
            places: int64 (N, P), the patches to see.

        Returns:
            Normalised embeddings (N, D), what the heads read from (N, W), and the patches (N, P, W).

        The heads read from the mean of the patches and the class token in equal shares: the patches learn at once,
        while the class token sees hardly anything of them in the beginning.
        """
        tower = self.clip.vision_model
        tokens = tower.embeddings(pixels)
        seen = torch.gather(tokens[:, 1:], 1, places[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = tower.pre_layrnorm(torch.cat([tokens[:, :1], seen], 1))
        tokens = tower.encoder(inputs_embeds=tokens).last_hidden_state
        pooled, patches = tower.post_layernorm(tokens[:, 0]), tower.post_layernorm(tokens[:, 1:])
        embeddings = F.normalize(self.clip.visual_projection(pooled), dim=-1)
        return embeddings, pooled + tower.post_layernorm(tokens[:, 1:].mean(1)), patches

    def speak(self, tokens: dict[str, Tensor]) -> Tensor:
        """Normalised embeddings (N, D) of texts."""
        return F.normalize(self.clip.get_text_features(**tokens).pooler_output, dim=-1)


def train(
    folder: Path,
    recipe: Recipe,
    photographs: Photographs | None = None,
    start: Path | None = None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[CLIPModel, CLIPTokenizer, float]:
    """Train, or go on with a training that was interrupted.

    Every step is a function of the seed and its own number, so an interrupted training ends as one that was not.

    Args:
        folder: Work folder: pictures, logs and checkpoints.
        recipe: Parameters; a checkpoint of another recipe is refused. `start` is the hash of the weights in `start`.
        photographs: To learn from, beside the rendered faces.
        start: Folder of the weights of an earlier training, to go on from.
        workers: Processes that render.
        progress: Called with (what is being done, done, in all).

    Returns:
        The model, its tokenizer, and the seconds of training, without rendering and interruptions.

    Raises:
        UserError: If the folder holds a checkpoint of another recipe, or of other photographs.
    """
    progress = progress or (lambda what, done, total: None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stills = cached_stills(
        folder / "stills",
        recipe.images,
        recipe.people,
        recipe.seed,
        0 if start else recipe.ramp,
        workers=workers,
        progress=lambda done, total: progress("rendering", done, total),
    )
    teacher, taught = None, 0.0
    if photographs is not None:
        teacher, taught = train_teacher(folder, recipe.teacher, stills, photographs, device, progress)
    clip, tokenizer = load_weights(start) if start else _untrained(recipe, stills)
    torch.manual_seed(recipe.seed)
    learner = Learner(clip, 6 * recipe.teacher.width)
    learner.to(device).train()
    steps = max(1, recipe.pairs // recipe.batch)
    optimizers, schedules = _optimizers(learner, recipe, steps)
    data = photographs.fingerprint if photographs is not None else "rendered pictures alone"
    run = ResumableTraining(folder, "pupil", recipe, learner, optimizers + schedules, recipe.checkpoint_every, data)
    ground = Ground(stills, photographs, teacher)
    for step in run.steps(steps, progress):
        losses = _losses(learner, tokenizer, ground, recipe, step, steps)
        learner.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for part in optimizers + schedules:
            part.step()
        with torch.no_grad():
            learner.clip.logit_scale.clamp_(max=math.log(50))
        if (step + 1) % 20 == 0 or step + 1 == steps:
            run.log(step, losses | {"scale": learner.clip.logit_scale.exp()})
    return learner.clip.cpu().eval(), tokenizer, taught + run.seconds


def _untrained(recipe: Recipe, stills: Stills) -> tuple[CLIPModel, CLIPTokenizer]:
    tokenizer = build_tokenizer(recipe.seed)
    torch.manual_seed(recipe.seed)
    clip = build_model(tokenizer)
    sample = torch.from_numpy(np.array(stills.images[:: max(1, recipe.images // 1000)]))
    whiten_patches(clip, normalise(sample.permute(0, 3, 1, 2) / 255))
    return clip, tokenizer


def _optimizers(learner: Learner, recipe: Recipe, steps: int) -> tuple[list, list]:
    """Muon for the matrices of both towers' layers, AdamW for the rest, and their schedules.

    AdamW alone answers with the averages for a long time before it sees what changes in a face; Muon does not.
    """
    towers = (learner.clip.vision_model.encoder, learner.clip.text_model.encoder)
    matrices = [p for tower in towers for p in tower.parameters() if p.ndim == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in learner.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    share = 0.5 if recipe.start else 1.0
    optimizers = [
        torch.optim.AdamW(groups, lr=share * recipe.rate, betas=(0.9, 0.98)),
        Muon(matrices, lr=share * recipe.muon_rate, momentum=0.9, weight_decay=0.01),
    ]
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
        return (step + 1) / warm if step < warm else cosine

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]


class _Batch(NamedTuple):
    """N pictures, rendered ones first.

    Attributes:
        pixels: (N, 3, H, W) in 0..1.
        surely: (N, F), facts that are true.
        maybe: (N, F), facts that are true or in doubt.
        action_units: (R, A) of the rendered ones.
        labels: (N,), -1 unknown.
    """

    pixels: Tensor
    surely: np.ndarray
    maybe: np.ndarray
    action_units: Tensor
    labels: Tensor


def _batch(ground: Ground, recipe: Recipe, step: int) -> _Batch:
    """Which pictures, under which light, follows from seed and step."""
    rng = np.random.default_rng([recipe.seed, 2, step])
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    stills, photographs = ground.stills, ground.photographs
    real = round(recipe.photographs * recipe.batch) if photographs else 0
    drawn = _in_order(recipe, recipe.batch - real, step)
    pixels = [augment_rendered(stills.images[drawn], generator)]
    surely, maybe, labels = stills.surely[drawn], stills.maybe[drawn], stills.labels[drawn]
    if photographs and real:
        labelled = draw_balanced(photographs.labels, round(recipe.labelled * real), recipe.teacher.balance, rng)
        taken = np.concatenate([labelled, rng.integers(len(photographs), size=real - len(labelled))])
        pixels.append(augment_photographs(photographs.images[taken], generator))
        labels = np.concatenate([labels, photographs.labels[taken]])
        facts = [facts_of_photograph(int(label)) for label in photographs.labels[taken]]
        surely = np.concatenate([surely, [sure for sure, _ in facts]])
        maybe = np.concatenate([maybe, [possible for _, possible in facts]])
    units = torch.from_numpy(stills.action_units[drawn])
    return _Batch(torch.cat(pixels), surely, maybe, units, torch.from_numpy(labels))


def _in_order(recipe: Recipe, count: int, step: int) -> np.ndarray:
    """Indices (count,) of rendered pictures: the first time nearly as they were drawn, where easy ones came first."""
    epoch, place = divmod(step, max(1, recipe.images // count))
    shuffle = np.random.default_rng([recipe.seed, 3, epoch])
    reach = min(2000, recipe.images) if epoch == 0 and not recipe.start else recipe.images**2
    order = np.argsort(np.arange(recipe.images) + shuffle.uniform(0, reach, recipe.images))
    return np.sort(order[place * count : (place + 1) * count])


def _losses(
    learner: Learner, tokenizer: CLIPTokenizer, ground: Ground, recipe: Recipe, step: int, steps: int
) -> dict[str, Tensor]:
    """Losses of one step."""
    device = learner.clip.device
    rng = np.random.default_rng([recipe.seed, 6, step])
    batch = _batch(ground, recipe, step)
    rendered = len(batch.action_units)
    pixels = batch.pixels.to(device)
    # An unlabelled photograph says nothing that a caption could say.
    told = np.flatnonzero(batch.surely.any(1))
    texts, needs = zip(*(caption(batch.surely[i], rng) for i in told), strict=True)
    classes = [caption(facts_of_prototype(name, rng), rng)[0] for name in EMOTIONS for _ in range(_CLASS_CAPTIONS)]
    tokens = tokenizer([*texts, *classes], padding=True, truncation=True, return_tensors="pt").to(device)

    share = recipe.patches if step < 0.8 * steps else 1.0
    patches = learner.clip.vision_model.embeddings.num_patches
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(patches), (len(pixels), 1)), axis=1))
    places = order[:, : max(1, round(share * patches))].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        images, seen, tokens_seen = learner.look(normalise(pixels), places)
        words = learner.speak(tokens)
        units, facts, emotions = (head(seen).float() for head in (learner.units, learner.facts, learner.emotions))
        map_read = learner.map(tokens_seen).float()
    scale = learner.clip.logit_scale.exp()
    images, words = images.float(), words.float()
    required = torch.from_numpy(np.stack(needs)).float()
    surely, maybe = (torch.from_numpy(known).float() for known in (batch.surely[told], batch.maybe[told]))
    fits = surely @ required.T == required.sum(1)
    doubtful = (maybe @ required.T == required.sum(1)) & ~fits
    similarity = scale * images[torch.from_numpy(told).to(device)] @ words[: len(told)].T
    losses = {"contrast": contrastive_loss(similarity, fits.to(device), doubtful.to(device))}
    # Most action units are absent from most pictures: without standardising, answering 0 is hard to improve on.
    losses["units"] = (((units[:rendered] - batch.action_units.to(device)) / UNIT_DEVIATION) ** 2).mean()
    surely, maybe = (torch.from_numpy(known).float().to(device) for known in (batch.surely, batch.maybe))
    losses["facts"] = F.binary_cross_entropy_with_logits(facts, surely, weight=1 - maybe + surely)
    weights = {"contrast": 1.0, "units": recipe.unit_weight, "facts": recipe.fact_weight}
    if ground.teacher is not None:
        named = F.normalize(words[len(told) :].view(len(EMOTIONS), _CLASS_CAPTIONS, -1).mean(1), dim=-1)
        answers = torch.stack([scale * images @ named.T, emotions])
        losses |= _taught(ground.teacher, pixels, batch, answers, map_read, places)
        weights |= {"classes": recipe.class_weight, "map": recipe.map_weight}
    loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    return {"loss": loss, **losses}


def _taught(
    teacher: Teacher, pixels: Tensor, batch: _Batch, answers: Tensor, map_read: Tensor, places: Tensor
) -> dict[str, Tensor]:
    """What the teacher makes of the same pictures (Beyer et al., 2022), against what the pupil says of them.

    Args:
        teacher: In `eval` mode.
        pixels: (N, 3, H, W) in 0..1, where the teacher is.
        batch: What is known of them. Nobody says a class of a rendered picture without a label.
        answers: (2, N, 7) logits, by class captions and by a head.
        map_read: (N, P, C), what is read from the patches.
        places: (N, P), which patches they are.
    """
    rendered = len(batch.action_units)
    device = pixels.device
    with torch.no_grad():
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
            seen, said, _ = teacher(pixels)
        seen, said = seen.float(), said.float()
        seen = seen.flatten(2).transpose(1, 2)
        # Every channel counts alike, however strong it is.
        seen = (seen - seen.mean((0, 1))) / (seen.std((0, 1)) + 1e-3)
        there = torch.gather(seen, 1, places[..., None].expand(-1, -1, seen.shape[-1]))
        labels = batch.labels.to(device)
        named = (labels >= 0)[:, None]
        hard = F.one_hot(labels.clamp(min=0), len(EMOTIONS)).float()
        target = torch.where(named, 0.5 * said.softmax(-1) + 0.5 * hard, said.softmax(-1))
        target[:rendered] *= named[:rendered]
    classes = balanced_cross_entropy(answers.float(), target, [rendered, len(target) - rendered])
    return {"classes": classes, "map": F.smooth_l1_loss(map_read, there)}


def balanced_cross_entropy(answers: Tensor, target: Tensor, parts: Sequence[int]) -> Tensor:
    """Cross-entropy that lets no class be answered for being frequent (Menon et al., 2021; Ren et al., 2020).

    Most photographs are neutral or happy. The frequency of a class in its part of the batch is added to its logit, as
    its logarithm, so that the logit itself need not say how frequent it is.

    Args:
        answers: (A, N, K) logits, of A ways to answer.
        target: (N, K) probabilities; a row of zeros has no part.
        parts: Sizes of the parts of the batch that have frequencies of their own; their sum is N.
    """
    frequency = torch.cat(
        [
            (part.sum(0) / part.sum().clamp(min=1e-6)).clamp(min=1e-3).log().expand(len(part), -1)
            for part in target.split(list(parts))
        ]
    )
    return -(target * (answers + frequency).log_softmax(-1)).sum(-1).mean(0).sum() / target.sum()


def contrastive_loss(similarity: Tensor, fits: Tensor, doubtful: Tensor) -> Tensor:
    """Cross-entropy from picture to captions and back, where several may fit and doubtful ones are left out.

    Args:
        similarity: (N, N) scaled cosines, pictures by captions.
        fits: bool (N, N), the caption is true of the picture; true on the diagonal.
        doubtful: bool (N, N), neither true nor false.
    """
    similarity = similarity.masked_fill(doubtful, -1e4)
    total = similarity.new_zeros(())
    for scores, targets in ((similarity, fits), (similarity.T, fits.T)):
        weights = targets / targets.sum(1, keepdim=True)
        total = total - (weights * scores.log_softmax(1)).sum(1).mean() / 2
    return total
