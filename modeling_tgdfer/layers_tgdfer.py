"""Layers that TG-DFER adds to CLIP: masked operations, temporal layers, class texts and relevance.

The temporal network has two parts, called grains, for two time scales. The short-term grain models changes within a
few frames. The long-range grain models the course of the expression over the clip. Each grain has a narrow bottleneck
and ends in a projection that is initialised with zeros. Masked frames may be at any position in a clip.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, maybe_autocast

from .configuration_tgdfer import TGDFERConfig
from .dual_encoders_tgdfer import context_start, text_length


def at_least_fp32(values: Tensor) -> Tensor:
    """Converts values in half precision to float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def unit(vectors: Tensor) -> Tensor:
    """Normalises vectors (..., D) to unit length and keeps their dtype. Zero vectors stay zero and get no gradient.

    The division is computed in float32, because the epsilon of `normalize` is zero in float16.
    """
    values = at_least_fp32(vectors)
    # The features of a masked frame are zero. If they are used without the mask, the gradient of `normalize` is 1e12.
    is_zero = (values == 0).all(-1, keepdim=True)
    return F.normalize(values, dim=-1).masked_fill(is_zero, 0.0).to(vectors.dtype)


def matmul_fp32(left: Tensor, right: Tensor) -> Tensor:
    """Multiplies matrices in float32 even under autocast: (..., N, C), (..., C, P) -> (..., N, P)."""
    with maybe_autocast(left.device.type, enabled=False):
        return at_least_fp32(left) @ at_least_fp32(right.to(left.device))


def cosines(frames: Tensor, texts: Tensor) -> Tensor:
    """Computes the cosines of unit vectors in float32: frames (..., T, D), texts (..., K, D) -> (..., T, K)."""
    return matmul_fp32(frames, texts.transpose(-1, -2))


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Computes a softmax over the unmasked elements. The result is exactly zero for masked elements.

    If all elements are masked, all results are zero. The result is in float32 if the scores are in half precision.
    """
    scores = at_least_fp32(scores)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim).masked_fill(~mask, 0.0)


def masked_mean(frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Computes the mean of the unmasked frames: (B, T, C), (B, T) -> (B, C)."""
    weight = frame_mask.unsqueeze(-1).to(at_least_fp32(frames).dtype)
    return ((frames * weight).sum(1) / weight.sum(1).clamp(min=1.0)).to(frames.dtype)


def check_frames(frames: Tensor, frame_mask: Tensor | None) -> None:
    """Checks that clips (B, T, ...) have frames, and that the mask is (B, T).

    Raises:
        ValueError: Otherwise.
    """
    if 0 in frames.shape[:2]:
        raise ValueError(f"{frames.shape[0]} clips of {frames.shape[1]} frames were given; give at least one of each.")
    if frame_mask is not None and frame_mask.shape != frames.shape[:2]:
        raise ValueError(
            f"`frame_mask` has shape {tuple(frame_mask.shape)}, but there are {frames.shape[0]} clips of "
            f"{frames.shape[1]} frames; give the mask of the same call of the processor."
        )


def clip_times(timestamps: Tensor | None, frame_mask: Tensor, interval: float) -> Tensor:
    """Computes the times of the frames since the first unmasked frame of their clip. Masked frames have the time 0.

    Only differences in time matter. Their precision in float32 would be lost in the seconds since 1970.

    Args:
        timestamps (`Tensor` of shape `(B, T)`, *optional*): Seconds. A clip whose unmasked frames include NaN has
            unknown times.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.
        interval (`float`): Seconds between two frames of a clip with unknown times.

    Returns:
        `Tensor` of shape `(B, T)`: Seconds, in float32.
    """
    default = (frame_mask.long().cumsum(1) - 1) * interval
    if timestamps is None:
        return default.float().masked_fill(~frame_mask, 0.0)
    is_unknown = (timestamps.isnan() & frame_mask).any(1, keepdim=True)
    # Invalid timestamps of masked frames, such as NaN, must not reach other frames through attention.
    times = torch.where(is_unknown, default.to(timestamps.dtype), timestamps).masked_fill(~frame_mask, 0.0)
    start = times.masked_fill(~frame_mask, torch.inf).amin(1, keepdim=True)
    return (times - start).float().masked_fill(~frame_mask, 0.0)


