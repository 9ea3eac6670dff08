"""Trains `tgdfer-tiny` on frozen features, and measures it on held-out data."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich import get_console
from torch.utils.data import DataLoader

from recipes.tgdfer_tiny.material import Material
from recipes.tgdfer_tiny.training_clips import ClipSource, MixedSources, PhotographBags, Photographs, VideoClips
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.measure import measure_model, predict_batches
from tgdfer.training.optimisation.loop import TrainingLoop, parameter_groups, start_accelerator
from tgdfer.training.provenance import environment_facts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """All parameters of the training.

    Attributes:
        fold (`int`, *optional*, defaults to `0`): Index of the fifth of the people in the training clips that is held
            out.
        photographs (`int`, *optional*, defaults to `10000`): Number of photographs per epoch.
        bags (`int`, *optional*, defaults to `7000`): Number of bags of photographs per epoch.
        balance (`float`, *optional*, defaults to `0.3`): Photographs are drawn with the frequency of their class to
            the power of `-balance`.
        real_repeats (`int`, *optional*, defaults to `6`): Number of times that each real clip is used per epoch.
        rendered_repeats (`int`, *optional*, defaults to `6`): Number of times that each rendered clip of an emotion is
            used per epoch.
        neutral_repeats (`int`, *optional*, defaults to `12`): The same for neutral rendered clips. They are the
            hardest to recognise, because their faces also smile, speak and frown slightly.
        real_label_noise (`float`, *optional*, defaults to `0.3`): Probability with which a real clip gets a random
            label, because the labels are noisy.
        rendered_label_noise (`float`, *optional*, defaults to `0.1`): The same for rendered clips, so that the model
            is not more confident on them than on photographs.
        epochs (`int`, *optional*, defaults to `6`): Number of epochs.
        batch_size (`int`, *optional*, defaults to `128`): Number of clips per step.
        rate (`float`, *optional*, defaults to `0.001`): Highest learning rate of all trained parameters.
        options (`Mapping[str, Any]`, *optional*): Fields of `TGDFERConfig` that differ from the defaults.
        seed (`int`, *optional*, defaults to `0`): Random seed of the training.
    """

    fold: int = 0
    photographs: int = 10_000
    bags: int = 7_000
    balance: float = 0.3
    real_repeats: int = 6
    rendered_repeats: int = 6
    neutral_repeats: int = 12
    real_label_noise: float = 0.3
    rendered_label_noise: float = 0.1
    epochs: int = 6
    batch_size: int = 128
    rate: float = 1e-3
    options: Mapping[str, Any] = field(
        default_factory=lambda: {"mil_pooling": "topk", "label_smoothing": 0.0, "initial_scale": 16.0}
    )
    seed: int = 0

    @property
    def optimisation(self) -> OptimisationConfig:
        """Options of the training loop."""
        return OptimisationConfig(
            epochs=self.epochs, batch_size=self.batch_size, prompts_lr=self.rate, new_lr=self.rate
        )


@dataclass(frozen=True)
class Trained:
    """A trained model, with facts about its training.

    Attributes:
        model (`TGDFERForVideoClassification`): The model in evaluation mode.
        clips (`dict[str, int]`): Number of clips per epoch, by source.
        seconds (`float`): Duration of the training in seconds.
        environment (`dict[str, Any]`, *optional*): LoRA, versions and hardware, as `environment_facts` returns them.
    """

    model: TGDFERForVideoClassification
    clips: dict[str, int]
    seconds: float
    environment: dict[str, Any] = field(default_factory=dict)


def train(material: Material, recipe: Recipe) -> Trained:
    """Trains a model on photographs, bags of photographs, and real and rendered clips.

    Args:
        material (`Material`): The data.
        recipe (`Recipe`): Parameters of the training.
    """
    accelerator = start_accelerator()
    model, _ = material.new_network(recipe.options)
    options = recipe.optimisation
    sources = training_sources(material, recipe)
    data = MixedSources(list(sources.values()), recipe.seed, model.config.num_frames)
    loop = TrainingLoop(model, data, parameter_groups(model, options), options, accelerator, recipe.seed)
    start = time.perf_counter()
    for epoch in range(options.epochs):
        loss = loop.train_epoch(epoch)
        get_console().print(
            f"Epoch {epoch + 1} of {options.epochs}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s"
        )
    counts = {name: len(source.targets) for name, source in sources.items()}
    seconds, environment = time.perf_counter() - start, environment_facts(accelerator, model)
    return Trained(accelerator.unwrap_model(loop.model).eval(), counts, seconds, environment)


def training_sources(material: Material, recipe: Recipe) -> dict[str, ClipSource]:
    """Returns the sources of the training clips by name."""
    photographs = material.photographs("train")
    real, rendered = (
        material.videos(clips, material.held_out(clips, recipe.fold)[0], True)
        for clips in (material.real_clips("train"), material.rendered_clips("train"))
    )
    neutral = material.classes.index("neutral")
    return {
        "photographs": Photographs(photographs.features, photographs.votes, recipe.photographs, recipe.balance),
        "bags of photographs": PhotographBags(photographs.features, photographs.votes, neutral, recipe.bags),
        "real clips": VideoClips(real, recipe.real_repeats, label_noise=recipe.real_label_noise),
        "rendered clips": VideoClips(
            rendered, recipe.rendered_repeats, {neutral: recipe.neutral_repeats}, recipe.rendered_label_noise
        ),
    }


def validation_clips(material: Material, recipe: Recipe) -> dict[str, MixedSources]:
    """Returns the held-out clips by source, for calibration and for choices. They are not used in training."""
    photographs = material.photographs("validation").with_majority()
    real, rendered = (
        material.videos(clips, material.held_out(clips, recipe.fold)[1], False)
        for clips in (material.real_clips("train"), material.rendered_clips("train"))
    )
    sources: dict[str, ClipSource] = {
        "photographs": Photographs(photographs.features, photographs.votes),
        "real clips": VideoClips(real),
        "rendered clips": VideoClips(rendered),
    }
    return {name: MixedSources([source], recipe.seed) for name, source in sources.items()}


def figures(model: TGDFERForVideoClassification, data: MixedSources) -> dict[str, Any]:
    """Computes the figures of a model on clips, as in `tgdfer evaluate`."""
    names = model.config.class_names
    predictions = list(predict_batches(model, DataLoader(data, 64)))
    return measure_model([names[target] for target in data.targets], predictions, model.config)


def validate(material: Material, recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    """Trains once, and yields the figures on the held-out clips of each source."""
    trained = train(material, recipe)
    logger.info("%s: %.0f s, %s", asdict(recipe), trained.seconds, trained.clips)
    for name, data in validation_clips(material, recipe).items():
        with torch.inference_mode():
            yield name, figures(trained.model, data)
