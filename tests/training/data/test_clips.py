"""Loading, splitting and batching of labelled clips."""

import contextlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import av
import cv2
import datasets
import numpy as np
import pytest
import torch

from tgdfer.processing.descriptions import canonical_label
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import DataConfig
from tgdfer.training.data.batches import ClipDataset, EpochSampler, augmentation, derived_seed
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.columns import clip_names
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.data.loading import load_clips, require_readable
from tgdfer.training.data.quarantine import quarantine
from tgdfer.training.data.splits import hold_out, load_parts
from tgdfer.training.errors import UserError


@pytest.fixture(scope="module")
def clips(clips_folder):
    return load_clips(str(clips_folder), "train")


@pytest.fixture
def video_processor():
    return TGDFERVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, num_frames=4)


# What a data set may look like


def test_labels_people_and_intensity_come_by_name(clips):
    assert clips.classes == ["happiness", "neutral", "sadness"]
    assert len(clips) == 15 and set(clips.people) == {f"train-{person}" for person in range(5)}
    at = clips.files.index("train/happy/happy_3.mp4")
    assert (clips.labels[at], clips.people[at]) == ("happiness", "train-3")
    assert clips.intensity[at] == [0, 0, 1, 1, 1, 0, 0, 0]
    assert list(clips.left_out) == []


def test_copies_of_clips_have_the_same_fingerprint(tmp_path, clips_folder, clips):
    def fingerprints(found):
        return [found.fingerprint_of(index) for index in range(len(found))]

    expected = fingerprints(clips)
    copied = shutil.copytree(clips_folder, tmp_path / "copied", copy_function=shutil.copyfile)
    assert fingerprints(load_clips(str(copied), "train")) == expected
    contents = [Path(clips.video(index)).read_bytes() for index in range(len(clips))]
    rows = datasets.Dataset.from_dict({"clip": contents, "label": clips.labels})
    rows.to_parquet(tmp_path / "clips.parquet")
    for streaming in (False, True):
        embedded = load_clips(str(tmp_path / "clips.parquet"), "train", video_column="clip", streaming=streaming)
        assert fingerprints(embedded) == expected
    changed = Path(load_clips(str(copied), "train").video(0))
    changed.write_bytes(contents[0][:-1] + bytes([contents[0][-1] ^ 1]))
    others = fingerprints(load_clips(str(copied), "train"))
    assert others[0] != expected[0] and others[1:] == expected[1:]


@pytest.mark.parametrize("frame", ["0.png", "1.png", "2.png"])
def test_a_frame_that_changes_changes_the_fingerprint(tmp_path, frame):
    folder = tmp_path / "train" / "happy" / "clip"
    folder.mkdir(parents=True)
    for name in ("0.png", "1.png", "2.png"):
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    rows = datasets.Dataset.from_list([{"video": {"path": str(folder), "bytes": None}}])
    clips = LabelledClips(rows, "video", ["happy/clip"], ["happy"])
    before = clips.fingerprint()
    assert clips.fingerprint() == before
    cv2.imwrite(str(folder / frame), np.full((9, 8, 3), 90, np.uint8))
    assert clips.fingerprint() != before


@pytest.mark.parametrize("frames", [10, 16, 17])
def test_uncompressed_videos_with_black_bars_have_different_fingerprints(tmp_path, frames):
    """Their sizes, beginnings and ends are the same."""
    paths = [tmp_path / "one.avi", tmp_path / "other.avi"]
    for seed, path in enumerate(paths):
        picture = np.zeros((480, 640, 3), np.uint8)
        picture[60:420] = np.random.default_rng(seed).integers(0, 256, (360, 640, 3))
        with av.open(str(path), "w", format="avi") as container:
            stream = container.add_stream("rawvideo", rate=25, width=640, height=480, pix_fmt="bgr24")
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
    rows = datasets.Dataset.from_list([{"video": {"path": str(path), "bytes": None}} for path in paths])
    clips = LabelledClips(rows, "video", ["one", "other"], ["happy", "sad"])
    assert clips.fingerprint_of(0) != clips.fingerprint_of(1)


