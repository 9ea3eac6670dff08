"""Trains `clip-tiny-faces` with captions, with votes for classes, and with outputs of the teacher."""

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
from recipes.clip_tiny_faces.expression_net import ExpressionNet, NetOutput
from recipes.clip_tiny_faces.ferplus import CLASSES, VotedFaces
from recipes.clip_tiny_faces.muon import Muon
from recipes.clip_tiny_faces.photographs import Photographs, facts_of_photograph, facts_with_action_units
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

# Number of texts that are drawn for each class in every step: built-in descriptions, and captions.
_DESCRIPTIONS, _CAPTIONS = 2, 1


@dataclass(frozen=True)
class Recipe:
    """All parameters of the training.

    Attributes:
        start (`str`, *optional*, defaults to `""`): SHA-256 of the initial weights.
        teacher (`str`, *optional*, defaults to `""`): SHA-256 of the weights of the teacher.
        pairs (`int`, *optional*, defaults to `280000`): Total number of training pictures, over all steps.
        voted (`int`, *optional*, defaults to `72`): Number of photographs with votes per step.
        stills (`int`, *optional*, defaults to `24`): Number of other photographs per step, with or without a label.
        rendered (`int`, *optional*, defaults to `32`): Number of rendered pictures per step.
        aligned (`float`, *optional*, defaults to `0.6`): Share of the photographs with votes that are cropped as in
            prediction. The others are not cropped.
        coarse (`float`, *optional*, defaults to `0.4`): Share of the other photographs that are reduced to the
            resolution of the photographs with votes.
        coloured (`float`, *optional*, defaults to `0.5`): Share of the photographs, all of which are grey, that are
            tinted.
        rate (`float`, *optional*, defaults to `0.001`): Highest learning rate of AdamW.
        vision_rate (`float`, *optional*, defaults to `0.02`): Highest learning rate of Muon (Jordan et al., 2024) for
            the convolutions of the vision tower.
        text_rate (`float`, *optional*, defaults to `0.01`): Highest learning rate of Muon for the matrices of the text
            tower, which is already trained.
        warm_up (`int`, *optional*, defaults to `312`): Number of steps in which all learning rates rise. Afterwards
            they fall to zero along a cosine.
        decay (`float`, *optional*, defaults to `0.05`): Weight decay.
        trust (`float`, *optional*, defaults to `0.5`): Weight (0 to 1) of the teacher in the targets of a photograph.
            The rest is that of votes or label.
        balance (`float`, *optional*, defaults to `0.3`): Strength (0 to 1) of the correction for class frequency; see
            `balanced_cross_entropy`.
        class_weight (`float`, *optional*, defaults to `2.0`): Weight of the cross-entropy over the texts of the
            classes.
        feature_weight (`float`, *optional*, defaults to `2.0`): Weight of the regression of the teacher's features.
        map_weight (`float`, *optional*, defaults to `2.0`): Weight of the regression of the teacher's feature map from
            the last map of the vision tower.
        unit_weight (`float`, *optional*, defaults to `0.5`): Weight of the regression of action units.
        fact_weight (`float`, *optional*, defaults to `2.0`): Weight of the classification of the facts that captions
            mention.
        average (`float`, *optional*, defaults to `0.998`): Decay of the running average of the weights. The average is
            the result of the training.
        seed (`int`, *optional*, defaults to `0`): Random seed of the training.
        checkpoint_every (`int`, *optional*, defaults to `100`): Number of steps between checkpoints.
        validate_every (`int`, *optional*, defaults to `400`): Number of steps between measurements on the validation
            split.
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
        """Number of pictures per step."""
        return self.voted + self.stills + self.rendered


class TrainingData(NamedTuple):
    """Pictures and teacher for the training."""

    voted: VotedFaces
    validation: VotedFaces
    stills: Photographs
    rendered: Stills
    teacher: ExpressionNet


class DualEncoderWithHeads(nn.Module):
    """The dual encoder, with heads on its image embedding that are used only in training.

    Args:
        clip (`DualEncoder`): The dual encoder.
        channels (`int`): Number of features of the teacher.
    """

    def __init__(self, clip: DualEncoder, channels: int) -> None:
        super().__init__()
        self.clip = clip
        width: int = clip.visual_projection.out_features
        self.units, self.facts = nn.Linear(width, len(ACTION_UNITS)), nn.Linear(width, len(FACTS))
        self.features = nn.Linear(width, channels)
        self.map = nn.Linear(clip.config.vision_config.hidden_size, channels)

    def embed_texts(self, tokens: dict[str, Tensor]) -> Tensor:
        """Returns normalised embeddings (N, D) of texts."""
        return F.normalize(self.clip.get_text_features(**tokens).pooler_output.float(), dim=-1)


class Batch(NamedTuple):
    """N pictures: photographs with votes, then other photographs, then rendered faces.

    Attributes:
        pixels (`torch.Tensor` of shape `(N, 3, 112, 112)`): Pictures, float32, 0 to 1.
        certain (`np.ndarray` of shape `(N, F)`): Whether each of `FACTS` is certainly true.
        possible (`np.ndarray` of shape `(N, F)`): Whether each of `FACTS` is true or doubtful.
        mentioned (`np.ndarray` of shape `(N, F)`): Whether a caption may mention each of `FACTS`.
        targets (`torch.Tensor` of shape `(N, 8)`): Shares of the votes or one-hot labels, float32. A row of zeros has
            no label.
        units (`torch.Tensor` of shape `(R, A)`): Action units of the rendered pictures, float32.
    """

    pixels: Tensor
    certain: np.ndarray
    possible: np.ndarray
    mentioned: np.ndarray
    targets: Tensor
    units: Tensor


def train(
    folder: Path,
    recipe: Recipe,
    data: TrainingData,
    start: Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[DualEncoder, CLIPTokenizer, float]:
    """Trains the dual encoder, or resumes an interrupted training.

    Each step depends only on the seed and its number. An interrupted training gives the same result as an
    uninterrupted one.

    Args:
        folder (`Path`): Work folder for `pupil.pt` and `pupil.jsonl`.
        recipe (`Recipe`): Parameters of the training. A checkpoint of another recipe is rejected.
        data (`TrainingData`): Pictures and teacher.
        start (`Path`): Folder of the initial weights, with the hash `recipe.start`.
        progress (`Callable`, *optional*): Called with the name of the training, the number of finished steps and the
            total.

    Returns:
        `tuple[DualEncoder, CLIPTokenizer, float]`: The model, its tokenizer, and the duration of the training in
        seconds, without interruptions.

    Raises:
        UserError: If the folder contains a checkpoint of another recipe or of other photographs.
    """
    progress = progress or (lambda name, done, total: None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    clip, tokenizer = build_dual_encoder(start)
    learner = DualEncoderWithHeads(clip, data.teacher.emotions.in_features).to(device)
    average = torch.optim.swa_utils.AveragedModel(learner, avg_fn=running_average(recipe.average), use_buffers=True)
    teacher = data.teacher.to(device)
    steps = max(1, recipe.pairs // recipe.batch)
    optimizers, schedules = _optimizers(learner, recipe, steps)
    run = ResumableTraining(
        folder,
        "pupil",
        recipe,
        nn.ModuleList([learner, average]),
        optimizers + schedules,
        recipe.checkpoint_every,
        data.voted.fingerprint + data.stills.fingerprint,
    )
    averaged = cast(DualEncoderWithHeads, average.module)
    for step in run.steps(steps, progress):
        learner.train()
        losses = _losses(learner, tokenizer, data._replace(teacher=teacher), recipe, step)
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
            run.log(step, validate(averaged.clip, tokenizer, data.validation))
    return averaged.clip.cpu().eval(), tokenizer, run.seconds


def validate(clip: DualEncoder, tokenizer: CLIPTokenizer, faces: VotedFaces) -> dict[str, Tensor]:
    """Measures zero-shot classification on the aligned photographs with a clear majority."""
    rows = faces.majority_indices()
    clip.eval()
    classes = embed_classes(clip, tokenizer, built_in_descriptions(EMOTIONS))
    images = embed_images(clip, build_image_processor(), list(faces.aligned[rows]))
    predicted = (images @ classes.T).argmax(1).numpy()
    return {f"zero-shot {name}": torch.tensor(v) for name, v in summarise(faces.labels[rows], predicted).items()}


def _optimizers(learner: DualEncoderWithHeads, recipe: Recipe, steps: int) -> tuple[list, list]:
    """Returns Muon for the matrices of both towers, AdamW for the other parameters, and their schedules.

    With AdamW alone, the model predicts only averages for a long time. With Muon it does not.
    """
    rates = {learner.clip.vision_model: recipe.vision_rate, learner.clip.text_model: recipe.text_rate}
    matrices: list[dict[str, Any]] = [
        {"params": [p for name, p in tower.named_parameters() if p.ndim > 1 and "embedding" not in name], "lr": rate}
        for tower, rate in rates.items()
    ]
    muon_parameters = {id(p) for group in matrices for p in group["params"]}
    rest = [p for p in learner.parameters() if id(p) not in muon_parameters]
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


def training_batch(data: TrainingData, recipe: Recipe, step: int) -> Batch:
    """Draws and augments the pictures of a step. The result depends only on the seed and the step."""
    rng = np.random.default_rng([recipe.seed, 2, step])
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    voted = epoch_indices(len(data.voted), recipe.voted, step, recipe.seed)
    stills = epoch_indices(len(data.stills), recipe.stills, step, recipe.seed + 1)
    drawn = np.sort(epoch_indices(len(data.rendered.images), recipe.rendered, step, recipe.seed + 2))
    photographs = torch.cat(
        [
            augment_photographs(draw_crops(data.voted, voted, recipe.aligned, rng), generator),
            augment_photographs(data.stills.images[stills], generator, coarse=recipe.coarse),
        ]
    )
    pixels = [
        tint(photographs, generator, recipe.coloured),
        augment_rendered(data.rendered.images[drawn], generator),
    ]
    # The caption of a photograph mentions an emotion as often as people vote for it.
    votes = data.voted.votes[voted]
    labels = np.concatenate([_draw(votes, rng), data.stills.labels[stills]])
    facts = [facts_of_photograph(int(label)) for label in labels]
    mentioned = [
        facts_with_action_units(int(label), rng) if label >= 0 else np.zeros(len(FACTS), bool) for label in labels
    ]
    known = torch.from_numpy(np.concatenate([data.stills.labels[stills], data.rendered.labels[drawn]]))
    one_hot = F.one_hot(known.clamp(min=0), len(CLASSES)).float() * (known >= 0)[:, None]
    return Batch(
        torch.cat(pixels),
        np.concatenate([[certain for certain, _ in facts], data.rendered.certain[drawn]]),
        np.concatenate([[possible for _, possible in facts], data.rendered.possible[drawn]]),
        np.concatenate([mentioned, data.rendered.certain[drawn]]),
        torch.cat([torch.from_numpy(votes), one_hot]),
        torch.from_numpy(data.rendered.action_units[drawn]),
    )


def epoch_indices(total: int, count: int, step: int, seed: int) -> np.ndarray:
    """Returns the indices (count,) of a step. The order is shuffled again in every epoch.

    Args:
        total (`int`): Number of items.
        count (`int`): Number of items per step.
        step (`int`): Number of the step.
        seed (`int`): Random seed of the order.
    """
    epoch, step_in_epoch = divmod(step, max(1, total // count))
    order = np.random.default_rng([seed, 3, epoch]).permutation(total)
    return order[step_in_epoch * count : (step_in_epoch + 1) * count]


def _draw(votes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a class (N,) for each row of shares (N, K)."""
    return (votes.cumsum(1) < rng.uniform(size=(len(votes), 1))).sum(1).clip(max=votes.shape[1] - 1)