def neighbours(frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the indices (B, T) of the previous and the next unmasked frame of each frame.

    If there is no such frame, the index is that of the frame itself.
    """
    index = torch.arange(frame_mask.shape[1], device=frame_mask.device)
    earlier = frame_mask.unsqueeze(1) & (index.unsqueeze(0) < index.unsqueeze(1))  # (B, T, T)
    later = frame_mask.unsqueeze(1) & (index.unsqueeze(0) > index.unsqueeze(1))
    previous = torch.where(earlier, index, -1).amax(-1)
    following = torch.where(later, index, index.shape[0]).amin(-1)
    previous = torch.where(previous < 0, index, previous)
    following = torch.where(following == index.shape[0], index, following)
    return previous, following


def gather_frames(frames: Tensor, index: Tensor) -> Tensor:
    """Selects the frames at `index`: (B, T, C), (B, T) -> (B, T, C)."""
    return frames.gather(1, index.unsqueeze(-1).expand(-1, -1, frames.shape[-1]))


def top_frames(scores: Tensor, frame_mask: Tensor, share: float) -> Tensor:
    """Selects the unmasked frames with the highest scores: the given fraction of a clip, but at least one frame.

    Args:
        scores (`Tensor` of shape `(B, T)` or `(B, T, K)`): Scores of the frames, or of the frames for each class.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.
        share (`float`): Fraction of the unmasked frames, from 0 to 1, rounded up. 0 selects only the frame with the
            highest score.

    Returns:
        `Tensor`: Mask of the shape of `scores`. If scores are equal, the earlier frame is selected first.
    """
    mask = frame_mask if scores.ndim == 2 else frame_mask.unsqueeze(-1)
    count = (mask.sum(1, keepdim=True) * share).ceil().clamp(min=1)
    order = scores.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) < count) & mask


def pooling_weights(config: TGDFERConfig, evidence: Tensor, relevance: Tensor, frame_mask: Tensor) -> Tensor:
    """Computes the weights of the frames in the logits, which depend on `config.mil_pooling`.

    Args:
        config (`TGDFERConfig`): The configuration.
        evidence (`Tensor` of shape `(B, T, K)`): Evidence of each frame, `e`.
        relevance (`Tensor` of shape `(B, T, K)`): Relevance of each frame, `A`.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.

    Returns:
        `Tensor` of shape `(B, T, K)`: Weights with sum one over the unmasked frames.
    """
    if config.mil_pooling == "attention":
        return relevance
    if config.mil_pooling == "mean":
        return masked_softmax(torch.zeros_like(evidence), frame_mask.unsqueeze(-1), dim=1)
    fraction = config.topk_fraction if config.mil_pooling == "topk" else 0.0  # 0 selects one frame
    top = top_frames(evidence, frame_mask, fraction)
    return top / top.sum(1, keepdim=True).clamp(min=1)  # A clip whose frames are all masked has no top frames.


def drop_instances(frame_mask: Tensor, share: float) -> Tensor:
    """Drops a share of the frames at random, but never all frames of a clip: mask (B, T) -> mask (B, T)."""
    chance = torch.rand(frame_mask.shape, device=frame_mask.device).masked_fill(~frame_mask, -1.0)
    kept = chance.argmax(1, keepdim=True) == torch.arange(frame_mask.shape[1], device=frame_mask.device)
    return frame_mask & ((chance >= share) | kept)


def description_relevance(frame_embeds: Tensor, description_embeds: Tensor) -> Tensor:
    """Computes the cosine of each frame and each description: (B, T, D), (K, M, D) -> (B, T, K, M)."""
    return cosines(frame_embeds, description_embeds.flatten(0, 1)).unflatten(-1, description_embeds.shape[:2])


class TGDFERZeroLinear(nn.Linear):
    """A linear layer that is initialised with zeros, so that the residual branch that it ends has no effect at first.

    It is a separate class because transformers initialises each module by its type. A parent module could not
    initialise it, because transformers skips modules of remote code that have no parameters of their own.
    """


class TGDFERTemporalAttention(nn.Module):
    """Attention between frames with rotary embeddings of their times in seconds (RoFormer, Su et al., 2021).

    There are no positional embeddings. Only differences in time matter, so the result does not depend on when an
    expression occurs in a clip.

    Args:
        config (`TGDFERConfig`): The configuration.
        width (`int`): Width C of the states, a multiple of `2 * config.temporal_heads`.
    """

    def __init__(self, config: TGDFERConfig, width: int):
        super().__init__()
        self.config = config
        self.is_causal = False
        self.head_dim = width // config.temporal_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """Returns the frequencies of the rotations, (C / 2,) in radians per second for heads of C channels.

        The periods range from 32 s to 1/4 s, so the rotations distinguish times within a clip of up to 32 s and
        changes as short as a blink. The frequencies are computed on each call, because a buffer would lose precision
        if the model is converted to bfloat16.
        """
        octaves = torch.linspace(-5.0, 2.0, self.head_dim // 2, dtype=torch.float32, device=device)
        return 2 * math.pi * octaves.exp2()

    def rotate(self, states: Tensor, timestamps: Tensor) -> Tensor:
        """Rotates pairs of channels by time: states (B, heads, T, C), seconds (B, T) -> (B, heads, T, C)."""
        angle = (timestamps.unsqueeze(-1) * self.frequencies(timestamps.device)).unsqueeze(1)  # (B, 1, T, C / 2)
        cos, sin = angle.cos().to(states.dtype), angle.sin().to(states.dtype)
        first, second = states.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    def forward(
        self, hidden_states: Tensor, timestamps: Tensor, frame_attention: Any, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Tensor, Tensor | None]:
        """Computes the attention between frames.

        Args:
            hidden_states (`Tensor` of shape `(B, T, C)`): States of the frames.
            timestamps (`Tensor` of shape `(B, T)`): Times of the frames in seconds.
            frame_attention (`Any`): Attention mask that `attention_mask_of` returns for the attention
                implementation of the config.
            **kwargs: Options of the attention implementation.

        Returns:
            `tuple[Tensor, Tensor | None]`: States (B, T, C), and the attention weights (B, heads, T, T) if the
            implementation returns them.
        """
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        queries, keys, values = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = self.rotate(queries, timestamps), self.rotate(keys, timestamps)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(
            self, queries, keys, values, frame_attention, scaling=self.head_dim**-0.5, dropout=0.0, **kwargs
        )
        return self.out_proj(output.flatten(2)), weights


def attention_mask_of(config: TGDFERConfig, states: Tensor, frame_mask: Tensor, window: int | None = None) -> Any:
    """Creates the attention mask of frames for the attention implementation of the config.

    Args:
        config (`TGDFERConfig`): The configuration.
        states (`Tensor` of shape `(B, T, C)`): States of the frames.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.
        window (`int`, *optional*): Number of unmasked frames on either side to which a frame attends. By default, it
            attends to all unmasked frames.

    Returns:
        `Any`: What the attention implementation takes. With "sdpa" it is a boolean mask (B, 1, T, T).
    """
    # Distances are counted in unmasked frames. The window of every frame, also of a masked one, contains at least one
    # unmasked frame, so no row of the mask is empty.
    rank = frame_mask.long().cumsum(1)
    if config._attn_implementation in ("sdpa", "eager"):
        # This gives the same as `create_bidirectional_mask`, whose `vmap` takes about two fifths of the time of a
        # training step on frame features. It reads no values of the mask, which would synchronise a GPU.
        near = True if window is None else (rank.unsqueeze(2) - rank.unsqueeze(1)).abs() <= window
        allowed = (frame_mask.unsqueeze(1) & near).expand(-1, frame_mask.shape[1], -1).unsqueeze(1)
        if config._attn_implementation == "sdpa":
            return allowed
        return torch.zeros_like(allowed, dtype=states.dtype).masked_fill(~allowed, torch.finfo(states.dtype).min)

    def is_near(clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= 0 if window is None else (rank[clip, query] - rank[clip, key]).abs() <= window

    return create_bidirectional_mask(config, states, frame_mask, and_mask_function=is_near)


class TGDFERShortTerm(nn.Module):
    """Short-term grain for onsets and micro-movements: differences between adjacent frames, and local attention.

    A frame attends to itself and to `config.short_term_window` unmasked frames on either side. The caller adds the
    output to the frames. The output is zero at the start of training.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        width = config.short_term_width
        self.config = config
        self.window = config.short_term_window
        self.input_norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, width)
        self.change = nn.Linear(3 * width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TGDFERTemporalAttention(config, width)
        self.output_norm = nn.LayerNorm(width)
        self.up = TGDFERZeroLinear(width, dim)

    def forward(self, frames: Tensor, timestamps: Tensor, frame_mask: Tensor) -> Tensor:
        """Computes what is added to the frames: frames (B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.down(self.input_norm(frames))
        previous, following = neighbours(frame_mask)
        changes = [hidden - gather_frames(hidden, previous), gather_frames(hidden, following) - hidden]
        hidden = hidden + F.gelu(self.change(torch.cat([hidden, *changes], dim=-1)))
        attention_mask = attention_mask_of(self.config, hidden, frame_mask, self.window)
        # Flash attention removes masked frames, so its window counts only unmasked frames, like `near`.
        options = {"sliding_window": self.window + 1} if "flash" in self.config._attn_implementation else {}
        attended, _ = self.attention(self.attention_norm(hidden), timestamps, attention_mask, **options)
        return self.up(F.gelu(self.output_norm(hidden + attended)))


class TGDFERLongRangeLayer(GradientCheckpointingLayer):
    """A pre-norm Transformer layer over the whole clip.

    Args:
        config (`TGDFERConfig`): The configuration.
    """

    def __init__(self, config: TGDFERConfig):
        super().__init__()
        width = config.long_range_width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TGDFERTemporalAttention(config, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(
        self, hidden_states: Tensor, timestamps: Tensor, frame_attention: Any, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """Applies the layer: states (B, T, C), seconds (B, T), attention mask -> (B, T, C)."""
        attended, _ = self.attention(self.attention_norm(hidden_states), timestamps, frame_attention, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class TGDFERLongRange(nn.Module):
    """Long-range grain for the course of the expression: a small Transformer over the whole clip.

    The caller adds the output to the frames. The output is zero at the start of training.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.config = config
        self.input_norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, config.long_range_width)
        self.layers = nn.ModuleList(TGDFERLongRangeLayer(config) for _ in range(config.long_range_layers))
        self.output_norm = nn.LayerNorm(config.long_range_width)
        self.up = TGDFERZeroLinear(config.long_range_width, dim)

    def forward(
        self, frames: Tensor, timestamps: Tensor, frame_mask: Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """Computes what is added to the frames: frames (B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.down(self.input_norm(frames))
        attention_mask = attention_mask_of(self.config, hidden, frame_mask)
        for layer in self.layers:
            hidden = layer(hidden, timestamps, attention_mask, **kwargs)
        output = self.up(F.gelu(self.output_norm(hidden)))
        drop = self.config.long_range_dropout
        if self.training and drop:  # stochastic depth (Huang et al., 2016) per clip
            keep = torch.rand(output.shape[0], 1, 1, device=output.device) >= drop
            output = output * keep / (1 - drop)
        return output


# Texts, relevance and visual prompts.


class TGDFERTextGuidance(nn.Module):
    """Class texts: learnable context and fine-grained descriptions, encoded by the text tower of CLIP.

    A prompt is `[BOS] ctx_1 .. ctx_n description [EOS]`. Prompts of SigLIP have no `[BOS]`. The n context vectors
    (CoOp, Zhou et al., 2022) are initialised with the embeddings of a phrase. An untrained model is therefore
    equivalent to CLIP with the phrase and the description.

    Args:
        config (`TGDFERConfig`): The configuration.
    """

    prompt_ids: Tensor
    description_mask: Tensor

    def __init__(self, config: TGDFERConfig):
        super().__init__()
        classes, descriptions = config.num_labels, config.max_descriptions
        self.context_length = config.context_length
        self.context_start = context_start(config.clip_config)
        text_config = config.clip_config.text_config
        self.register_buffer("prompt_ids", torch.zeros(classes, descriptions, config.prompt_length, dtype=torch.long))
        self.register_buffer("description_mask", torch.ones(classes, descriptions, dtype=torch.bool))
        self.description_weight = nn.Parameter(torch.zeros(classes, descriptions))
        self.context: nn.Embedding | None = None
        self.has_context_per_class = config.context == "class"
        if config.context != "none" and config.context_length:
            contexts = classes if self.has_context_per_class else 1
            self.context = nn.Embedding(contexts * config.context_length, text_config.hidden_size)

    def forward(
        self, encode: Callable[[Tensor, Tensor | None], Tensor], description_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the class texts `t_k = norm(sum_m w_km g_km)` with `w_km = softmax_m(omega_km)`.

        `g_km` is description m of class k, and `omega_km` is its learned weight. All parameters and buffers are used
        in this method, because offloaded weights are in memory only in `forward`.

        Args:
            encode (`Callable`): Encodes tokens (K, M, L) to descriptions (K, M, D) of unit length. Its second argument
                is the context (1 or K, n, C) that replaces the phrase, or None to keep the phrase.
            description_embeds (`Tensor` of shape `(K, M, D)`, *optional*): An earlier output of `encode`.

        Returns:
            `tuple[Tensor, Tensor, Tensor]`: Class texts (K, D), descriptions `g` (K, M, D), and the mask (K, M) of the
            descriptions that are not padding.
        """
        if description_embeds is None:
            context = None
            if self.context is not None:
                numbers = torch.arange(self.context.num_embeddings, device=self.prompt_ids.device)
                context = self.context(numbers).unflatten(0, (-1, self.context_length))
            description_embeds = encode(self.prompt_ids, context)
        weight = masked_softmax(self.description_weight, self.description_mask, dim=-1).unsqueeze(-1)
        texts = (weight.to(description_embeds.device) * at_least_fp32(description_embeds)).sum(1)
        return unit(texts).to(description_embeds.dtype), description_embeds, self.description_mask

    def set_classes(self, ids: Tensor, mask: Tensor, old_indices: Sequence[int | None]) -> None:
        """Replaces the prompts of the classes.

        The weights of the descriptions of a class are kept if the descriptions are unchanged, and are uniform
        otherwise.

        Args:
            ids (`Tensor` of shape `(K, M, L)`): Tokens.
            mask (`Tensor` of shape `(K, M)`): True for descriptions that are not padding.
            old_indices (`Sequence[int | None]`): Current index of each class. None for a new class.
        """
        self.description_weight = self._new_weights(ids, mask, old_indices)
        self.prompt_ids = ids.to(self.prompt_ids.device)
        self.description_mask = mask.to(self.description_mask.device)
        if self.context is not None and self.has_context_per_class:
            context = self.context.weight.unflatten(0, (-1, self.context_length))
            self.context = nn.Embedding.from_pretrained(
                by_class(context, old_indices).flatten(0, 1), freeze=not self.context.weight.requires_grad
            )

    def _new_weights(self, ids: Tensor, mask: Tensor, old_indices: Sequence[int | None]) -> nn.Parameter:
        weights = self.description_weight.new_zeros(mask.shape)
        for row, index in enumerate(old_indices):
            if index is None:
                continue
            old_texts = _unpadded_tokens(self.prompt_ids[index], self.description_mask[index])
            new_texts = _unpadded_tokens(ids[row], mask[row])
            if sorted(old_texts) == sorted(new_texts):
                old, new = self.description_mask[index].nonzero().flatten(), mask[row].nonzero().flatten()
                for column, text in zip(new.tolist(), new_texts, strict=True):
                    weights[row, column] = self.description_weight.data[index, old[old_texts.index(text)]]
        return nn.Parameter(weights, requires_grad=self.description_weight.requires_grad)


def _unpadded_tokens(ids: Tensor, mask: Tensor) -> list[list[int]]:
    """Returns the tokens of each description of a class without padding: tokens (M, L), mask (M,)."""
    texts = ids[mask].tolist()
    for text in texts:
        while len(text) > 1 and text[-1] == text[-2]:
            text.pop()
    return texts


_CLASS_PROMPTS = ("labels", "input_ids", "description_mask", "context_length")


def checked_classes(config: TGDFERConfig, class_prompts: Mapping[str, Any]) -> tuple[list[str], Tensor, Tensor]:
    """Checks that the model can use the prompts of classes.

    Returns:
        `tuple[list[str], Tensor, Tensor]`: The K labels, the tokens (K, M, L), and the mask of descriptions (K, M).

    Raises:
        ValueError: If the prompts are not the output of the processor, labels are repeated, a class has no
            description, the prompts do not fit the text tower, or the context has a different length.
    """
    if missing := [name for name in _CLASS_PROMPTS if name not in class_prompts]:
        raise ValueError(
            f"The class prompts have no {missing[0]!r}; give the output of `processor.encode_classes(descriptions)`."
        )
    labels, context_length = list(class_prompts["labels"]), int(class_prompts["context_length"])
    ids = torch.as_tensor(class_prompts["input_ids"], dtype=torch.long)
    mask = torch.as_tensor(class_prompts["description_mask"], dtype=torch.bool)
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"The label {repeated[0]!r} is given more than once; name every class once.")
    if not labels or ids.ndim != 3 or mask.shape != ids.shape[:2] or len(ids) != len(labels):
        raise ValueError(
            f"{len(labels)} labels do not fit `input_ids` of shape {tuple(ids.shape)} and a `description_mask` of "
            f"shape {tuple(mask.shape)}; give (classes, descriptions, tokens) and (classes, descriptions)."
        )
    described = mask.any(1).tolist()
    undescribed = [label for label, is_described in zip(labels, described, strict=True) if not is_described]
    if undescribed:
        raise ValueError(f"The class {undescribed[0]!r} has no description; give at least one.")
    text_config = config.clip_config.text_config
    longest = text_config.max_position_embeddings
    if ids.shape[-1] > longest:
        raise ValueError(
            f"A prompt has {ids.shape[-1]} tokens, but the text tower accepts at most {longest}; shorten the "
            "description."
        )
    padded = text_length(config.clip_config)
    if padded and ids.shape[-1] != padded:
        raise ValueError(
            f"The prompts have {ids.shape[-1]} tokens, but the text tower needs prompts that are padded to {padded}; "
            "create the prompts with the processor of this model."
        )
    if ids.min() < 0 or ids.max() >= text_config.vocab_size:
        raise ValueError(
            f"The prompts have token ids from {ids.min()} to {ids.max()}, but the text tower knows only ids below "
            f"{text_config.vocab_size}; create the prompts with the processor of this model."
        )
    if context_length != config.context_length:
        raise ValueError(
            f"The prompts have a context of {context_length} tokens, but the model expects {config.context_length}; "
            "create the prompts with the processor of this model."
        )
    return labels, ids, mask