def test_a_change_inside_a_folder_of_frames_of_equal_size_changes_the_fingerprint(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.bmp").write_bytes(bytes(100))
    rows = datasets.Dataset.from_list([{"video": {"path": str(tmp_path), "bytes": None}}])
    clips = LabelledClips(rows, "video", ["happy/clip"], ["happy"])
    before = clips.fingerprint()
    (tmp_path / "4.bmp").write_bytes(bytes(99) + b"1")
    assert clips.fingerprint() != before


def test_folder_without_metadata_gives_the_same_labels(tmp_path, folder_writer, clips):
    plain = load_clips(str(folder_writer(tmp_path / "plain", metadata=False)), "train")
    assert sorted(zip(plain.files, plain.labels, strict=True)) == sorted(zip(clips.files, clips.labels, strict=True))
    assert plain.people is None and plain.intensity is None


def test_names_of_clips_are_unique():
    root = Path("/data/clips")
    for names, expected in (
        ([f"train/{label}/0.mp4" for label in ("happy", "sad")], ["train/happy/0.mp4", "train/sad/0.mp4"]),
        (["/data/clips/happy/0.mp4", "/data/clips/sad/0.mp4"], ["happy/0.mp4", "sad/0.mp4"]),
        (["/home/a/0.mp4", "/home/b/0.mp4", "/home/1.mp4"], ["train/0/0.mp4", "train/1/0.mp4", "1.mp4"]),
        (["hf://datasets/user/clips@1a/happy/0.mp4", "https://x.org/sad/0.mp4"], ["happy/0.mp4", "0.mp4"]),
        ([None, "0.mp4", None, "0.mp4"], ["train/0", "train/1/0.mp4", "train/2", "train/3/0.mp4"]),
    ):
        assert clip_names(names, root, "train") == expected


def test_clips_that_share_a_file_name_are_quarantined_one_by_one(tmp_path):
    """As in shards whose clips were named without their folders."""
    labels = [label for label in ("happy", "sad", "neutral") for _ in range(3)]
    videos = [{"path": f"{row % 3}.mp4", "bytes": b"no video"} for row in range(9)]
    features = datasets.Features({"video": datasets.Video(decode=False), "label": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"video": videos, "label": labels}, features=features)
    rows.to_parquet(tmp_path / "clips.parquet")
    clips = load_clips(str(tmp_path / "clips.parquet"), "train")
    assert len(set(clips.files)) == 9 and clips.files[4] == "train/4/1.mp4"
    kept = quarantine(clips, "here", {0: "broken", 3: "broken", 6: "broken"})
    assert len(kept.quarantined) == 3 and len(kept) == 6


def test_selections_have_their_own_quarantine(clips):
    one, other = clips.select([0, 1]), clips.select([2, 3])
    one.quarantined["broken.mp4"] = "it is empty."
    assert not other.quarantined and not clips.quarantined


def test_parquet_with_embedded_videos_and_other_columns(tmp_path, clips_folder, clips, video_processor):
    rows = {"clip": [], "feeling": []}
    for index in range(len(clips)):
        rows["clip"].append(clips.video(index))
        rows["feeling"].append(index % 3)
    features = datasets.Features(
        {"clip": datasets.Video(decode=False), "feeling": datasets.ClassLabel(names=["Surprised", "ANGRY", "Fear"])}
    )
    rows["clip"] = [{"path": None, "bytes": Path(path).read_bytes()} for path in rows["clip"]]
    rows["clip"][0]["path"] = "first.mp4"
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "data" / "train-00000.parquet")
    loaded = load_clips(str(tmp_path), "train")
    assert loaded.labels[:3] == ["surprise", "anger", "fear"] and loaded.files[:2] == ["first.mp4", "train/1"]
    assert isinstance(loaded.video(0), bytes)
    frames, _ = video_processor.read_clip(loaded.video(2))
    same, _ = video_processor.read_clip(clips.video(2))
    assert torch.equal(frames, same)


