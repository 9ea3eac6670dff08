"""Alignment of patches and words by optimal transport (GRACE, Liu et al., 2025, arXiv 2507.11892).

The patches of a face are transported to the words of a description at the lowest total cost, where the cost of a patch
and a word is one minus their cosine. The plan is entropic, so it is computed by Sinkhorn's iteration (Cuturi, 2013).
The frames of a clip are averaged first, weighted by the motion in them. The paper does not give its loss. Here a clip
must be closer to the descriptions of its label than to those of other classes.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import BERT_LIKE, context_start
from tgdfer.modeling_tgdfer.layers_tgdfer import unit
from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, mean_of_clips, num_processes
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.optional_parts_tgdfer import motion_weights
from tgdfer.training.objectives.objective import Objective

# Weight of the entropy of a plan, and iterations. Costs are between 0 and 2.
EPSILON, ITERATIONS = 0.05, 50
# The softmax over the classes divides the costs by this temperature.
TEMPERATURE = 0.1
# Below this epsilon the plan is computed with logarithms. Above it, `exp(-2 / epsilon)` is at least 3e-29, so products
# of such factors are numbers in float32, and matrix products are five times as fast.
SMALL_EPSILON = 0.03
# Logarithm that stands for zero. It is finite, so that no gradient and no difference of two of them is NaN.
_NEVER = -1e9


def sinkhorn(
    cost: Tensor,
    row_mask: Tensor | None = None,
    column_mask: Tensor | None = None,
    epsilon: float = EPSILON,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Computes the entropic transport plan between equal masses on rows and on columns.

    The plan minimises `sum(plan * cost) - epsilon * entropy(plan)`. A small `epsilon` needs more iterations.

    Args:
        cost (`torch.Tensor` of shape `(..., N, M)`): Cost of a row and a column, 0 to 2 unless it is padding.
        row_mask (`torch.Tensor` of shape `(..., N)`, *optional*): True for valid rows. By default all are valid.
        column_mask (`torch.Tensor` of shape `(..., M)`, *optional*): True for valid columns.
        epsilon (`float`, *optional*, defaults to 0.05): Weight of the entropy.
        iterations (`int`, *optional*, defaults to 50): Number of iterations.

    Returns:
        `Tensor` of shape `(..., N, M)`: The plan. Each valid column sums to one over the number of valid columns, each
        valid row approximately to one over the number of valid rows. Padding is zero. If all rows or all columns are
        padding, the plan is zero.
    """
    rows = torch.ones(cost.shape[:-1], dtype=torch.bool, device=cost.device) if row_mask is None else row_mask
    columns = torch.ones_like(cost[..., 0, :], dtype=torch.bool) if column_mask is None else column_mask
    rows, columns = rows.expand(cost.shape[:-1]), columns.expand(*cost.shape[:-2], cost.shape[-1])
    pairs = rows.unsqueeze(-1) & columns.unsqueeze(-2)
    kernel = (-cost.float() / epsilon).masked_fill(~pairs, _NEVER)
    row_mass = rows / rows.sum(-1, keepdim=True).clamp(min=1)
    column_mass = columns / columns.sum(-1, keepdim=True).clamp(min=1)
    if epsilon < SMALL_EPSILON:
        return _log_plan(kernel, row_mass, column_mass, iterations) * pairs
    factors, row_mass, column_mass = kernel.exp(), row_mass.unsqueeze(-1), column_mass.unsqueeze(-1)
    tiny = torch.finfo(factors.dtype).tiny
    v = torch.ones_like(column_mass)
    for _ in range(iterations):
        u = row_mass / (factors @ v).clamp(min=tiny)
        v = column_mass / (factors.mT @ u).clamp(min=tiny)
    return u * factors * v.mT


def _log_plan(kernel: Tensor, row_mass: Tensor, column_mass: Tensor, iterations: int) -> Tensor:
    """Computes a plan as `sinkhorn`, from the logarithms of its factors. Padding of the plan is not zero."""
    u, v = torch.zeros_like(kernel[..., 0]), torch.zeros_like(kernel[..., 0, :])
    for _ in range(iterations):
        u = (row_mass.log() - (kernel + v.unsqueeze(-2)).logsumexp(-1)).masked_fill(row_mass == 0, 0.0)
        v = (column_mass.log() - (kernel + u.unsqueeze(-1)).logsumexp(-2)).masked_fill(column_mass == 0, 0.0)
    return (kernel + u.unsqueeze(-1) + v.unsqueeze(-2)).exp()


