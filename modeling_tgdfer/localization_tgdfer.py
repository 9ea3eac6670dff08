"""Temporal localization: a dilated head that labels every frame of a long video.

It follows DCIN (Li et al., 2022, "Dilated Context Integrated Network with Cross-Modal Consensus for Temporal Emotion
Localization in Videos", arXiv 2208.01954). A coarse stream sees the context of a frame at several granularities, by
dilated convolutions over time. A fine stream sees the frame alone. DCIN compares video and subtitles in its
consensus. Here the fine stream compares the frame with the descriptions of the classes, and the consensus is between
the two streams.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.processing_utils import Unpack
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_tgdfer import TGDFERConfig
from .dual_encoders_tgdfer import embedding_width
from .layers_tgdfer import TGDFERZeroLinear, at_least_fp32, cosines, gather_frames, top_frames, unit
from .losses_tgdfer import IGNORED, bag_loss, instance_loss
from .modeling_tgdfer import TGDFERForVideoClassification, TGDFERModel, TGDFERPreTrainedModel

# Weight of the consensus of the two streams, without true segments. It must not dominate the loss of the labels.
CONSENSUS_WEIGHT = 0.1


@dataclass
class TGDFERLocalizationOutput(ModelOutput):
    """Output of `TGDFERForTemporalLocalization`.

    Args:
        loss (`Tensor` of shape `()`, *optional*): Training loss, if labels are given.
        logits (`Tensor` of shape `(B, K)`): Logits of the clips: the mean of the highest `config.topk_fraction` of the
            logits of the frames for each class.
        frame_logits (`Tensor` of shape `(B, T, K)`): Logits of the frames, the mean of both streams. Masked frames
            have meaningless values.
        coarse_logits (`Tensor` of shape `(B, T, K)`): Logits of the coarse stream.
        fine_logits (`Tensor` of shape `(B, T, K)`): Logits of the fine stream.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    frame_logits: Tensor | None = None
    coarse_logits: Tensor | None = None
    fine_logits: Tensor | None = None


class TGDFERDilatedHead(nn.Module):
    """The coarse stream: dilated convolutions over the unmasked frames, with residual connections.

    Layer i compares a frame with those 2^i unmasked frames before and after it. The logits are computed from the sum
    of all layers, so from context at every granularity. They are zero at the start.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        width = config.localization_width
        self.input_norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.localization_layers))
        # A convolution with three taps is a linear layer on the concatenated states of three frames.
        self.convolutions = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(config.localization_layers))
        self.output_norm = nn.LayerNorm(width)
        self.output = TGDFERZeroLinear(width, config.num_labels)

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Computes the logits of the frames: frames (B, T, D), mask (B, T) -> (B, T, K)."""
        # Unmasked frames are moved to the front, so that neighbours are neighbours among them.
        order = (~frame_mask).int().argsort(dim=1, stable=True)
        valid = frame_mask.gather(1, order).unsqueeze(-1)
        hidden = self.down(self.input_norm(gather_frames(frames, order)))
        total = hidden
        for layer, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            states, step = norm(hidden).masked_fill(~valid, 0.0), 2**layer
            before = F.pad(states, (0, 0, step, 0))[:, : states.shape[1]]
            after = F.pad(states, (0, 0, 0, step))[:, step:]
            hidden = hidden + F.gelu(convolution(torch.cat([before, states, after], dim=-1)))
            total = total + hidden
        return gather_frames(self.output(self.output_norm(total)), order.argsort(dim=1))


