"""The training clips of `tgdfer-tiny`, and its training on them."""

import json

import numpy as np
import pytest
import torch

from recipes.clip_tiny_faces.ferplus import VotedFaces
from recipes.tgdfer_tiny.export import save_model
from recipes.tgdfer_tiny.material import Material, Sources
from recipes.tgdfer_tiny.train import Recipe, train, training_sources, validation_clips
from recipes.tgdfer_tiny.training_clips import MixedSources, PhotographBags, Photographs, VideoClips
from tgdfer.training.features import FeatureDataset, FrameFeatures
from tgdfer.training.models import load_trained
from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces

pytestmark = pytest.mark.slow

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
        source = Photographs(features, votes, 1000, balance)
        assert len(source.targets) == 1000
        return np.mean([source.clip(index, rng).label for index in range(1000)])

    assert share(0.0) == pytest.approx(0.1, abs=0.04)
    assert share(1.0) == pytest.approx(0.5, abs=0.06)
    assert 0.2 < share(0.5) < 0.35


def test_bags_show_their_emotion_in_one_run_of_frames_among_neutral_ones():
    features, votes = photographs()
    bags = PhotographBags(features, votes, NEUTRAL, count=60, frames=8)
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
    bags = PhotographBags(features, votes, NEUTRAL, count=3)
    assert 0 not in bags.members[0] and 3 in bags.members[0]


def videos(training):
    features = torch.arange(2 * 3 * 4 * 2).view(2, 3, 4, 2).half()
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[:, 2, 3] = False
    seconds = torch.arange(4).float().expand(2, 3, 4).clone()
    return FeatureDataset(FrameFeatures(features, mask, seconds), [0, 2], [0, 2], training, seed=0)


def test_videos_are_seen_in_any_view_in_training_and_in_the_first_one_otherwise():
    rng = np.random.default_rng(0)
    source = VideoClips(videos(True), repeats=2)
    assert source.targets == [0, 0, 2, 2]
    assert {int(source.clip(1, rng).features[0, 0]) for _ in range(20)} == {0, 24}
    assert VideoClips(videos(True), 1, {2: 3}).targets == [0, 2, 2, 2]
    doubted = VideoClips(videos(True), label_noise=0.5)
    assert np.mean([doubted.clip(0, rng).label == 0 for _ in range(400)]) == pytest.approx(0.75, abs=0.08)
    plain = VideoClips(videos(False))
    assert {int(plain.clip(0, rng).features[0, 0]) for _ in range(20)} == {0}
    cut = plain.clip(1, rng)
    assert cut.label == 2 and len(cut.features) == len(cut.timestamps) == 3, "without masked frames"


def test_clips_of_all_sources_are_padded_and_follow_from_seed_epoch_and_index():
    features, votes = photographs()
    sources = [
        Photographs(features, votes, 30, 0.5),
        PhotographBags(features, votes, NEUTRAL, 6, frames=5),
        VideoClips(videos(True)),
    ]
    data, again = MixedSources(sources, seed=3, frames=6), MixedSources(sources, seed=3, frames=6)
    assert len(data) == 30 + 6 + 2 == len(data.targets)
    assert [int(data[i]["frame_mask"].sum()) for i in (0, 29, 30, 36, 37)] == [1, 1, 5, 4, 3]
    for index in (0, 31, 36):
        item, same = data[index], again[index]
        assert item["frame_features"].shape == (6, 2) and item["timestamps"].shape == (6,)
        assert all(torch.equal(item[name], same[name]) for name in item)
    before = [data[index]["frame_features"] for index in range(36)]
    data.set_epoch(1)
    assert any(not torch.equal(data[index]["frame_features"], earlier) for index, earlier in enumerate(before))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A handful of photographs, and clips of rendered people in place of real ones."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("tgdfer_tiny")
    rng = np.random.default_rng(0)
    votes = np.eye(8, dtype=np.float32)[np.arange(28) % 7]
    pictures = rng.integers(0, 255, (28, 112, 112), np.uint8)
    plain = rng.integers(0, 255, (28, 48, 48), np.uint8)
    faces = VotedFaces(plain, pictures, np.ones(28, bool), votes, np.arange(28) % 7)
    patch.setattr("recipes.tgdfer_tiny.material.prepare_ferplus", lambda *arguments: None)
    patch.setattr("recipes.tgdfer_tiny.material.load_ferplus", lambda cache, split: faces)
    patch.setattr("recipes.tgdfer_tiny.material._RENDERED", {"train": 5, "test": 1})
    # `test_search_reference.py` tests it.
    patch.setattr("recipes.tgdfer_tiny.export.write_reference", lambda *arguments: None)
    patch.setattr(
        "recipes.tgdfer_tiny.material.RenderedFaces", lambda: RenderedFaces(frames=(8, 8), size=48, supersampling=1)
    )
    patch.setenv("TGDFER_CACHE", str(folder / "cache"))
    sources = Sources(folder / "none.parquet", folder, folder / "work")
    material = Material(sources, views=2)
    rendered = material.rendered_clips
    patch.setattr(material, "real_clips", rendered)
    yield material
    patch.undo()


SMALL = Recipe(photographs=28, bags=7, real_repeats=1, rendered_repeats=1, neutral_repeats=1, epochs=1, batch_size=16)


def test_nobody_is_learned_from_and_held_out(material):
    clips = material.real_clips("train")
    for fold in range(5):
        learnt, kept = ({clips.people[row] for row in rows} for rows in material.held_out(clips, fold))
        assert kept and not learnt & kept
    sources = training_sources(material, SMALL)
    assert {name: len(source.targets) for name, source in sources.items()} == {
        "photographs": 28,
        "bags of photographs": 7,
        "real clips": 28,
        "rendered clips": 28,
    }
    assert {name: len(data) for name, data in validation_clips(material, SMALL).items()} == {
        "photographs": 28,
        "real clips": 7,
        "rendered clips": 7,
    }


def test_the_model_is_written_with_its_figures_and_its_card(material, tmp_path):
    trained = train(material, SMALL)
    metrics = save_model(tmp_path / "tiny", material, SMALL, trained, "python -m recipes.tgdfer_tiny train")
    assert metrics == json.loads((tmp_path / "tiny/metrics.json").read_text())
    assert [one["num_clips"] for one in (metrics, *metrics["also_measured"])] == [28, 7, 7]
    assert metrics["also_measured"][0]["frame_ap"] is not None and metrics["frame_ap"] is None
    card = (tmp_path / "tiny/README.md").read_text()
    assert "Goodfellow" in card and "muxspace" in card and "hardly known" in card
    names = [path.name for path in (tmp_path / "tiny").iterdir()]
    assert not [name for name in names if name.endswith(".py")]
    assert not [
        name for name in names if name.endswith(".json") and "auto_map" in (tmp_path / "tiny" / name).read_text()
    ]
    model, processor = load_trained(tmp_path / "tiny")
    assert processor.video_processor.face_crop == "largest" and model.config.is_calibrated
    assert [name for _, name in sorted(model.config.id2label.items())] == sorted(EMOTIONS)
    features = material.photographs("test").features[:1, :5, None].float()[0]
    with torch.inference_mode():
        one, other = (network(frame_features=features).logits for network in (trained.model, model))
    torch.testing.assert_close(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
