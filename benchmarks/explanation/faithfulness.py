"""Whether an answer rests on the frames that it is said to rest on: they are taken away, or left alone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.temporal_tgdfer import top_frames

# `(frames, frame_mask, timestamps) -> (logits, scores)`: what enters a head (N, T, ...), its mask (N, T) and seconds
# (N, T); the answer of each clip (N, K) and the score of each frame for each class (N, T, K), the higher the more it
# counts.
Answer = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

SHARE = 0.25


def answer_of_head(head: nn.Module) -> Answer:
    """A head that scores frames: by their relevance where it says so, or by the log-probability of each class."""
    says_relevance = getattr(head, "says_relevance", False)

    def answer(frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        logits, scores = head(frames, frame_mask, timestamps)
        return logits, scores if says_relevance else F.log_softmax(scores, dim=-1)

    return answer


@torch.no_grad()
def faithfulness(
    answer: Answer,
    frames: Tensor,
    frame_mask: Tensor,
    timestamps: Tensor,
    share: float = SHARE,
    draws: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """What becomes of the predicted class's probability without its top frames, and with these alone.

    The erasure tests of DeYoung et al. (2020, "ERASER"), comprehensiveness and sufficiency, as ratios, beside those of
    as many random frames.

    Args:
        answer: a head; frames that are taken away are masked for it.
        frames: (N, T, ...) what enters it.
        frame_mask: (N, T).
        timestamps: (N, T), seconds.
        share: of the unmasked frames that count as top, at least one; of a clip with one frame nothing is taken away.
        draws: how often frames are drawn at random.
        seed: decides the draws.

    Returns:
        Mean probability of the predicted class over the clips: with `all` frames; and as ratios to it `without_top`,
        `without_random`, `top_alone` and `random_alone`.
    """
    logits, scores = answer(frames, frame_mask, timestamps)
    predicted = logits.argmax(-1)

    def probability(mask: Tensor) -> Tensor:
        found = answer(frames, mask, timestamps)[0].softmax(-1)
        return found.gather(1, predicted.unsqueeze(1)).mean()

    def without(taken: Tensor) -> Tensor:
        left = frame_mask & ~taken
        return torch.where(left.any(1, keepdim=True), left, frame_mask)

    of_class = predicted.view(-1, 1, 1).expand(-1, frame_mask.shape[1], 1)
    top = _top(scores.gather(2, of_class).squeeze(2), frame_mask, share)
    generator = torch.Generator().manual_seed(seed)
    chances = [torch.rand(frame_mask.shape, generator=generator).to(frame_mask.device) for _ in range(draws)]
    random = [_top(chance, frame_mask, share) for chance in chances]
    everything = probability(frame_mask)
    found = {
        "without_top": probability(without(top)),
        "without_random": torch.stack([probability(without(taken)) for taken in random]).mean(),
        "top_alone": probability(top),
        "random_alone": torch.stack([probability(kept) for kept in random]).mean(),
    }
    return {"all": float(everything), **{name: float(value / everything) for name, value in found.items()}}


def _top(scores: Tensor, frame_mask: Tensor, share: float) -> Tensor:
    """`top_frames` of scores (N, T) that may be negative."""
    lowest = scores.masked_fill(~frame_mask, torch.inf).amin(1, keepdim=True)
    return top_frames(scores - lowest, frame_mask, share)
