"""The rows of the ablation: configs of TG-DFER, and other heads, trained and chosen alike on one ground."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ablation import peers
from benchmarks.ablation.heads import TextGuidedHead, free_text_model
from benchmarks.baselines.rows import mean_row, oracle_row
from benchmarks.explanation.faithfulness import answer_of_head, faithfulness
from benchmarks.harness.fitting import (
    Choice,
    Recipe,
    cross_validate,
    frame_statistics,
    predict,
    train_epochs,
    uar,
)
from benchmarks.harness.given_features import AnyGround, FeatureGround
from benchmarks.harness.ground import Ground
from benchmarks.harness.heads import LinearHead
from benchmarks.harness.lora import LORA_OPTIONS, lora_row
from benchmarks.harness.row import Row, Run, answers, folds_of, targets_of
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.models import start_model

MakeHead = Callable[[AnyGround, FrameFeatures, np.ndarray, int], nn.Module]

# Rates that are tried for every row with the first seed; its choice holds for the others.
RATES = (5e-4, 2e-3)

# TG-DFER as it ships, on frozen features: CLIP and its texts as they are.
FULL: dict[str, Any] = {"context": "none"}
NOTHING = FULL | {"short_term": False, "long_range": False, "mil_pooling": "mean", "visual_prompts": False}


@dataclass(frozen=True)
class Variant:
    """TG-DFER with some of its parts.

    Attributes:
        name: of its row.
        title: for people.
        options: fields of `TGDFERConfig`.
        words: whether the class texts are the names of the classes alone.
    """

    name: str
    title: str
    options: dict[str, Any]
    words: bool = False


LADDER = (
    Variant("words", "class words, mean of the frames", NOTHING, words=True),
    Variant("descriptions", "+ descriptions", NOTHING),
    Variant("short", "+ short-term grain", NOTHING | {"short_term": True}),
    Variant("long", "+ long-range grain", NOTHING | {"short_term": True, "long_range": True}),
    Variant("attention", "+ MIL attention", FULL | {"visual_prompts": False}),
    Variant("full", "+ visual prompts: TG-DFER, frozen", FULL),
)
WITHOUT = (
    Variant("no-descriptions", "− descriptions", FULL, words=True),
    Variant("no-short", "− short-term grain", FULL | {"short_term": False}),
    Variant("no-long", "− long-range grain", FULL | {"long_range": False}),
    Variant("no-attention", "− MIL attention", FULL | {"mil_pooling": "mean"}),
    Variant("no-prompts", "− visual prompts", FULL | {"visual_prompts": False}),
    Variant("prompted", "relevance by the prompted text", FULL | {"relevance_text": "prompted"}),
)


CONTEXT = Variant("context", "+ learnable context", FULL | {"context": "shared"})


def rows_of(ground: AnyGround) -> list[Row]:
    """All rows, in the order of the tables."""
    has_texts = isinstance(ground, Ground)
    variants = [variant for variant in LADDER + WITHOUT if has_texts or "descriptions" not in variant.name]
    variants = [variant for variant in variants if has_texts or variant.name != "words"]
    rows = [mean_row(ground), oracle_row(ground)]
    rows.append(_row(ground, "frozen-top", "top quarter of the frames + linear", _linear("top")))
    rows += [_variant_row(ground, variant) for variant in variants]
    if isinstance(ground, Ground):
        rows += [_variant_row(ground, CONTEXT), _adapted_row(ground)]
    rows += [_row(ground, name, title, make, {"heads": module_hash(peers)}) for name, title, make in PEERS]
    return rows


def _adapted_row(ground: Ground) -> Row:
    """The full network with LoRA on the last blocks of CLIP."""
    options = FULL | LORA_OPTIONS

    def make(
        ground: Ground, seen: FrameFeatures, indices: np.ndarray
    ) -> tuple[TGDFERForVideoClassification, nn.Module]:
        model, _ = start_model(ground.config(model_options=options).model, ground.classes)
        return model, TextGuidedHead(model)

    config = {"options": options, "network": source_hash(modeling_tgdfer)}
    return lora_row(ground, "lora", "+ LoRA", make, config)


def _variant_row(ground: AnyGround, variant: Variant) -> Row:
    def make(ground: AnyGround, seen: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        return TextGuidedHead(variant_model(ground, variant, seed))

    config = {"options": variant.options, "words": variant.words, "network": source_hash(modeling_tgdfer)}
    return _row(ground, variant.name, variant.title, make, config)


def variant_model(ground: AnyGround, variant: Variant, seed: int) -> TGDFERForVideoClassification:
    """An untrained model of a variant, on the frozen CLIP of the ground or with free class vectors."""
    torch.manual_seed(seed)
    options = variant.options
    if isinstance(ground, FeatureGround):
        return free_text_model(ground.classes, ground.width, ground.settings.num_frames, **options)
    model, processor = start_model(ground.config(frozen_features=True, model_options=options).model, ground.classes)
    if variant.words:
        model.set_classes(processor.class_prompts({label: [label] for label in ground.classes}))
    return model


def _row(
    ground: AnyGround,
    name: str,
    title: str,
    make: MakeHead,
    config: Mapping[str, Any] | None = None,
) -> Row:
    """A head on frozen features: rate and epochs by cross-validation over people, then all of train, then test."""
    settings = ground.settings
    recipe = Recipe(epochs=settings.epochs)
    first = f"seed {settings.seeds[0]}"

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        rates = RATES if part == first else (earlier[first]["chosen"]["rate"],)
        return train_and_test(ground, make, recipe, rates, int(part.removeprefix("seed ")))

    facts = {"views": settings.views, "rates": RATES, "recipe": asdict(recipe), **(config or {})}
    return Row(name, title, tuple(f"seed {seed}" for seed in settings.seeds), run, facts)


def choose(ground: AnyGround, make: MakeHead, recipe: Recipe, rates: tuple[float, ...], seed: int) -> Choice:
    """Rate and epochs, by cross-validation over the people of train; test is not looked at."""
    seen, targets = ground.features("train", seed), targets_of(ground)
    return cross_validate(
        lambda indices, seed: make(ground, seen, indices, seed),
        seen,
        targets,
        folds_of(ground, seed),
        recipe,
        rates,
        seed,
    )


def train_and_test(ground: AnyGround, make: MakeHead, recipe: Recipe, rates: tuple[float, ...], seed: int) -> Run:
    """Chooses, trains on all of train, and reads test: its answers, and those to shuffled and reversed frames."""
    choice = choose(ground, make, recipe, rates, seed)
    seen, unseen, targets = ground.features("train", seed), ground.features("test"), targets_of(ground)
    everything = np.arange(len(targets))
    head = make(ground, seen, everything, seed)
    for _ in train_epochs(head, seen, targets, everything, choice.recipe, seed):
        pass
    truth = torch.tensor([ground.classes.index(label) for label in ground.test.labels])
    logits, scores = predict(head, unseen)
    recall = uar(logits, truth)
    orders = {name: recall - uar(predict(head, disordered(unseen, name, seed))[0], truth) for name in ORDERS}
    are_logits = not getattr(head, "says_relevance", False)
    assert choice.held_out is not None
    found = answers(ground, logits, scores, unseen.frame_mask[0], are_logits) | {
        "chosen": {"rate": choice.recipe.rate, "epochs": choice.recipe.epochs, "held_out_uar": choice.uar},
        "tried": choice.tried,
        "held_out": [ground.classes[index] for index in choice.held_out.tolist()],
        "drops": orders,
        "trained_parameters": sum(p.numel() for p in head.parameters() if p.requires_grad),
    }
    if found["scores"] is not None:
        bags = unseen.features[0].float(), unseen.frame_mask[0], unseen.timestamps[0]
        found["faithful"] = faithfulness(answer_of_head(head), *bags)
    return found


ORDERS = ("shuffled", "reversed")


def disordered(seen: FrameFeatures, order: str, seed: int) -> FrameFeatures:
    """The same frames, "shuffled" or "reversed" in time, under the same mask and seconds: unmasked ones come first."""
    count = seen.frame_mask.sum(-1, keepdim=True)  # (V, N, 1)
    place = torch.arange(seen.frame_mask.shape[-1]).expand_as(seen.frame_mask)
    if order == "reversed":
        index = torch.where(seen.frame_mask, count - 1 - place, place)
    else:
        chance = torch.rand(place.shape, generator=torch.Generator().manual_seed(seed))
        index = chance.masked_fill(~seen.frame_mask, 2.0).argsort(-1)
    features = seen.features.gather(2, index.unsqueeze(-1).expand_as(seen.features))
    return replace(seen, features=features)


def _linear(pooling: str) -> MakeHead:
    def make(ground: AnyGround, seen: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        return LinearHead(*frame_statistics(seen, indices), len(ground.classes), pooling)

    return make


def class_texts(ground: AnyGround, seed: int) -> Tensor:
    """Where the class vectors of other methods start: class texts (K, D) of CLIP, or random ones of length one."""
    if isinstance(ground, Ground):
        with torch.no_grad():
            return ground.network[0].get_text_features().clone()
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(len(ground.classes), ground.width, generator=generator), dim=-1)


def module_hash(module: ModuleType) -> str:
    """Hash of the source of a module, by which is known that its heads may be others."""
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()


def _peer(build: Callable[[AnyGround, FrameFeatures, np.ndarray, int], nn.Module]) -> MakeHead:
    def make(ground: AnyGround, seen: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build(ground, seen, indices, seed)

    return make


def _sizes(ground: AnyGround, seen: FrameFeatures) -> tuple[int, int]:
    return seen.features.shape[-1], len(ground.classes)


def _neutral(ground: AnyGround) -> int | None:
    return ground.classes.index("neutral") if "neutral" in ground.classes else None


PEERS: tuple[tuple[str, str, MakeHead], ...] = (
    (
        "linear-softmax",
        "linear-softmax pooling",
        _peer(lambda g, seen, i, s: peers.LinearSoftmaxPooling(*frame_statistics(seen, i), len(g.classes))),
    ),
    (
        "shrinking-topk",
        "top-k that shrinks",
        _peer(lambda g, seen, i, s: peers.ShrinkingTopK(*frame_statistics(seen, i), len(g.classes))),
    ),
    ("dsmil", "DSMIL", _peer(lambda g, seen, i, s: peers.DSMIL(*_sizes(g, seen)))),
    (
        "dfer-clip",
        "DFER-CLIP's temporal Transformer",
        _peer(lambda g, seen, i, s: peers.DFERCLIPTemporal(class_texts(g, s), seen.features.shape[2])),
    ),
    ("m3dfel", "M3DFEL's BiLSTM-attention", _peer(lambda g, seen, i, s: peers.M3DFEL(*_sizes(g, seen)))),
    (
        "vadclip",
        "VadCLIP's adapter and visual prompt",
        _peer(lambda g, seen, i, s: peers.VadCLIP(class_texts(g, s), _neutral(g))),
    ),
)