def test_videos_that_datasets_drops_are_named(tmp_path, folder_writer, clip_writer, caplog):
    folder = folder_writer(tmp_path / "clips", people=2)
    clip_writer(folder / "train" / "happy" / "unlisted.mp4")
    shutil.copy(folder / "train" / "happy" / "unlisted.mp4", folder / "train" / "happy" / "phone.m4v")
    (folder / "train" / "happy" / "notes.txt").write_text("no video")
    with caplog.at_level(logging.WARNING, "tgdfer"):
        clips = load_clips(str(folder), "train")
    assert list(clips.left_out) == ["happy/phone.m4v", "happy/unlisted.mp4"]
    assert "2 files are not used" in caplog.text and "happy/phone.m4v, happy/unlisted.mp4" in caplog.text
    assert load_clips(str(folder), "test").left_out == {}


def test_folder_without_splits_is_its_train_split(tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2, metadata=False, splits=("train",)) / "train"
    shutil.copy(next(folder.glob("*/*.mp4")), folder / "neutral" / "phone.webm")
    clips = load_clips(str(folder), "train")
    assert len(clips) == 6 and list(clips.left_out) == ["neutral/phone.webm"]


def _one_class(folder):
    shutil.rmtree(folder / "train" / "happy")
    shutil.rmtree(folder / "train" / "Sadness")


def _one_class_in_metadata(folder):
    _one_class(folder)
    _keep_rows(folder, lambda row: row["label"] == "neutral")


def _keep_rows(folder, wanted, **changes):
    path = folder / "train" / "metadata.jsonl"
    rows = [json.loads(line) | changes for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if wanted(row)))


def _deeper(folder):
    for label in list((folder / "train").iterdir()):
        (folder / "train" / "more").mkdir(exist_ok=True)
        label.rename(folder / "train" / "more" / label.name)
    next((folder / "train" / "more").glob("*/*.mp4")).rename(folder / "train" / "up.mp4")


@pytest.mark.parametrize(
    ("metadata", "spoil", "sentence"),
    [
        (False, _one_class, "only one class, 'neutral'"),
        (True, _one_class_in_metadata, "only one class, 'neutral'"),
        (False, _deeper, "no labels: its clips must be one folder deep"),
        (True, lambda folder: _keep_rows(folder, lambda row: True, label=3), "contains ints: labels are read by name"),
        (True, lambda folder: _keep_rows(folder, lambda row: True, label=""), "6 clips without a label"),
        (True, lambda folder: next(folder.glob("train/*/*.mp4")).unlink(), "lists 1 clips that do not exist, .*mp4"),
        (True, lambda folder: next(folder.glob("train/*/*.mp4")).write_bytes(b""), "1 empty files, .*mp4"),
    ],
)
def test_data_sets_that_cannot_be_used_say_why(tmp_path, folder_writer, metadata, spoil, sentence):
    folder = folder_writer(tmp_path / "clips", people=2, metadata=metadata, splits=("train",))
    spoil(folder)
    with pytest.raises(UserError, match=sentence):
        load_clips(str(folder), "train")


