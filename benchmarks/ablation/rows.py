"""The rows of the ablation: variants of TG-DFER and heads of other methods, trained and chosen in the same way."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ablation import other_methods
from benchmarks.ablation.variants import FULL, Variant, variant_model, variants_of
from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.faithfulness import answer_of_head, faithfulness
from benchmarks.harness.feature_dataset import AnyDataset
from benchmarks.harness.fitting import Choice, Recipe, cross_validate, frame_statistics, predict, train_head, uar
from benchmarks.harness.heads import TextGuidedHead
from benchmarks.harness.linear_rows import chosen, linear_head, mean_row, oracle_row
from benchmarks.harness.lora import LORA_OPTIONS, lora_row
from benchmarks.harness.provenance import code_hash
from benchmarks.harness.row import Row, Run, answers, folds_of, seed_of, seed_parts, targets_of
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.models import start_model

MakeHead = Callable[[AnyDataset, FrameFeatures, np.ndarray, int], nn.Module]

# Rates that are tried with the first seed. The other seeds use the rate that it chooses.
RATES = (5e-4, 2e-3)


def rows_of(dataset: AnyDataset) -> list[Row]:
    """All rows, in the order of the tables."""
    rows = [mean_row(dataset), oracle_row(dataset)]
    rows.append(_row(dataset, "frozen-top", "top quarter of the frames + linear", _linear("top")))
    rows += [_variant_row(dataset, variant) for variant in variants_of(dataset)]
    if isinstance(dataset, BenchmarkDataset):
        rows.append(_adapted_row(dataset))
    heads = {"heads": code_hash(other_methods)}
    return rows + [_row(dataset, name, title, make, heads) for name, title, make in OTHER_METHODS]


def _adapted_row(dataset: BenchmarkDataset) -> Row:
    """The full network with LoRA on the last blocks of CLIP."""
    options = FULL | LORA_OPTIONS

    def make(
        dataset: BenchmarkDataset, seen: FrameFeatures, indices: np.ndarray
    ) -> tuple[TGDFERForVideoClassification, nn.Module]:
        model, _ = start_model(dataset.config(model_options=options).model, dataset.classes)
        return model, TextGuidedHead(model)

    config = {"options": options, "network": source_hash(modeling_tgdfer)}
    return lora_row(dataset, "lora", "+ LoRA", make, config)


def _variant_row(dataset: AnyDataset, variant: Variant) -> Row:
    def make(dataset: AnyDataset, seen: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        return TextGuidedHead(variant_model(dataset, variant, seed))

    config = {"options": variant.options, "words": variant.words, "network": source_hash(modeling_tgdfer)}
    return _row(dataset, variant.name, variant.title, make, config)


def _row(
    dataset: AnyDataset,
    name: str,
    title: str,
    make: MakeHead,
    config: Mapping[str, Any] | None = None,
) -> Row:
    """A head on frozen features, whose rate and epochs are chosen by cross-validation over people."""
    settings = dataset.settings
    recipe = Recipe(epochs=settings.epochs)
    first = seed_parts(dataset)[0]

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        rates = RATES if part == first else (earlier[first]["chosen"]["rate"],)
        return train_and_test(dataset, make, recipe, rates, seed_of(part))

    facts = {"views": settings.views, "rates": RATES, "recipe": asdict(recipe), **(config or {})}
    return Row(name, title, seed_parts(dataset), run, facts)


def choose(dataset: AnyDataset, make: MakeHead, recipe: Recipe, rates: tuple[float, ...], seed: int) -> Choice:
    """Chooses rate and epochs by cross-validation over the people of train, without reading test."""
    seen, targets = dataset.features("train", seed), targets_of(dataset)
    return cross_validate(
        lambda indices, seed: make(dataset, seen, indices, seed),
        seen,
        targets,
        folds_of(dataset, seed),
        recipe,
        rates,
        seed,
    )


def train_and_test(dataset: AnyDataset, make: MakeHead, recipe: Recipe, rates: tuple[float, ...], seed: int) -> Run:
    """Chooses rate and epochs, trains on all of train, and predicts test: as it is, shuffled and reversed."""
    choice = choose(dataset, make, recipe, rates, seed)
    seen, unseen, targets = dataset.features("train", seed), dataset.features("test"), targets_of(dataset)
    everything = np.arange(len(targets))
    head = make(dataset, seen, everything, seed)
    train_head(head, seen, targets, everything, choice.recipe, seed)
    truth = torch.tensor([dataset.classes.index(label) for label in dataset.test.labels])
    logits, scores = predict(head, unseen)
    in_order = {name: predict(head, disordered(unseen, name, seed))[0] for name in ORDERS}
    are_logits = not getattr(head, "says_relevance", False)
    assert choice.held_out is not None
    found = answers(dataset, logits, scores, unseen.frame_mask[0], are_logits) | chosen(choice)
    found |= {
        "held_out": [dataset.classes[index] for index in choice.held_out.tolist()],
        "drops": {name: uar(logits, truth) - uar(other, truth) for name, other in in_order.items()},
        "war_in_order": {name: float((other.argmax(-1) == truth).float().mean()) for name, other in in_order.items()},
        "trained_parameters": sum(p.numel() for p in head.parameters() if p.requires_grad),
    }
    if found["scores"] is not None:
        bags = unseen.features[0].float(), unseen.frame_mask[0], unseen.timestamps[0]
        found["faithful"] = faithfulness(answer_of_head(head), *bags)
    return found


ORDERS = ("shuffled", "reversed")


def disordered(seen: FrameFeatures, order: str, seed: int) -> FrameFeatures:
    """The same frames in another order ("shuffled" or "reversed") at the same seconds. Masked frames stay last."""
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
    def make(dataset: AnyDataset, seen: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        return linear_head(dataset, seen, indices, pooling)

    return make


def class_texts(dataset: AnyDataset, seed: int) -> Tensor:
    """Initial class vectors (K, D) of other methods: class texts of CLIP, or random vectors of length one."""
    if isinstance(dataset, BenchmarkDataset):
        with torch.no_grad():
            return dataset.network[0].get_text_features().pooler_output.clone()
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(len(dataset.classes), dataset.width, generator=generator), dim=-1)


def _seeded(build: Callable[[AnyDataset, FrameFeatures, np.ndarray, int], nn.Module]) -> MakeHead:
    def make(dataset: AnyDataset, seen: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build(dataset, seen, indices, seed)

    return make


def _sizes(dataset: AnyDataset, seen: FrameFeatures) -> tuple[int, int]:
    return seen.features.shape[-1], len(dataset.classes)


def _neutral(dataset: AnyDataset) -> int | None:
    return dataset.classes.index("neutral") if "neutral" in dataset.classes else None


OTHER_METHODS: tuple[tuple[str, str, MakeHead], ...] = (
    (
        "linear-softmax",
        "linear-softmax pooling",
        _seeded(lambda g, seen, i, s: other_methods.LinearSoftmaxPooling(*frame_statistics(seen, i), len(g.classes))),
    ),
    (
        "shrinking-topk",
        "top-k that shrinks",
        _seeded(lambda g, seen, i, s: other_methods.ShrinkingTopK(*frame_statistics(seen, i), len(g.classes))),
    ),
    ("dsmil", "DSMIL", _seeded(lambda g, seen, i, s: other_methods.DSMIL(*_sizes(g, seen)))),
    (
        "dfer-clip",
        "DFER-CLIP's temporal Transformer",
        _seeded(lambda g, seen, i, s: other_methods.DFERCLIPTemporal(class_texts(g, s), seen.features.shape[2])),
    ),
    ("m3dfel", "M3DFEL's BiLSTM-attention", _seeded(lambda g, seen, i, s: other_methods.M3DFEL(*_sizes(g, seen)))),
    (
        "vadclip",
        "VadCLIP's adapter and visual prompt",
        _seeded(lambda g, seen, i, s: other_methods.VadCLIP(class_texts(g, s), _neutral(g))),
    ),
)
