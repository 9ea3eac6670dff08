"""Rows of the ablation: variants of TG-DFER and heads of other methods, trained and selected in the same way."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ablation import other_methods
from benchmarks.ablation.neighbours import Neighbour, ProbedHead, dataset_of, neighbour_head, neighbours_of
from benchmarks.ablation.variants import FULL, Variant, variant_model, variants_of
from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.faithfulness import faithfulness, head_predictor
from benchmarks.harness.feature_dataset import AnyDataset
from benchmarks.harness.fitting import Choice, Recipe, cross_validate, frame_statistics, predict, train_head, uar
from benchmarks.harness.heads import TextGuidedHead
from benchmarks.harness.linear_rows import choice_record, linear_head, mean_row, oracle_row
from benchmarks.harness.lora import LORA_OPTIONS, lora_row
from benchmarks.harness.provenance import code_hash
from benchmarks.harness.row import Row, Run, folds_of, run_result, seed_of, seed_parts, targets_of
from benchmarks.real_faces.photograph_bags import PhotographBags
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.models import start_model

# `make(dataset, features, indices, seed)` returns an untrained head for training on the clips `indices`.
MakeHead = Callable[[AnyDataset, FrameFeatures, np.ndarray, int], nn.Module]

# Learning rates that are tried with the first seed. The other seeds use the rate that is selected with it.
RATES = (5e-4, 2e-3)


def rows_of(dataset: AnyDataset) -> list[Row]:
    """Returns all rows in the order of the tables."""
    rows = [mean_row(dataset), oracle_row(dataset)]
    rows.append(_row(dataset, "frozen-top", "top quarter of the frames + linear", _linear("top")))
    rows += [_variant_row(dataset, variant) for variant in variants_of(dataset)]
    # LoRA needs videos.
    if isinstance(dataset, BenchmarkDataset) and not isinstance(dataset, PhotographBags):
        rows.append(_adapted_row(dataset))
    rows += [_neighbour_row(dataset, neighbour) for neighbour in neighbours_of(dataset)]
    heads = {"heads": code_hash(other_methods)}
    return rows + [_row(dataset, name, title, make, heads) for name, title, make in OTHER_METHODS]


def _adapted_row(dataset: BenchmarkDataset) -> Row:
    """Returns the row of the full network with LoRA on the last blocks of CLIP."""
    options = FULL | LORA_OPTIONS

    def make(
        dataset: BenchmarkDataset, features: FrameFeatures, indices: np.ndarray
    ) -> tuple[TGDFERForVideoClassification, nn.Module]:
        model, _ = start_model(dataset.config(model_options=options).model, dataset.classes)
        return model, TextGuidedHead(model)

    config = {"options": options, "network": source_hash(modeling_tgdfer)}
    return lora_row(dataset, "lora", "+ LoRA", make, config)


def _variant_row(dataset: AnyDataset, variant: Variant) -> Row:
    def make(dataset: AnyDataset, features: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        return TextGuidedHead(variant_model(dataset, variant, seed))

    config = {"options": variant.options, "words": variant.class_names, "network": source_hash(modeling_tgdfer)}
    return _row(dataset, variant.name, variant.title, make, config)


def _neighbour_row(dataset: AnyDataset, neighbour: Neighbour) -> Row:
    make = partial(neighbour_head, neighbour)
    return _row(dataset_of(dataset, neighbour), neighbour.name, neighbour.title, make, neighbour.config)


def _row(
    dataset: AnyDataset,
    name: str,
    title: str,
    make: MakeHead,
    config: Mapping[str, Any] | None = None,
) -> Row:
    """Returns the row of a head on frozen features. Cross-validation over people selects learning rate and epochs."""
    settings = dataset.settings
    recipe = Recipe(epochs=settings.epochs)
    first = seed_parts(dataset)[0]

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        rates = RATES if part == first else (earlier[first]["chosen"]["rate"],)
        return train_and_test(dataset, make, recipe, rates, seed_of(part))

    row_config = {"views": settings.views, "rates": RATES, "recipe": asdict(recipe), **(config or {})}
    return Row(name, title, seed_parts(dataset), run, row_config)


def select_recipe(dataset: AnyDataset, make: MakeHead, recipe: Recipe, rates: tuple[float, ...], seed: int) -> Choice:
    """Selects learning rate and epochs by cross-validation over the training people, without the test split."""
    train, targets = dataset.features("train", seed), targets_of(dataset)
    return cross_validate(
        lambda indices, seed: make(dataset, train, indices, seed),
        train,
        targets,
        folds_of(dataset, seed),
        recipe,
        rates,
        seed,
    )


def train_and_test(dataset: AnyDataset, make: MakeHead, recipe: Recipe, rates: tuple[float, ...], seed: int) -> Run:
    """Selects learning rate and epochs, trains on all training clips, and predicts the test clips.

    The test clips are predicted in their order, shuffled and reversed.
    """
    choice = select_recipe(dataset, make, recipe, rates, seed)
    train, test, targets = dataset.features("train", seed), dataset.features("test"), targets_of(dataset)
    all_clips = np.arange(len(targets))
    head = make(dataset, train, all_clips, seed)
    train_head(head, train, targets, all_clips, choice.recipe, seed)
    test_targets = torch.tensor([dataset.classes.index(label) for label in dataset.test.labels])
    logits, scores = predict(head, test)
    reordered = {name: predict(head, reorder(test, name, seed))[0] for name in ORDERS}
    are_logits = not getattr(head, "scores_are_relevance", False)
    assert choice.held_out is not None
    result = run_result(dataset, logits, scores, test.frame_mask[0], are_logits) | choice_record(choice)
    result |= {
        "held_out": [dataset.classes[index] for index in choice.held_out.tolist()],
        "drops": {name: uar(logits, test_targets) - uar(other, test_targets) for name, other in reordered.items()},
        "war_in_order": {
            name: float((other.argmax(-1) == test_targets).float().mean()) for name, other in reordered.items()
        },
        "trained_parameters": sum(p.numel() for p in head.parameters() if p.requires_grad),
    }
    if result["scores"] is not None:
        bags = test.features[0].float(), test.frame_mask[0], test.timestamps[0]
        result["faithful"] = faithfulness(head_predictor(head), *bags)
    if isinstance(head, ProbedHead):
        result |= head.extra_figures(dataset, seed)
    return result


ORDERS = ("shuffled", "reversed")


def reorder(features: FrameFeatures, order: str, seed: int) -> FrameFeatures:
    """Changes the order of the frames, but not their times. Masked frames stay last.

    Args:
        features (`FrameFeatures`): V views of N clips.
        order (`str`): "shuffled" or "reversed".
        seed (`int`): Random seed of the shuffling.
    """
    mask = features.frame_mask
    count = mask.sum(-1, keepdim=True)  # (V, N, 1)
    position = torch.arange(mask.shape[-1]).expand_as(mask)
    if order == "reversed":
        index = torch.where(mask, count - 1 - position, position)
    else:
        random = torch.rand(position.shape, generator=torch.Generator().manual_seed(seed))
        index = random.masked_fill(~mask, 2.0).argsort(-1)
    return replace(features, features=features.features.gather(2, index.unsqueeze(-1).expand_as(features.features)))


def _linear(pooling: str) -> MakeHead:
    def make(dataset: AnyDataset, features: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        return linear_head(dataset, features, indices, pooling)

    return make


def class_texts(dataset: AnyDataset, seed: int) -> Tensor:
    """Returns initial class vectors (K, D) for other methods: class texts of CLIP, or random unit vectors."""
    if isinstance(dataset, BenchmarkDataset):
        with torch.no_grad():
            return dataset.network[0].get_text_features().pooler_output.clone()
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(len(dataset.classes), dataset.width, generator=generator), dim=-1)


def _seeded(build: MakeHead) -> MakeHead:
    """Sets the seed of torch before a head is made."""

    def make(dataset: AnyDataset, features: FrameFeatures, indices: np.ndarray, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build(dataset, features, indices, seed)

    return make


def _sizes(dataset: AnyDataset, features: FrameFeatures) -> tuple[int, int]:
    """Returns the width of the features and the number of classes."""
    return features.features.shape[-1], len(dataset.classes)


def _neutral(dataset: AnyDataset) -> int | None:
    return dataset.classes.index("neutral") if "neutral" in dataset.classes else None


OTHER_METHODS: tuple[tuple[str, str, MakeHead], ...] = (
    (
        "linear-softmax",
        "linear-softmax pooling",
        _seeded(
            lambda data, features, indices, seed: other_methods.LinearSoftmaxPooling(
                *frame_statistics(features, indices), len(data.classes)
            )
        ),
    ),
    (
        "shrinking-topk",
        "shrinking top-k",
        _seeded(
            lambda data, features, indices, seed: other_methods.ShrinkingTopK(
                *frame_statistics(features, indices), len(data.classes)
            )
        ),
    ),
    (
        "dsmil",
        "DSMIL",
        _seeded(lambda data, features, indices, seed: other_methods.DSMIL(*_sizes(data, features))),
    ),
    (
        "dfer-clip",
        "DFER-CLIP's temporal Transformer",
        _seeded(
            lambda data, features, indices, seed: other_methods.DFERCLIPTemporal(
                class_texts(data, seed), features.features.shape[2]
            )
        ),
    ),
    (
        "m3dfel",
        "M3DFEL's BiLSTM-attention",
        _seeded(lambda data, features, indices, seed: other_methods.M3DFEL(*_sizes(data, features))),
    ),
    (
        "vadclip",
        "VadCLIP's adapter and visual prompt",
        _seeded(lambda data, features, indices, seed: other_methods.VadCLIP(class_texts(data, seed), _neutral(data))),
    ),
)