def test_metadata_in_one_split_only_says_so(tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    (folder / "test" / "metadata.jsonl").unlink()
    with pytest.raises(UserError, match="metadata.jsonl in every split or in none"):
        load_clips(str(folder), "train")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dataset": "nobody/nothing"}, "Cannot read the data set 'nobody/nothing'"),
        ({"dataset": "/no/such/folder"}, "Cannot read the data set '/no/such/folder'"),
        ({"split": "dev"}, "no split 'dev': its splits are 'train', 'test'"),
        ({"video_column": "clip"}, "no videos in a column 'clip': they are in video"),
        ({"label_column": "mood"}, "no column 'mood'"),
    ],
)
def test_names_that_do_not_exist_are_named(clips_folder, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        load_clips(**{"dataset": str(clips_folder), "split": "train"} | arguments)


# Validation


def test_held_out_people_are_in_no_other_part_and_folds_share_out_everybody(clips):
    seen = []
    for fold in range(5):
        train, held_out = hold_out(clips, 5, fold, seed=0)
        assert sorted(train + held_out) == list(range(15))
        assert not {clips.people[i] for i in train} & {clips.people[i] for i in held_out}
        seen += held_out
    assert sorted(seen) == list(range(15))
    assert len({tuple(hold_out(clips, 5, 0, seed)[1]) for seed in range(8)}) > 1


def test_classes_with_few_clips_need_larger_folds(clips):
    """sklearn makes no folds if every class has fewer clips than there are folds."""
    few = replace(
        clips.select([index for label in clips.classes for index in _first_of(clips, label, 3)]), people=None
    )
    with pytest.raises(UserError, match=r"\(every class has fewer than 5 clips\): set a larger --validation-fraction"):
        hold_out(few, 5, 0, seed=0)
    train, held_out = hold_out(few, 2, 0, seed=0)
    assert len(train) + len(held_out) == len(few) and few.classes_of(train) == set(few.classes)


def _first_of(clips, label, number):
    return [index for index, other in enumerate(clips.labels) if other == label][:number]


def test_too_few_people_to_hold_some_out(clips):
    with pytest.raises(UserError, match=r"Too few people to hold out one of 6 folds .* \(there are only 5\)"):
        hold_out(clips, 6, 0, seed=0)
    few = clips.select([index for index in range(15) if clips.people[index] != clips.people[0]] * 2)
    assert len(set(few.people)) == 4
    for fold in range(5):  # sklearn leaves one of the folds empty.
        with contextlib.suppress(UserError):
            assert all(hold_out(few, 5, fold, seed=0))
    lonely = clips.select([0, 5, 6, 7, 8, 9])  # one person has all of the first label
    with pytest.raises(UserError, match="would be left to train on"):
        for fold in range(2):
            hold_out(lonely, 2, fold, seed=0)


def _fingerprints(clips, indices):
    return {clips.fingerprint_of(index) for index in indices}


def test_copies_of_a_file_are_on_the_same_side(tmp_path, clip_writer):
    folder = tmp_path / "train"
    for number, label in enumerate(("happy", "neutral", "sad")):
        for index in range(5):
            path = clip_writer(folder / label / f"{index}.mp4", seed=10 * number + index)
            shutil.copy(path, path.with_name(f"{index}_copy.mp4"))
    clips = load_clips(str(tmp_path), "train")
    for fold in range(5):
        train, held_out = hold_out(clips, 5, fold, seed=0)
        assert len(held_out) == 6 and not _fingerprints(clips, train) & _fingerprints(clips, held_out)


def test_people_who_share_a_file_are_on_the_same_side(clips):
    # The person "other" has a clip of the first person and one of the second, which joins all three.
    first, second = (clips.people.index(f"train-{number}") for number in range(2))
    joined = clips.select([*range(15), first, second])
    joined.people[15:] = ["other", "other"]
    for fold in range(3):
        train, held_out = hold_out(joined, 3, fold, seed=0)
        assert len({"train-0", "train-1", "other"} & {joined.people[i] for i in held_out}) in (0, 3)
        assert not _fingerprints(joined, train) & _fingerprints(joined, held_out)
    with pytest.raises(UserError, match=r"\(there are only 4, and people who share a file are one\)"):
        hold_out(joined, 5, 0, seed=0)


def test_validation_by_clip_is_announced(tmp_path, folder_writer, caplog):
    folder = folder_writer(tmp_path / "clips", metadata=False)
    with caplog.at_level(logging.WARNING, "tgdfer"):
        _, _, how = load_parts(DataConfig(dataset=folder), 0)
    assert how == "by clip" and "held out by clip" in caplog.text


def test_validation_split_is_used_where_there_is_one_and_never_the_test_split(tmp_path, folder_writer):
    folder = str(folder_writer(tmp_path / "clips", people=2, splits=("train", "validation", "test")))
    train, validation, how = load_parts(DataConfig(dataset=folder), 0)
    assert how == "by split" and len(train.indices) == 6
    assert all(name.startswith("validation/") for name in validation.clips.files)
    with pytest.raises(UserError, match="must not select the best epoch"):
        load_parts(DataConfig(dataset=folder, validation_split="test"), 0)
    _, nothing, how = load_parts(DataConfig(dataset=folder, test_split="validation", validation_fraction=0), 0)
    assert nothing is None and how is None


# Words


def test_own_words_come_before_those_of_the_model_and_the_built_in_ones(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text("Happy: [a grin]\nbored: [the lids hang]\n")
    words = descriptions_for(
        ["happiness", "fear", "bored", "calm"], str(path), {"calm": ["at ease"], "happiness": ["x"]}
    )
    assert words["happiness"] == ["a grin"] and words["bored"] == ["the lids hang"] and words["calm"] == ["at ease"]
    assert len(words["fear"]) >= 4


def test_template_for_missing_words_works_once_it_is_saved(tmp_path):
    with pytest.raises(UserError, match="There is no description of 'bored', 'calm'") as caught:
        descriptions_for(["fear", "calm", "bored"])
    path = tmp_path / "words.yaml"
    path.write_text(str(caught.value).split("\n\n", 1)[1])
    assert set(descriptions_for(["fear", "calm", "bored"], str(path))) == {"fear", "calm", "bored"}


@pytest.mark.parametrize("label", ["yes", "no", "01", "1e3", "null", "2001-01-01", "0x10", "~", "12:30"])
def test_labels_of_a_yaml_file_are_text(tmp_path, label):
    """Numbers, dates and truth values are what YAML would read there."""
    (tmp_path / "words.yaml").write_text(f"{label}: [yes, a frown]\nother: [no]\n")
    assert descriptions_for([label], str(tmp_path / "words.yaml")) == {label: ["yes", "a frown"]}


def test_accents_are_the_same_label_however_they_are_composed(tmp_path):
    """File systems decompose them, editors do not."""
    one, two = "g\u00eane", "ge\u0302ne"
    (tmp_path / "words.yaml").write_text(f"{two}: [a frown]\n", encoding="utf-8")
    assert descriptions_for([canonical_label(two)], str(tmp_path / "words.yaml")) == {one: ["a frown"]}


@pytest.mark.parametrize("text", ["happy: a grin", "happy: []", "happy: [1]", "happy:"])
def test_words_of_the_wrong_shape(tmp_path, text):
    (tmp_path / "words.yaml").write_text(text)
    with pytest.raises(UserError, match="'happy' must have a list of descriptions"):
        descriptions_for(["happiness"], str(tmp_path / "words.yaml"))


# Clips as the model sees them


def test_training_clips_depend_on_seed_epoch_and_index_alone(clips, video_processor):
    def look(seed=0, epoch=0, index=2):
        data = ClipDataset(clips, clips.classes, video_processor, 4, training=True, seed=seed)
        data.set_epoch(epoch)
        torch.rand(7)
        return data.collate([data[index]])["pixel_values_videos"]

    first = look()
    assert torch.equal(first, look())
    for other in (look(seed=1), look(epoch=1), look(index=3)):
        assert not torch.equal(first, other)


# A process that is started anew imports all libraries.
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_that_live_on_follow_the_epochs(start, clips, video_processor):
    """However they are started: by a copy of this process, or anew, as on macOS and Windows."""
    data = ClipDataset(clips.select([0, 7]), clips.classes, video_processor, 4, training=True, seed=3)
    options = {"batch_size": 2, "collate_fn": data.collate}
    kept = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": start}
    here, there = (torch.utils.data.DataLoader(data, **options, **more) for more in ({}, kept))
    seen = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        (expected,), (found,) = here, there
        assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])
        seen.append(found["pixel_values_videos"])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_training_clips_are_changed_as_the_config_says(clips, video_processor):
    def look(**options):
        data = ClipDataset(clips, clips.classes, video_processor, 4, True, 0, augmentation(options))
        return data.collate([data[2]])["pixel_values_videos"]

    assert torch.equal(look(), look(erase=0.0)) and not torch.equal(look(), look(erase=1.0))
    with pytest.raises(UserError, match="augmentation has the unknown field 'erasing'; did you mean 'erase'"):
        augmentation({"erasing": 1.0})
    with pytest.raises(UserError, match="augmentation cannot be .*erase .*between 0 and 1, not 2"):
        augmentation({"erase": 2})