def by_class(parameter: Tensor, old_indices: Sequence[int | None]) -> nn.Parameter:
    """Reorders the rows of a per-class parameter. A new class, whose index is None, gets the mean of all rows."""
    rows = [parameter.data.mean(0) if index is None else parameter.data[index] for index in old_indices]
    return nn.Parameter(torch.stack(rows), requires_grad=parameter.requires_grad)


class TGDFERRelevance(nn.Module):
    """Relevance of the frames to the classes: `A_tk = softmax_t(alpha_k s_tk + u_t)`.

    `s_tk` is the logit of frame t for class k. `u_t` is the score of the frame by gated attention (Ilse et al., 2018).
    `alpha_k` is the learned sharpness of class k, as in auto-pooling (McFee et al., 2018). With
    `config.motion_weights` the softmax is weighted: the logarithm of the weight of the frame by motion is added.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.sharpness = nn.Parameter(torch.full((config.num_labels,), float(config.initial_sharpness)))
        self.norm = nn.LayerNorm(dim)
        self.value = nn.Linear(dim, config.relevance_width)
        self.gate = nn.Linear(dim, config.relevance_width)
        self.score = TGDFERZeroLinear(config.relevance_width, 1, bias=False)

    def forward(
        self, frame_logits: Tensor, frame_embeds: Tensor, frame_mask: Tensor, motion: Tensor | None = None
    ) -> Tensor:
        """Computes the relevance: `s` (B, T, K), `f'` (B, T, D), mask and motion (B, T) -> `A` (B, T, K)."""
        hidden = self.norm(frame_embeds)
        score = self.score(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden)))  # (B, T, 1)
        scores = at_least_fp32(self.sharpness) * frame_logits + at_least_fp32(score)
        if motion is not None:
            scores = scores + motion.clamp(min=torch.finfo(motion.dtype).tiny).log().unsqueeze(-1).to(scores.device)
        return masked_softmax(scores, frame_mask.unsqueeze(-1), dim=1)

    def set_classes(self, old_indices: Sequence[int | None]) -> None:
        """Replaces the classes, which are given by their current indices. The index of a new class is None."""
        self.sharpness = by_class(self.sharpness, old_indices)
