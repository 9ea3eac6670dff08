"""The training clips of `tgdfer-tiny`, and its training on them."""

import numpy as np
import pytest
import torch

from recipes.tgdfer_tiny.training_clips import Bags, MixedClips, Photographs, Videos
from tgdfer.training.features import FeatureClips, FrameFeatures

NEUTRAL, CLASSES = 1, 3


def photographs(count=30, views=2):
    """Features that say which photograph they are of, in which view, and votes for one class each."""
    rows = torch.arange(count).half().expand(views, count)
    view = torch.arange(views).half()[:, None].expand(views, count)
    return torch.stack([rows, view], -1), np.eye(CLASSES)[np.arange(count) % CLASSES]


def test_a_photograph_is_a_clip_of_one_frame():
    source = Photographs(*photographs())
    clip = source.clip(7, np.random.default_rng(0))
    assert clip.features.shape == (1, 2) and clip.features[0, 0] == 7
    assert clip.label == 7 % CLASSES and clip.timestamps.tolist() == [0.0]


def test_labels_of_photographs_are_drawn_by_the_votes():
    features, _ = photographs(1)
    source = Photographs(features, np.array([[0.25, 0.75, 0.0]]))
    rng = np.random.default_rng(0)
    drawn = [source.clip(0, rng).label for _ in range(800)]
    assert np.bincount(drawn, minlength=3) / 800 == pytest.approx([0.25, 0.75, 0.0], abs=0.05)


def test_photographs_of_rare_classes_are_drawn_more_often():
    features, _ = photographs(100)
    votes = np.eye(2)[np.repeat([0, 1], [90, 10])]
    rng = np.random.default_rng(0)

    def share(balance):
        source = Photographs(features, votes, balance)
        return np.mean([source.clip(index % 100, rng).label for index in range(1000)])

    assert share(0.0) == pytest.approx(0.1, abs=1e-6)
    assert share(1.0) == pytest.approx(0.5, abs=0.06)
    assert 0.2 < share(0.5) < 0.35


def test_bags_show_their_emotion_in_one_run_of_frames_among_neutral_ones():
    features, votes = photographs()
    bags = Bags(features, votes, NEUTRAL, count=60, frames=8)
    rng = np.random.default_rng(0)
    lengths, starts = set(), set()
    for index, label in enumerate(bags.targets):
        clip = bags.clip(index, rng)
        assert clip.label == label and len(clip.features) == 8
        shown = clip.features[:, 0].long().numpy() % CLASSES
        if label == NEUTRAL:
            assert (shown == NEUTRAL).all()
            continue
        places = np.flatnonzero(shown == label)
        assert set(shown) <= {label, NEUTRAL} and len(places)
        assert places[-1] - places[0] == len(places) - 1
        lengths.add(len(places)), starts.add(places[0])
    assert max(lengths) <= 6 and len(lengths) > 3 and len(starts) > 3
    assert np.bincount(bags.targets).tolist() == [20, 20, 20]


def test_photographs_that_people_disagree_on_are_in_no_bag():
    features, votes = photographs()
    votes[0] = [0.5, 0.3, 0.2]
    bags = Bags(features, votes, NEUTRAL, count=3)
    assert 0 not in bags.members[0] and 3 in bags.members[0]


def videos(training):
    features = torch.arange(2 * 3 * 4 * 2).view(2, 3, 4, 2).half()
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[:, 2, 3] = False
    seconds = torch.arange(4).float().expand(2, 3, 4).clone()
    return FeatureClips(FrameFeatures(features, mask, seconds), [0, 2], [0, 2], training, seed=0)


def test_videos_are_seen_in_any_view_in_training_and_in_the_first_one_otherwise():
    rng = np.random.default_rng(0)
    source = Videos(videos(True), repeats=2)
    assert source.targets == [0, 2, 0, 2]
    assert {int(source.clip(2, rng).features[0, 0]) for _ in range(20)} == {0, 24}
    plain = Videos(videos(False))
    assert {int(plain.clip(0, rng).features[0, 0]) for _ in range(20)} == {0}
    cut = plain.clip(1, rng)
    assert cut.label == 2 and len(cut.features) == len(cut.timestamps) == 3, "without masked frames"


def test_clips_of_all_sources_are_padded_and_follow_from_seed_epoch_and_index():
    features, votes = photographs()
    sources = [Photographs(features, votes, 0.5), Bags(features, votes, NEUTRAL, 6, frames=5), Videos(videos(True))]
    data, again = MixedClips(sources, seed=3, frames=6), MixedClips(sources, seed=3, frames=6)
    assert len(data) == 30 + 6 + 2 == len(data.targets)
    assert [int(data[i]["frame_mask"].sum()) for i in (0, 29, 30, 36, 37)] == [1, 1, 5, 4, 3]
    for index in (0, 31, 36):
        item, same = data[index], again[index]
        assert item["frame_features"].shape == (6, 2) and item["timestamps"].shape == (6,)
        assert all(torch.equal(item[name], same[name]) for name in item)
    before = [data[index]["frame_features"] for index in range(36)]
    data.set_epoch(1)
    assert any(not torch.equal(data[index]["frame_features"], earlier) for index, earlier in enumerate(before))
