"""Rows of parts of neighbouring methods, each added to the full network (docs/reference/neighbours.md)."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from benchmarks.ablation import patches, probes
from benchmarks.ablation.patches import GlobalConvolutionAttention, PatchAdapter, PatchDataset, PatchHead
from benchmarks.ablation.probes import linear_probes
from benchmarks.ablation.variants import FULL, Variant, variant_model
from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.feature_dataset import AnyDataset
from benchmarks.harness.heads import TextGuidedHead
from benchmarks.harness.provenance import code_hash
from benchmarks.real_faces.photograph_bags import PhotographBags
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training import objectives
from tgdfer.training.features import FrameFeatures
from tgdfer.training.files import source_hash
from tgdfer.training.objectives.registry import Objectives
from tgdfer.training.objectives.transport import description_words, transport_loss

# Weight of the transport in the loss of its row. Those of the other objectives are in `NEIGHBOURS`.
TRANSPORT_WEIGHT = 0.1


@dataclass(frozen=True)
class Neighbour:
    """The full network with a part of a neighbouring method.

    Attributes:
        name (`str`): Name of the row.
        title (`str`): Name in reports.
        options (`dict[str, Any]`, *optional*): Fields of `TGDFERConfig` besides those of the full network.
        objectives (`dict[str, float]`, *optional*): Weights of objectives, as in `tgdfer train --objectives`.
        patches (`str`, *optional*): Part that works on patches: "attention", "adapter", or "transport" for the adapter
            with the loss of the transport. Such rows need videos.
    """

    name: str
    title: str
    options: dict[str, Any] = field(default_factory=dict)
    objectives: dict[str, float] = field(default_factory=dict)
    patches: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """All settings that determine the figures of the row, besides those of every row."""
        config = {
            "options": FULL | self.options,
            "objectives": self.objectives,
            "patches": self.patches,
            "network": source_hash(modeling_tgdfer),
            "code": source_hash(objectives),
        }
        if self.patches:
            config["heads"] = code_hash(patches)
        if self.options.get("residue_width"):
            config["probes"] = code_hash(probes)
        return config | ({"weight": TRANSPORT_WEIGHT} if self.patches == "transport" else {})


NEIGHBOURS = (
    Neighbour("ial", "+ intensity-aware loss", objectives={"ial": 0.1}),
    Neighbour("gca", "+ global convolution-attention on patches", patches="attention"),
    Neighbour("s2d-adapter", "+ temporal adapter of S2D", {"temporal_adapter": True}),
    Neighbour("s2d-memory", "+ soft targets of S2D", objectives={"memory": 1.0}),
    Neighbour("s2d", "+ temporal adapter and soft targets of S2D", {"temporal_adapter": True}, {"memory": 1.0}),
    Neighbour("motion", "+ weights of motion of GRACE", {"motion_weights": True}),
    Neighbour("patch-adapter", "+ adapter of patches", patches="adapter"),
    Neighbour("transport", "+ adapter of patches, transport of GRACE", patches="transport"),
    Neighbour("residue", "+ emotion part of PF-ViT", {"residue_width": 32}, {"identity": 10.0}),
)


def neighbours_of(dataset: AnyDataset) -> list[Neighbour]:
    """Returns the parts that can be measured on a data set. Those on patches need videos."""
    has_videos = isinstance(dataset, BenchmarkDataset) and not isinstance(dataset, PhotographBags)
    return [one for one in NEIGHBOURS if has_videos or not one.patches]


def dataset_of(dataset: AnyDataset, neighbour: Neighbour) -> AnyDataset:
    """Returns the data set with the features that a part needs: of frames, or of patches."""
    if neighbour.patches and isinstance(dataset, BenchmarkDataset):
        return PatchDataset.of(dataset)
    return dataset


def neighbour_head(
    neighbour: Neighbour, dataset: AnyDataset, features: FrameFeatures, indices: np.ndarray, seed: int
) -> nn.Module:
    """Returns an untrained head of the full network with a part of a neighbouring method.

    Args:
        neighbour (`Neighbour`): The part.
        dataset (`AnyDataset`): Data set with the features that the part needs: see `dataset_of`.
        features (`FrameFeatures`): Features of the training clips.
        indices (`np.ndarray`): Clips to train on.
        seed (`int`): Random seed of the weights.
    """
    model = variant_model(dataset, Variant(neighbour.name, neighbour.title, FULL | neighbour.options), seed)
    if neighbour.patches:
        assert isinstance(dataset, PatchDataset)
        return _patch_head(neighbour.patches, model, dataset, features)
    if neighbour.options.get("residue_width"):
        return ProbedHead(model, neighbour.objectives, dataset.settings.epochs)
    return HeadWithObjectives(model, neighbour.objectives, dataset.settings.epochs)


class HeadWithObjectives(TextGuidedHead):
    """TG-DFER whose loss has objectives of neighbouring methods.

    Args:
        model (`TGDFERForVideoClassification`): Model with a frozen CLIP.
        weights (`dict[str, float]`): Weights of the objectives. There may be none.
        epochs (`int`): Length of the training that weights which rise over the training refer to. It is the same for
            every number of epochs that cross-validation selects.
    """

    def __init__(self, model: TGDFERForVideoClassification, weights: dict[str, float], epochs: int) -> None:
        super().__init__(model)
        self.objectives = Objectives(weights, model, epochs, frozen_features=True) if weights else None

    def start_epoch(self, epoch: int) -> None:
        """Is called before each epoch, counted from 1."""
        if self.objectives is not None:
            self.objectives.start_epoch(epoch - 1)

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Returns the loss of the model and the objectives. The smoothing comes from the config of the model."""
        batch = {"frame_features": frames, "frame_mask": frame_mask, "timestamps": timestamps, "labels": targets}
        output = self.model(**batch)
        return output.loss if self.objectives is None else output.loss + self.objectives(output, batch)


class ProbedHead(HeadWithObjectives):
    """TG-DFER with an emotion part, which is measured with linear probes."""

    def extra_figures(self, dataset: AnyDataset, seed: int) -> dict[str, Any]:
        """Returns what linear probes find in frames, emotion parts and residues of the test clips."""
        return {"probes": linear_probes(self.model, dataset, seed)}


def _patch_head(
    kind: str, model: TGDFERForVideoClassification, dataset: PatchDataset, features: FrameFeatures
) -> PatchHead:
    channels = dataset.channels
    if kind == "attention":
        places = features.features.shape[-1] // channels
        return PatchHead(model, channels, GlobalConvolutionAttention(channels, places))
    loss = None
    if kind == "transport":
        words, word_mask = description_words(model)
        loss = partial(_weighted_transport, words=words, word_mask=word_mask)
    return PatchHead(model, channels, PatchAdapter(channels), loss)


def _weighted_transport(
    patches: Tensor, frame_mask: Tensor, targets: Tensor, words: Tensor, word_mask: Tensor
) -> Tensor:
    return TRANSPORT_WEIGHT * transport_loss(patches, frame_mask, targets, words, word_mask)
