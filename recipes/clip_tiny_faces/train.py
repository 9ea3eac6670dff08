"""Training of `clip-tiny-faces`: captions, votes over class descriptions, and what the teacher sees."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from recipes.clip_tiny_faces.augmentation import augment_photographs, augment_rendered, normalise, tint
from recipes.clip_tiny_faces.captions import FACTS, caption
from recipes.clip_tiny_faces.evaluate import CONTEXT, embed_classes, embed_images
from recipes.clip_tiny_faces.expression_net import ExpressionNet, Seen
from recipes.clip_tiny_faces.ferplus import CLASSES, VotedFaces
from recipes.clip_tiny_faces.muon import Muon
from recipes.clip_tiny_faces.photographs import Photographs, facts_of_photograph, with_signs
from recipes.clip_tiny_faces.resumable import ResumableTraining
from recipes.clip_tiny_faces.scores import summarise
from recipes.clip_tiny_faces.stills import Stills
from recipes.clip_tiny_faces.towers import (
    DualEncoder,
    bfloat16_is_fast,
    build_dual_encoder,
    build_image_processor,
)
from recipes.clip_tiny_faces.train_teacher import UNIT_DEVIATION, draw_crops, running_average
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.training.rendered_faces import ACTION_UNITS, EMOTIONS

# Texts that are drawn for each class in every step: built-in descriptions, and captions.
_DESCRIPTIONS, _CAPTIONS = 2, 1


@dataclass(frozen=True)
class Recipe:
    """All parameters of the training.

    Attributes:
        start: SHA-256 of the weights that are gone on from.
        teacher: SHA-256 of the teacher's weights.
        pairs: Pictures seen in training.
        voted: Voted photographs a step.
        stills: Other photographs a step, with or without a label.
        rendered: Rendered pictures a step.
        aligned: Share of the voted photographs that are cut as in prediction; the others are seen whole.
        coarse: Share of the other photographs that become as coarse as the voted ones.
        coloured: Share of the photographs, all of which are grey, that are tinted.
        rate: Highest learning rate of AdamW.
        vision_rate: That of Muon (Jordan et al., 2024) for the convolutions of the vision tower.
        text_rate: That of Muon for the matrices of the text tower, which is trained already.
        warm_up: Steps in which all rates rise; afterwards they fall to nothing as a cosine.
        decay: Weight decay.
        trust: Share of the teacher in what a photograph shows; the rest are votes or label.
        balance: How far classes are told apart as if all were equally frequent, 0 to 1.
        class_weight: Weight of the cross-entropy over the texts of the classes.
        feature_weight: Weight of the regression of the teacher's features.
        map_weight: Weight of the regression of the teacher's feature map from the last map of the vision tower.
        unit_weight: Weight of the regression of action units.
        fact_weight: Weight of the recognition of the facts that captions speak of.
        average: Decay of the running average of the weights, which is what is kept.
        seed: Decides everything.
        checkpoint_every: Steps between two checkpoints.
        validate_every: Steps between two measurements on validation.
    """

    start: str = ""
    teacher: str = ""
    pairs: int = 280_000
    voted: int = 72
    stills: int = 24
    rendered: int = 32
    aligned: float = 0.6
    coarse: float = 0.4
    coloured: float = 0.5
    rate: float = 1e-3
    vision_rate: float = 0.02
    text_rate: float = 0.01
    warm_up: int = 312
    decay: float = 0.05
    trust: float = 0.5
    balance: float = 0.3
    class_weight: float = 2.0
    feature_weight: float = 2.0
    map_weight: float = 2.0
    unit_weight: float = 0.5
    fact_weight: float = 2.0
    average: float = 0.998
    seed: int = 0
    checkpoint_every: int = 100
    validate_every: int = 400

    @property
    def batch(self) -> int:
        """Pictures a step."""
        return self.voted + self.stills + self.rendered


class Ground(NamedTuple):
    """What the training sees."""

    voted: VotedFaces
    validation: VotedFaces
    stills: Photographs
    rendered: Stills
    teacher: ExpressionNet


class Learner(nn.Module):
    """The dual encoder, and heads that read from the embedding of a picture; they are thrown away.

    Args:
        clip: The dual encoder.
        channels: Features of the teacher.
    """

    def __init__(self, clip: DualEncoder, channels: int) -> None:
        super().__init__()
        self.clip = clip
        width: int = clip.visual_projection.out_features
        self.units, self.facts = nn.Linear(width, len(ACTION_UNITS)), nn.Linear(width, len(FACTS))
        self.features = nn.Linear(width, channels)
        self.map = nn.Linear(clip.config.vision_config.hidden_size, channels)

    def speak(self, tokens: dict[str, Tensor]) -> Tensor:
        """Normalised embeddings (N, D) of texts."""
        return F.normalize(self.clip.get_text_features(**tokens).pooler_output.float(), dim=-1)


class Batch(NamedTuple):
    """N pictures: voted photographs, other photographs, rendered faces.

    Attributes:
        pixels: float32 (N, 3, 112, 112) in 0..1.
        surely: bool (N, F), facts that are true.
        maybe: bool (N, F), facts that are true or in doubt.
        named: bool (N, F), facts that a caption may name.
        targets: float32 (N, 8), what people say of each; a row of zeros has no label.
        units: float32 (R, A), action units of the rendered ones.
    """

    pixels: Tensor
    surely: np.ndarray
    maybe: np.ndarray
    named: np.ndarray
    targets: Tensor
    units: Tensor


def train(
    folder: Path,
    recipe: Recipe,
    ground: Ground,
    start: Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[DualEncoder, CLIPTokenizer, float]:
    """Train, or go on with a training that was interrupted.

    Every step is a function of the seed and its own number, so an interrupted training ends as one that was not.

    Args:
        folder: Work folder, for `pupil.pt` and `pupil.jsonl`.
        recipe: Parameters; a checkpoint of another recipe is refused.
        ground: Pictures and teacher.
        start: Folder of earlier weights, those of `recipe.start`.
        progress: Called with (what is being done, done, in all).

    Returns:
        The model, its tokenizer, and the seconds of training, without interruptions.

    Raises:
        UserError: If the folder holds a checkpoint of another recipe, or of other photographs.
    """
    progress = progress or (lambda what, done, total: None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    clip, tokenizer = build_dual_encoder(start)
    learner = Learner(clip, ground.teacher.emotions.in_features).to(device)
    average = torch.optim.swa_utils.AveragedModel(learner, avg_fn=running_average(recipe.average), use_buffers=True)
    teacher = ground.teacher.to(device)
    steps = max(1, recipe.pairs // recipe.batch)
    optimizers, schedules = _optimizers(learner, recipe, steps)
    run = ResumableTraining(
        folder,
        "pupil",
        recipe,
        nn.ModuleList([learner, average]),
        optimizers + schedules,
        recipe.checkpoint_every,
        ground.voted.fingerprint + ground.stills.fingerprint,
    )
    kept = cast(Learner, average.module)
    for step in run.steps(steps, progress):
        learner.train()
        losses = _losses(learner, tokenizer, ground._replace(teacher=teacher), recipe, step)
        learner.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for part in optimizers + schedules:
            part.step()
        with torch.no_grad():
            learner.clip.logit_scale.clamp_(max=math.log(50))
        average.update_parameters(learner)
        if (step + 1) % 20 == 0 or step + 1 == steps:
            run.log(step, losses | {"scale": learner.clip.logit_scale.exp()})
        if (step + 1) % recipe.validate_every == 0 or step + 1 == steps:
            run.log(step, validate(kept.clip, tokenizer, ground.validation))
    return kept.clip.cpu().eval(), tokenizer, run.seconds


def validate(clip: DualEncoder, tokenizer: CLIPTokenizer, faces: VotedFaces) -> dict[str, Tensor]:
    """Scores by words alone on the photographs with a clear majority, aligned."""
    clear = faces.clear()
    clip.eval()
    classes = embed_classes(clip, tokenizer, built_in_descriptions(EMOTIONS))
    images = embed_images(clip, build_image_processor(), list(faces.aligned[clear]))
    predicted = (images @ classes.T).argmax(1).numpy()
    return {f"words {name}": torch.tensor(v) for name, v in summarise(faces.labels[clear], predicted).items()}


def _optimizers(learner: Learner, recipe: Recipe, steps: int) -> tuple[list, list]:
    """Muon for the matrices of both towers, AdamW for the rest, and their schedules.

    AdamW alone answers with the averages for a long time before it sees what changes in a face; Muon does not.
    """
    rates = {learner.clip.vision_model: recipe.vision_rate, learner.clip.text_model: recipe.text_rate}
    matrices: list[dict[str, Any]] = [
        {"params": [p for name, p in tower.named_parameters() if p.ndim > 1 and "embedding" not in name], "lr": rate}
        for tower, rate in rates.items()
    ]
    taken = {id(p) for group in matrices for p in group["params"]}
    rest = [p for p in learner.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers = [
        torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98)),
        Muon(matrices, lr=recipe.vision_rate, momentum=0.95, weight_decay=0.02),
    ]
    warm = min(recipe.warm_up, max(1, steps // 2))

    def factor(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
        return (step + 1) / warm if step < warm else cosine

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]


def training_batch(ground: Ground, recipe: Recipe, step: int) -> Batch:
    """Which pictures, under which light, follows from seed and step."""
    rng = np.random.default_rng([recipe.seed, 2, step])
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    voted = in_order(len(ground.voted), recipe.voted, step, recipe.seed)
    stills = in_order(len(ground.stills), recipe.stills, step, recipe.seed + 1)
    drawn = np.sort(in_order(len(ground.rendered.images), recipe.rendered, step, recipe.seed + 2))
    photographs = torch.cat(
        [
            augment_photographs(draw_crops(ground.voted, voted, recipe.aligned, rng), generator),
            augment_photographs(ground.stills.images[stills], generator, coarse=recipe.coarse),
        ]
    )
    pixels = [
        tint(photographs, generator, recipe.coloured),
        augment_rendered(ground.rendered.images[drawn], generator),
    ]
    # The caption of a photograph names an emotion as often as people vote for it.
    votes = ground.voted.votes[voted]
    labels = np.concatenate([_draw(votes, rng), ground.stills.labels[stills]])
    facts = [facts_of_photograph(int(label)) for label in labels]
    named = [with_signs(int(label), rng) if label >= 0 else np.zeros(len(FACTS), bool) for label in labels]
    known = torch.from_numpy(np.concatenate([ground.stills.labels[stills], ground.rendered.labels[drawn]]))
    hard = F.one_hot(known.clamp(min=0), len(CLASSES)).float() * (known >= 0)[:, None]
    return Batch(
        torch.cat(pixels),
        np.concatenate([[sure for sure, _ in facts], ground.rendered.surely[drawn]]),
        np.concatenate([[possible for _, possible in facts], ground.rendered.maybe[drawn]]),
        np.concatenate([named, ground.rendered.surely[drawn]]),
        torch.cat([torch.from_numpy(votes), hard]),
        torch.from_numpy(ground.rendered.action_units[drawn]),
    )


def in_order(total: int, count: int, step: int, seed: int) -> np.ndarray:
    """Indices (count,) of one step, in an order that is drawn anew whenever all have been seen."""
    epoch, place = divmod(step, max(1, total // count))
    return np.random.default_rng([seed, 3, epoch]).permutation(total)[place * count : (place + 1) * count]


def _draw(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A class (N,) for each row of shares (N, K), drawn by them."""
    return (votes.cumsum(1) < rng.uniform(size=(len(votes), 1))).sum(1).clip(max=votes.shape[1] - 1)


