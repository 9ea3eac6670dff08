"""Training of `tgdfer-tiny` on frozen features, and its figures on what was held out."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich import get_console
from torch.utils.data import DataLoader

from recipes.tgdfer_tiny.material import Material
from recipes.tgdfer_tiny.training_clips import Bags, ClipSource, MixedClips, Photographs, Videos
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.measure import measure_model, predict_batches
from tgdfer.training.train import TrainingLoop, parameter_groups, start_accelerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """All parameters of the training.

    Attributes:
        fold: Fifth of the people in the training clips that is held out.
        photographs: Photographs in an epoch.
        bags: Bags of photographs in an epoch.
        balance: Photographs are drawn by the frequency of their class to the power of minus this.
        real_repeats: How often each real clip is seen in an epoch.
        rendered_repeats: How often each rendered clip of an emotion is seen in an epoch.
        neutral_repeats: The same of those that are neutral. They smile, speak and frown a little as well, so that they
            are the hardest to tell.
        real_doubt: Share of the times in which a real clip gets a label at random, because the labels are noisy.
        rendered_doubt: The same of rendered clips, so that the model is no surer of them than of photographs.
        epochs: Passes over all clips.
        batch_size: Clips a step.
        rate: Highest learning rate of all that is trained.
        options: Fields of `TGDFERConfig` that differ from its defaults.
        seed: Decides everything.
    """

    fold: int = 0
    photographs: int = 10_000
    bags: int = 7_000
    balance: float = 0.3
    real_repeats: int = 6
    rendered_repeats: int = 6
    neutral_repeats: int = 12
    real_doubt: float = 0.3
    rendered_doubt: float = 0.1
    epochs: int = 6
    batch_size: int = 128
    rate: float = 1e-3
    options: Mapping[str, Any] = field(
        default_factory=lambda: {"mil_pooling": "topk", "label_smoothing": 0.0, "initial_scale": 16.0}
    )
    seed: int = 0

    @property
    def optimisation(self) -> OptimisationConfig:
        """How the weights are updated."""
        return OptimisationConfig(
            epochs=self.epochs, batch_size=self.batch_size, prompts_lr=self.rate, new_lr=self.rate
        )


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came about.

    Attributes:
        model: The model, in `eval` mode.
        clips: Number of clips in an epoch, by source.
        seconds: Seconds of training.
    """

    model: TGDFERForVideoClassification
    clips: dict[str, int]
    seconds: float


def train(material: Material, recipe: Recipe) -> Trained:
    """Train on photographs, bags of photographs, and real and rendered clips.

    Args:
        material: What is seen.
        recipe: Parameters.
    """
    accelerator = start_accelerator()
    model, _ = material.new_network(recipe.options)
    options = recipe.optimisation
    sources = training_sources(material, recipe)
    data = MixedClips(list(sources.values()), recipe.seed, model.config.num_frames)
    loop = TrainingLoop(model, data, parameter_groups(model, options), options, accelerator, recipe.seed)
    start = time.perf_counter()
    for epoch in range(options.epochs):
        loss = loop.train_epoch(epoch)
        get_console().print(
            f"Epoch {epoch + 1} of {options.epochs}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s"
        )
    counts = {name: len(source.targets) for name, source in sources.items()}
    return Trained(accelerator.unwrap_model(loop.model).eval(), counts, time.perf_counter() - start)


def training_sources(material: Material, recipe: Recipe) -> dict[str, ClipSource]:
    """Where the training clips come from, by name."""
    stills = material.photographs("train")
    real, rendered = material.real_clips("train"), material.rendered_clips("train")
    learnt, drawn = (
        material.videos(clips, material.held_out(clips, recipe.fold)[0], True) for clips in (real, rendered)
    )
    neutral = material.classes.index("neutral")
    return {
        "photographs": Photographs(stills.features, stills.votes, recipe.photographs, recipe.balance),
        "bags of photographs": Bags(stills.features, stills.votes, neutral, recipe.bags),
        "real clips": Videos(learnt, recipe.real_repeats, doubt=recipe.real_doubt),
        "rendered clips": Videos(
            drawn, recipe.rendered_repeats, {neutral: recipe.neutral_repeats}, recipe.rendered_doubt
        ),
    }


def validation_clips(material: Material, recipe: Recipe) -> dict[str, MixedClips]:
    """What a model is calibrated and chosen by, by name: nothing of it is trained on."""
    stills = material.photographs("validation").clear()
    real, rendered = material.real_clips("train"), material.rendered_clips("train")
    kept, drawn = (
        material.videos(clips, material.held_out(clips, recipe.fold)[1], False) for clips in (real, rendered)
    )
    sources: dict[str, ClipSource] = {
        "photographs": Photographs(stills.features, stills.votes),
        "real clips": Videos(kept),
        "rendered clips": Videos(drawn),
    }
    return {name: MixedClips([source], recipe.seed) for name, source in sources.items()}


def figures(model: TGDFERForVideoClassification, data: MixedClips) -> dict[str, Any]:
    """Figures of a model on clips, as `tgdfer evaluate` gives them."""
    names = [name for _, name in sorted(model.config.id2label.items())]
    predictions = list(predict_batches(model, DataLoader(data, 64)))
    return measure_model([names[target] for target in data.targets], predictions, model.config)


def validate(material: Material, recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train once, and yield the figures on everything that was held out, by name."""
    trained = train(material, recipe)
    logger.info("%s: %.0f s, %s", asdict(recipe), trained.seconds, trained.clips)
    for name, data in validation_clips(material, recipe).items():
        with torch.inference_mode():
            yield name, figures(trained.model, data)
