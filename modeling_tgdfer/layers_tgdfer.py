"""What TG-DFER adds to its CLIP: operations under a mask, layers along time, of texts and of relevance, and losses.

The temporal network has two grains: what changes within a few frames, and how the emotion flows over the clip. Each
grain works behind a narrow bottleneck and ends in a projection that starts at zero. Masked frames may stand anywhere
in a clip.
"""

import math
from collections.abc import Callable, Sequence
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

# Clips with this label have no part in the loss, as everywhere in PyTorch.
IGNORED = -100


def at_least_fp32(values: Tensor) -> Tensor:
    """The values in float32 where they are in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) divided by their length, in their own dtype; zeros stay zeros.

    The division is in float32: the smallest length that `normalize` divides by is zero in float16.
    """
    return F.normalize(at_least_fp32(vectors), dim=-1).to(vectors.dtype)


def cosines(frames: Tensor, texts: Tensor) -> Tensor:
    """Products (..., T, K) of vectors of length one, (..., T, D) and (..., K, D), in float32 even under autocast."""
    with maybe_autocast(frames.device.type, enabled=False):
        return at_least_fp32(frames) @ at_least_fp32(texts.to(frames.device)).transpose(-1, -2)


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax in which masked elements have no part; exactly zero there, and everywhere if all are masked.

    The result is in float32 where the scores are in half precision.
    """
    scores = at_least_fp32(scores)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim).masked_fill(~mask, 0.0)


def masked_mean(frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean over time of the unmasked frames: (B, T, C), (B, T) -> (B, C)."""
    weight = frame_mask.unsqueeze(-1).to(at_least_fp32(frames).dtype)
    return ((frames * weight).sum(1) / weight.sum(1).clamp(min=1.0)).to(frames.dtype)