def _losses(
    learner: Learner, tokenizer: CLIPTokenizer, ground: Ground, recipe: Recipe, step: int
) -> dict[str, Tensor]:
    """Losses of one step."""
    device = learner.clip.device
    rng = np.random.default_rng([recipe.seed, 6, step])
    batch = training_batch(ground, recipe, step)
    pixels = batch.pixels.to(device)
    # An unlabelled photograph says nothing that a caption could say.
    told = np.flatnonzero(batch.named.any(1))
    texts, needs = zip(*(caption(batch.named[i], rng) for i in told), strict=True)
    tokens = tokenizer([*texts, *class_texts(rng)], padding=True, truncation=True, return_tensors="pt").to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        with torch.no_grad():
            taught = ground.teacher(pixels)
        seen = learner.clip.get_image_features(
            pixel_values=normalise(pixels).contiguous(memory_format=torch.channels_last)
        )
        read = [head(seen.pooler_output).float() for head in (learner.units, learner.facts, learner.features)]
        places = learner.map(seen.last_hidden_state.flatten(2).transpose(1, 2)).float()
        words = learner.speak(tokens)
    units, facts, features = read
    scale = learner.clip.logit_scale.exp()
    images = F.normalize(seen.pooler_output.float(), dim=-1)
    similarity = scale * images[torch.from_numpy(told).to(device)] @ words[: len(told)].T
    named = F.normalize(words[len(told) :].view(len(CLASSES), -1, words.shape[-1]).mean(1), dim=-1)
    losses = {
        "contrast": contrastive_loss(similarity, *(part.to(device) for part in _fits(batch, told, np.stack(needs)))),
        "classes": _class_loss(scale * images @ named.T, taught.logits.float(), batch, recipe),
        "features": F.smooth_l1_loss(features, _standardised(taught.features.float())),
        # Most action units are absent from most pictures: unstandardised, answering 0 is hard to improve on.
        "units": (((units[-len(batch.units) :] - batch.units.to(device)) / UNIT_DEVIATION) ** 2).mean(),
        "facts": _fact_loss(facts, batch),
        "map": F.smooth_l1_loss(places, _taught_map(taught, seen.last_hidden_state.shape[2:])),
    }
    weights = {"contrast": 1.0, "classes": recipe.class_weight, "features": recipe.feature_weight}
    weights |= {"units": recipe.unit_weight, "facts": recipe.fact_weight, "map": recipe.map_weight}
    loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    return {"loss": loss, **losses}


