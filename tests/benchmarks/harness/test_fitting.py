"""Training of heads, and the choice of rate and epochs by cross-validation over people."""

from itertools import islice

import numpy as np
import pytest
import torch
from made_up_results import bags, separable

from benchmarks.harness import fitting
from benchmarks.harness.fitting import Recipe, cross_validate, frame_statistics, predict, selection_score, train_head
from benchmarks.harness.heads import LinearHead
from tgdfer.training.data.splits import people_folds
from tgdfer.training.features import FeatureDataset
from tgdfer.training.optimisation.loop import TrainingLoop


def make_head(seen, pooling="top"):
    return lambda indices, seed: LinearHead(*frame_statistics(seen, indices), 2, pooling)


def test_folds_never_share_people_and_check_everybody_once():
    labels = np.array(["a", "b", "c"] * 20)
    people = np.array([f"p{index // 4}" for index in range(60)])
    folds = people_folds(labels, people, seed=3)
    assert len(folds) == 5 and sorted(np.concatenate([check for _, check in folds])) == list(range(60))
    for fit, check in folds:
        assert not set(people[fit]) & set(people[check]) and set(labels[fit]) == set("abc")
    assert not np.array_equal(folds[0][1], people_folds(labels, people, seed=4)[0][1])


@pytest.mark.slow
def test_cross_validation_chooses_the_rate_that_learns():
    # The other one may find the labels as well, but is less sure of them.
    seen, targets = separable()
    people = np.array([f"p{index // 2}" for index in range(40)])
    folds = people_folds(targets.numpy(), people, seed=0)
    recipe = Recipe(epochs=10, batch_size=4)
    choice = cross_validate(make_head(seen), seen, targets, folds, recipe, (1e-12, 1e-2), seed=0)
    assert choice.recipe.rate == 1e-2 and 1 <= choice.recipe.epochs <= 10
    assert choice.uar > 0.9 and [rate for rate, _, _ in choice.tried] == [1e-12, 1e-2]


def test_cross_validation_reads_no_clip_that_it_checks_on(monkeypatch):
    seen, targets = separable()
    used, trained = [], []

    def make(indices, seed):
        used.append(set(indices.tolist()))
        return make_head(seen)(indices, seed)

    def read(self, index):
        trained.append(self.indices[index])
        return usual(self, index)

    usual = FeatureDataset.__getitem__
    monkeypatch.setattr(FeatureDataset, "__getitem__", read)
    folds = people_folds(targets.numpy(), np.arange(40) // 2, seed=0)
    cross_validate(make, seen, targets, folds, Recipe(epochs=1), (1e-3,), seed=0)
    assert used == [set(fit.tolist()) for fit, _ in folds]
    seen_by_folds = iter(trained)
    assert [set(islice(seen_by_folds, len(fit))) for fit, _ in folds] == used and not list(seen_by_folds)


def test_training_is_a_function_of_its_seed():
    seen, targets = separable()
    everything = np.arange(40)

    def weights(seed):
        head = make_head(seen)(everything, seed)
        train_head(head, seen, targets, everything, Recipe(epochs=2, frames=5), seed)
        return head.linear.weight.detach()

    first = weights(0)
    torch.rand(3)
    assert torch.equal(first, weights(0)) and not torch.equal(first, weights(1))


class DroppingHead(LinearHead):
    """A head whose training is random."""

    def forward(self, frames, frame_mask, timestamps=None):
        return super().forward(torch.nn.functional.dropout(frames, 0.2, self.training), frame_mask)


def test_more_epochs_begin_like_fewer():
    """The choice of epochs by one long training holds for the short one that follows, without predictions between."""
    seen, targets = separable()
    everything, found = np.arange(40), {}

    def weights_after_two(epochs, between):
        head = DroppingHead(*frame_statistics(seen, everything), 2, "top")

        def keep(epoch):
            if between:
                predict(head, seen)
            if epoch == 2:
                found[epochs] = head.linear.weight.detach().clone()

        train_head(head, seen, targets, everything, Recipe(epochs=epochs), 0, keep)

    weights_after_two(2, between=False)
    weights_after_two(4, between=True)
    assert torch.equal(found[2], found[4])


def test_heads_are_trained_by_the_loop_of_the_product(monkeypatch):
    """With its options: a constant rate without warm-up, and gradients of any norm."""
    made = []

    class Noted(TrainingLoop):
        def __init__(self, model, data, groups, options, accelerator, seed):
            made.append((data, options))
            super().__init__(model, data, groups, options, accelerator, seed)

        def train_epoch(self, epoch):
            loss = super().train_epoch(epoch)
            assert self.optimizer.param_groups[0]["lr"] == 0.01
            return loss

    monkeypatch.setattr(fitting, "TrainingLoop", Noted)
    seen, targets = separable()
    epochs = []
    recipe = Recipe(rate=0.01, epochs=3, batch_size=7, weight_decay=0.2, frames=5)
    train_head(make_head(seen)(np.arange(40), 0), seen, targets, np.arange(20), recipe, 5, epochs.append)
    ((data, options),) = made
    assert epochs == [1, 2, 3]
    assert (data.indices, data.targets, data.seed, data.frames) == (list(range(20)), targets[:20].tolist(), 5, 5)
    assert (options.lr_schedule, options.warmup, options.max_grad_norm) == ("constant", 0, float("inf"))
    assert (options.epochs, options.batch_size, options.weight_decay) == (3, 7, 0.2)


def test_random_frames_keep_their_order_and_leave_out_masked_ones():
    frames = torch.arange(8.0).view(1, 1, 8, 1).repeat(1, 3, 1, 1)
    mask = torch.ones(1, 3, 8, dtype=torch.bool)
    mask[0, 1, [0, 2, 4]] = False
    mask[0, 2, 2:] = False
    data = FeatureDataset(bags(frames, mask), range(3), [0] * 3, training=True, seed=0, frames=4)
    seen, kept = (torch.stack([data[index][name] for index in range(3)]) for name in ("frame_features", "frame_mask"))
    assert (seen[:, 1:] > seen[:, :-1]).all()
    assert kept.sum(1).tolist() == [4, 4, 2] and not set(seen[1].flatten().tolist()) & {0.0, 2.0, 4.0}


def test_ties_are_broken_by_the_loss():
    targets = torch.tensor([0, 1])
    sure, unsure = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.1, 0.0], [0.0, 0.1]])
    assert selection_score(sure, targets) > selection_score(unsure, targets) > selection_score(-sure, targets)
