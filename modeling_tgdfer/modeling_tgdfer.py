"""TG-DFER: text-guided, weakly supervised recognition of facial expressions in video (arXiv 2511.10958).

A clip carries one label, but most of its frames do not show it: the clip is a bag of frames (multiple-instance
learning), and language says what to look for. The way of a clip through this file, from top to bottom:

    frames -> CLIP -> short-term grain -> relevance to class texts -> long-range grain -> visual prompts -> MIL head

Shapes: B clips, T frames, K classes, M descriptions a class (ragged, padded under a mask), D the width of CLIP's joint
space. Wherever a `frame_mask` (B, T) is taken, masked frames may stand anywhere, and change nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    TextsRead,
    build_dual_encoder,
    can_be_watched,
    embedding_width,
    encode_images,
    encode_texts,
    set_mode,
    set_timm_checkpointing,
    text_readers,
)
from .layers_tgdfer import (
    IGNORED,
    TGDFERLongRange,
    TGDFERLongRangeLayer,
    TGDFERRelevance,
    TGDFERShortTerm,
    TGDFERTemporalAttention,
    TGDFERTextGuidance,
    TGDFERVisualPrompts,
    TGDFERZeroLinear,
    alignment_loss,
    at_least_fp32,
    bag_loss,
    by_class,
    check_classes,
    cosines,
    instance_loss,
    masked_mean,
    masked_softmax,
    separation_loss,
    smoothness_loss,
    top_frames,
    unit,
)


@dataclass
class TGDFERModelOutput(ModelOutput):
    """What the backbone knows of a clip, before any class looks at it.

    Args:
        last_hidden_state: (B, T, D) frames after both temporal grains, `x`.
        pooler_output: (B, D) mean of `x` over the unmasked frames.
        frame_embeds: (B, T, D) frames after the short-term grain alone, `f'`.
        text_embeds: (K, D) class texts of length one, `t`.
        description_embeds: (K, M, D) single descriptions of length one, `g`; zero on padding.
        frame_mask: (B, T) frames that counted: those given, less the instances dropped in training.
        hidden_states: (B, T, long_range_width) states of the long-range Transformer, on request.
        attentions: (B, heads, T, T) its attention weights, on request.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    frame_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    description_embeds: Tensor | None = None
    frame_mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TGDFEROutput(ModelOutput):
    """A label for each clip, and what it rests on.

    Args:
        loss: () training loss, where labels are given.
        logits: (B, K) the answer of the clip.
        frame_logits: (B, T, K) what each frame, with its near past and future only, says for each class, `s`.
        frame_relevance: (B, T, K) relevance of each frame to each class, `A`; sums to one over the unmasked frames and
            is zero on masked ones. With `mil_pooling="attention"` it is the weight of the frame in the
            logit. With another pooling it follows what the frame says for the class at both grains.
        description_relevance: (B, T, K, M) cosine of each frame with each description; zero on padding.
        video_embeds: (B, D) the clip in CLIP's joint space, of length one: its frames as the answer weighs them.
        text_embeds: (K, D) class texts, or (B, K, D) where visual prompts rewrote them for each clip.
        hidden_states: (B, T, long_range_width) states of the long-range Transformer, the input of each layer and the
            output of the last, on request.
        attentions: (B, heads, T, T) its attention weights, of each layer, on request.
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


class TGDFERPreTrainedModel(CheckpointedModel):
    """What the backbone and the classifier share: what transformers asks of a model, and how weights start.

    `CheckpointedModel` has their loading and saving.
    """

    base_model_prefix = "tgdfer"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    # The mean over a batch is the loss; `Trainer` divides it by the steps of an accumulation.
    accepts_loss_kwargs = False
    _no_split_modules = [
        "TGDFERTextGuidance",
        "TGDFERShortTerm",
        "TGDFERLongRange",
        "TGDFERRelevance",
        "TGDFERVisualPrompts",
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
            init.normal_(module.weight, std=module.in_features**-0.5)  # narrow layers: 0.02 would silence them
        elif isinstance(module, TGDFERTextGuidance):
            init.zeros_(module.description_weight)
            init.zeros_(module.prompt_ids)
            init.ones_(module.description_mask)
        elif isinstance(module, TGDFERRelevance):
            init.constant_(module.sharpness, float(self.config.initial_sharpness))
        elif isinstance(module, TGDFERVisualPrompts):
            init.zeros_(module.strength)
        elif isinstance(module, TGDFERForVideoClassification):
            init.constant_(module.log_scale, math.log(self.config.initial_scale))
            init.zeros_(module.bias)


class TGDFERModel(TGDFERPreTrainedModel):
    """CLIP, class texts and the multi-grained temporal network: frames and texts in one space.

    Args:
        config: The configuration.
    """

    def __init__(self, config: TGDFERConfig):
        super().__init__(config)
        dim = embedding_width(config.clip_config)
        self.clip = build_dual_encoder(config.clip_config)
        self.text_guidance = TGDFERTextGuidance(config)
        self.short_term = TGDFERShortTerm(config, dim) if config.short_term else None
        self.long_range = TGDFERLongRange(config, dim) if config.long_range else None
        self._texts_read = TextsRead()
        self.post_init()
        if config.lora_attached:  # after `post_init`, which would take LoRA from its start
            self.attach_lora()

    def train(self, mode: bool = True) -> "TGDFERModel":
        """Changes the mode of all but the frozen CLIP; drops the cached class texts, which training makes stale."""
        self._texts_read = TextsRead()
        super().train(mode)
        if mode:
            set_mode(self.clip, mode)
        return self

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> "TGDFERModel":
        self._texts_read = TextsRead()  # another device or dtype
        return super()._apply(fn, *args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._texts_read = TextsRead()  # other weights
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Without the cached class texts: a copy or a pickle reads its own."""
        return self.__dict__ | {"_texts_read": TextsRead()}

    def get_input_embeddings(self) -> nn.Module:
        """Embeddings of the tokens of the text tower."""
        clip: Any = self.clip
        return clip.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embeddings of the tokens of the text tower."""
        clip: Any = self.clip
        clip.text_model.set_input_embeddings(value)

    def _read(self, ids: Tensor, context: Tensor | None) -> Tensor:
        """Single descriptions of length one: tokens (K, M, L), context (1 or K, n, C) or None -> (K, M, D)."""
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
        """Texts in a recording of their own: the states of CLIP's text tower are not those of this model."""
        texts, descriptions, mask = self.text_guidance(self._read, description_embeds)
        return ModelOutput(text_embeds=texts, description_embeds=descriptions, description_mask=mask)

    def class_texts(self) -> ModelOutput:
        """Class texts `t` (K, D), single descriptions `g` (K, M, D), and which of these are no padding (K, M).

        The descriptions are read once and used again only where no gradient is needed and nothing that they are read
        with has changed.
        """
        own_record = {"output_hidden_states": False, "output_attentions": False, "return_dict": True}
        readers = text_readers(self)
        learns = torch.is_grad_enabled() and any(reader.requires_grad for reader in readers)
        if learns or not can_be_watched(self, readers):
            return self._texts(**own_record)
        # A compiled graph cannot look at the weights: it goes by what `train` and loading, moving or re-labelling the
        # whole model have dropped.
        if not torch.compiler.is_compiling():
            self._texts_read.drop_if_changed(self, readers)
        if self._texts_read.description_embeds is None:
            # Outside inference mode and autocast: it outlives them, and may take part in training later.
            exact = maybe_autocast(readers[0].device.type, enabled=False)
            with torch.inference_mode(False), torch.no_grad(), exact:
                self._texts_read.description_embeds = self._texts(**own_record)["description_embeds"]
        return self._texts(self._texts_read.description_embeds, **own_record)

    @can_return_tuple
    def get_text_features(self, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        """The texts of all classes, of length one.

        Args:
            **kwargs: `return_dict`. The states of the text tower are not recorded, because the texts are kept.

        Returns:
            `pooler_output` (K, D), the class texts `t`; `last_hidden_state` (K, M, D), the single descriptions `g`.
        """
        texts = self.class_texts()
        return BaseModelOutputWithPooling(
            last_hidden_state=texts["description_embeds"], pooler_output=texts["text_embeds"]
        )

    def get_frame_features(self, pixel_values_videos: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Frames in CLIP's joint space, as CLIP gives them; the frozen part of the network, to be cached.

        Args:
            pixel_values_videos: (B, T, 3, H, W) normalised frames.
            frame_mask: (B, T); masked frames come out as zeros.

        Returns:
            (B, T, D).

        Raises:
            ValueError: The frames are not (B, T, 3, H, W).
        """
        if pixel_values_videos.ndim != 5:
            raise ValueError(
                f"`pixel_values_videos` has shape {tuple(pixel_values_videos.shape)}; give (clips, frames, 3, height, "
                "width), as the processor does."
            )
        features = encode_images(self.clip, pixel_values_videos.flatten(0, 1))
        features = features.unflatten(0, pixel_values_videos.shape[:2])
        return features if frame_mask is None else features.masked_fill(~frame_mask.bool().unsqueeze(-1), 0.0)

    def drop_instances(self, frame_mask: Tensor) -> Tensor:
        """Masks a share of the frames in training, never all of a clip."""
        if not self.training or not self.config.instance_dropout:
            return frame_mask
        chance = torch.rand(frame_mask.shape, device=frame_mask.device).masked_fill(~frame_mask, -1.0)
        spared = chance.argmax(1, keepdim=True) == torch.arange(frame_mask.shape[1], device=frame_mask.device)
        return frame_mask & ((chance >= self.config.instance_dropout) | spared)

    def prepare_time(
        self, frame_features: Tensor, frame_mask: Tensor | None, timestamps: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mask and seconds of the frames, (B, T) each, where the caller gave none; zero seconds on masked frames."""
        if frame_mask is None:
            frame_mask = torch.ones(frame_features.shape[:2], dtype=torch.bool, device=frame_features.device)
        # A GPU would have to wait for the answer, and a compiled graph cannot look into the mask.
        on_cpu = frame_mask.device.type == "cpu" and not torch.compiler.is_compiling()
        frame_mask = frame_mask.to(frame_features.device, torch.bool)
        if on_cpu and not bool(frame_mask.any(1).all()):
            raise ValueError("Every frame of a clip is masked in `frame_mask`; leave at least one unmasked.")
        if timestamps is None:
            timestamps = (frame_mask.long().cumsum(1) - 1) * self.config.frame_interval
        # Whatever stands there, NaN too, must not reach other frames through attention.
        return frame_mask, timestamps.to(frame_features.device).float().masked_fill(~frame_mask, 0.0)

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
        """Sees the frames, reads the texts, and follows the face over time.

        Args:
            pixel_values_videos: (B, T, 3, H, W) normalised frames.
            frame_mask: (B, T) True for frames that count; masked ones may stand anywhere.
            timestamps: (B, T) seconds; `config.frame_interval` apart where not given.
            frame_features: (B, T, D) from `get_frame_features`, in place of the pixels.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            The frames at both grains, and the texts.

        Raises:
            ValueError: Neither or both of pixels and features are given, or every frame of a clip is masked. The mask
                is looked into on a CPU alone, and not in a compiled graph: elsewhere the answer for such a clip means
                nothing.
        """
        drop_text_inputs(kwargs)
        if (pixel_values_videos is None) == (frame_features is None):
            raise ValueError("Give either `pixel_values_videos` or `frame_features`.")
        if frame_features is None:
            frame_features = self.get_frame_features(pixel_values_videos, frame_mask)
        frame_mask, timestamps = self.prepare_time(frame_features, frame_mask, timestamps)
        texts = self.class_texts()

        # Cached features may have another precision than the model.
        frame_features = frame_features.to(self.text_guidance.description_weight.dtype)
        frames = unit(frame_features.masked_fill(~frame_mask.unsqueeze(-1), 0.0))
        frames = F.dropout(frames, self.config.feature_dropout, self.training)
        frame_mask = self.drop_instances(frame_mask)
        if self.short_term is not None:
            frames = frames + self.short_term(frames, timestamps, frame_mask).to(frames.device)
        frame_embeds = frames
        if self.long_range is not None:
            frames = frames + self.long_range(frames, timestamps, frame_mask, **kwargs).to(frames.device)
        return TGDFERModelOutput(
            last_hidden_state=frames,
            pooler_output=masked_mean(frames, frame_mask),
            frame_embeds=frame_embeds,
            text_embeds=texts["text_embeds"],
            description_embeds=texts["description_embeds"].masked_fill(~texts["description_mask"].unsqueeze(-1), 0.0),
            frame_mask=frame_mask,
        )


class TGDFERForVideoClassification(ClassifierCheckpoints, TGDFERPreTrainedModel):
    """TG-DFER with its multiple-instance head: the expression of a clip, and the frames and words it rests on.

    Args:
        config: The configuration.
    """

    def __init__(self, config: TGDFERConfig):
        super().__init__(config)
        dim = embedding_width(config.clip_config)
        self.tgdfer = TGDFERModel(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.bias = nn.Parameter(torch.zeros(config.num_labels))
        self.relevance = TGDFERRelevance(config, dim)
        self.visual_prompts = TGDFERVisualPrompts(config, dim) if config.visual_prompts else None
        self.post_init()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters by the rate they need: `lora`, `prompts` (context and visual prompts), `new`."""
        groups: dict[str, list[nn.Parameter]] = {"lora": [], "prompts": [], "new": []}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            prompts = "text_guidance" in name or "visual_prompts" in name
            groups["lora" if "lora_" in name else "prompts" if prompts else "new"].append(parameter)
        return groups

    def set_classes(self, class_prompts: Mapping[str, Any]) -> None:
        """Re-labels the model by words: zero-shot at once, and a good start for fine-tuning.

        Parameters of a class stay with its name; a new class starts at the mean over the present ones. The weights of
        its descriptions stay where these are the same, and else start uniform. What was frozen stays frozen. The model
        is no longer calibrated.

        Args:
            class_prompts: What `TGDFERProcessor.class_prompts()` returns: `labels` (K names), `input_ids` (K, M, L),
                `description_mask` (K, M), `context_length`.

        Raises:
            ValueError: Labels clash, a class has no description, prompts are not for this text tower, or the context
                has another length.
        """
        labels = list(class_prompts["labels"])
        ids = torch.as_tensor(class_prompts["input_ids"], dtype=torch.long)
        mask = torch.as_tensor(class_prompts["description_mask"], dtype=torch.bool)
        check_classes(self.config, labels, ids, mask, int(class_prompts["context_length"]))
        label2id = self.config.label2id
        known = [int(label2id[label]) if label in label2id else None for label in labels]

        self.bias = by_class(self.bias, known)
        self.tgdfer.text_guidance.set_classes(ids, mask, known)
        self.relevance.set_classes(known)
        if self.visual_prompts is not None:
            self.visual_prompts.set_classes(known)

        self.config.reset_calibration()
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}
        self.config.max_descriptions, self.config.prompt_length = ids.shape[1:]
        self.tgdfer._texts_read = TextsRead()

    # How a clip is answered.

    def get_frame_features(self, pixel_values_videos: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Frames in CLIP's joint space, (B, T, D): see `TGDFERModel.get_frame_features`."""
        return self.tgdfer.get_frame_features(pixel_values_videos, frame_mask)

    def get_text_features(self, **kwargs: Any) -> BaseModelOutputWithPooling:
        """The texts of all classes, of length one: see `TGDFERModel.get_text_features`."""
        return self.tgdfer.get_text_features(**kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """Embeddings of the tokens of the text tower."""
        return self.tgdfer.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embeddings of the tokens of the text tower."""
        self.tgdfer.set_input_embeddings(value)

    def pool(self, evidence: Tensor, relevance: Tensor, frame_mask: Tensor) -> Tensor:
        """Weight of each frame in the logit of each class, by `config.mil_pooling`: (B, T, K), sums to one over T."""
        if self.config.mil_pooling == "attention":
            return relevance
        if self.config.mil_pooling == "mean":
            return masked_softmax(torch.zeros_like(evidence), frame_mask.unsqueeze(-1), dim=1)
        share = self.config.topk_fraction if self.config.mil_pooling == "topk" else 0.0  # "max": one frame
        top = top_frames(evidence, frame_mask, share)
        return top / top.sum(1, keepdim=True)

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
        """Answers for each clip, and says which frames and which descriptions the answer rests on.

        Args:
            pixel_values_videos: (B, T, 3, H, W) normalised frames.
            frame_mask: (B, T) True for frames that count; masked ones may stand anywhere.
            timestamps: (B, T) seconds; `config.frame_interval` apart where not given.
            frame_features: (B, T, D) from `get_frame_features`, in place of the pixels.
            labels: (B,) class indices, for the loss; clips of the label -100 have no part in it.
            class_weights: (K,) weights of the classes in the cross-entropy, for imbalanced data.
            logit_adjustment: (K,) added to the logits in the loss alone, e.g. the log prior (Menon et al., 2021).
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            Logits, relevance and, where labels are given, the loss.

        Raises:
            ValueError: Neither or both of pixels and features are given, or every frame of a clip is masked. The mask
                is looked into on a CPU alone, and not in a compiled graph: elsewhere the answer for such a clip means
                nothing.
        """
        seen: TGDFERModelOutput = self.tgdfer(pixel_values_videos, frame_mask, timestamps, frame_features, **kwargs)
        mask, texts, frames = seen.frame_mask, seen.text_embeds, seen.last_hidden_state
        scale, bias = at_least_fp32(self.log_scale).exp(), at_least_fp32(self.bias)
        near, far = unit(at_least_fp32(seen.frame_embeds)), unit(at_least_fp32(frames))

        frame_logits = scale * cosines(near, texts) + bias
        relevance = self.relevance(frame_logits, seen.frame_embeds, mask)
        if self.visual_prompts is not None:
            texts = self.visual_prompts(texts, frames, relevance, mask)  # (B, K, D)
            if self.config.relevance_text == "prompted":
                frame_logits = scale * cosines(near, texts) + bias
                relevance = self.relevance(frame_logits, seen.frame_embeds, mask)
        evidence = scale * cosines(far, texts) + bias
        weights = self.pool(evidence, relevance, mask)
        logits = (weights * evidence).sum(1)
        if self.config.mil_pooling != "attention":
            # These poolings do not ask for the relevance above, so nothing teaches it which frames decide.
            relevance = masked_softmax(evidence, mask.unsqueeze(-1), dim=1)

        decisive = (weights * logits.softmax(-1).unsqueeze(1)).sum(-1, keepdim=True)  # (B, T, 1)
        output = TGDFEROutput(
            logits=logits,
            frame_logits=frame_logits,
            frame_relevance=relevance,
            description_relevance=self.description_relevance(near, seen.description_embeds),
            video_embeds=unit((decisive * at_least_fp32(frames)).sum(1)),
            text_embeds=texts,
        )
        loss = None
        if labels is not None:
            adjusted = logits if logit_adjustment is None else logits + logit_adjustment
            loss = self.loss(output, adjusted, labels, mask, seen.text_embeds, class_weights)
        for name, value in output.items():
            output[name] = value.to(frames.dtype)
        return TGDFEROutput(**output, loss=loss, hidden_states=seen.hidden_states, attentions=seen.attentions)

    def description_relevance(self, frame_embeds: Tensor, description_embeds: Tensor) -> Tensor:
        """Cosine of each frame with each description: (B, T, D), (K, M, D) -> (B, T, K, M)."""
        return cosines(frame_embeds, description_embeds.flatten(0, 1)).unflatten(-1, description_embeds.shape[:2])

    def loss(
        self,
        output: TGDFEROutput,
        logits: Tensor,
        labels: Tensor,
        frame_mask: Tensor,
        text_embeds: Tensor,
        class_weights: Tensor | None,
    ) -> Tensor:
        """Cross-entropy on the bag, plus the weighted terms that the config switches on.

        Args:
            output: What `forward` found.
            logits: (B, K), adjusted for imbalance.
            labels: (B,) class indices; clips of the label -100 are ignored.
            frame_mask: (B, T).
            text_embeds: (K, D) class texts before visual prompts.
            class_weights: (K,) or None.

        Returns:
            (); zero where all clips are ignored.
        """
        config = self.config
        labels = labels.to(logits.device)
        counts = labels != IGNORED
        index = labels.clamp(min=0)
        total = bag_loss(logits, labels, class_weights, config.label_smoothing)
        of_class = index.view(-1, 1, 1).expand(-1, frame_mask.shape[1], 1)
        relevance = output.frame_relevance.gather(2, of_class).squeeze(2)  # of the true class, (B, T)
        if config.alignment_weight:
            scale = at_least_fp32(self.log_scale).exp()
            total = total + config.alignment_weight * alignment_loss(output.video_embeds, text_embeds, labels, scale)
        if config.separation_weight:
            total = total + config.separation_weight * separation_loss(text_embeds)
        if config.smoothness_weight:
            jumps = smoothness_loss(relevance, frame_mask) * counts
            total = total + config.smoothness_weight * jumps.sum() / counts.sum().clamp(min=1)
        if config.instance_weight:
            top = top_frames(relevance, frame_mask, config.topk_fraction)
            total = total + config.instance_weight * instance_loss(output.frame_logits, labels, top)
        return total


def drop_text_inputs(kwargs: Any) -> None:
    """Drops the inputs of language models, which peft gives as None to models of its task types.

    Raises:
        ValueError: One of them is given.
    """
    for name in ("input_ids", "attention_mask", "inputs_embeds", "position_ids", "token_type_ids"):
        if kwargs.pop(name, None) is not None:
            raise ValueError(f"`{name}` is no input of TG-DFER: give `pixel_values_videos` and `frame_mask`.")


TGDFERModel.register_for_auto_class("AutoModel")
TGDFERForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")

__all__ = ["TGDFERForVideoClassification", "TGDFERModel", "TGDFERModelOutput", "TGDFEROutput", "TGDFERPreTrainedModel"]