def _losses(
    learner: DualEncoderWithHeads, tokenizer: CLIPTokenizer, data: TrainingData, recipe: Recipe, step: int
) -> dict[str, Tensor]:
    """Computes the losses of one step."""
    device = learner.clip.device
    rng = np.random.default_rng([recipe.seed, 6, step])
    batch = training_batch(data, recipe, step)
    pixels = batch.pixels.to(device)
    # Photographs without a label have no facts for a caption.
    captioned = np.flatnonzero(batch.mentioned.any(1))
    texts, required = zip(*(caption(batch.mentioned[i], rng) for i in captioned), strict=True)
    tokens = tokenizer([*texts, *class_texts(rng)], padding=True, truncation=True, return_tensors="pt").to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        with torch.no_grad():
            teacher = data.teacher(pixels)
        output = learner.clip.get_image_features(
            pixel_values=normalise(pixels).contiguous(memory_format=torch.channels_last)
        )
        units, facts, features = (
            head(output.pooler_output).float() for head in (learner.units, learner.facts, learner.features)
        )
        feature_map = learner.map(output.last_hidden_state.flatten(2).transpose(1, 2)).float()
        text_embeds = learner.embed_texts(tokens)
    scale = learner.clip.logit_scale.exp()
    images = F.normalize(output.pooler_output.float(), dim=-1)
    count = len(captioned)
    similarity = scale * images[torch.from_numpy(captioned).to(device)] @ text_embeds[:count].T
    classes = F.normalize(text_embeds[count:].view(len(CLASSES), -1, text_embeds.shape[-1]).mean(1), dim=-1)
    matches = (part.to(device) for part in _caption_matches(batch, captioned, np.stack(required)))
    losses = {
        "contrast": contrastive_loss(similarity, *matches),
        "classes": _class_loss(scale * images @ classes.T, teacher.logits.float(), batch, recipe),
        "features": F.smooth_l1_loss(features, _standardised(teacher.features.float())),
        # Most action units are absent in most pictures. Without the division, predicting 0 would be hard to improve.
        "units": (((units[-len(batch.units) :] - batch.units.to(device)) / UNIT_DEVIATION) ** 2).mean(),
        "facts": _fact_loss(facts, batch),
        "map": F.smooth_l1_loss(feature_map, _teacher_map(teacher, output.last_hidden_state.shape[2:])),
    }
    weights = {"contrast": 1.0, "classes": recipe.class_weight, "features": recipe.feature_weight}
    weights |= {"units": recipe.unit_weight, "facts": recipe.fact_weight, "map": recipe.map_weight}
    loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    return {"loss": loss, **losses}


