"""Heads of other methods, implemented from their papers, on the same frame features as TG-DFER.

All heads take frame features (B, T, D), which need not be normalised, their mask (B, T) and times in seconds (B, T).
They return logits (B, K) and scores of the frames for each class (B, T, K), or None instead of the scores if the
method does not score frames. Masked frames have no effect.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness.heads import LinearHead, top_mean
from tgdfer.modeling_tgdfer.layers_tgdfer import gather_frames, masked_softmax

# Logits (B, K) and frame scores (B, T, K).
HeadOutput = tuple[Tensor, Tensor | None]


class Head(nn.Module):
    """Base class of the heads that are not linear. All parameters have the same learning rate.

    Attributes:
        scores_are_relevance: Whether the frame scores are relevance instead of logits.
    """

    scores_are_relevance = False

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Returns the parameter groups of the optimizer, with the learning rate `rate`."""
        return [{"params": list(self.parameters()), "lr": rate}]


class LinearSoftmaxPooling(LinearHead):
    """Weights frames by their own probability, `y_k = sum_t y_tk^2 / sum_t y_tk` (Wang, Li & Metze, 2019, eq. 5).

    The paper uses a sigmoid for each label. Here each clip has one label, so `y_t` is a softmax over the classes. The
    logits are the logarithms of the pooled probabilities.
    """

    def pool(self, scores: Tensor, frame_mask: Tensor) -> Tensor:
        """Pools frame scores (B, T, K) with mask (B, T) to logits (B, K)."""
        probabilities = scores.softmax(-1) * frame_mask.unsqueeze(-1)
        pooled = probabilities.square().sum(1) / probabilities.sum(1).clamp(min=1e-6)
        return pooled.clamp(min=1e-6).log()


