"""The cache of frame features."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
from published_trees import write_frames
from safetensors import SafetensorError
from safetensors.torch import save_file

from tgdfer import processing
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.processing.video_source_tgdfer import VideoDecodeError
from tgdfer.training import feature_cache
from tgdfer.training import features as room
from tgdfer.training.cache import cache_folder, clear_cache, kind_folder
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.data.loading import load_clips
from tgdfer.training.features import FeatureDataset, Views, frame_features, view_settings
from tgdfer.training.models import start_model
from tgdfer.training.optimisation.loop import start_accelerator


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


def _files(cache):
    return sorted(cache.rglob("*.*"))


def test_first_view_is_what_the_model_sees_in_evaluation_and_others_differ(clips, start):
    model, video_processor = start
    kept = frame_features(model, video_processor, clips, Views(3, batch_size=3))
    data = ClipDataset(clips, clips.classes, video_processor, 4)
    batch = data.collate([data[index] for index in range(4)])
    with torch.no_grad():
        expected = model.get_frame_features(batch["pixel_values_videos"], batch["frame_mask"])
    assert kept.features.shape == (3, 4, *expected.shape[1:])
    torch.testing.assert_close(kept.features[0].float(), expected, rtol=2e-3, atol=2e-3)
    assert torch.equal(kept.timestamps[0], batch["timestamps"]) and kept.frame_mask.all()
    assert not torch.allclose(kept.features[0], kept.features[1]) and not torch.equal(*kept.features[1:])


def test_second_time_reads_the_file_and_sees_no_clip(clips, start, cache, monkeypatch):
    first = frame_features(*start, clips, Views(2))
    assert len(list(_files(cache))) == len(list(kind_folder("features").iterdir())) == 2, "nothing but finished files"
    monkeypatch.setattr(room, "ClipDataset", None)
    again = frame_features(*start, clips, Views(2))
    assert torch.equal(first.features, again.features) and torch.equal(first.frame_mask, again.frame_mask)


def _other_weights(start):
    with torch.no_grad():
        next(start[0].tgdfer.clip.vision_model.parameters()).add_(1e-3)


def _other_processor(start):
    start[1].image_mean = [0.1, 0.2, 0.3]


def _other_frames(start):
    start[0].config.num_frames = 3


@pytest.mark.parametrize(
    "change",
    [
        _other_weights,
        _other_processor,
        _other_frames,
        {"augment": Augmentation(crop=0.9)},
        {"seed": 1},
        {"precision": "bf16"},
    ],
)
def test_key_changes_with_whatever_the_features_depend_on(start, change):
    usual = {"number": 2, "seed": 0}
    before = view_settings(*start, Views(**usual))
    assert before == view_settings(*start, Views(**usual)) and len(set(before)) == 2
    changed = dict(change) if isinstance(change, dict) else change(start) or {}
    precision = changed.pop("precision", None)
    accelerator = start_accelerator(precision) if precision else None
    assert view_settings(*start, Views(**usual | changed), accelerator)[1] != before[1]


def test_key_changes_with_the_code_that_makes_the_frames(start, monkeypatch):
    keys = {view_settings(*start, Views())[0]}
    assert "class Augmentation" in inspect.getsource(room.augmentation) and room.processing is processing
    read = inspect.getsource
    changes = (
        (inspect, "getsource", lambda module: read(module) + "#"),
        (room, "source_hash", lambda package: "changed"),
        (room, "version", lambda name: "0.0"),
    )
    for change in changes:
        with monkeypatch.context() as patch:
            patch.setattr(*change)
            keys.add(view_settings(*start, Views())[0])
    assert len(keys) == 1 + len(changes)


def test_key_ignores_what_the_features_do_not_depend_on(start):
    model, video_processor = start
    before = view_settings(model, video_processor, Views(1))
    with torch.no_grad():
        model.bias.add_(1)
        next(model.tgdfer.clip.text_model.parameters()).add_(1)
    assert view_settings(model, video_processor, Views(1, seed=7)) == before, "a plain view is not random"
    more = view_settings(model, video_processor, Views(3))
    assert more[:1] == before and more[:2] == view_settings(model, video_processor, Views(2)), "views are kept"


@pytest.fixture
def encoded(start, monkeypatch) -> list[int]:
    """The number of clips in each batch that is encoded."""
    sizes, encode = [], start[0].get_frame_features

    def count(pixels, mask):
        sizes.append(len(mask))
        return encode(pixels, mask)

    monkeypatch.setattr(start[0], "get_frame_features", count)
    return sizes


def test_folds_share_their_clips(clips_folder, clips, start, cache, encoded):
    """The clips of another fold are found in files of earlier folds. Only new ones are encoded."""
    every = load_clips(str(clips_folder), "train")
    first = frame_features(*start, clips, Views(2))
    assert encoded == [4, 4]
    fold = every.select([8, 5, 4, 6])
    second = frame_features(*start, fold, Views(2))
    assert encoded == [4, 4, 1, 1] and len(_files(cache)) == 4
    assert torch.equal(second.features[:, 1:], first.features[:, [1, 0, 2]])
    validation = frame_features(*start, every.select([8, 7]), Views(1))
    assert torch.equal(validation.features[0], torch.stack([second.features[0, 0], first.features[0, 3]]))
    assert len(encoded) == 4
    # The random frames of a clip do not depend on the other clips either.
    clear_cache()
    alone = frame_features(*start, every.select([8]), Views(2))
    torch.testing.assert_close(alone.features[:, 0], second.features[:, 0], rtol=2e-3, atol=2e-3)
    assert torch.equal(alone.timestamps[:, 0], second.timestamps[:, 0])


def test_a_clip_that_has_changed_is_encoded_again(tmp_path, folder_writer, start, encoded):
    every = load_clips(str(folder_writer(tmp_path / "clips")), "train")
    clips = every.select(range(4))
    frame_features(*start, clips)
    for index in range(4):
        path = Path(clips.video(index))
        path.write_bytes(path.read_bytes())  # A copy has another modification time, and counts as the same clip.
    frame_features(*start, clips)
    assert encoded == [4]
    shutil.copy(every.video(4), clips.video(1))
    frame_features(*start, clips)
    assert encoded == [4, 1]


def test_a_clip_that_occurs_twice_is_encoded_for_each_and_kept_once(clips, start, encoded):
    twice = clips.select([0, 1, 0])
    first = frame_features(*start, twice)
    again = frame_features(*start, twice)
    assert encoded == [3] and torch.equal(first.features, again.features)
    assert torch.equal(again.features[:, 0], again.features[:, 2])


def test_a_clip_that_could_not_be_read_is_tried_again(clips, start, monkeypatch):
    """A network file system may fail for a moment."""
    away, usual = clips.video(1), (TGDFERVideoProcessor.__call__, TGDFERVideoProcessor.read_clip)

    def failing(function):
        def fail(self, source, *args, **options):
            if source == away or away in source:
                raise VideoDecodeError("The file system is away.")
            return function(self, source, *args, **options)

        return fail

    marks = torch.zeros(len(clips), dtype=torch.bool)
    with monkeypatch.context() as patch:
        for name, function in zip(("__call__", "read_clip"), usual, strict=True):
            patch.setattr(TGDFERVideoProcessor, name, failing(function))
        found = frame_features(*start, clips, unreadable=marks)
    assert marks.tolist() == [False, True, False, False] and not found.frame_mask[0, 1].any()
    marks.zero_()
    again = frame_features(*start, clips, unreadable=marks)
    assert not marks.any() and again.frame_mask.all()
    assert torch.equal(again.features[0, 0], found.features[0, 0])


def test_folders_of_frames_have_no_times(tmp_path, start):
    """The network gives them times of its config, which may be changed later."""
    lines = []
    for label in ("happy", "sad"):
        write_frames(tmp_path / "train" / label / "clip.mp4")
        lines.append(json.dumps({"file_name": f"{label}/clip.mp4", "label": label}) + "\n")
    (tmp_path / "train" / "metadata.jsonl").write_text("".join(lines))
    found = frame_features(*start, load_clips(str(tmp_path), "train"))
    assert found.timestamps.isnan().all()


def test_interrupted_computation_leaves_no_file(clips, start, cache, monkeypatch):
    monkeypatch.setattr(start[0], "get_frame_features", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        frame_features(*start, clips)
    assert not _files(cache)


def test_only_the_views_that_are_missing_are_computed(clips, start, cache, monkeypatch):
    """After an interruption in the second of three views, and with another number of views."""
    model, encoded = start[0], []
    encode = model.get_frame_features

    def count(pixels, mask):
        encoded.append(len(mask))
        if len(encoded) == 4:
            raise KeyboardInterrupt
        return encode(pixels, mask)

    monkeypatch.setattr(model, "get_frame_features", count)
    with pytest.raises(KeyboardInterrupt):
        frame_features(*start, clips, Views(3, batch_size=2))
    assert len(_files(cache)) == 1
    interrupted = frame_features(*start, clips, Views(3, batch_size=2))
    assert len(encoded) == 4 + 4 and len(_files(cache)) == 3
    more = frame_features(*start, clips, Views(5, batch_size=2))
    assert len(encoded) == 8 + 4
    assert torch.equal(more.features[:3], interrupted.features) and more.timestamps.shape == (5, 4, 4)


@pytest.mark.parametrize("damage", [b"", b"nothing of the kind", "cut", "another"])
def test_damaged_file_gives_a_warning_and_is_computed_again(clips, start, cache, damage, caplog):
    whole = frame_features(*start, clips)
    (path,) = _files(cache)
    if damage == "another":
        save_file({"features": torch.zeros(2, 4)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut" else damage)
    again = frame_features(*start, clips)
    assert "Cached features cannot be read" in caplog.text and "computed again" in caplog.text
    assert torch.equal(again.features, whole.features) and _files(cache) == [path]
    caplog.clear()
    frame_features(*start, clips)
    assert not caplog.text


def _file_in_its_place(cache, monkeypatch):
    cache.write_text("no folder")


def _full_disk(cache, monkeypatch):
    def save(values, path, metadata):
        path.write_bytes(bytes(10))
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(feature_cache, "save_file", save)


def _read_only(cache, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied", str(cache))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)


@pytest.mark.parametrize("spoil", [_file_in_its_place, _full_disk, _read_only])
def test_cache_that_cannot_be_written_gives_a_warning(clips, start, cache, spoil, monkeypatch, caplog):
    expected = frame_features(*start, clips)
    monkeypatch.setenv("TGDFER_CACHE", str(cache.with_name("other")))
    spoil(cache.with_name("other"), monkeypatch)
    found = frame_features(*start, clips)
    assert torch.equal(found.features, expected.features)
    assert "cannot be cached" in caplog.text and "TGDFER_CACHE names a writable folder" in caplog.text
    assert not [path for path in cache.with_name("other").rglob("*") if path.is_file()], "no temporary file remains"


def test_cache_of_somebody_else_is_read(clips, start, monkeypatch, caplog):
    expected = frame_features(*start, clips)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(feature_cache, "mark_used", refuse)
    monkeypatch.setattr(room, "ClipDataset", None)
    assert torch.equal(frame_features(*start, clips).features, expected.features) and not caplog.text


def test_mixed_precision_is_that_of_the_accelerator(clips, start, cache):
    model, seen = start[0], []
    layer = model.tgdfer.clip.vision_model.encoder.layers[0].mlp.fc1
    with layer.register_forward_hook(lambda module, given, output: seen.append(output.dtype)):
        frame_features(*start, clips)
        frame_features(*start, clips, accelerator=start_accelerator("bf16"))
    assert set(seen[: len(seen) // 2]) == {torch.float32} and set(seen[len(seen) // 2 :]) == {torch.bfloat16}
    assert len(_files(cache)) == 2


def test_short_clips_are_padded_under_the_mask(tmp_path, clip_writer, start):
    for label in ("happy", "neutral"):
        for index in range(2):
            clip_writer(tmp_path / "short" / "train" / label / f"{index}.mp4", num_frames=2 + index)
    kept = frame_features(*start, load_clips(str(tmp_path / "short"), "train"))
    assert sorted(kept.frame_mask[0].sum(1).tolist()) == [2, 2, 3, 3]
    assert not kept.features[~kept.frame_mask].any()


def test_training_draws_any_view_and_validation_the_plain_one(clips, start):
    kept = frame_features(*start, clips, Views(3))
    training = FeatureDataset(kept, [2, 0], [1, 0], training=True, seed=0)
    seen = set()
    for epoch in range(12):
        training.set_epoch(epoch)
        item = training[0]
        assert torch.equal(item["frame_features"], training[0]["frame_features"])
        seen |= {view for view in range(3) if torch.equal(kept.features[view, 2].float(), item["frame_features"])}
    assert seen == {0, 1, 2}
    again = [training[2 * repetition] for repetition in range(12)]  # The clip is drawn twelve times in an epoch.
    assert all(item["labels"] == 1 for item in again)
    for view in range(3):
        assert any(torch.equal(kept.features[view, 2].float(), item["frame_features"]) for item in again)
    some = FeatureDataset(kept, [2, 0], [1, 0], training=True, seed=0, frames=2)
    assert len({tuple(some[2 * repetition]["timestamps"].tolist()) for repetition in range(12)}) > 3
    plain = FeatureDataset(kept, [2, 0], [1, 0], training=False, seed=0)[1]
    assert torch.equal(plain["frame_features"], kept.features[0, 0].float()) and plain["labels"] == 0


def test_cache_folder_follows_the_environment(cache):
    assert cache_folder() == cache / "tgdfer" and kind_folder("features").is_relative_to(cache_folder())
