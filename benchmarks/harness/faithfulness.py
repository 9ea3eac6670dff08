"""Whether a prediction rests on the frames with the highest scores: they are erased, or kept alone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.layers_tgdfer import top_frames
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification

# `(frames, frame_mask, timestamps) -> (logits, scores)`: inputs of a head (N, T, ...), mask and seconds (N, T); logits
# of the clips (N, K) and scores of the frames for each class (N, T, K). Frames with higher scores count more.
Answer = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

# Share of the frames that counts as top.
SHARE = 0.25


def answer_of_head(head: nn.Module) -> Answer:
    """A head that scores frames by their relevance if it has one, otherwise by the log-probability of each class."""
    says_relevance = getattr(head, "says_relevance", False)

    def answer(frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        logits, scores = head(frames, frame_mask, timestamps)
        return logits, scores if says_relevance else F.log_softmax(scores, dim=-1)

    return answer


def answer_of_model(model: TGDFERForVideoClassification) -> Answer:
    """A TG-DFER model on frame features, whose frames are scored by their relevance."""

    def answer(frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        output = model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps)
        return output.logits, output.frame_relevance

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
    """Probability of the predicted class without the top frames, and with these alone.

    These are comprehensiveness and sufficiency of DeYoung et al. (2020, "ERASER"), as ratios, beside those of as many
    random frames.

    Args:
        answer: a head. Erased frames are masked.
        frames: (N, T, ...) inputs of the head.
        frame_mask: (N, T).
        timestamps: (N, T), seconds.
        share: share of the unmasked frames that counts as top, at least one frame. A clip of one frame keeps it.
        draws: number of random draws.
        seed: seed of the draws.

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
    top = top_frames(scores.gather(2, of_class).squeeze(2), frame_mask, share)
    generator = torch.Generator().manual_seed(seed)
    chances = [torch.rand(frame_mask.shape, generator=generator).to(frame_mask.device) for _ in range(draws)]
    random = [top_frames(chance, frame_mask, share) for chance in chances]
    everything = probability(frame_mask)
    found = {
        "without_top": probability(without(top)),
        "without_random": torch.stack([probability(without(taken)) for taken in random]).mean(),
        "top_alone": probability(top),
        "random_alone": torch.stack([probability(kept) for kept in random]).mean(),
    }
    return {"all": float(everything), **{name: float(value / everything) for name, value in found.items()}}