def class_texts(rng: np.random.Generator) -> list[str]:
    """Draws texts for all `CLASSES`, equally many for each: descriptions, and captions that mention the class."""
    descriptions = built_in_descriptions(EMOTIONS)
    texts = []
    for label, name in enumerate(CLASSES):
        own = list(descriptions.get(name, ()))
        count = min(_DESCRIPTIONS, len(own))
        texts += [f"{CONTEXT} {text}" for text in rng.permutation(own)[:count]]
        texts += [
            caption(facts_with_action_units(label, rng), rng)[0] for _ in range(_DESCRIPTIONS + _CAPTIONS - count)
        ]
    return texts


def _caption_matches(batch: Batch, captioned: np.ndarray, required: np.ndarray) -> tuple[Tensor, Tensor]:
    """Compares every captioned picture with every caption.

    Args:
        batch (`Batch`): Pictures of a step.
        captioned (`np.ndarray` of shape `(N,)`): Indices of the pictures with a caption.
        required (`np.ndarray` of shape `(N, F)`): Facts that the caption of each of these pictures requires.

    Returns:
        `tuple[Tensor, Tensor]`: Boolean matrices (N, N), pictures by captions: whether the caption is true of the
        picture, and whether that is doubtful.
    """
    facts = torch.from_numpy(required).float()
    certain, possible = (torch.from_numpy(known[captioned]).float() for known in (batch.certain, batch.possible))
    own = torch.eye(len(captioned), dtype=torch.bool)
    matches = (certain @ facts.T == facts.sum(1)) | own
    return matches, (possible @ facts.T == facts.sum(1)) & ~matches