@pytest.mark.parametrize("training", [False, True])
def test_frames_are_sampled_once(clips, video_processor, training):
    video_processor.sampling, video_processor.stride = "dense", 2
    data = ClipDataset(clips, clips.classes, video_processor, 4, training)
    batch = data.collate([data[0], data[9]])
    assert batch["frame_mask"].all()
    assert torch.allclose(batch["timestamps"].diff(), torch.tensor(2 / 25))


def test_a_clip_is_not_read_with_all_faces(clips, video_processor):
    video_processor.face_crop = "all"
    with pytest.raises(UserError, match="set face_crop to"):
        ClipDataset(clips, clips.classes, video_processor, 4)


def test_evaluation_sees_what_the_processor_makes_of_the_file(clips, video_processor):
    data = ClipDataset(clips, clips.classes, video_processor, 4)
    batch = data.collate([data[0], data[9]])
    expected = video_processor([clips.video(0), clips.video(9)], return_tensors="pt")
    for name in ("pixel_values_videos", "frame_mask", "timestamps"):
        assert torch.equal(batch[name], expected[name])
    assert batch["labels"].tolist() == [clips.classes.index(clips.labels[i]) for i in (0, 9)]


def test_intensity_is_that_of_the_sampled_frames(clips, video_processor):
    data = ClipDataset(clips, clips.classes, video_processor, 4)
    happy = clips.labels.index("happiness")
    # The middle frames of four segments of eight are 1, 3, 5 and 7; the apex is 2 to 4.
    assert data.collate([data[happy]])["intensity"].tolist() == [[0, 1, 0, 0]]
    clips.intensity[happy], kept = None, clips.intensity[happy]
    assert data.collate([data[happy]])["intensity"].isnan().all()
    clips.intensity[happy] = kept


