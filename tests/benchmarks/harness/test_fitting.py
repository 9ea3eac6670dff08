"""Training of heads, and the choice of rate and epochs by cross-validation over people."""

import numpy as np
import torch
from made_up_results import bags, separable

from benchmarks.harness import fitting
from benchmarks.harness.fitting import Recipe, _pick, cross_validate, frame_statistics, goodness, train_epochs
from benchmarks.harness.heads import LinearHead
from tgdfer.training.data.splits import people_folds


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

    def pick(bags, views, clips, frames):
        if torch.is_grad_enabled():
            trained.append(set(clips.tolist()))
        return usual(bags, views, clips, frames)

    usual = fitting._pick
    monkeypatch.setattr(fitting, "_pick", pick)
    folds = people_folds(targets.numpy(), np.arange(40) // 2, seed=0)
    cross_validate(make, seen, targets, folds, Recipe(epochs=1), (1e-3,), seed=0)
    assert used == [set(fit.tolist()) for fit, _ in folds]
    steps = len(trained) // len(folds)
    assert [set().union(*trained[i * steps : (i + 1) * steps]) for i in range(len(folds))] == used


def test_training_is_a_function_of_its_seed():
    seen, targets = separable()
    everything = np.arange(40)

    def weights(seed):
        head = make_head(seen)(everything, seed)
        list(train_epochs(head, seen, targets, everything, Recipe(epochs=2, frames=5), seed))
        return head.linear.weight.detach()

    first = weights(0)
    torch.rand(3)
    assert torch.equal(first, weights(0)) and not torch.equal(first, weights(1))


def test_more_epochs_begin_like_fewer():
    """At a constant rate the choice of epochs by one long training holds for the short one that follows."""
    seen, targets = separable()
    everything, found = np.arange(40), {}
    for epochs in (2, 4):
        head = make_head(seen)(everything, 0)
        for epoch in train_epochs(head, seen, targets, everything, Recipe(epochs=epochs), 0):
            if epoch == 2:
                found[epochs] = head.linear.weight.detach().clone()
    assert torch.equal(found[2], found[4])


def test_random_frames_keep_their_order_and_leave_out_masked_ones():
    frames = torch.arange(8.0).view(1, 1, 8, 1).repeat(1, 3, 1, 1)
    mask = torch.ones(1, 3, 8, dtype=torch.bool)
    mask[0, 1, [0, 2, 4]] = False
    mask[0, 2, 2:] = False
    seen, kept, _ = _pick(bags(frames, mask), torch.zeros(3, dtype=torch.long), torch.arange(3), frames=4)
    assert (seen[:, 1:] > seen[:, :-1]).all()
    assert kept.sum(1).tolist() == [4, 4, 2] and not set(seen[1].flatten().tolist()) & {0.0, 2.0, 4.0}


def test_ties_are_broken_by_the_loss():
    targets = torch.tensor([0, 1])
    sure, unsure = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.1, 0.0], [0.0, 0.1]])
    assert goodness(sure, targets) > goodness(unsure, targets) > goodness(-sure, targets)