def _class_loss(logits: Tensor, teacher_logits: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """Computes the cross-entropy with votes, labels and predictions of the teacher.

    The predictions of the teacher are not used for rendered pictures.
    """
    real = len(logits) - len(batch.units)
    targets = batch.targets.to(logits.device)
    labelled = targets.sum(1, keepdim=True) > 0
    teacher = teacher_logits[:real].softmax(-1)
    mixed = torch.where(labelled[:real], recipe.trust * teacher + (1 - recipe.trust) * targets[:real], teacher)
    targets = torch.cat([mixed, targets[real:]])
    return balanced_cross_entropy(logits, targets, [real, len(batch.units)], recipe.balance)


def _fact_loss(facts: Tensor, batch: Batch) -> Tensor:
    """Computes the binary cross-entropy of the facts. Doubtful facts have no weight."""
    certain, possible = (torch.from_numpy(known).float().to(facts.device) for known in (batch.certain, batch.possible))
    return F.binary_cross_entropy_with_logits(facts, certain, weight=1 - possible + certain)


def _standardised(values: Tensor) -> Tensor:
    """Standardises each channel (the last axis), so that all channels have the same weight in a loss."""
    rows = values.flatten(0, -2)
    return (values - rows.mean(0)) / (rows.std(0) + 1e-3)


def _teacher_map(teacher: NetOutput, size: Sequence[int]) -> Tensor:
    """Returns the standardised feature map of the teacher, resized to `size`, as (N, H x W, C)."""
    return _standardised(F.adaptive_avg_pool2d(teacher.map.float(), (size[0], size[1])).flatten(2).transpose(1, 2))


def balanced_cross_entropy(logits: Tensor, target: Tensor, parts: Sequence[int], balance: float = 1.0) -> Tensor:
    """Computes the cross-entropy with logit adjustment for class frequency (Menon et al., 2021; Ren et al., 2020).

    Most photographs are neutral or happy. The logarithm of the frequency of each class is added to its logit, so the
    logit itself does not have to model the frequency. Each part of the batch has its own frequencies.

    Args:
        logits (`torch.Tensor` of shape `(N, K)`): Logits.
        target (`torch.Tensor` of shape `(N, K)`): Probabilities. Rows of zeros are ignored.
        parts (`Sequence[int]`): Sizes of the parts of the batch. Their sum is N.
        balance (`float`, *optional*, defaults to `1.0`): Factor (0 to 1) of the logarithm.
    """
    frequency = torch.cat(
        [
            (part.sum(0) / part.sum().clamp(min=1e-6)).clamp(min=1e-3).log().expand(len(part), -1)
            for part in target.split(list(parts))
        ]
    )
    return -(target * (logits + balance * frequency).log_softmax(-1)).sum() / target.sum().clamp(min=1e-6)


def contrastive_loss(similarity: Tensor, matches: Tensor, doubtful: Tensor) -> Tensor:
    """Computes the contrastive loss in both directions. A picture may have several positive captions.

    Args:
        similarity (`torch.Tensor` of shape `(N, N)`): Scaled cosines, pictures by captions.
        matches (`torch.Tensor` of shape `(N, N)`): Whether the caption is true of the picture. True on the diagonal.
        doubtful (`torch.Tensor` of shape `(N, N)`): Whether that is doubtful. These pairs are excluded.
    """
    similarity = similarity.masked_fill(doubtful, -1e4)
    total = similarity.new_zeros(())
    for scores, targets in ((similarity, matches), (similarity.T, matches.T)):
        weights = targets / targets.sum(1, keepdim=True)
        total = total - (weights * scores.log_softmax(1)).sum(1).mean() / 2
    return total