def transport_costs(patches: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
    """Computes the cost of transporting the patches of each clip to the words of the descriptions of each class.

    The plan has no gradient. By the envelope theorem, the cost then has the gradient of the regularised problem.

    Args:
        patches (`torch.Tensor` of shape `(B, P, D)`): Patches of unit length.
        words (`torch.Tensor` of shape `(K, M, L, D)`): Words of unit length of M descriptions per class.
        word_mask (`torch.Tensor` of shape `(K, M, L)`): False for padding. Descriptions without words are padding.

    Returns:
        `Tensor` of shape `(B, K)`: Mean cost over the descriptions of a class, 0 to 2.
    """
    cost = 1 - torch.einsum("bpd,kmld->bkmpl", patches, words)
    with torch.no_grad():
        plan = sinkhorn(cost, column_mask=word_mask.unsqueeze(0))
    per_description = (plan * cost).sum((-1, -2))  # (B, K, M); padding has no mass and costs nothing
    return per_description.sum(-1) / word_mask.any(-1).sum(-1).clamp(min=1)


def transport_loss(
    patches: Tensor, frame_mask: Tensor, labels: Tensor, words: Tensor, word_mask: Tensor, processes: int = 1
) -> Tensor:
    """Computes the cross-entropy of the labels, where the logits are the negative costs over a temperature of 0.1.

    Args:
        patches (`torch.Tensor` of shape `(B, T, P, D)`): Patches of the frames in the space of the texts.
        frame_mask (`torch.Tensor` of shape `(B, T)`): True for valid frames.
        labels (`torch.Tensor` of shape `(B,)`): Class indices, where -100 is ignored.
        words (`torch.Tensor` of shape `(K, M, L, D)`): As in `transport_costs`.
        word_mask (`torch.Tensor` of shape `(K, M, L)`): As in `transport_costs`.
        processes (`int`, *optional*, defaults to 1): Number of processes that share the batch.

    Returns:
        `Tensor`: The loss, a scalar. It is zero if no clip is labelled.
    """
    patches = patches.float().masked_fill(~frame_mask.view(*frame_mask.shape, 1, 1), 0.0)
    weights = motion_weights(unit(patches.mean(2)), frame_mask)  # (B, T)
    clips = unit(torch.einsum("bt,btpd->bpd", weights, patches))
    logits = -transport_costs(clips, words, word_mask) / TEMPERATURE
    total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return mean_of_clips(total, (labels != IGNORED).sum(), processes)


@torch.no_grad()
def description_words(model: TGDFERForVideoClassification) -> tuple[Tensor, Tensor]:
    """Encodes the words of the descriptions of a model in the space of the frames.

    Args:
        model (`TGDFERForVideoClassification`): Model with K classes of M descriptions.

    Returns:
        `tuple[Tensor, Tensor]`: The tokens of the descriptions without the context, (K, M, L, D), of unit length, and
        the mask (K, M, L) of those that are not padding. L is the number of tokens of the longest description.
    """
    clip: Any = model.tgdfer.clip
    guidance, tower, states = model.tgdfer.text_guidance, clip.text_model, []
    is_bert = tower.config.model_type in BERT_LIKE
    last = tower if is_bert else tower.final_layer_norm
    handle = last.register_forward_hook(lambda _, __, found: states.append(found))
    try:
        model.encode_phrases(guidance.prompt_ids.flatten(0, 1))
    finally:
        handle.remove()
    hidden = states[0].last_hidden_state if is_bert else states[0]
    project = tower.head if tower.config.model_type == "siglip_text_model" else clip.text_projection
    ids = guidance.prompt_ids
    words = unit(project(hidden).float()).unflatten(0, ids.shape[:2])
    start = context_start(model.config.clip_config) + guidance.context_length
    # A prompt ends in its end token or in padding, which are the same token for CLIP and SigLIP.
    is_word = (ids != ids[..., -1:]) & (torch.arange(ids.shape[-1], device=ids.device) >= start)
    mask = is_word & guidance.description_mask.unsqueeze(-1)
    used = mask.flatten(0, 1).any(0)
    return words[..., used, :], mask[..., used]


class Transport(Objective):
    """The loss of the transport between the patches that the vision tower returns and the words of the descriptions.

    The words are encoded once, before the training.

    Args:
        model (`TGDFERForVideoClassification`): As in `Objective`.
    """

    words: Tensor
    word_mask: Tensor
    needs_pixels = True

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__(model)
        words, word_mask = description_words(model)
        self.register_buffer("words", words)
        self.register_buffer("word_mask", word_mask)
        captured: list[Tensor] = []
        self.captured = captured

        def capture(tower: Any, inputs: Any, found: Any) -> None:
            if torch.is_grad_enabled():  # not in validation
                captured[:] = [found.last_hidden_state]

        clip: Any = model.tgdfer.clip
        clip.vision_model.register_forward_hook(capture)
        # A list, so that the model is no part of this module.
        self.clip = [clip]

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the loss of the patches of the last pass of the vision tower: see `transport_loss`."""
        shape = batch["pixel_values_videos"].shape[:2]
        patches = patch_embeddings(self.clip[0], self.captured.pop()).unflatten(0, shape)
        mask = batch.get("frame_mask", torch.ones(shape, dtype=torch.bool, device=patches.device)).bool()
        return transport_loss(patches, mask, self.labels(batch), self.words, self.word_mask, num_processes())


def patch_embeddings(clip: Any, states: Tensor) -> Tensor:
    """Projects the last states of a vision tower into the space of the texts, patch by patch.

    Args:
        clip (`PreTrainedModel`): The dual encoder.
        states (`torch.Tensor` of shape `(N, P, C)` or `(N, C, H, W)`): Last states of its vision tower. The class
            token of a ViT is left out.

    Returns:
        `Tensor` of shape `(N, P, D)`: The patches. They are not normalised.
    """
    if states.ndim == 4:
        states = states.flatten(2).transpose(1, 2)
    elif math.isqrt(states.shape[1]) ** 2 != states.shape[1]:
        states = states[:, 1:]  # The patches form a square, so the first state is the class token.
    norm = getattr(clip.vision_model, "post_layernorm", None)
    if norm is not None and clip.config.model_type != "siglip":  # SigLIP has normalised its states already.
        states = norm(states)
    return clip.visual_projection(states) if hasattr(clip, "visual_projection") else states
