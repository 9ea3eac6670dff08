"""Variants of TG-DFER: parts are added one after the other up to the full network, then removed or added singly."""

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.ablation.free_texts import free_text_model
from benchmarks.harness.feature_dataset import AnyDataset, FeatureDataset
from benchmarks.harness.heads import FROZEN_CLIP
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.models import start_model

FULL = FROZEN_CLIP
NOTHING = FULL | {"short_term": False, "mil_pooling": "mean", "visual_prompts": False}


@dataclass(frozen=True)
class Variant:
    """TG-DFER with some of its parts.

    Attributes:
        name (`str`): Name of the row.
        title (`str`): Name in reports.
        options (`dict[str, Any]`): Fields of `TGDFERConfig`.
        class_names (`bool`, *optional*, defaults to `False`): Whether the class texts are only the names of the
            classes.
    """

    name: str
    title: str
    options: dict[str, Any]
    class_names: bool = False


# Parts are added one after the other. The full network has the parts that are on by default.
LADDER = (
    Variant("words", "class words, mean of the frames", NOTHING, class_names=True),
    Variant("descriptions", "+ descriptions", NOTHING),
    Variant("short", "+ short-term grain", NOTHING | {"short_term": True}),
    Variant("attention", "+ MIL attention: TG-DFER − visual prompts", FULL | {"visual_prompts": False}),
    Variant("full", "+ visual prompts: TG-DFER, frozen", FULL),
)
# The full network without one of its parts.
WITHOUT = (
    Variant("no-descriptions", "− descriptions", FULL, class_names=True),
    Variant("no-short", "− short-term grain", FULL | {"short_term": False}),
    Variant("no-attention", "− MIL attention", FULL | {"mil_pooling": "mean"}),
)
# The full network with a part that is off by default.
WITH = (
    Variant("long", "+ long-range grain", FULL | {"long_range": True}),
    Variant("long-only", "long-range instead of short-term grain", FULL | {"short_term": False, "long_range": True}),
    Variant(
        "contrast",
        "visual prompts by contrast, relevance from the class text",
        FULL | {"visual_prompt_source": "contrast", "relevance_text": "label"},
    ),
)
CONTEXT = Variant("context", "+ learnable context", FULL | {"context": "shared"})


def variants_of(dataset: AnyDataset) -> list[Variant]:
    """Returns the variants that can be measured on a data set. Variants of the texts need a text tower."""
    if isinstance(dataset, FeatureDataset):
        needs_texts = ("words", "descriptions", "no-descriptions")
        return [variant for variant in LADDER + WITHOUT + WITH if variant.name not in needs_texts]
    return [*LADDER, *WITHOUT, *WITH, CONTEXT]


def variant_model(dataset: AnyDataset, variant: Variant, seed: int) -> TGDFERForVideoClassification:
    """Returns an untrained model of a variant, with the frozen CLIP of the data set or with learned class vectors."""
    torch.manual_seed(seed)
    options = variant.options
    if isinstance(dataset, FeatureDataset):
        return free_text_model(dataset.classes, dataset.width, dataset.settings.num_frames, **options)
    model, processor = start_model(dataset.config(frozen_features=True, model_options=options).model, dataset.classes)
    if variant.class_names:
        model.set_classes(processor.class_prompts({label: [label] for label in dataset.classes}))
    return model