def class_texts(rng: np.random.Generator) -> list[str]:
    """Texts of all `CLASSES`, equally many of each: built-in descriptions, and captions that name the class."""
    described = built_in_descriptions(EMOTIONS)
    texts = []
    for label, name in enumerate(CLASSES):
        known = list(described.get(name, ()))
        count = min(_DESCRIPTIONS, len(known))
        texts += [f"{CONTEXT} {text}" for text in rng.permutation(known)[:count]]
        texts += [caption(with_signs(label, rng), rng)[0] for _ in range(_DESCRIPTIONS + _CAPTIONS - count)]
    return texts


def _fits(batch: Batch, told: np.ndarray, needs: np.ndarray) -> tuple[Tensor, Tensor]:
    """Which captions (N, N) are true of which pictures, and which are in doubt."""
    required = torch.from_numpy(needs).float()
    surely, maybe = (torch.from_numpy(known[told]).float() for known in (batch.surely, batch.maybe))
    own = torch.eye(len(told), dtype=torch.bool)
    fits = (surely @ required.T == required.sum(1)) | own
    return fits, (maybe @ required.T == required.sum(1)) & ~fits


def _class_loss(answers: Tensor, taught: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """Cross-entropy of what people and teacher say; the teacher says nothing of rendered pictures."""
    real = len(answers) - len(batch.units)
    targets = batch.targets.to(answers.device)
    named = targets.sum(1, keepdim=True) > 0
    said = taught[:real].softmax(-1)
    mixed = torch.where(named[:real], recipe.trust * said + (1 - recipe.trust) * targets[:real], said)
    targets = torch.cat([mixed, targets[real:]])
    return balanced_cross_entropy(answers, targets, [real, len(batch.units)], recipe.balance)


def _fact_loss(facts: Tensor, batch: Batch) -> Tensor:
    surely, maybe = (torch.from_numpy(known).float().to(facts.device) for known in (batch.surely, batch.maybe))
    return F.binary_cross_entropy_with_logits(facts, surely, weight=1 - maybe + surely)


def _standardised(values: Tensor) -> Tensor:
    """Every channel (the last axis) counts alike, however strong it is."""
    rows = values.flatten(0, -2)
    return (values - rows.mean(0)) / (rows.std(0) + 1e-3)


def _taught_map(taught: Seen, size: Sequence[int]) -> Tensor:
    """The teacher's map at `size`, as places (N, H x W, C)."""
    return _standardised(F.adaptive_avg_pool2d(taught.map.float(), (size[0], size[1])).flatten(2).transpose(1, 2))


def balanced_cross_entropy(answers: Tensor, target: Tensor, parts: Sequence[int], balance: float = 1.0) -> Tensor:
    """Cross-entropy that lets no class be answered for being frequent (Menon et al., 2021; Ren et al., 2020).

    Most photographs are neutral or happy. The frequency of a class in its part of the batch is added to its logit, as
    its logarithm, so that the logit itself need not say how frequent it is.

    Args:
        answers: (N, K) logits.
        target: (N, K) probabilities; a row of zeros has no part.
        parts: Sizes of the parts of the batch that have frequencies of their own; their sum is N.
        balance: How much of the logarithm is added, 0 to 1.
    """
    frequency = torch.cat(
        [
            (part.sum(0) / part.sum().clamp(min=1e-6)).clamp(min=1e-3).log().expand(len(part), -1)
            for part in target.split(list(parts))
        ]
    )
    return -(target * (answers + balance * frequency).log_softmax(-1)).sum() / target.sum().clamp(min=1e-6)


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