def neighbours(frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the previous and of the next unmasked frame; a frame without one is its own. (B, T) each."""
    index = torch.arange(frame_mask.shape[1], device=frame_mask.device)
    earlier = frame_mask.unsqueeze(1) & (index.unsqueeze(0) < index.unsqueeze(1))  # (B, T, T)
    later = frame_mask.unsqueeze(1) & (index.unsqueeze(0) > index.unsqueeze(1))
    previous = torch.where(earlier, index, -1).amax(-1)
    following = torch.where(later, index, index.shape[0]).amin(-1)
    previous = torch.where(previous < 0, index, previous)
    following = torch.where(following == index.shape[0], index, following)
    return previous, following


def gather_frames(frames: Tensor, index: Tensor) -> Tensor:
    """Frames at `index`: (B, T, C), (B, T) -> (B, T, C)."""
    return frames.gather(1, index.unsqueeze(-1).expand(-1, -1, frames.shape[-1]))


def top_frames(scores: Tensor, frame_mask: Tensor, share: float) -> Tensor:
    """Marks the `share` of the unmasked frames with the highest scores, at least one frame a clip.

    Args:
        scores: (B, T), or (B, T, K) to rank the frames for each class.
        frame_mask: (B, T).
        share: 0 to 1; 0 marks the one highest frame.

    Returns:
        Mask of the shape of `scores`. Among equal scores the earlier frame comes first.
    """
    mask = frame_mask if scores.ndim == 2 else frame_mask.unsqueeze(-1)
    count = (mask.sum(1, keepdim=True) * share).ceil().clamp(min=1)
    order = scores.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) < count) & mask


class TGDFERZeroLinear(nn.Linear):
    """A projection that starts at zero, so that a branch which ends in it starts as an exact identity.

    A class of its own, because transformers initialises custom code module by module, and passes over modules that
    hold no parameter themselves: a parent could not zero its child.
    """


class TGDFERTemporalAttention(nn.Module):
    """Attention between frames that knows time by a rotation on seconds (RoFormer, Su et al., 2021).

    It never knows positions. Only differences in time matter, so an emotion may come anywhere in a clip.
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
        """Radians a second, from a period of 32 s (the flow of a clip) to one of 1/4 s (a blink).

        They are computed anew each time. A buffer would be rounded for good when the model is converted to bfloat16.
        """
        octaves = torch.linspace(-5.0, 2.0, self.head_dim // 2, dtype=torch.float32, device=device)
        return 2 * math.pi * octaves.exp2()

    def rotate(self, states: Tensor, timestamps: Tensor) -> Tensor:
        """Rotates pairs of channels by time: (B, heads, T, C), (B, T) in seconds -> (B, heads, T, C)."""
        angle = (timestamps.unsqueeze(-1) * self.frequencies(timestamps.device)).unsqueeze(1)  # (B, 1, T, C / 2)
        cos, sin = angle.cos().to(states.dtype), angle.sin().to(states.dtype)
        first, second = states.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    def forward(
        self, hidden_states: Tensor, timestamps: Tensor, frame_attention: Any, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Tensor, Tensor | None]:
        """Attends.

        Args:
            hidden_states: (B, T, C).
            timestamps: (B, T) seconds.
            frame_attention: Which frames see each other, as `create_bidirectional_mask` gives it for the attention
                implementation of the config.
            **kwargs: Of the attention implementation.

        Returns:
            (B, T, C), and the weights (B, heads, T, T) where the implementation has them.
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


class TGDFERShortTerm(nn.Module):
    """Short-term grain: differences to the adjacent frames and attention within +-w frames.

    For onsets and micro-movements. It returns what is to be added to the frames: zero at the start of training.
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
        """(B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.down(self.input_norm(frames))
        previous, following = neighbours(frame_mask)
        changes = [hidden - gather_frames(hidden, previous), gather_frames(hidden, following) - hidden]
        hidden = hidden + F.gelu(self.change(torch.cat([hidden, *changes], dim=-1)))
        # Distances are counted in unmasked frames. At least one frame is near each frame, so that no row is empty.
        rank = frame_mask.long().cumsum(1)

        def near(clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (rank[clip, query] - rank[clip, key]).abs() <= self.window

        seen = create_bidirectional_mask(self.config, hidden, frame_mask, and_mask_function=near)
        # Flash attention leaves out masked frames and counts the others, as `near` does.
        options = {"sliding_window": self.window + 1} if "flash" in self.config._attn_implementation else {}
        attended, _ = self.attention(self.attention_norm(hidden), timestamps, seen, **options)
        return self.up(F.gelu(self.output_norm(hidden + attended)))


class TGDFERLongRangeLayer(GradientCheckpointingLayer):
    """A pre-norm Transformer layer over the whole clip."""

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
        """(B, T, C) -> (B, T, C)."""
        attended, _ = self.attention(self.attention_norm(hidden_states), timestamps, frame_attention, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class TGDFERLongRange(nn.Module):
    """Long-range grain: a small Transformer over the whole clip, for the flow of the emotion.

    It returns what is to be added to the frames: zero at the start of training.
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
        """(B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.down(self.input_norm(frames))
        # With a mask function the mask is made without a look at its values, for which a GPU would have to wait.
        seen = create_bidirectional_mask(self.config, hidden, frame_mask, and_mask_function=_anything)
        for layer in self.layers:
            hidden = layer(hidden, timestamps, seen, **kwargs)
        output = self.up(F.gelu(self.output_norm(hidden)))
        drop = self.config.long_range_dropout
        if self.training and drop:  # stochastic depth (Huang et al., 2016), a clip at a time
            keep = torch.rand(output.shape[0], 1, 1, device=output.device) >= drop
            output = output * keep / (1 - drop)
        return output


def _anything(clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A mask function that allows every pair of frames."""
    return query >= 0


# Texts, relevance and visual prompts.


class TGDFERTextGuidance(nn.Module):
    """Class texts: learnable context and fine-grained descriptions, read by CLIP's text tower.

    A prompt is `[BOS] ctx_1 .. ctx_n description [EOS]`; prompts of SigLIP have no `[BOS]`. The n context vectors
    (CoOp, Zhou et al., 2022) start as the embeddings of a phrase, so that an untrained model is CLIP reading phrase
    and description.
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
        self, read: Callable[[Tensor, Tensor | None], Tensor], description_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Class texts `t = norm(sum_m w_m g_m)`.

        All parameters and buffers are used in here, because offloaded weights are in memory only within `forward`.

        Args:
            read: Gives single descriptions (K, M, D) of length one for their tokens (K, M, L) and the context (1 or K,
                n, C) that replaces the phrase in them, None for the phrase as it is.
            description_embeds: (K, M, D) what `read` gave earlier, to be used again.

        Returns:
            Class texts (K, D), single descriptions `g` (K, M, D), and which of these are no padding (K, M).
        """
        if description_embeds is None:
            context = None
            if self.context is not None:
                numbers = torch.arange(self.context.num_embeddings, device=self.prompt_ids.device)
                context = self.context(numbers).unflatten(0, (-1, self.context_length))
            description_embeds = read(self.prompt_ids, context)
        weight = masked_softmax(self.description_weight, self.description_mask, dim=-1).unsqueeze(-1)
        texts = (weight.to(description_embeds.device) * at_least_fp32(description_embeds)).sum(1)
        return unit(texts).to(description_embeds.dtype), description_embeds, self.description_mask

    def set_classes(self, ids: Tensor, mask: Tensor, known: Sequence[int | None]) -> None:
        """Takes the prompts of other classes.

        The weights of the descriptions of a class stay where these are the same, and else start uniform.

        Args:
            ids: (K, M, L) tokens.
            mask: (K, M) descriptions that are no padding.
            known: For each class its present index, None where it is new.
        """
        self.description_weight = self._weights_of(ids, mask, known)
        self.prompt_ids = ids.to(self.prompt_ids.device)
        self.description_mask = mask.to(self.description_mask.device)
        if self.context is not None and self.has_context_per_class:
            context = self.context.weight.unflatten(0, (-1, self.context_length))
            self.context = nn.Embedding.from_pretrained(
                by_class(context, known).flatten(0, 1), freeze=not self.context.weight.requires_grad
            )

    def _weights_of(self, ids: Tensor, mask: Tensor, known: Sequence[int | None]) -> nn.Parameter:
        weights = self.description_weight.new_zeros(mask.shape)
        for row, index in enumerate(known):
            if index is None:
                continue
            before = _texts_of(self.prompt_ids[index], self.description_mask[index])
            now = _texts_of(ids[row], mask[row])
            if sorted(before) == sorted(now):
                old, new = self.description_mask[index].nonzero().flatten(), mask[row].nonzero().flatten()
                for column, text in zip(new.tolist(), now, strict=True):
                    weights[row, column] = self.description_weight.data[index, old[before.index(text)]]
        return nn.Parameter(weights, requires_grad=self.description_weight.requires_grad)


def _texts_of(ids: Tensor, mask: Tensor) -> list[list[int]]:
    """The tokens of the descriptions of a class, without those that a longer prompt pads them with: (M, L), (M,)."""
    texts = ids[mask].tolist()
    for text in texts:
        while len(text) > 1 and text[-1] == text[-2]:
            text.pop()
    return texts


def check_classes(config: TGDFERConfig, labels: list[str], ids: Tensor, mask: Tensor, context_length: int) -> None:
    """Refuses classes whose prompts the model cannot take: labels (K), tokens (K, M, L), mask (K, M).

    Raises:
        ValueError: Labels clash, a class has no description, prompts are not for this text tower, or the context has
            another length.
    """
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if doubled:
        raise ValueError(f"The label {doubled[0]!r} is given more than once; name every class once.")
    if not labels or ids.ndim != 3 or mask.shape != ids.shape[:2] or len(ids) != len(labels):
        raise ValueError(
            f"{len(labels)} labels do not fit `input_ids` of shape {tuple(ids.shape)} and a `description_mask` of "
            f"shape {tuple(mask.shape)}; give (classes, descriptions, tokens) and (classes, descriptions)."
        )
    wordless = [label for label, has_words in zip(labels, mask.any(1).tolist(), strict=True) if not has_words]
    if wordless:
        raise ValueError(f"The class {wordless[0]!r} has no description; give at least one.")
    text_config = config.clip_config.text_config
    longest = text_config.max_position_embeddings
    if ids.shape[-1] > longest:
        raise ValueError(f"A prompt has {ids.shape[-1]} tokens, but the text tower reads {longest}; shorten it.")
    padded = text_length(config.clip_config)
    if padded and ids.shape[-1] != padded:
        raise ValueError(
            f"The prompts have {ids.shape[-1]} tokens, but the text tower reads texts padded to {padded}; "
            "make them with the processor of this model."
        )
    if ids.min() < 0 or ids.max() >= text_config.vocab_size:
        raise ValueError(
            f"The prompts have tokens from {ids.min()} to {ids.max()}, but the text tower knows those below "
            f"{text_config.vocab_size}; make them with the processor of this model."
        )
    if context_length != config.context_length:
        raise ValueError(
            f"The prompts have a context of {context_length} tokens, but the model was made with "
            f"{config.context_length}; make them with the processor of this model."
        )


def by_class(parameter: Tensor, known: Sequence[int | None]) -> nn.Parameter:
    """Rows of a per-class parameter in the order of the new classes; the mean of all where the class is new."""
    rows = [parameter.data.mean(0) if index is None else parameter.data[index] for index in known]
    return nn.Parameter(torch.stack(rows), requires_grad=parameter.requires_grad)


class TGDFERRelevance(nn.Module):
    """Which frames matter for which class: `A = softmax_t(alpha_k s_{t,k} + u(f'_t))`.

    `u` is the gated-attention scorer of Ilse et al. (2018); `alpha_k`, a sharpness for each class, is the auto-pooling
    of McFee et al. (2018).
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.sharpness = nn.Parameter(torch.full((config.num_labels,), float(config.initial_sharpness)))
        self.norm = nn.LayerNorm(dim)
        self.value = nn.Linear(dim, config.relevance_width)
        self.gate = nn.Linear(dim, config.relevance_width)
        self.score = TGDFERZeroLinear(config.relevance_width, 1, bias=False)

    def forward(self, frame_logits: Tensor, frame_embeds: Tensor, frame_mask: Tensor) -> Tensor:
        """`s` (B, T, K), `f'` (B, T, D), mask (B, T) -> `A` (B, T, K)."""
        hidden = self.norm(frame_embeds)
        score = self.score(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden)))  # (B, T, 1)
        scores = at_least_fp32(self.sharpness) * frame_logits + at_least_fp32(score)
        return masked_softmax(scores, frame_mask.unsqueeze(-1), dim=1)

    def set_classes(self, known: Sequence[int | None]) -> None:
        """Takes other classes: for each its present index, None where it is new."""
        self.sharpness = by_class(self.sharpness, known)


class TGDFERVisualPrompts(nn.Module):
    """Each class text looks at the clip through its own relevance, and the answer rewrites it.

    `v_k = sum_t A_{t,k} x_t - mean_t x_t` and `t'_k = norm(t_k + gamma_k tanh(U gelu(W v_k)))`. The weights are shared
    by all classes; `gamma_k` is zero at the start of training.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.limit = float(config.visual_prompt_limit)
        # Elements of vectors of length one are about 1 / sqrt(D): this brings them to about one and back, so that the
        # prompt is at most as long as |gamma_k|, next to a text of length one.
        self.rescale = math.sqrt(dim)
        self.down = nn.Linear(dim, config.visual_prompt_rank, bias=False)
        self.up = nn.Linear(config.visual_prompt_rank, dim, bias=False)
        self.strength = nn.Parameter(torch.zeros(config.num_labels))

    def forward(self, text_embeds: Tensor, frames: Tensor, relevance: Tensor, frame_mask: Tensor) -> Tensor:
        """`t` (K, D), `x` (B, T, D), `A` (B, T, K), mask (B, T) -> `t'` (B, K, D)."""
        exact = at_least_fp32(frames)
        seen = cosines(relevance.transpose(1, 2), exact.transpose(1, 2)) - masked_mean(exact, frame_mask).unsqueeze(1)
        words = torch.tanh(self.up(F.gelu(self.down((seen * self.rescale).to(frames.dtype))))) / self.rescale
        strength = self.limit * torch.tanh(at_least_fp32(self.strength) / self.limit)
        return unit(at_least_fp32(text_embeds) + strength.unsqueeze(-1) * words)

    def set_classes(self, known: Sequence[int | None]) -> None:
        """Takes other classes: for each its present index, None where it is new."""
        self.strength = by_class(self.strength, known)


# Losses. None of them looks at values on the way: a GPU would have to wait.


def bag_loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None, smoothing: float) -> Tensor:
    """Mean cross-entropy of the clips (B, K) that are not ignored, (B,), weighted by class, (K,); zero of none."""
    counts = labels != IGNORED
    weight = counts.to(logits.dtype) if class_weights is None else class_weights[labels.clamp(min=0)] * counts
    total = F.cross_entropy(logits, labels, weight=class_weights, label_smoothing=smoothing, reduction="sum")
    total_weight = weight.sum()
    return total / torch.where(total_weight == 0, 1.0, total_weight)


def alignment_loss(video_embeds: Tensor, text_embeds: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020) between the clips (B, D) and the texts (K, D) of their labels.

    Each class text that occurs in the batch should be closer to its own clips than to those of other classes.
    """
    counts = labels != IGNORED
    similarity = scale * cosines(video_embeds, text_embeds)[:, labels.clamp(min=0)]  # clip i, text of clip j
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & counts
    log_probability = similarity.masked_fill(~counts.unsqueeze(1), torch.finfo(similarity.dtype).min).log_softmax(0)
    of_text = (log_probability * same).sum(0) / same.sum(0).clamp(min=1)
    return -of_text.sum() / counts.sum().clamp(min=1)


def separation_loss(text_embeds: Tensor) -> Tensor:
    """Mean squared cosine between the texts (K, D) of different classes; zero of one class."""
    classes = len(text_embeds)
    itself = torch.eye(classes, dtype=torch.bool, device=text_embeds.device)
    squares = cosines(text_embeds, text_embeds).square().masked_fill(itself, 0.0)
    return squares.sum() / max(classes * (classes - 1), 1)


def smoothness_loss(relevance: Tensor, frame_mask: Tensor) -> Tensor:
    """Sum over each clip of the jumps in relevance (B, T) between adjacent unmasked frames: (B,)."""
    previous, _ = neighbours(frame_mask)
    jumps = (relevance - relevance.gather(1, previous)).abs()
    return jumps.masked_fill(~frame_mask, 0.0).sum(1)


def instance_loss(frame_logits: Tensor, labels: Tensor, frames: Tensor) -> Tensor:
    """Cross-entropy of the marked frames: `s` (B, T, K), labels (B,), mark (B, T)."""
    labels = labels.unsqueeze(1).masked_fill(~frames, IGNORED)
    total = F.cross_entropy(frame_logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)