def test_sampler_visits_every_clip_once_in_another_order_each_epoch():
    sampler = EpochSampler([0] * 20, seed=0)
    first = list(sampler)
    assert sorted(first) == list(range(20)) and list(sampler) == first
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(20)) and list(sampler) != first


def test_balanced_sampler_draws_classes_equally_often():
    targets = [0] * 900 + [1] * 100
    draws = list(EpochSampler(targets, seed=0, balanced=True))
    drawn = torch.tensor(targets)[[draw % 1000 for draw in draws]]
    assert len(drawn) == 1000 and 0.45 < drawn.float().mean() < 0.55
    assert len(set(draws)) == 1000 and list(EpochSampler(targets, seed=0, balanced=True)) == draws


def test_clips_that_are_drawn_again_in_an_epoch_show_other_frames(clips, video_processor):
    """The first draw is that of a sampler that draws every clip once."""
    data = ClipDataset(clips, clips.classes, video_processor, 4, training=True, seed=5)
    targets = [0] + [1] * (len(clips) - 1)  # The first clip is the only one of its class.
    draws = [draw for draw in EpochSampler(targets, seed=0, balanced=True) if draw % len(clips) == 0]
    assert draws[:4] == [0, len(clips), 2 * len(clips), 3 * len(clips)]
    items = [data[draw] for draw in draws[:4]]
    assert all(item["index"] == 0 for item in items) and data.collate(items)["labels"].unique().numel() == 1
    shown = [torch.as_tensor(np.asarray(item["video"])) for item in items]
    assert not any(torch.equal(shown[0], other) for other in shown[1:])
    seed = derived_seed(5, 0, int(clips.fingerprint_of(0)[:8], 16))
    frames, _ = video_processor.read_clip(clips.video(0), 4, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.as_tensor(np.asarray(data.augment(frames, seed))), shown[0])


def test_broken_clip_is_named_before_training(tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    bad = folder / "train" / "happy" / "happy_1.mp4"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(UserError, match="1 of 6 clips cannot be read: .*happy_1.mp4"):
        require_readable(load_clips(str(folder), "train"))
    require_readable(load_clips(str(folder), "test"))


def test_no_clip_opens_another_file(tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=2)
    secret = (folder / "train" / "happy" / "happy_0.mp4").rename(tmp_path / "secret.mp4")
    (folder / "train" / "happy" / "happy_0.mp4").write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    with pytest.raises(UserError, match="1 of 6 clips cannot be read: .*happy_0.mp4 .*refers to other files"):
        require_readable(load_clips(str(folder), "train"))
