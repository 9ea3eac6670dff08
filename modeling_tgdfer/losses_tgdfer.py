"""Losses of TG-DFER: the cross-entropy of the clips, and the terms that the config adds to it.

No loss reads values on the host, which would synchronise a GPU.

Several processes that train a model each have a part of a batch, of the same size. The losses are those of the whole
batch: means are over the labelled clips of all processes, and the alignment compares the clips of all of them. They
are scaled such that the mean of the gradients over the processes, which data parallelism computes, is the gradient of
the whole batch. With one process (`processes=1`), nothing is communicated.
"""

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from .configuration_tgdfer import TGDFERConfig
from .layers_tgdfer import cosines, neighbours, top_frames

# The losses ignore clips with this label, which is the default `ignore_index` of PyTorch.
IGNORED = -100


def num_processes() -> int:
    """Returns the number of processes that train together: those of the default process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def of_all_processes(values: Tensor, processes: int) -> Tensor:
    """Concatenates the values (B, ...) of all processes in the order of their ranks, with gradients.

    Every process computes the same loss from the result. So the gradient of its own values is multiplied by the number
    of processes. This is the sum that each process would receive from all others, without communication.
    """
    if processes == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(processes)]
    distributed.all_gather(parts, values.detach().contiguous())
    if values.requires_grad:
        constant = values.detach()
        parts[distributed.get_rank()] = constant + processes * (values - constant)
    return torch.cat(parts)


def mean_of_clips(total: Tensor, weight: Tensor, processes: int) -> Tensor:
    """Divides a sum over the clips of this process by the mean weight of the clips of a process.

    The mean of the results over the processes is then the sum over all clips divided by their weight. Without any
    weight, the result is zero.
    """
    if processes > 1:
        weight = weight.detach().clone()
        distributed.all_reduce(weight)
    return processes * total / torch.where(weight == 0, 1, weight)


def bag_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    smoothing: float,
    several: bool = False,
    processes: int = 1,
) -> Tensor:
    """Computes the mean loss of the labelled clips. It is zero if no clip is labelled.

    Args:
        logits (`Tensor` of shape `(B, K)`): Logits of the clips.
        labels (`Tensor` of shape `(B,)` or `(B, K)`): Class indices for the cross-entropy, or shares of votes for the
            cross-entropy with a distribution, or with `several` 0 and 1 for the binary cross-entropy of each class.
            Negative values mark clips without a label.
        class_weights (`Tensor` of shape `(K,)`, *optional*): Weights of the classes. With `several`, weights of the
            clips that have the label, relative to those that do not.
        smoothing (`float`): Label smoothing.
        several (`bool`, *optional*, defaults to `False`): Whether a clip may have several labels.
        processes (`int`, *optional*, defaults to 1): Number of processes that share the batch.
    """
    # The smoothed part of a clip has the weight of its own label. Torch would give it the weights of all classes, so
    # that a rare class with a large weight would become the best answer for every clip.
    if labels.ndim == 1:
        is_labelled = labels != IGNORED
        weight = is_labelled.to(logits.dtype)
        if class_weights is not None:
            weight = class_weights[labels.clamp(min=0)] * is_labelled
        losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none") * weight
    else:
        if not (several or labels.is_floating_point()):
            raise ValueError(
                f"`labels` of shape {tuple(labels.shape)} are {labels.dtype}; give shares of votes as floats, or set "
                '`problem_type` to "multi_label_classification" if a clip may have several labels.'
            )
        shares = labels.to(logits.dtype)
        is_labelled = (shares >= 0).all(-1)
        shares = shares.clamp(min=0) * is_labelled.unsqueeze(-1)
        weight = is_labelled.to(logits.dtype)
        if several:
            soft = shares * (1 - smoothing) + smoothing / 2
            losses = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
            if class_weights is not None:
                losses = losses * (1 + (class_weights - 1) * shares)
            losses = losses.mean(-1) * weight
        else:
            shares = shares if class_weights is None else shares * class_weights
            weight = shares.sum(-1)
            soft = shares * (1 - smoothing) + weight.unsqueeze(-1) * smoothing / shares.shape[-1]
            losses = F.cross_entropy(logits, soft, reduction="none")
    total = losses.sum()
    return mean_of_clips(total, weight.sum(), processes)


def hard_labels(labels: Tensor, several: bool = False) -> Tensor:
    """Returns class indices (B,) for labels (B,) or (B, K): the class with most votes, or the only one of the clip.

    Clips with several labels, and clips without votes, count as unlabelled.
    """
    if labels.ndim == 1:
        return labels
    labels = labels.float()
    is_clear = (labels >= 0).all(-1) & ((labels > 0).sum(-1) == 1 if several else (labels > 0).any(-1))
    return labels.argmax(-1).masked_fill(~is_clear, IGNORED)


def alignment_loss(
    video_embeds: Tensor, text_embeds: Tensor, labels: Tensor, scale: Tensor, processes: int = 1
) -> Tensor:
    """Computes the supervised contrastive loss (Khosla et al., 2020) between clips (B, D) and class texts (K, D).

    It moves the text of each class that occurs in the batch closer to the clips of the class than to other clips.
    These are the clips of all processes.
    """
    video_embeds, labels = of_all_processes(video_embeds, processes), of_all_processes(labels, processes)
    is_labelled = labels != IGNORED
    similarity = scale * cosines(video_embeds, text_embeds)[:, labels.clamp(min=0)]  # clip i, text of clip j
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & is_labelled
    similarity = similarity.masked_fill(~is_labelled.unsqueeze(1), torch.finfo(similarity.dtype).min)
    of_text = (similarity.log_softmax(0) * same).sum(0) / same.sum(0).clamp(min=1)
    return -of_text.sum() / is_labelled.sum().clamp(min=1)


def separation_loss(text_embeds: Tensor) -> Tensor:
    """Computes the mean squared cosine between the texts (K, D) of different classes. It is zero for one class."""
    classes = len(text_embeds)
    itself = torch.eye(classes, dtype=torch.bool, device=text_embeds.device)
    squares = cosines(text_embeds, text_embeds).square().masked_fill(itself, 0.0)
    return squares.sum() / max(classes * (classes - 1), 1)


def smoothness_loss(relevance: Tensor, frame_mask: Tensor) -> Tensor:
    """Sums the absolute changes of the relevance between adjacent unmasked frames: (B, T), mask (B, T) -> (B,)."""
    previous, _ = neighbours(frame_mask)
    jumps = (relevance - relevance.gather(1, previous)).abs()
    return jumps.masked_fill(~frame_mask, 0.0).sum(1)


def instance_loss(frame_logits: Tensor, labels: Tensor, frames: Tensor, processes: int = 1) -> Tensor:
    """Computes the cross-entropy of the selected frames: `s` (B, T, K), labels (B,), selection (B, T)."""
    labels = labels.unsqueeze(1).masked_fill(~frames, IGNORED)
    total = F.cross_entropy(frame_logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return mean_of_clips(total, (labels != IGNORED).sum(), processes)


def auxiliary_losses(
    config: TGDFERConfig,
    scale: Tensor,
    scores: Tensor,
    relevance: Tensor,
    video_embeds: Tensor,
    text_embeds: Tensor,
    labels: Tensor,
    frame_mask: Tensor,
    processes: int = 1,
) -> dict[str, Tensor]:
    """Computes the weighted terms of the loss that the config enables besides the cross-entropy, by name.

    Clips with label -100 do not contribute.

    Args:
        config (`TGDFERConfig`): Config with the weights of the terms.
        scale (`Tensor`): Learned scale of all cosines, a scalar.
        scores (`Tensor` of shape `(B, T, K)`): Logits `s` of the frames.
        relevance (`Tensor` of shape `(B, T, K)`): Relevance of the frames.
        video_embeds (`Tensor` of shape `(B, D)`): The clips.
        text_embeds (`Tensor` of shape `(K, D)`): Class texts without visual prompts.
        labels (`Tensor` of shape `(B,)`): Class indices.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.
        processes (`int`, *optional*, defaults to 1): Number of processes that share the batch.
    """
    is_labelled = labels != IGNORED
    true_class = labels.clamp(min=0).view(-1, 1, 1).expand(-1, frame_mask.shape[1], 1)
    relevance = relevance.gather(2, true_class).squeeze(2)  # (B, T)
    terms = {}
    if config.alignment_weight:
        terms["alignment"] = config.alignment_weight * alignment_loss(
            video_embeds, text_embeds, labels, scale, processes
        )
    if config.separation_weight:
        terms["separation"] = config.separation_weight * separation_loss(text_embeds)
    if config.smoothness_weight:
        jumps = smoothness_loss(relevance, frame_mask) * is_labelled
        terms["smoothness"] = config.smoothness_weight * mean_of_clips(jumps.sum(), is_labelled.sum(), processes)
    if config.instance_weight:
        top = top_frames(relevance, frame_mask, config.topk_fraction)
        terms["instance"] = config.instance_weight * instance_loss(scores, labels, top, processes)
    return terms
