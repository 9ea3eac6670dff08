"""Whether predictions rest on their top frames, on bags whose figures are known by hand."""

import numpy as np
import pytest
import torch

from benchmarks.harness.faithfulness import faithfulness


def by_the_mean(scored):
    """A head whose logits are the mean of the frames; frames are scored by `scored(frames)`."""

    def answer(frames, mask, timestamps):
        weight = mask.unsqueeze(-1) / mask.sum(1).view(-1, 1, 1)
        return (frames * weight).sum(1), scored(frames).masked_fill(~mask.unsqueeze(-1), -torch.inf)

    return answer


def clips() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two clips of eight frames, of which two speak for the first or the second class, and four masked ones."""
    frames = torch.zeros(2, 12, 2)
    frames[0, [1, 6], 0] = frames[1, [4, 5], 1] = 8.0
    frames[:, 8:] = 100.0
    mask = torch.arange(12).expand(2, 12) < 8
    return frames, mask, torch.zeros(2, 12)


def test_frames_that_decide_are_missed_and_do_alone():
    found = faithfulness(by_the_mean(lambda frames: frames), *clips(), draws=200)
    chance = lambda logit: float(torch.tensor([logit, 0.0]).softmax(0)[0])  # noqa: E731
    assert found["all"] == pytest.approx(chance(2.0))
    assert found["without_top"] == pytest.approx(0.5 / chance(2.0))
    assert found["top_alone"] == pytest.approx(chance(8.0) / chance(2.0))
    # Of two random frames none decides in 15 of 28 draws, one in 12, both in one.
    odds = np.array([15, 12, 1]) / 28
    alone = odds @ [chance(0.0), chance(4.0), chance(8.0)] / chance(2.0)
    without = odds @ [chance(16 / 6), chance(8 / 6), chance(0.0)] / chance(2.0)
    assert found["random_alone"] == pytest.approx(alone, abs=0.03)
    assert found["without_random"] == pytest.approx(without, abs=0.03)


def test_scores_that_point_elsewhere_are_found_out():
    found = faithfulness(by_the_mean(lambda frames: -frames), *clips())
    assert found["without_top"] > 1 > found["top_alone"]
    assert found["without_top"] > found["without_random"]


def test_clip_of_one_frame_keeps_it():
    frames, mask = torch.tensor([[[3.0, 0.0]]]), torch.ones(1, 1, dtype=torch.bool)
    found = faithfulness(by_the_mean(lambda frames: frames), frames, mask, torch.zeros(1, 1))
    assert {value for name, value in found.items() if name != "all"} == {1.0}
