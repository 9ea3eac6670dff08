"""Pooling of linear heads, each on what is known by hand."""

import torch

from benchmarks.harness.heads import LinearHead, top_mean


def test_top_quarter_is_of_the_unmasked_frames_and_of_each_class():
    scores = torch.tensor([[[1.0, 8.0], [9.0, 2.0], [5.0, 3.0], [4.0, 1.0], [99.0, 99.0]]]).repeat(2, 1, 1)
    mask = torch.tensor([[True] * 4 + [False], [True, False, True, False, False]])
    # A quarter of four frames is one, and of two it is rounded up to one.
    torch.testing.assert_close(top_mean(scores, mask), torch.tensor([[9.0, 8.0], [5.0, 8.0]]))
    torch.testing.assert_close(top_mean(scores, mask, share=0.5)[0], torch.tensor([7.0, 5.5]))


def test_masked_frames_change_nothing_wherever_they_stand():
    head = LinearHead(torch.zeros(6), torch.ones(6), 3, "top")
    torch.nn.init.normal_(head.linear.weight)
    frames = torch.randn(4, 8, 6)
    plain, _ = head(frames, torch.ones(4, 8, dtype=torch.bool))
    places = torch.tensor([0, 1, 3, 4, 5, 7, 8, 10])
    holed, mask = torch.full((4, 11, 6), 1e4), torch.zeros(4, 11, dtype=torch.bool)
    holed[:, places], mask[:, places] = frames, True
    torch.testing.assert_close(head(holed, mask)[0], plain)


def test_mean_pooling_is_a_linear_layer_on_the_mean():
    head = LinearHead(torch.randn(6), torch.rand(6) + 0.5, 3, "mean")
    torch.nn.init.normal_(head.linear.weight)
    frames = torch.nn.functional.normalize(torch.randn(2, 5, 6), dim=-1)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    means = torch.stack([frames[0].mean(0), frames[1, :2].mean(0)])
    torch.testing.assert_close(head(frames, mask)[0], head.linear((means - head.mean) / head.spread))