class ShrinkingTopK(LinearHead):
    """Averages the top frames of each class, and reduces their number from epoch to epoch.

    At first all frames are averaged, because the scores of an untrained head are random. After `shrink_epochs` epochs,
    only the share `share` of the frames is averaged.

    Args:
        mean (`torch.Tensor`): As in `LinearHead`.
        spread (`torch.Tensor`): As in `LinearHead`.
        classes (`int`): Number of classes K.
        share (`float`, *optional*, defaults to `0.25`): Final share of the frames, which is also used in evaluation
            mode.
        shrink_epochs (`int`, *optional*, defaults to `10`): Number of epochs over which the share decreases.
    """

    def __init__(
        self, mean: Tensor, spread: Tensor, classes: int, share: float = 0.25, shrink_epochs: int = 10
    ) -> None:
        super().__init__(mean, spread, classes)
        self.share, self.shrink_epochs, self.epoch = share, shrink_epochs, 0

    def start_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 1."""
        self.epoch = epoch

    def pool(self, scores: Tensor, frame_mask: Tensor) -> Tensor:
        """Pools frame scores (B, T, K) with mask (B, T) to logits (B, K)."""
        progress = min(1.0, (self.epoch - 1) / self.shrink_epochs) if self.training else 1.0
        return top_mean(scores, frame_mask, 1 - progress * (1 - self.share))


class DSMIL(Head):
    """Dual-stream MIL (Li, Li & Eliceiri, 2021).

    The critical frame of a class is the frame with its highest score. Other frames are attended to by their similarity
    to the critical frame. The logits are the mean of the logits of the critical frame and those of the attended bag.

    Args:
        dim (`int`): Width D of the features.
        classes (`int`): Number of classes K.
        width (`int`, *optional*, defaults to `128`): Width of the queries.
    """

    scores_are_relevance = True

    def __init__(self, dim: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.instance = nn.Linear(dim, classes)
        self.query = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())
        self.value = nn.Sequential(nn.Dropout(0.2), nn.Linear(dim, dim), nn.ReLU())
        self.bag = nn.Conv1d(classes, classes, kernel_size=dim)

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> HeadOutput:
        """Maps frames (B, T, D) and their mask (B, T) to logits (B, K) and frame scores (B, T, K)."""
        frames = self.norm(F.normalize(frames, dim=-1))
        scores = self.instance(frames)
        masked_scores = scores.masked_fill(~frame_mask.unsqueeze(-1), -torch.inf)
        critical, critical_frame = masked_scores.max(1)  # (B, K)
        queries, values = self.query(frames), self.value(frames)
        critical_queries = queries.gather(
            1, critical_frame.unsqueeze(-1).expand(-1, -1, queries.shape[-1])
        )  # (B, K, C)
        similarity = queries @ critical_queries.transpose(1, 2) / math.sqrt(queries.shape[-1])
        attention = masked_softmax(similarity, frame_mask.unsqueeze(-1), dim=1)  # (B, T, K)
        attended = self.bag(attention.transpose(1, 2) @ values).squeeze(-1)
        return (critical + attended) / 2, attention


class DFERCLIPTemporal(Head):
    """The temporal model of DFER-CLIP (Zhao & Patras, 2023): a Transformer with a class token and learned positions.

    The logits are scaled cosines between the class token and the class texts. The method does not score frames.

    Args:
        texts (`torch.Tensor` of shape `(K, D)`): Initial class vectors.
        frames (`int`): Maximum number of frames of a clip.
        layers (`int`, *optional*, defaults to `1`): Number of layers of the Transformer. The paper uses one.
    """

    def __init__(self, texts: Tensor, frames: int, layers: int = 1) -> None:
        super().__init__()
        dim = texts.shape[1]
        self.token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.position = nn.Parameter(torch.randn(1, frames + 1, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, _heads(dim), 2 * dim, 0.1, "gelu", batch_first=True, norm_first=True)
        self.temporal = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.texts = nn.Parameter(texts.clone())
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> HeadOutput:
        """Maps frames (B, T, D) and their mask (B, T) to logits (B, K), and returns None instead of frame scores."""
        tokens = torch.cat([self.token.expand(len(frames), -1, -1), F.normalize(frames, dim=-1)], 1)
        tokens = tokens + self.position[:, : tokens.shape[1]]
        padding = torch.cat([torch.zeros_like(frame_mask[:, :1]), ~frame_mask], 1)
        clip = F.normalize(self.temporal(tokens, src_key_padding_mask=padding)[:, 0], dim=-1)
        return self.log_scale.exp() * clip @ F.normalize(self.texts, dim=-1).T, None


class M3DFEL(Head):
    """The MIL head of M3DFEL (Wang et al., 2023): a BiLSTM over the instances, attention, and normalised fusion.

    The 3D convolutions of M3DFEL are omitted, because the frame features are given.

    Args:
        dim (`int`): Width D of the features.
        classes (`int`): Number of classes K.
        width (`int`, *optional*, defaults to `256`): Width of each direction of the BiLSTM.
    """

    scores_are_relevance = True

    def __init__(self, dim: int, classes: int, width: int = 256) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(dim, width, num_layers=2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(2 * width, 8, batch_first=True)
        self.norm = nn.LayerNorm(2 * width)
        self.weight = nn.Sequential(nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, 1))
        self.linear = nn.Linear(2 * width, classes)

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> HeadOutput:
        """Maps frames (B, T, D) and their mask (B, T) to logits (B, K) and frame scores (B, T, K)."""
        # Unmasked frames are moved to the front, so that the backward direction starts at the last of them.
        order = (~frame_mask).int().argsort(dim=1, stable=True)
        back = order.argsort(dim=1)
        count = frame_mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            F.normalize(gather_frames(frames, order), dim=-1), count, batch_first=True, enforce_sorted=False
        )
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], True, total_length=frames.shape[1])
        hidden = gather_frames(hidden, back)
        attended, _ = self.attention(hidden, hidden, hidden, key_padding_mask=~frame_mask)
        hidden = self.norm(hidden + attended)
        weights = masked_softmax(self.weight(hidden), frame_mask.unsqueeze(-1), dim=1)  # (B, T, 1)
        logits = self.linear((weights * hidden).sum(1))
        return logits, weights.expand(-1, -1, logits.shape[1])


class VadCLIP(Head):
    """The head of VadCLIP (Wu et al., 2024): local-global adapter, visual prompt of the texts, and top-k alignment.

    The local module is a Transformer with attention inside windows. The global module is a graph convolution over
    similarity and over distance in time. The visual prompt changes the texts according to the frames that the binary
    branch selects. If there is a neutral class, the binary branch is trained to separate it from the other classes.

    Args:
        texts (`torch.Tensor` of shape `(K, D)`): Initial class vectors.
        neutral (`int`, *optional*): Index of the class that corresponds to "normal" in VadCLIP. None if there is no
            such class.
        window (`int`, *optional*, defaults to `8`): Number of frames per window.
    """

    def __init__(self, texts: Tensor, neutral: int | None, window: int = 8) -> None:
        super().__init__()
        dim = texts.shape[1]
        self.window, self.neutral = window, neutral
        layer = nn.TransformerEncoderLayer(dim, _heads(dim), 4 * dim, 0.1, "gelu", batch_first=True, norm_first=True)
        self.local = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.similarity, self.proximity = nn.Linear(dim, dim // 2), nn.Linear(dim, dim // 2)
        self.merge = nn.Linear(dim, dim)
        self.binary = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))
        self.prompt = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.decay = nn.Parameter(torch.tensor(1.0))
        self.texts = nn.Parameter(texts.clone())
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> HeadOutput:
        """Maps frames (B, T, D) and their mask (B, T) to logits (B, K) and frame scores (B, T, K)."""
        return self._outputs(frames, frame_mask)[:2]

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Returns the cross-entropy of the classes, plus that of the binary branch if there is a neutral class."""
        logits, _, binary = self._outputs(frames, frame_mask)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        if self.neutral is not None:
            emotional = top_mean(binary, frame_mask).squeeze(1)
            loss = loss + F.binary_cross_entropy_with_logits(emotional, (targets != self.neutral).float())
        return loss

    def _outputs(self, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns logits (B, K), frame scores (B, T, K) and logits of the binary branch (B, T, 1)."""
        adapted = self._adapt(F.normalize(frames, dim=-1), frame_mask)
        binary = self.binary(adapted)
        weights = masked_softmax(binary, frame_mask.unsqueeze(-1), dim=1)
        clip = F.normalize((weights * adapted).sum(1), dim=-1)  # (B, D)
        texts = F.normalize(self.texts, dim=-1).expand(len(frames), -1, -1)
        prompted = texts + clip.unsqueeze(1)
        texts = F.normalize(self.prompt(prompted) + prompted, dim=-1)
        scores = self.log_scale.exp() * F.normalize(adapted, dim=-1) @ texts.transpose(1, 2)
        return top_mean(scores, frame_mask), scores, binary

    def _adapt(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Applies the local and the global module to the frames (B, T, D)."""
        count, index = frames.shape[1], torch.arange(frames.shape[1], device=frames.device)
        diagonal = torch.eye(count, dtype=torch.bool, device=frames.device)
        same_window = (index.unsqueeze(1) // self.window == index.unsqueeze(0) // self.window) & frame_mask.unsqueeze(
            1
        )
        blocked = ~(same_window | diagonal)
        local = self.local(frames, mask=blocked.repeat_interleave(self.local.layers[0].self_attn.num_heads, 0))
        normalised = F.normalize(local, dim=-1)
        pairs = frame_mask.unsqueeze(1) | diagonal
        similarity = masked_softmax(normalised @ normalised.transpose(1, 2), pairs, dim=-1)
        distance = (index.unsqueeze(1) - index.unsqueeze(0)).abs()
        proximity = masked_softmax((-distance / self.decay.exp()).expand_as(similarity), pairs, dim=-1)
        graph = torch.cat([similarity @ self.similarity(local), proximity @ self.proximity(local)], -1)
        return local + self.merge(F.gelu(graph))


def _heads(dim: int) -> int:
    """Returns the largest number of attention heads, up to eight, that divides a width."""
    return next(count for count in (8, 4, 2, 1) if dim % count == 0)
