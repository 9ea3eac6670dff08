"""Contrastive training of `clip-tiny-faces` on rendered faces and captions."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tgdfer.training.clip_tiny_faces.captions import FACTS, all_words, caption
from tgdfer.training.clip_tiny_faces.stills import Stills, cached_stills
from tgdfer.training.clip_tiny_faces.tokenizer import MAX_LENGTH, train_tokenizer
from tgdfer.training.rendered_faces import ACTION_UNITS

# Means and standard deviations of the rendered pictures' channels; what the image processor says.
IMAGE_MEAN, IMAGE_STD = (0.50, 0.44, 0.40), (0.24, 0.23, 0.22)


# Typical standard deviation of an action unit's intensity over the pictures.
UNIT_DEVIATION = 0.25


@dataclass(frozen=True)
class Recipe:
    """All parameters of the training.

    Attributes:
        images: Rendered pictures.
        people: People they show.
        pairs: Pairs of picture and caption seen in training.
        batch: Pairs a step.
        ramp: So many pictures, the first to be seen, grow from easy to as varied as the rest.
        rate: Highest learning rate of AdamW; warm-up over 5 % of the steps, then a cosine.
        muon_rate: That of Muon (Jordan et al., 2024), which trains the matrices of both towers.
        decay: Weight decay.
        unit_weight: Weight of the auxiliary regression of (standardised) action units from the pooled image.
        fact_weight: Weight of the auxiliary recognition of all facts that captions speak of, likewise.
        seed: Decides everything.
        checkpoint_every: Steps between two checkpoints.
        bfloat16: Train in bfloat16; weights stay in float32.
    """

    images: int = 24_000
    people: int = 4_000
    ramp: int = 12_000
    pairs: int = 120_000
    batch: int = 64
    rate: float = 1e-3
    muon_rate: float = 0.02
    decay: float = 0.05
    unit_weight: float = 1.0
    fact_weight: float = 5.0
    seed: int = 0
    checkpoint_every: int = 100
    bfloat16: bool = True


class Learner(nn.Module):
    """The CLIP, and heads that read action units and facts from its pooled image; they are thrown away."""

    def __init__(self, clip: CLIPModel):
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.units, self.facts = nn.Linear(width, len(ACTION_UNITS)), nn.Linear(width, len(FACTS))

    def read(self, vision) -> tuple[Tensor, Tensor]:
        """Action units (N, A) and logits of facts (N, F) from the output of the vision tower.

        From the mean of all patches and the class token in equal shares: the patches learn at once, while the class
        token sees hardly anything of them in the beginning.
        """
        patches = self.clip.vision_model.post_layernorm(vision.last_hidden_state[:, 1:].mean(1))
        seen = patches + vision.pooler_output
        return self.units(seen).float(), self.facts(seen).float()


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP of four million parameters for 112 x 112 pictures, with random weights."""
    text = {
        "vocab_size": len(tokenizer),
        "projection_dim": 192,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_act": "gelu",
    }
    vision = {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "projection_dim": 192,
        "image_size": 112,
        "patch_size": 16,
        "hidden_act": "gelu",
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=192)
    # On CPUs the fused attention's backward pass takes longer than all the rest.
    model = CLIPModel._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        # Places as sines, which tell neighbours from strangers; the noise of 0.02 of CLIP hides under the pixels.
        model.vision_model.embeddings.position_embedding.weight.copy_(
            0.5 * _sines(7, config.vision_config.hidden_size)
        )
    return model


@torch.no_grad()
def whiten_patches(model: CLIPModel, pixels: Tensor) -> None:
    """Let the patch embedding begin with the whitened principal components of patches.

    Light and colour make up nearly all of the variance of a patch; what a brow does is in the fine remainder.

    Args:
        model: Whose patch embedding to set.
        pixels: (N, 3, H, W), normalised.
    """
    weight = model.vision_model.embeddings.patch_embedding.weight
    patches = F.unfold(pixels, weight.shape[-1], stride=weight.shape[-1]).transpose(1, 2).flatten(0, 1)
    variance, components = torch.linalg.eigh(torch.cov(patches.T))
    first = slice(-len(weight), None)
    weight.copy_((0.5 * components[:, first] / (variance[first] + 0.05).sqrt()).T.reshape(weight.shape))


