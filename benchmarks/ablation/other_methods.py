"""Heads of other methods, written from their papers, on the same frame features as TG-DFER.

All take frame features (B, T, D) of any length, their mask (B, T) and seconds (B, T). They return logits (B, K) and
scores of the frames for each class (B, T, K), or None if a method does not score frames. Masked frames have no effect.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness.heads import LinearHead, top_mean
from tgdfer.modeling_tgdfer.layers_tgdfer import gather_frames, masked_softmax

Answer = tuple[Tensor, Tensor | None]


class Head(nn.Module):
    """Base of the heads that are not linear: one learning rate for all parameters.

    Attributes:
        scores_are_relevance: whether frame scores are relevance instead of logits.
    """

    scores_are_relevance = False

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""
        return [{"params": list(self.parameters()), "lr": rate}]


class LinearSoftmaxPooling(LinearHead):
    """Frames weighted by their own probability, `y_k = sum_t y_tk^2 / sum_t y_tk` (Wang, Li & Metze, 2019, eq. 5).

    The paper has a sigmoid for each label. Here a clip has one label, so `y_t` is a softmax over the classes. The
    logits are the logarithms of the pooled probabilities.
    """

    def pool(self, scores: Tensor, frame_mask: Tensor) -> Tensor:
        """(B, T, K), (B, T) -> (B, K)."""
        shares = scores.softmax(-1) * frame_mask.unsqueeze(-1)
        pooled = shares.square().sum(1) / shares.sum(1).clamp(min=1e-6)
        return pooled.clamp(min=1e-6).log()


class ShrinkingTopK(LinearHead):
    """The mean of the highest frames of each class, of which fewer count from epoch to epoch.

    All frames count at first, so that none is chosen by chance. From epoch `settled` on only `share` of them counts.

    Args:
        mean: as in `LinearHead`.
        spread: as in `LinearHead`.
        classes: number of classes K.
        share: share of the frames that counts in the end and in `eval`.
        settled: number of epochs until then.
    """

    def __init__(self, mean: Tensor, spread: Tensor, classes: int, share: float = 0.25, settled: int = 10) -> None:
        super().__init__(mean, spread, classes)
        self.share, self.settled, self.epoch = share, settled, 0

    def start_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 1."""
        self.epoch = epoch

    def pool(self, scores: Tensor, frame_mask: Tensor) -> Tensor:
        """(B, T, K), (B, T) -> (B, K)."""
        done = min(1.0, (self.epoch - 1) / self.settled) if self.training else 1.0
        return top_mean(scores, frame_mask, 1 - done * (1 - self.share))


class DSMIL(Head):
    """Dual-stream MIL (Li, Li & Eliceiri, 2021): the critical frame of each class, and attention by likeness to it.

    The logits are the mean of those of the critical frame and those of the attended bag.

    Args:
        dim: width D of the features.
        classes: number of classes K.
        width: width of the queries.
    """

    scores_are_relevance = True

    def __init__(self, dim: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.instance = nn.Linear(dim, classes)
        self.query = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())
        self.value = nn.Sequential(nn.Dropout(0.2), nn.Linear(dim, dim), nn.ReLU())
        self.bag = nn.Conv1d(classes, classes, kernel_size=dim)

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> Answer:
        """(B, T, D), (B, T) -> (B, K), (B, T, K)."""
        frames = self.norm(F.normalize(frames, dim=-1))
        scores = self.instance(frames)
        hidden = scores.masked_fill(~frame_mask.unsqueeze(-1), -torch.inf)
        critical, where = hidden.max(1)  # (B, K)
        queries, values = self.query(frames), self.value(frames)
        of_critical = queries.gather(1, where.unsqueeze(-1).expand(-1, -1, queries.shape[-1]))  # (B, K, C)
        likeness = queries @ of_critical.transpose(1, 2) / math.sqrt(queries.shape[-1])
        attention = masked_softmax(likeness, frame_mask.unsqueeze(-1), dim=1)  # (B, T, K)
        attended = self.bag(attention.transpose(1, 2) @ values).squeeze(-1)
        return (critical + attended) / 2, attention


