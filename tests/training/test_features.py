"""The cache of frame features."""

import inspect
import os

import pytest
import torch

from tgdfer.training import features as room
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.batches import SampledClips
from tgdfer.training.data.loading import load_clips
from tgdfer.training.features import FeatureClips, Views, cache_folder, frame_features
from tgdfer.training.models import start_model


@pytest.fixture(scope="module")
def clips(clips_folder):
    return load_clips(str(clips_folder), "train").select(range(4, 8))


@pytest.fixture
def start(options):
    """A model and its video processor."""
    config = TrainingConfig.from_options(**options | {"frozen_features": True})
    model, processor = start_model(config.model, ["happiness", "neutral", "sadness"])
    return model, processor.video_processor


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_first_view_is_what_the_model_sees_in_evaluation_and_others_differ(clips, start):
    model, video_processor = start
    kept = frame_features(model, video_processor, clips, Views(3, batch_size=3))
    data = SampledClips(clips, clips.classes, video_processor, 4)
    batch = data.collate([data[index] for index in range(4)])
    with torch.no_grad():
        expected = model.get_frame_features(batch["pixel_values_videos"], batch["frame_mask"])
    assert kept.features.shape == (3, 4, *expected.shape[1:])
    torch.testing.assert_close(kept.features[0].float(), expected, rtol=2e-3, atol=2e-3)
    assert torch.equal(kept.timestamps[0], batch["timestamps"]) and kept.frame_mask.all()
    assert not torch.allclose(kept.features[0], kept.features[1]) and not torch.equal(*kept.features[1:])


def test_second_time_reads_the_file_and_sees_no_clip(clips, start, cache, monkeypatch):
    first = frame_features(*start, clips, Views(2))
    assert len(list((cache / "features").iterdir())) == 1, "nothing but the finished file"
    monkeypatch.setattr(room, "SampledClips", None)
    again = frame_features(*start, clips, Views(2))
    assert torch.equal(first.features, again.features) and torch.equal(first.frame_mask, again.frame_mask)


def _other_weights(start, clips):
    with torch.no_grad():
        next(start[0].tgdfer.clip.vision_model.parameters()).add_(1e-3)
    return start, clips, {}


def _other_processor(start, clips):
    start[1].image_mean = [0.1, 0.2, 0.3]
    return start, clips, {}


def _other_frames(start, clips):
    start[0].config.num_frames = 3
    return start, clips, {}


def _other_file(start, clips):
    path = clips.video(1)
    now = os.stat(path).st_mtime
    os.utime(path, (now + 5, now + 5))
    return start, clips, {}


@pytest.mark.parametrize(
    "change",
    [
        _other_weights,
        _other_processor,
        _other_frames,
        _other_file,
        lambda start, clips: (start, clips.select([1, 0, 2, 3]), {}),
        lambda start, clips: (start, clips, {"number": 3}),
        lambda start, clips: (start, clips, {"seed": 1}),
    ],
)
def test_key_changes_with_whatever_the_features_depend_on(clips, start, change):
    usual = {"number": 2, "seed": 0}
    before = room._cache_path("features", *start, clips, Views(**usual))
    assert before == room._cache_path("features", *start, clips, Views(**usual))
    start, clips, changed = change(start, clips)
    assert room._cache_path("features", *start, clips, Views(**usual | changed)) != before


def test_key_changes_with_the_code_that_makes_the_frames(clips, start, monkeypatch):
    keys = {room._cache_path("features", *start, clips, Views())}
    assert "augment" in inspect.getsource(room._SOURCES[0])
    assert any("class TGDFERVideoProcessor" in inspect.getsource(module) for module in room._SOURCES)
    read = inspect.getsource
    for changed in room._SOURCES:
        with monkeypatch.context() as patch:
            patch.setattr(inspect, "getsource", lambda module, it=changed: read(module) + "#" * (module is it))
            keys.add(room._cache_path("features", *start, clips, Views()))
    monkeypatch.setattr(room, "version", lambda name: "0.0")
    keys.add(room._cache_path("features", *start, clips, Views()))
    assert len(keys) == 2 + len(room._SOURCES)


def test_key_ignores_what_the_features_do_not_depend_on(clips, start):
    model, video_processor = start
    before = room._cache_path("features", model, video_processor, clips, Views())
    with torch.no_grad():
        model.bias.add_(1)
        next(model.tgdfer.clip.text_model.parameters()).add_(1)
    assert room._cache_path("features", model, video_processor, clips, Views(seed=7)) == before, (
        "one plain view has no randomness"
    )


def test_interrupted_computation_leaves_no_file(clips, start, cache, monkeypatch):
    monkeypatch.setattr(start[0], "get_frame_features", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        frame_features(*start, clips)
    assert not (cache / "features").exists()


def test_short_clips_are_padded_under_the_mask(tmp_path, clip_writer, start):
    for label in ("happy", "neutral"):
        for index in range(2):
            clip_writer(tmp_path / "short" / "train" / label / f"{index}.mp4", num_frames=2 + index)
    kept = frame_features(*start, load_clips(str(tmp_path / "short"), "train"))
    assert sorted(kept.frame_mask[0].sum(1).tolist()) == [2, 2, 3, 3]
    assert not kept.features[~kept.frame_mask].any()


def test_training_draws_any_view_and_validation_the_plain_one(clips, start):
    kept = frame_features(*start, clips, Views(3))
    training = FeatureClips(kept, [2, 0], [1, 0], training=True, seed=0)
    seen = set()
    for epoch in range(12):
        training.set_epoch(epoch)
        item = training[0]
        assert torch.equal(item["frame_features"], training[0]["frame_features"])
        seen |= {view for view in range(3) if torch.equal(kept.features[view, 2].float(), item["frame_features"])}
    assert seen == {0, 1, 2}
    plain = FeatureClips(kept, [2, 0], [1, 0], training=False, seed=0)[1]
    assert torch.equal(plain["frame_features"], kept.features[0, 0].float()) and plain["labels"] == 0


def test_cache_folder_follows_the_environment(cache):
    assert cache_folder() == cache