def _sines(side: int, width: int) -> Tensor:
    """Embeddings (1 + side * side, width) of the class token, which has no place, and of a square of patches."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequencies = 20.0 ** -(torch.arange(width // 4) / (width // 4))
    waves = [wave(axis.reshape(-1, 1) * frequencies) for axis in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, width), torch.cat(waves, 1)])


def build_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """The tokenizer, learned from captions and from the words of the built-in class descriptions."""
    from tgdfer.processing.descriptions import built_in_descriptions

    rng = np.random.default_rng([seed, 1])
    words = [text for texts in built_in_descriptions().values() for text in texts] + list(all_words())
    captions = (caption(rng.uniform(size=len(FACTS)) < 0.3, rng)[0] for _ in range(4000))
    return train_tokenizer([*words, *words, *captions])


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


def augment(images: np.ndarray, generator: torch.Generator) -> Tensor:
    """From stored pictures to normalised pixels, each one framed, lit and coloured anew.

    Args:
        images: uint8 (N, H, W, 3).
        generator: Source of chance.

    Returns:
        float32 (N, 3, H, W).
    """

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    count = len(pixels)
    grid = torch.zeros(count, 2, 3)
    scale = 0.95 + 0.1 * chance(count)
    grid[:, 0, 0] = grid[:, 1, 1] = scale
    grid[:, :, 2] = 0.06 * (chance(count, 2) - 0.5)
    sampling = F.affine_grid(grid, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, sampling, padding_mode="border", align_corners=False)
    # Some in grey, as many photographs are; another gamma for each.
    grey = pixels.mean(1, keepdim=True)
    pixels = torch.where(chance(count, 1, 1, 1) < 0.25, grey.expand_as(pixels), pixels)
    pixels = pixels.clamp(1e-3, 1) ** torch.exp(0.3 * (chance(count, 1, 1, 1) - 0.5))
    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - middle) * (0.8 + 0.4 * chance(count, 1, 1, 1)) + middle
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear", align_corners=False)
    pixels = torch.where(chance(count, 1, 1, 1) < 0.15, soft, pixels)
    return normalise(pixels)


def normalise(pixels: Tensor) -> Tensor:
    """Normalise (N, 3, H, W) in 0..1 as the image processor does."""
    return (pixels - torch.tensor(IMAGE_MEAN).view(3, 1, 1)) / torch.tensor(IMAGE_STD).view(3, 1, 1)


def train(
    folder: Path, recipe: Recipe, workers: int = 1, progress: Callable[[str, int, int], None] | None = None
) -> tuple[CLIPModel, CLIPTokenizer, float]:
    """Train, or go on with a training that was interrupted.

    Every step is a function of the seed and its own number, so an interrupted training ends as one that was not.

    Args:
        folder: Work folder: pictures, `log.jsonl` and `checkpoint.pt`.
        recipe: Parameters; a checkpoint of another recipe is refused.
        workers: Processes that render.
        progress: Called with (what is being done, done, in all).

    Returns:
        The model, its tokenizer, and the seconds of training and rendering, interruptions not counted.

    Raises:
        ValueError: If the folder holds a checkpoint of another recipe.
    """
    progress = progress or (lambda what, done, total: None)
    begin = time.perf_counter()
    state_file = folder / "checkpoint.pt"
    state = torch.load(state_file, weights_only=True) if state_file.is_file() else None
    if state and state["recipe"] != asdict(recipe):
        raise ValueError(f"{state_file} belongs to another recipe: name another work folder or remove it.")
    stills = cached_stills(
        folder / "stills",
        recipe.images,
        recipe.people,
        recipe.seed,
        recipe.ramp,
        workers=workers,
        progress=lambda done, total: progress("rendering", done, total),
    )
    tokenizer = build_tokenizer(recipe.seed)
    torch.manual_seed(recipe.seed)
    learner = Learner(build_model(tokenizer))
    steps = max(1, recipe.pairs // recipe.batch)
    sample = torch.from_numpy(np.array(stills.images[:: max(1, recipe.images // 1000)]))
    whiten_patches(learner.clip, normalise(sample.permute(0, 3, 1, 2) / 255))
    optimizers, schedules = _optimizers(learner, recipe, steps)
    first, before = 0, 0.0
    if state:
        learner.load_state_dict(state["learner"])
        for part, saved in zip(optimizers + schedules, state["optimizers"] + state["schedules"], strict=True):
            part.load_state_dict(saved)
        first, before = state["step"], state["seconds"]
    learner.train()
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in range(first, steps):
            losses = _step(learner, tokenizer, stills, recipe, step)
            learner.zero_grad()
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            for part in optimizers + schedules:
                part.step()
            with torch.no_grad():
                learner.clip.logit_scale.clamp_(max=math.log(50))
            progress("training", step + 1, steps)
            if (step + 1) % 20 == 0 or step + 1 == steps:
                row = {"step": step + 1, **{name: round(float(value.detach()), 4) for name, value in losses.items()}}
                log.write(
                    json.dumps({**row, "scale": round(float(learner.clip.logit_scale.detach().exp()), 2)}) + "\n"
                )
                log.flush()
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == steps:
                state = {
                    "recipe": asdict(recipe),
                    "learner": learner.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "schedules": [schedule.state_dict() for schedule in schedules],
                    "step": step + 1,
                    "seconds": before + time.perf_counter() - begin,
                }
                torch.save(state, state_file.with_suffix(".part"))
                os.replace(state_file.with_suffix(".part"), state_file)
    seconds = state["seconds"] if state else 0.0
    return learner.clip.eval(), tokenizer, seconds


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
    optimizers = [
        torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98)),
        torch.optim.Muon(matrices, lr=recipe.muon_rate, momentum=0.9, weight_decay=0.01),
    ]
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
        return (step + 1) / warm if step < warm else cosine

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]


def _step(learner: Learner, tokenizer: CLIPTokenizer, stills: Stills, recipe: Recipe, step: int) -> dict[str, Tensor]:
    """Losses of one batch; which pictures, in which words, under which light follows from seed and step."""
    rng = np.random.default_rng([recipe.seed, 2, step])
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    per_epoch = max(1, recipe.images // recipe.batch)
    epoch, place = divmod(step, per_epoch)
    shuffle = np.random.default_rng([recipe.seed, 3, epoch])
    # The first time nearly in the order in which they were drawn, from easy to hard.
    reach = min(2000, recipe.images) if epoch == 0 else recipe.images**2
    order = np.argsort(np.arange(recipe.images) + shuffle.uniform(0, reach, recipe.images))
    chosen = np.sort(order[place * recipe.batch : (place + 1) * recipe.batch])
    texts, needs = zip(*(caption(stills.surely[i], rng) for i in chosen), strict=True)
    required = torch.from_numpy(np.stack(needs)).float()
    surely, maybe = (torch.from_numpy(facts[chosen]).float() for facts in (stills.surely, stills.maybe))
    fits = surely @ required.T == required.sum(1)
    doubtful = (maybe @ required.T == required.sum(1)) & ~fits
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    pixels = augment(stills.images[chosen], generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        outputs = learner.clip(**tokens, pixel_values=pixels)
        units, recognised = learner.read(outputs.vision_model_output)
    similarity = outputs.image_embeds.float() @ outputs.text_embeds.float().T * learner.clip.logit_scale.exp()
    contrast = contrastive_loss(similarity, fits, doubtful)
    truth = torch.from_numpy(stills.action_units[chosen])
    # Most action units are absent from most pictures: without standardising, answering 0 is hard to improve on.
    regression = (((units - truth) / UNIT_DEVIATION) ** 2).mean()
    facts = F.binary_cross_entropy_with_logits(recognised, surely, weight=1 - maybe + surely)
    loss = contrast + recipe.unit_weight * regression + recipe.fact_weight * facts
    return {"loss": loss, "contrast": contrast, "units": regression, "facts": facts}