class DFERCLIPTemporal(Head):
    """The temporal model of DFER-CLIP (Zhao & Patras, 2023): a Transformer with a class token and learnt positions.

    The logits compare the class token with the class texts. Frames have no scores.

    Args:
        texts: (K, D) initial class vectors.
        frames: maximum number of frames of a clip.
        layers: layers of the Transformer; the paper has one.
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

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> Answer:
        """(B, T, D), (B, T) -> (B, K), None."""
        tokens = torch.cat([self.token.expand(len(frames), -1, -1), F.normalize(frames, dim=-1)], 1)
        tokens = tokens + self.position[:, : tokens.shape[1]]
        hidden = torch.cat([torch.zeros_like(frame_mask[:, :1]), ~frame_mask], 1)
        clip = F.normalize(self.temporal(tokens, src_key_padding_mask=hidden)[:, 0], dim=-1)
        return self.log_scale.exp() * clip @ F.normalize(self.texts, dim=-1).T, None


class M3DFEL(Head):
    """The head of M3DFEL (Wang et al., 2023): instances through a BiLSTM, attention, and normalised fusion.

    Its 3D convolutions are left out because frame features are given, so only its MIL head is measured.

    Args:
        dim: width D of the features.
        classes: number of classes K.
        width: width of each direction of the BiLSTM.
    """

    scores_are_relevance = True

    def __init__(self, dim: int, classes: int, width: int = 256) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(dim, width, num_layers=2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(2 * width, 8, batch_first=True)
        self.norm = nn.LayerNorm(2 * width)
        self.weight = nn.Sequential(nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, 1))
        self.linear = nn.Linear(2 * width, classes)

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> Answer:
        """(B, T, D), (B, T) -> (B, K), (B, T, K)."""
        # Unmasked frames come first, in their order, so that the backward direction begins at the last of them.
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

    The local module is a Transformer whose attention stays within windows. The global module is a graph convolution
    over similarity and over distance in time. The frames that the binary branch finds rewrite the texts. If there is a
    neutral class, the binary branch learns it against the others.

    Args:
        texts: (K, D) initial class vectors.
        neutral: index of the class that stands for "normal", or None.
        window: frames per window.
    """

    def __init__(self, texts: Tensor, neutral: int | None, window: int = 8) -> None:
        super().__init__()
        dim = texts.shape[1]
        self.window, self.neutral = window, neutral
        layer = nn.TransformerEncoderLayer(dim, _heads(dim), 4 * dim, 0.1, "gelu", batch_first=True, norm_first=True)
        self.local = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.alike, self.near = nn.Linear(dim, dim // 2), nn.Linear(dim, dim // 2)
        self.joined = nn.Linear(dim, dim)
        self.binary = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))
        self.prompt = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.decay = nn.Parameter(torch.tensor(1.0))
        self.texts = nn.Parameter(texts.clone())
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> Answer:
        """(B, T, D), (B, T) -> (B, K), (B, T, K)."""
        return self._look(frames, frame_mask)[:2]

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Cross-entropy of the classes, and of the binary branch where there is a neutral class."""
        logits, _, binary = self._look(frames, frame_mask)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        if self.neutral is not None:
            emotional = top_mean(binary, frame_mask).squeeze(1)
            loss = loss + F.binary_cross_entropy_with_logits(emotional, (targets != self.neutral).float())
        return loss

    def _look(self, frames: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self._adapt(F.normalize(frames, dim=-1), frame_mask)
        binary = self.binary(seen)  # (B, T, 1)
        share = masked_softmax(binary, frame_mask.unsqueeze(-1), dim=1)
        found = F.normalize((share * seen).sum(1), dim=-1)  # (B, D)
        texts = F.normalize(self.texts, dim=-1).expand(len(frames), -1, -1)
        mixed = texts + found.unsqueeze(1)
        texts = F.normalize(self.prompt(mixed) + mixed, dim=-1)
        scores = self.log_scale.exp() * F.normalize(seen, dim=-1) @ texts.transpose(1, 2)
        return top_mean(scores, frame_mask), scores, binary

    def _adapt(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        count, place = frames.shape[1], torch.arange(frames.shape[1], device=frames.device)
        itself = torch.eye(count, dtype=torch.bool, device=frames.device)
        within = (place.unsqueeze(1) // self.window == place.unsqueeze(0) // self.window) & frame_mask.unsqueeze(1)
        barred = ~(within | itself)
        local = self.local(frames, mask=barred.repeat_interleave(self.local.layers[0].self_attn.num_heads, 0))
        directions = F.normalize(local, dim=-1)
        pairs = frame_mask.unsqueeze(1) | itself
        alike = masked_softmax(directions @ directions.transpose(1, 2), pairs, dim=-1)
        distance = (place.unsqueeze(1) - place.unsqueeze(0)).abs()
        near = masked_softmax((-distance / self.decay.exp()).expand_as(alike), pairs, dim=-1)
        graph = torch.cat([alike @ self.alike(local), near @ self.near(local)], -1)
        return local + self.joined(F.gelu(graph))


def _heads(dim: int) -> int:
    """The largest number of attention heads, up to eight, that divides a width."""
    return next(count for count in (8, 4, 2, 1) if dim % count == 0)
