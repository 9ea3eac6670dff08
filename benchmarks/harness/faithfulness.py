"""Faithfulness of frame scores: how a prediction changes if the top frames are erased, or if only they are kept."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.layers_tgdfer import top_frames
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.measure import frame_scores

# `(frames, frame_mask, timestamps) -> (logits, scores)`. The inputs are the frames (N, T, ...), their mask (N, T) and
# their times in seconds (N, T). The outputs are the logits of the clips (N, K) and the scores of their frames for each
# class (N, T, K). Frames with higher scores matter more.
Predictor = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

# Share of the frames that count as top frames.
SHARE = 0.25


def head_predictor(head: nn.Module) -> Predictor:
    """Returns the predictor of a head.

    Frames are scored by their relevance if the head returns it, otherwise by the log-probability of each class.
    """
    scores_are_relevance = getattr(head, "scores_are_relevance", False)

    def predict(frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        logits, scores = head(frames, frame_mask, timestamps)
        return logits, scores if scores_are_relevance else F.log_softmax(scores, dim=-1)

    return predict


def model_predictor(model: TGDFERForVideoClassification) -> Predictor:
    """Returns the predictor of a TG-DFER model on frame features. Frames are scored by their relevance."""

    def predict(frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        output = model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps)
        return output.logits, frame_scores(output, frame_mask, model.config)

    return predict


@torch.no_grad()
def faithfulness(
    predict: Predictor,
    frames: Tensor,
    frame_mask: Tensor,
    timestamps: Tensor,
    share: float = SHARE,
    draws: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Measures the probability of the predicted class without the top frames, and with only the top frames.

    These are the comprehensiveness and sufficiency of DeYoung et al. (2020, "ERASER"), as ratios. For comparison, the
    same is measured with equally many random frames.

    Args:
        predict (`Predictor`): Predictor of logits and frame scores. Erased frames are masked.
        frames (`torch.Tensor` of shape `(N, T, ...)`): Inputs of the predictor.
        frame_mask (`torch.Tensor` of shape `(N, T)`): Boolean mask.
        timestamps (`torch.Tensor` of shape `(N, T)`): Times in seconds.
        share (`float`, *optional*, defaults to `SHARE`): Share of the unmasked frames that count as top frames, at
            least one frame. If a clip has only one frame, the frame is never erased.
        draws (`int`, *optional*, defaults to `10`): Number of random draws.
        seed (`int`, *optional*, defaults to `0`): Random seed of the draws.

    Returns:
        `all` is the mean probability of the predicted class with all frames. `without_top`, `without_random`,
        `top_alone` and `random_alone` are ratios to it.
    """
    logits, scores = predict(frames, frame_mask, timestamps)
    predicted = logits.argmax(-1)

    def probability(mask: Tensor) -> Tensor:
        probabilities = predict(frames, mask, timestamps)[0].softmax(-1)
        return probabilities.gather(1, predicted.unsqueeze(1)).mean()

    def without(erased: Tensor) -> Tensor:
        rest = frame_mask & ~erased
        return torch.where(rest.any(1, keepdim=True), rest, frame_mask)

    class_index = predicted.view(-1, 1, 1).expand(-1, frame_mask.shape[1], 1)
    top = top_frames(scores.gather(2, class_index).squeeze(2), frame_mask, share)
    generator = torch.Generator().manual_seed(seed)
    random_scores = [torch.rand(frame_mask.shape, generator=generator).to(frame_mask.device) for _ in range(draws)]
    random = [top_frames(drawn, frame_mask, share) for drawn in random_scores]
    with_all = probability(frame_mask)
    probabilities = {
        "without_top": probability(without(top)),
        "without_random": torch.stack([probability(without(erased)) for erased in random]).mean(),
        "top_alone": probability(top),
        "random_alone": torch.stack([probability(kept) for kept in random]).mean(),
    }
    return {"all": float(with_all), **{name: float(value / with_all) for name, value in probabilities.items()}}