class TGDFERForTemporalLocalization(TGDFERPreTrainedModel):
    """TG-DFER with a dilated temporal head: labels every frame of a video.

    It is trained with the labels of clips alone, or with the label of each frame. Before training, it gives the same
    class to a frame as the descriptions do.

    Args:
        config (`TGDFERConfig`): The configuration. The head depends on `localization_width` and `localization_layers`.
    """

    # The pipelines need a classifier.
    _auto_map = {"AutoModel": "localization_tgdfer.TGDFERForTemporalLocalization"}
    _pipelines: ClassVar[dict[str, str]] = {}

    def __init__(self, config: TGDFERConfig):
        super().__init__(config)
        self.tgdfer = TGDFERModel(config)
        self.head = TGDFERDilatedHead(config, embedding_width(config.clip_config))
        # The scale of the cosines of the fine stream, and the bias of each class.
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.bias = nn.Parameter(torch.zeros(config.num_labels))
        self.post_init()

    @classmethod
    def from_classifier(cls, model: TGDFERForVideoClassification) -> "TGDFERForTemporalLocalization":
        """Creates a model with CLIP, texts and temporal network of a classifier. They are copied.

        Args:
            model (`TGDFERForVideoClassification`): A classifier, trained or not. LoRA must be merged. For other
                classes, call its method `set_classes` first.

        Returns:
            `TGDFERForTemporalLocalization`: The model, in `eval` mode and with a frozen CLIP. Other parameters that
            are frozen in the classifier stay frozen.

        Raises:
            ValueError: If LoRA is attached to the classifier, or its clips have several labels.
        """
        if model.has_lora:
            raise ValueError("LoRA is attached to the classifier; call its method `merge_lora` first.")
        require_one_label(model.config)
        # Copied together, so that the copy of the network has the copy of the config.
        config, tgdfer, log_scale, bias = copy.deepcopy((model.config, model.tgdfer, model.log_scale, model.bias))
        tgdfer.forget_lora()  # peft may have merged it
        config.reset_calibration()
        localizer: Any = cls(config)
        localizer.to(device=model.device, dtype=model.dtype)
        localizer.tgdfer, localizer.log_scale, localizer.bias = tgdfer, log_scale, bias
        localizer.freeze_clip()
        return localizer.eval()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        frame_mask: Tensor | None = None,
        timestamps: Tensor | None = None,
        frame_features: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TGDFERLocalizationOutput:
        """Labels every frame.

        Args:
            pixel_values_videos (`Tensor` of shape `(B, T, 3, H, W)`, *optional*): Normalised frames.
            frame_mask (`Tensor` of shape `(B, T)`, *optional*): True for valid frames, at any positions.
            timestamps (`Tensor` of shape `(B, T)`, *optional*): Seconds, by default `config.frame_interval` apart.
            frame_features (`Tensor` of shape `(B, T, D)`, *optional*): Output of `get_frame_features`, instead of
                `pixel_values_videos`.
            labels (`Tensor` of shape `(B,)` or `(B, T)`, *optional*): Class indices of the clips, which train the
                frames weakly, or of the frames. -100 is ignored.
            **kwargs: `return_dict`.

        Returns:
            `TGDFERLocalizationOutput`: Logits of clips and frames and, if labels are given, the loss.

        Raises:
            ValueError: As in `TGDFERModel.forward`, or if the labels are not class indices of clips or frames.
        """
        inputs = (pixel_values_videos, frame_mask, timestamps, frame_features)
        base = self.tgdfer(*inputs, return_dict=True, **kwargs)
        mask, frames = base.frame_mask, base.last_hidden_state
        scale, bias = at_least_fp32(self.log_scale).exp(), at_least_fp32(self.bias)
        fine = scale * cosines(unit(at_least_fp32(frames)), base.text_embeds) + bias
        coarse = at_least_fp32(self.head(frames, mask))
        frame_logits = (fine + coarse) / 2
        top = top_frames(frame_logits, mask, self.config.topk_fraction)
        # A clip whose frames are all masked has no top frames.
        logits = frame_logits.masked_fill(~top, 0.0).sum(1) / top.sum(1).clamp(min=1)
        loss = None
        if labels is not None:
            require_one_label(self.config)
            require_indices(labels, mask)
            labels = labels.to(logits.device)
            loss = self._loss(labels, logits, frame_logits, top, mask)
            if labels.ndim == 1:
                is_labelled = mask & (labels != IGNORED).unsqueeze(1)
                loss = loss + CONSENSUS_WEIGHT * consensus_loss(coarse, fine, is_labelled)
        outputs = (value.to(frames.dtype) for value in (logits, frame_logits, coarse, fine))
        return TGDFERLocalizationOutput(loss, *outputs)

    def _loss(self, labels: Tensor, logits: Tensor, frame_logits: Tensor, top: Tensor, frame_mask: Tensor) -> Tensor:
        """Computes the loss of the labels of clips or frames, without the consensus."""
        if labels.ndim == 2:
            # The labels of the frames go one by one through a loss that expects those of clips.
            wanted = labels.masked_fill(~frame_mask, IGNORED).flatten()
            return bag_loss(frame_logits.flatten(0, 1), wanted, None, self.config.label_smoothing)
        loss = bag_loss(logits, labels, None, self.config.label_smoothing)
        if self.config.instance_weight:
            wanted = labels.clamp(min=0).view(-1, 1, 1).expand(-1, frame_mask.shape[1], 1)
            loss = loss + self.config.instance_weight * instance_loss(
                frame_logits, labels, top.gather(2, wanted).squeeze(2)
            )
        return loss


def require_one_label(config: TGDFERConfig) -> None:
    """Checks that the config does not ask for several labels.

    Raises:
        ValueError: If it does.
    """
    if config.problem_type == "multi_label_classification":
        raise ValueError(
            '`config.problem_type` is "multi_label_classification", but a localizer gives each frame one label; set '
            "it to None, and train with one label for each clip or frame."
        )


def require_indices(labels: Tensor, frame_mask: Tensor) -> None:
    """Checks that labels are class indices of clips (B,) or frames (B, T).

    Raises:
        ValueError: If they are not.
    """
    if labels.is_floating_point() or labels.shape != frame_mask.shape[: max(labels.ndim, 1)]:
        raise ValueError(
            f"`labels` has the shape {tuple(labels.shape)} and the type {labels.dtype}; give the class index of each "
            f"clip {tuple(frame_mask.shape[:1])}, or of each frame {tuple(frame_mask.shape)}."
        )


def consensus_loss(coarse: Tensor, fine: Tensor, frame_mask: Tensor) -> Tensor:
    """Computes the mean Jensen-Shannon divergence of the two streams over the unmasked frames, 0 to log 2.

    Args:
        coarse (`Tensor` of shape `(B, T, K)`): Logits of the coarse stream.
        fine (`Tensor` of shape `(B, T, K)`): Logits of the fine stream.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.
    """
    first, second = coarse.log_softmax(-1), fine.log_softmax(-1)
    middle = torch.logaddexp(first, second) - torch.log(torch.tensor(2.0, device=first.device))
    divergence = sum((one.exp() * (one - middle)).sum(-1) for one in (first, second)) / 2
    return (divergence * frame_mask).sum() / frame_mask.sum().clamp(min=1)


TGDFERForTemporalLocalization.register_for_auto_class("AutoModel")

__all__ = ["TGDFERForTemporalLocalization", "TGDFERLocalizationOutput"]
