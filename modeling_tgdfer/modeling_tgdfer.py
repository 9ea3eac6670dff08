"""TG-DFER: text-guided, weakly supervised recognition of facial expressions in video (arXiv 2511.10958).

A clip has one label, but most of its frames do not show it. The clip is therefore treated as a bag of frames
(multiple-instance learning, MIL). The frames are compared with descriptions in natural language. The data flow is:

    frames -> CLIP -> short-term grain (-> long-range grain) -> evidence for each class text -> MIL head -> logits
                                       -> relevance to each class text -> visual prompts, MIL head

Shapes: B clips, T frames, K classes, M descriptions per class (padded and masked), D the width of CLIP's joint space.
Masked frames of a `frame_mask` (B, T) may be at any position, and do not affect the results of the other frames.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils.generic import (
    ModelOutput,
    TransformersKwargs,
    can_return_tuple,
    maybe_autocast,
    merge_with_config_defaults,
)
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .checkpoints_tgdfer import CheckpointedModel, ClassifierCheckpoints
from .configuration_tgdfer import TGDFERConfig
from .dual_encoders_tgdfer import (
    TextCache,
    build_dual_encoder,
    can_detect_changes,
    drop_text_inputs,
    embedding_width,
    encode_images,
    encode_texts,
    set_mode,
    set_timm_checkpointing,
    text_weights,
)
from .layers_tgdfer import (
    TGDFERLongRange,
    TGDFERLongRangeLayer,
    TGDFERRelevance,
    TGDFERShortTerm,
    TGDFERTemporalAttention,
    TGDFERTextGuidance,
    TGDFERZeroLinear,
    at_least_fp32,
    by_class,
    check_frames,
    checked_classes,
    clip_times,
    cosines,
    description_relevance,
    drop_instances,
    masked_mean,
    masked_softmax,
    pooling_weights,
    unit,
)
from .losses_tgdfer import auxiliary_losses, bag_loss, hard_labels, num_processes
from .optional_parts_tgdfer import TGDFERResidue, TGDFERTemporalAdapter, motion_weights
from .regions_tgdfer import RegionEvidence
from .visual_prompts_tgdfer import VISUAL_PROMPTS, TGDFERVisualPrompts, VisualPrompts


@dataclass
class TGDFERModelOutput(ModelOutput):
    """Output of `TGDFERModel`.

    Args:
        last_hidden_state (`Tensor` of shape `(B, T, D)`): Frames after both temporal grains, `x`.
        pooler_output (`Tensor` of shape `(B, D)`): Mean of `x` over the unmasked frames.
        frame_embeds (`Tensor` of shape `(B, T, D)`): Frames after the short-term grain only, `f'`.
        text_embeds (`Tensor` of shape `(K, D)`): Class texts of unit length, `t`.
        description_embeds (`Tensor` of shape `(K, M, D)`): Descriptions of unit length, `g`. Padding is zero.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames, except those that are dropped in training.
        motion (`Tensor` of shape `(B, T)`, *optional*): Weights of the frames by motion, if `config.motion_weights`.
        hidden_states (`tuple(Tensor)` of shape `(B, T, long_range_width)`, *optional*): As in `TGDFEROutput`.
        attentions (`tuple(Tensor)` of shape `(B, heads, T, T)`, *optional*): As in `TGDFEROutput`.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    frame_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    description_embeds: Tensor | None = None
    frame_mask: Tensor | None = None
    motion: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TGDFEROutput(ModelOutput):
    """Output of `TGDFERForVideoClassification`.

    Args:
        loss (`Tensor` of shape `()`, *optional*): Training loss, if labels are given.
        logits (`Tensor` of shape `(B, K)`): Logits of the clips.
        frame_logits (`Tensor` of shape `(B, T, K)`): Evidence of each frame for each class, `e`. Masked frames have
            meaningless values.
        frame_relevance (`Tensor` of shape `(B, T, K)`): Weight of each frame in the logit of each class, for every
            `mil_pooling`: `logits = (frame_relevance * frame_logits).sum(1)`. It sums to one over the unmasked frames
            and is zero on masked frames.
        description_relevance (`Tensor` of shape `(B, T, K, M)`): Cosine of each frame and description; 0 for padding.
        video_embeds (`Tensor` of shape `(B, D)`): Clip in CLIP's joint space, of unit length. It is the mean of the
            frames, weighted by their share in the prediction.
        text_embeds (`Tensor` of shape `(B, K, D)`): Class texts of each clip; the same ones without visual prompts.
        hidden_states (`tuple(Tensor)` of shape `(B, T, long_range_width)`, *optional*): Inputs of the layers of the
            long-range grain and the output of the last one, if requested. Empty without this grain.
        attentions (`tuple(Tensor)` of shape `(B, heads, T, T)`, *optional*): Attention weights of these layers, if
            requested. Empty without this grain.
        loss_dict (`dict[str, Tensor]`, *optional*): In training, the weighted terms of the loss by name.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    frame_logits: Tensor | None = None
    frame_relevance: Tensor | None = None
    description_relevance: Tensor | None = None
    video_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    loss_dict: dict[str, Tensor] | None = None


class TGDFERPreTrainedModel(CheckpointedModel):
    """Base class of all models. It initialises weights and declares features. `CheckpointedModel` saves and loads."""

    tgdfer: Any  # of the models with a head, which leave to it all methods of this class about CLIP
    base_model_prefix = "tgdfer"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    # The loss is a mean over the batch, so `Trainer` must divide it by the number of accumulation steps.
    accepts_loss_kwargs = False
    _no_split_modules = [
        "TGDFERTextGuidance",
        "TGDFERResidue",
        "TGDFERTemporalAdapter",
        "TGDFERShortTerm",
        "TGDFERLongRange",
        "TGDFERRelevance",
        "TGDFERVisualPrompts",
        "TGDFERCrossAttentionPrompts",
    ]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {
        "hidden_states": TGDFERLongRangeLayer,
        "attentions": OutputRecorder(TGDFERTemporalAttention, index=1, layer_name="long_range"),
    }

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        super()._set_gradient_checkpointing(enable, *args, **kwargs)
        set_timm_checkpointing(self.base_model.clip, enable)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TGDFERZeroLinear):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)  # 0.02 is too small for narrow layers
        elif isinstance(module, TGDFERTextGuidance):
            init.zeros_(module.description_weight)
            init.zeros_(module.prompt_ids)
            init.ones_(module.description_mask)
        elif isinstance(module, TGDFERRelevance):
            init.constant_(module.sharpness, float(self.config.initial_sharpness))
        elif isinstance(module, TGDFERResidue):
            # Only the directions matter. The shorter the vectors are, the further a step of the optimizer turns them.
            init.normal_(module.directions, std=0.3 * module.directions.shape[0] ** -0.5)
        elif isinstance(module, TGDFERVisualPrompts):
            init.zeros_(module.strength)
        elif hasattr(module, "log_scale"):
            model = cast(Any, module)  # one with a head
            init.constant_(model.log_scale, math.log(self.config.initial_scale))
            init.zeros_(model.bias)

    def get_frame_features(self, pixel_values_videos: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Encodes frames with CLIP only: see `TGDFERModel.get_frame_features`."""
        return self.tgdfer.get_frame_features(pixel_values_videos, frame_mask)

    def encode_phrases(self, input_ids: Tensor) -> Tensor:
        """Encodes phrases in the space of the frames: see `TGDFERModel.encode_phrases`."""
        return self.tgdfer.encode_phrases(input_ids)

    def get_text_features(self, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Returns the texts of all classes: see `TGDFERModel.get_text_features`."""
        return self.tgdfer.get_text_features(**kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the token embeddings of the text tower."""
        return self.tgdfer.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the token embeddings of the text tower."""
        self.tgdfer.set_input_embeddings(value)


class TGDFERModel(TGDFERPreTrainedModel):
    """CLIP, class texts and the temporal network. Frames and texts are embedded in the same space.

    Args:
        config (`TGDFERConfig`): The configuration.
    """

    def __init__(self, config: TGDFERConfig):
        super().__init__(config)
        dim = embedding_width(config.clip_config)
        self.clip = build_dual_encoder(config.clip_config)
        self.text_guidance = TGDFERTextGuidance(config)
        self.residue = TGDFERResidue(config, dim) if config.residue_width else None
        self.temporal_adapter = TGDFERTemporalAdapter(config, dim) if config.temporal_adapter else None
        self.short_term = TGDFERShortTerm(config, dim) if config.short_term else None
        self.long_range = TGDFERLongRange(config, dim) if config.long_range else None
        self._text_cache = TextCache()
        self.post_init()
        if config.lora_attached:  # after `post_init`, which would initialise LoRA again
            self.attach_lora()

    def train(self, mode: bool = True) -> "TGDFERModel":
        """Sets the mode of all modules except the frozen weights of CLIP. A new mode drops the cached class texts."""
        if mode != self.training:  # `Trainer` sets the mode at every step.
            self._text_cache = TextCache()
        super().train(mode)
        if mode:
            set_mode(self.clip, mode)
        return self

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> "TGDFERModel":
        self._text_cache = TextCache()  # another device or dtype
        return super()._apply(fn, *args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._text_cache = TextCache()  # other weights
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Excludes the cached class texts from copies and pickles. A copy encodes the texts again."""
        return self.__dict__ | {"_text_cache": TextCache()}

    def get_input_embeddings(self) -> nn.Module:
        """Returns the token embeddings of the text tower."""
        return cast(Any, self.clip).text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the token embeddings of the text tower."""
        cast(Any, self.clip).text_model.set_input_embeddings(value)

    def _encode_descriptions(self, ids: Tensor, context: Tensor | None) -> Tensor:
        """Encodes descriptions as unit vectors: tokens (K, M, L), context (1 or K, n, C) or None -> (K, M, D)."""
        guidance, (classes, descriptions) = self.text_guidance, ids.shape[:2]
        clip: Any = self.clip
        embeds = clip.text_model.get_input_embeddings()(ids.flatten(0, 1))
        if context is not None:
            context = context.unsqueeze(1).expand(classes, descriptions, -1, -1).flatten(0, 1).to(embeds)
            start, end = guidance.context_start, guidance.context_start + guidance.context_length
            embeds = torch.cat([embeds[:, :start], context, embeds[:, end:]], dim=1)
        return unit(encode_texts(self.clip, ids.flatten(0, 1), embeds)).unflatten(0, (classes, descriptions))

    @capture_outputs
    def _texts(self, description_embeds: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> ModelOutput:
        """Computes the class texts. The decorator keeps the states of the text tower out of the model's outputs."""
        texts, descriptions, mask = self.text_guidance(self._encode_descriptions, description_embeds)
        return ModelOutput(text_embeds=texts, description_embeds=descriptions, description_mask=mask)

    def class_texts(self) -> ModelOutput:
        """Returns the class texts, from the cache if possible.

        The encoded descriptions are reused while no gradient is needed and the weights of their encoder are unchanged.

        Returns:
            `ModelOutput`: `text_embeds` `t` (K, D), `description_embeds` `g` (K, M, D), and `description_mask` (K, M),
            which is False for padding.
        """
        no_states = {"output_hidden_states": False, "output_attentions": False, "return_dict": True}
        weights = text_weights(self)
        learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        if learns or not can_detect_changes(self, weights):
            return self._texts(**no_states)
        # A compiled graph cannot compare weights. There, only `train` and loading, moving or re-labelling the model
        # drop the cache.
        if not torch.compiler.is_compiling():
            self._text_cache.drop_if_changed(self, weights)
        if self._text_cache.description_embeds is None:
            # The cached texts may be used later without inference mode and autocast, for example in training.
            fp32 = maybe_autocast(weights[0].device.type, enabled=False)
            with torch.inference_mode(False), torch.no_grad(), fp32:
                self._text_cache.description_embeds = self._texts(**no_states)["description_embeds"]
        return self._texts(self._text_cache.description_embeds, **no_states)

    @can_return_tuple
    def get_text_features(self, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        """Returns the texts of all classes, normalised to unit length.

        Args:
            **kwargs: `return_dict`. The states of the text tower are not returned, because the texts are cached.

        Returns:
            `BaseModelOutputWithPooling`: `pooler_output` (K, D) holds the class texts `t`, and `last_hidden_state`
            (K, M, D) the descriptions `g`.
        """
        texts = self.class_texts()
        return BaseModelOutputWithPooling(
            last_hidden_state=texts["description_embeds"], pooler_output=texts["text_embeds"]
        )

    def encode_phrases(self, input_ids: Tensor) -> Tensor:
        """Encodes phrases in the space of the frames, with the learned context if all classes share it.

        Args:
            input_ids (`Tensor` of shape `(P, L)`): Tokens of the context phrase and of each phrase, as returned by
                `TGDFERProcessor.phrase_prompts`.

        Returns:
            `Tensor` of shape `(P, D)`: Phrases of unit length. Their cosines with the outputs of `get_frame_features`
            tell how well they fit the frames.
        """
        guidance, context = self.text_guidance, None
        if guidance.context is not None and not guidance.has_context_per_class:
            numbers = torch.arange(guidance.context.num_embeddings, device=input_ids.device)
            context = guidance.context(numbers).unsqueeze(0)
        return self._encode_descriptions(input_ids.unsqueeze(1), context).squeeze(1)

    def get_frame_features(self, pixel_values_videos: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Encodes frames with CLIP only. The features can be cached if LoRA is not attached to the vision tower.

        Args:
            pixel_values_videos (`Tensor` of shape `(B, T, 3, H, W)`): Normalised frames.
            frame_mask (`Tensor` of shape `(B, T)`, *optional*): True for valid frames. Features of others are zero.

        Returns:
            `Tensor` of shape `(B, T, D)`: Frames in CLIP's joint space.

        Raises:
            ValueError: If `pixel_values_videos` does not have five dimensions or no frames, or the mask does not fit.
        """
        if pixel_values_videos.ndim != 5:
            raise ValueError(
                f"`pixel_values_videos` has shape {tuple(pixel_values_videos.shape)}, but must have the shape (clips, "
                "frames, 3, height, width) of the output of the processor."
            )
        check_frames(pixel_values_videos, frame_mask)
        features = encode_images(self.clip, pixel_values_videos.flatten(0, 1))
        features = features.unflatten(0, pixel_values_videos.shape[:2])
        return features if frame_mask is None else features.masked_fill(~frame_mask.to(features).bool()[..., None], 0)

    def prepare_time(
        self, frame_features: Tensor, frame_mask: Tensor | None, timestamps: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Replaces a missing mask by a mask of all frames, and converts timestamps as `clip_times`."""
        check_frames(frame_features, frame_mask)
        if frame_mask is None:
            frame_mask = torch.ones(frame_features.shape[:2], dtype=torch.bool, device=frame_features.device)
        # Checking the mask would synchronise a GPU, and a compiled graph cannot read its values.
        on_cpu = frame_mask.device.type == "cpu" and not torch.compiler.is_compiling()
        frame_mask = frame_mask.to(frame_features.device, torch.bool)
        if on_cpu and not bool(frame_mask.any(1).all()):
            raise ValueError("Every frame of a clip is masked in `frame_mask`; leave at least one unmasked.")
        timestamps = None if timestamps is None else timestamps.to(frame_features.device)
        return frame_mask, clip_times(timestamps, frame_mask, self.config.frame_interval)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        frame_mask: Tensor | None = None,
        timestamps: Tensor | None = None,
        frame_features: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TGDFERModelOutput:
        """Encodes the frames and the class texts, and applies the temporal network to the frames.

        Args:
            pixel_values_videos (`Tensor` of shape `(B, T, 3, H, W)`, *optional*): Normalised frames.
            frame_mask (`Tensor` of shape `(B, T)`, *optional*): True for valid frames, at any positions.
            timestamps (`Tensor` of shape `(B, T)`, *optional*): Seconds, by default `config.frame_interval` apart.
            frame_features (`Tensor` of shape `(B, T, D)`, *optional*): Output of `get_frame_features`, instead of
                `pixel_values_videos`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `TGDFERModelOutput`: The frames after each grain, and the texts.

        Raises:
            ValueError: If both or neither of `pixel_values_videos` and `frame_features` are given, or if every frame
                of a clip is masked. The mask is checked only on a CPU and outside compiled graphs. Elsewhere, the
                output for such a clip is meaningless.
        """
        drop_text_inputs(kwargs)
        if (pixel_values_videos is None) == (frame_features is None):
            given = "neither was" if frame_features is None else "both were"
            raise ValueError(f"Give either `pixel_values_videos` or `frame_features`; {given} given.")
        # The texts come first, because comparing their weights waits for a GPU. Afterwards nothing does, so the GPU
        # encodes the frames while the rest of the network is prepared for it.
        texts = self.class_texts()
        if frame_features is None:
            frame_features = self.get_frame_features(pixel_values_videos, frame_mask)
        frame_mask, timestamps = self.prepare_time(frame_features, frame_mask, timestamps)

        # Cached features may have another dtype than the model.
        frame_features = frame_features.to(self.text_guidance.description_weight.dtype)
        frames = unit(frame_features.masked_fill(~frame_mask.unsqueeze(-1), 0.0))
        if self.residue is not None:
            frames = unit(frames - self.residue(frames).to(frames.device))
        motion = motion_weights(frames, frame_mask) if self.config.motion_weights else None
        frames = F.dropout(frames, self.config.feature_dropout, self.training)
        if self.training and self.config.instance_dropout:
            frame_mask = drop_instances(frame_mask, self.config.instance_dropout)
        if self.temporal_adapter is not None:
            frames = self.temporal_adapter(frames, timestamps, frame_mask).to(frames.device)
        if self.short_term is not None:
            frames = frames + self.short_term(frames, timestamps, frame_mask).to(frames.device)
        frame_embeds = frames
        if self.long_range is not None:
            frames = frames + self.long_range(frames, timestamps, frame_mask, **kwargs).to(frames.device)
        texts = ModelOutput({name: value.to(frames.device) for name, value in texts.items()})
        return TGDFERModelOutput(
            last_hidden_state=frames,
            pooler_output=masked_mean(frames, frame_mask),
            frame_embeds=frame_embeds,
            text_embeds=texts["text_embeds"],
            description_embeds=texts["description_embeds"].masked_fill(~texts["description_mask"].unsqueeze(-1), 0.0),
            frame_mask=frame_mask,
            motion=motion,
        )


class TGDFERForVideoClassification(RegionEvidence, ClassifierCheckpoints, TGDFERPreTrainedModel):
    """TG-DFER with a multiple-instance head: classifies clips, and returns the relevance of frames and descriptions.

    Args:
        config (`TGDFERConfig`): The configuration.
    """

    def __init__(self, config: TGDFERConfig):
        super().__init__(config)
        dim = embedding_width(config.clip_config)
        self.tgdfer = TGDFERModel(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.bias = nn.Parameter(torch.zeros(config.num_labels))
        self.relevance = TGDFERRelevance(config, dim)
        prompts: type[VisualPrompts] = VISUAL_PROMPTS[config.visual_prompt_source]
        self.visual_prompts: VisualPrompts | None = prompts(config, dim) if config.visual_prompts else None
        self.post_init()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Groups trainable parameters by learning rate: `lora`, `prompts` (texts, visual prompts), `new` (others).

        The group `clip` exists only if weights of CLIP itself are trained.
        """
        groups: dict[str, list[nn.Parameter]] = {"lora": [], "prompts": [], "new": []}
        biases = {f"tgdfer.clip.{name}" for name in self.lora_biases}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            if "lora_" in name or name in biases:
                group = "lora"
            elif name.startswith("tgdfer.clip."):
                group = "clip"
            else:
                group = "prompts" if "text_guidance" in name or "visual_prompts" in name else "new"
            groups.setdefault(group, []).append(parameter)
        return groups

    def set_classes(self, class_prompts: Mapping[str, Any]) -> None:
        """Replaces the classes of the model, for zero-shot use or fine-tuning.

        A class that keeps its name keeps its parameters. Those of a new class start from the mean over the current
        classes. The weights of the descriptions of a class are kept if its descriptions are unchanged, and are uniform
        otherwise. Frozen parameters stay frozen. The calibration is removed.

        Args:
            class_prompts (`Mapping[str, Any]`): Output of `TGDFERProcessor.class_prompts()`: `labels` (K names),
                `input_ids` (K, M, L), `description_mask` (K, M) and `context_length`.

        Raises:
            ValueError: If the prompts are incomplete, labels are repeated, a class has no description, the prompts do
                not fit the text tower, or the context has another length.
        """
        labels, ids, mask = checked_classes(self.config, class_prompts)
        old = {label: index for index, label in enumerate(self.config.class_names)}
        old_indices = [old.get(label) for label in labels]

        self.bias = by_class(self.bias, old_indices)
        self.tgdfer.text_guidance.set_classes(ids, mask, old_indices)
        self.relevance.set_classes(old_indices)
        if self.visual_prompts is not None:
            self.visual_prompts.set_classes(old_indices)

        self.config.reset_calibration()
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}
        self.config.max_descriptions, self.config.prompt_length = ids.shape[1:]
        self.tgdfer._text_cache = TextCache()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        frame_mask: Tensor | None = None,
        timestamps: Tensor | None = None,
        frame_features: Tensor | None = None,
        labels: Tensor | None = None,
        class_weights: Tensor | None = None,
        logit_adjustment: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TGDFEROutput:
        """Classifies clips, and returns the relevance of each frame and of each description.

        Args:
            pixel_values_videos (`Tensor` of shape `(B, T, 3, H, W)`, *optional*): Normalised frames.
            frame_mask (`Tensor` of shape `(B, T)`, *optional*): True for valid frames, at any positions.
            timestamps (`Tensor` of shape `(B, T)`, *optional*): Seconds, by default `config.frame_interval` apart.
            frame_features (`Tensor` of shape `(B, T, D)`, *optional*): Output of `get_frame_features`, instead of
                `pixel_values_videos`.
            labels (`Tensor` of shape `(B,)` or `(B, K)`, *optional*): Labels for the loss. Class indices, where -100
                is ignored. In floating point the shares of the votes for each class or, if `config.problem_type` is
                "multi_label_classification", 1 for each label of a clip and 0 for the others.
            class_weights (`Tensor` of shape `(K,)`, *optional*): Weights of the classes in the cross-entropy. For
                several labels, weights of the clips that have the label.
            logit_adjustment (`Tensor` of shape `(K,)`, *optional*): Values that are added to the logits in the loss
                only, such as the log prior (Menon et al., 2021).
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `TGDFEROutput`: Logits, relevance and, if labels are given, the loss (in training, over all processes).

        Raises:
            ValueError: As in `TGDFERModel.forward`.
        """
        base = self.tgdfer(pixel_values_videos, frame_mask, timestamps, frame_features, return_dict=True, **kwargs)
        mask, texts, frames = base.frame_mask, base.text_embeds, base.last_hidden_state
        # The parts of a model may lie on several devices.
        log_scale, bias = (at_least_fp32(value).to(frames.device) for value in (self.log_scale, self.bias))
        scale = log_scale.exp()
        short_term, both_grains = unit(at_least_fp32(base.frame_embeds)), unit(at_least_fp32(frames))

        scores = scale * cosines(short_term, texts) + bias
        relevance = self.relevance(scores, base.frame_embeds, mask, base.motion).to(frames.device)
        if self.visual_prompts is not None:
            texts = self.visual_prompts(texts, frames, relevance, mask).to(frames.device)  # (B, K, D)
            if self.config.relevance_text == "prompted":
                scores = scale * cosines(short_term, texts) + bias
                relevance = self.relevance(scores, base.frame_embeds, mask, base.motion).to(frames.device)
        evidence = scale * cosines(both_grains, texts) + bias
        weights = pooling_weights(self.config, evidence, relevance, mask)
        logits = (weights * evidence).sum(1)

        frame_shares = (weights * logits.softmax(-1).unsqueeze(1)).sum(-1, keepdim=True)  # (B, T, 1)
        output = TGDFEROutput(
            logits=logits,
            frame_logits=evidence,
            frame_relevance=weights,
            description_relevance=description_relevance(short_term, base.description_embeds),
            video_embeds=unit((frame_shares * at_least_fp32(frames)).sum(1)),
            text_embeds=texts if texts.ndim == 3 else texts.expand(frames.shape[0], -1, -1),
        )
        loss, terms = None, None
        if labels is not None:
            adjusted = logits if logit_adjustment is None else logits + logit_adjustment.to(logits.device)
            if self.config.mil_pooling != "attention":
                # `A` does not decide here, and the weights of these poolings have no gradient.
                relevance = masked_softmax(evidence, mask.unsqueeze(-1), dim=1)
            labels = labels.to(logits.device)
            several = self.config.problem_type == "multi_label_classification"
            processes = num_processes() if self.training else 1
            terms = {"bag": bag_loss(adjusted, labels, class_weights, self.config.label_smoothing, several, processes)}
            labels = hard_labels(labels, several)
            inputs = (scores, relevance, output.video_embeds, base.text_embeds, labels, mask)
            terms |= auxiliary_losses(self.config, scale, *inputs, processes)
            loss = torch.stack([*terms.values()]).sum()
            terms = {name: term.detach() for name, term in terms.items()} if self.training else None
        for name, value in output.items():
            output[name] = value.to(frames.dtype)
        return TGDFEROutput(
            **output, loss=loss, loss_dict=terms, hidden_states=base.hidden_states, attentions=base.attentions
        )


TGDFERModel.register_for_auto_class("AutoModel")
TGDFERForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")

__all__ = ["TGDFERForVideoClassification", "TGDFERModel", "TGDFERModelOutput", "TGDFEROutput", "TGDFERPreTrainedModel"]
