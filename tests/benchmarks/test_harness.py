"""The benchmark's parts: pooling, cached LoRA, folds, truth and intervals, each on what is known by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from benchmarks.harness import fitting
from benchmarks.harness.comparison import (
    CHANCE,
    RANDOM,
    figures_of,
    mean_and_spread,
    outcomes,
    paired_bootstrap,
)
from benchmarks.harness.fitting import (
    Recipe,
    _pick,
    cross_validate,
    frame_statistics,
    goodness,
    predict,
    train_epochs,
)
from benchmarks.harness.ground import Ground, Settings, Truth, real_ground, true_frames
from benchmarks.harness.heads import AdaptedHead, LinearHead, top_mean
from benchmarks.harness.lora import LORA_OPTIONS
from benchmarks.harness.row import targets_of
from tgdfer.training.data.batches import SampledClips
from tgdfer.training.data.splits import people_folds
from tgdfer.training.errors import UserError
from tgdfer.training.features import FrameFeatures
from tgdfer.training.models import start_model


def bags(frames: torch.Tensor, mask: torch.Tensor | None = None) -> FrameFeatures:
    """Cached frames (V, N, T, D) of made-up clips."""
    mask = torch.ones(frames.shape[:3], dtype=torch.bool) if mask is None else mask
    return FrameFeatures(frames, mask, torch.zeros(mask.shape))


def separable(clips=40, classes=2, frames=8) -> tuple[FrameFeatures, torch.Tensor]:
    """Noise in two views, but for two frames of each clip, which point to its class."""
    targets = torch.arange(clips) % classes
    noise = torch.randn(2, clips, frames, 12)
    noise[:, torch.arange(clips), 3, targets] += 8
    noise[:, torch.arange(clips), 4, targets] += 8
    return bags(noise), targets


# Pooling -------------------------------------------------------------------------------------------------------------


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


# Training ------------------------------------------------------------------------------------------------------------


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


# LoRA ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ground(clips_folder, clip_folder, descriptions_file) -> Ground:
    settings = Settings(
        model=str(clip_folder), descriptions=str(descriptions_file), num_frames=4, views=2, lora_views=2, seeds=(0,)
    )
    return real_ground(settings, clips_folder)


@pytest.fixture
def adapted(ground) -> AdaptedHead:
    """Of a CLIP with as many blocks as are adapted."""
    model, _ = start_model(ground.config(model_options=dict(LORA_OPTIONS)).model, ground.classes)
    head = LinearHead(*frame_statistics(ground.features("train"), np.arange(len(ground.train))), 3, "mean")
    torch.nn.init.normal_(head.linear.weight)
    adapted = AdaptedHead(model, head, head_rate=1e-3)
    adapted.clip_of_test = [model]  # a list, so that it is no part of the head
    return adapted.eval()


def pixels(ground: Ground) -> dict[str, torch.Tensor]:
    data = SampledClips(ground.test, ground.classes, ground.network[1].video_processor, 4)
    return data.collate([data[index] for index in range(len(data))])


def test_lora_starts_at_what_the_frozen_clip_sees(ground, adapted):
    frozen, activations = ground.features("test"), ground.activations("test", block=0)
    assert activations.features.shape == (1, 15, 4, 5, 32)
    ours, frames = predict(adapted, activations)
    theirs, frozen_frames = predict(adapted.head, frozen)
    torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.02)  # both were kept in half precision
    torch.testing.assert_close(frames, frozen_frames, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("block", [0, 1])
def test_cached_activations_give_the_logits_of_the_whole_model(ground, adapted, block):
    """With LoRA trained, and through every block or the last alone."""
    (model,), batch = adapted.clip_of_test, pixels(ground)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
        whole = model.get_frame_features(batch["pixel_values_videos"], batch["frame_mask"])
        tower = model.tgdfer.clip.vision_model
        states = tower(batch["pixel_values_videos"].flatten(0, 1), output_hidden_states=True).hidden_states[block]
        adapted.blocks = adapted.blocks[block:]
        exact = adapted.see(states).unflatten(0, (15, 4))
    torch.testing.assert_close(exact, whole, atol=1e-5, rtol=1e-4)
    if block == 0:  # what is kept on disk comes before LoRA, in half precision
        logits = predict(adapted, ground.activations("test", block=0))[0]
        torch.testing.assert_close(logits, predict(adapted.head, bags(whole[None]))[0], atol=0.1, rtol=0.02)


def test_activations_of_every_block_are_kept_apart(ground):
    first, second = (ground.activations("test", block).features for block in (0, 1))
    assert first.dtype == torch.float16 and not torch.equal(first, second)
    assert torch.equal(ground.activations("test", 0).features, first)


def test_lora_learns_and_the_rest_of_clip_stays(ground, adapted):
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    seen = ground.activations("train", block=0)
    recipe = Recipe(rate=1e-2, epochs=2, batch_size=8, frames=2)
    list(train_epochs(adapted, seen, targets_of(ground), np.arange(len(ground.train)), recipe, 0))
    moved = {name for name, value in adapted.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if "lora_B" in name} and "head.linear.weight" in moved
    assert all("lora_" in name or "head.linear" in name for name in moved)


# Truth ---------------------------------------------------------------------------------------------------------------


def test_truth_is_that_of_the_frames_that_are_looked_at(ground):
    expected = pixels(ground)["intensity"]
    torch.testing.assert_close(torch.tensor(ground.truth.intensity), expected)


def test_true_frames_of_every_view(ground):
    """The apex of the clips is blue, red or grey as their label says: the frames that are so must be the true ones."""
    seen = ground.features("train")
    masks = true_frames(seen, ground.train)
    for index, label in enumerate(ground.train.labels):
        frames = (seen.timestamps[:, index] * 25).round().long()
        apex = (frames >= 2) & (frames < 5)
        assert apex.any(1).all()
        assert torch.equal(masks[:, index], torch.ones_like(apex) if label == "neutral" else apex)


def test_clip_whose_frames_miss_the_emotion_keeps_the_nearest(ground, monkeypatch):
    clips = ground.train
    weak = [[0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.0]] * len(clips)
    monkeypatch.setitem(ground.__dict__, "train", type(clips)(**vars(clips) | {"intensity": weak}))
    masks = true_frames(ground.features("train"), ground.train)[0]
    counts = dict(zip(ground.train.labels, masks.sum(1).tolist(), strict=True))
    assert counts == {"happiness": 1, "neutral": 4, "sadness": 1}


@pytest.mark.parametrize("missing", ["person", "intensity"])
def test_clips_without_their_truth_are_refused(missing, tmp_path, ground, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=1)
    for path in folder.glob("*/metadata.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != missing}) + "\n" for row in rows))
    with pytest.raises(UserError, match=f"train does not say the {missing} of every clip.*metadata.jsonl"):
        real_ground(ground.settings, folder).train  # noqa: B018


def test_people_in_both_parts_are_refused(tmp_path, ground, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    path = folder / "test" / "metadata.jsonl"
    path.write_text(path.read_text().replace("test-1", "train-1"))
    with pytest.raises(UserError, match="1 people are in train and in test .*'train-1'"):
        real_ground(ground.settings, folder).test  # noqa: B018


def test_other_bytes_or_another_truth_are_another_ground(tmp_path, ground, folder_writer, clip_writer):
    folder = folder_writer(tmp_path / "clips", people=2)

    def fingerprint():
        return real_ground(ground.settings, folder).fingerprint

    first = fingerprint()
    (folder / "train").rename(folder / "other"), (folder / "other").rename(folder / "train")
    assert fingerprint() == first
    clip_writer(folder / "train" / "happy" / "happy_0.mp4", (0, 250, 0), seed=9)
    second = fingerprint()
    path = folder / "test" / "metadata.jsonl"
    path.write_text(path.read_text().replace("1.0", "0.9"))
    assert len({first, second, fingerprint()}) == 3


def test_validation_split_that_one_method_alone_would_use_is_refused(tmp_path, ground):
    (tmp_path / "validation").mkdir()
    with pytest.raises(UserError, match="validation split"):
        real_ground(ground.settings, tmp_path)


def test_empty_intensity_is_refused_like_none(tmp_path, ground, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    path = folder / "test" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["intensity"] = []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="test does not say the intensity of every clip"):
        real_ground(ground.settings, folder).test  # noqa: B018


# Figures and intervals -----------------------------------------------------------------------------------------------

TRUTH = Truth(
    classes=["happiness", "neutral", "sadness"],
    labels=["happiness", "happiness", "neutral", "sadness", "sadness", "sadness"],
    people=["a", "b", "a", "a", "b", "c"],
    intensity=[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]],
)
FIRST = [[1.0, 0.0]] * 6


def test_figures_by_hand():
    predicted = ["happiness", "sadness", "neutral", "sadness", "sadness", "neutral"]
    figures = figures_of(outcomes([{"predicted": predicted, "scores": FIRST}], TRUTH), TRUTH)
    assert figures["war"] == [pytest.approx(4 / 6)]
    assert figures["uar"] == [pytest.approx(recall_score(TRUTH.labels, predicted, average="macro"))]
    # Of the six clips one is neutral and one all apex; first is right in two of the other four.
    assert figures["frame_ap"] == [pytest.approx((1 + 0.5 + 1 + 0.5) / 4)] and figures["pointing"] == [0.5]


def test_chance_random_and_nothing():
    figures = figures_of(outcomes([{"predicted": CHANCE, "scores": RANDOM}], TRUTH), TRUTH)
    assert figures["uar"] == [pytest.approx(1 / 3)] and figures["frame_ap"] == [pytest.approx(0.75)]
    figures = figures_of(outcomes([{"predicted": CHANCE, "scores": None}], TRUTH), TRUTH)
    assert figures["frame_ap"] == [None] and mean_and_spread(figures["frame_ap"]) is None
    assert mean_and_spread([0.25]) == (0.25, None)
    assert mean_and_spread([0.0, 1.0]) == (0.5, pytest.approx(0.5**0.5))


def constructed(people: int, helped: int) -> tuple[Truth, list[str], list[str]]:
    """Two clips of each person, of which one method has none right and another both, for some people."""
    labels = ["happiness", "sadness"] * people
    who = [f"p{index // 2}" for index in range(2 * people)]
    wrong = ["sadness", "happiness"] * people
    truth = Truth(["happiness", "sadness"], labels, who, [[0.0, 1.0]] * 2 * people)
    return truth, wrong, labels[: 2 * helped] + wrong[2 * helped :]


def test_bootstrap_draws_people_and_not_clips():
    """The share of helped people is drawn from 40: a binomial share, whose interval is known."""
    truth, wrong, better = constructed(people=40, helped=10)
    last = [[0.0, 1.0]] * 80
    one = outcomes([{"predicted": better, "scores": last}], truth)
    other = outcomes([{"predicted": wrong, "scores": [[1.0, 0.0]] * 80}], truth)
    found = paired_bootstrap(one, other, truth)
    value, low, high = found["uar"]
    error = (0.25 * 0.75 / 40) ** 0.5  # of clips it would be smaller by a factor of the root of two
    assert value == pytest.approx(0.25)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert found["frame_ap"] == (0.5, 0.5, 0.5), "the same in every clip, whoever is drawn"


def test_bootstrap_is_paired_and_means_over_runs():
    truth, wrong, better = constructed(people=20, helped=7)
    row = outcomes([{"predicted": answer, "scores": None} for answer in (better, wrong)], truth)
    assert paired_bootstrap(row, row, truth) == {"uar": (0.0, 0.0, 0.0), "frame_ap": None}
    single = outcomes([{"predicted": better, "scores": None}], truth)
    value, low, high = paired_bootstrap(single, row, truth)["uar"]
    assert value == pytest.approx(0.175) and 0 < low < value < high
    again = paired_bootstrap(single, row, truth)["uar"]
    assert again == (value, low, high)


def test_class_of_which_nobody_is_drawn_does_not_count():
    right = outcomes([{"predicted": TRUTH.labels, "scores": None}], TRUTH)
    wrong = outcomes([{"predicted": ["neutral"] * 6, "scores": None}], TRUTH)
    value, low, high = paired_bootstrap(right, wrong, TRUTH)["uar"]
    assert value == pytest.approx(2 / 3) and low == pytest.approx(2 / 3) and high == 1
