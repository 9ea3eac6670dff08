"""The traps of the published data sets, on small trees of the same shape."""

import logging
import shutil
from collections import Counter

import pytest
from published_trees import (
    DFEW_NAMES,
    MAFW_NAMES,
    dfew_list,
    write_afew,
    write_crema_d,
    write_dfew,
    write_ferv39k,
    write_frames,
    write_lines,
    write_mafw,
    write_ravdess,
)

from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.published import PUBLISHED, read_listing
from tgdfer.training.data.published.folds import fold_faults
from tgdfer.training.errors import UserError
from tgdfer.training.reading_options import PUBLISHED_NAMES


@pytest.fixture(scope="module")
def dfew(tmp_path_factory):
    return write_dfew(tmp_path_factory.mktemp("dfew"))


def load(name, root, split="train", **options):
    return load_clips(name, split, data_root=str(root), **options)


# DFEW


def test_dfew_folds_are_those_of_the_lists(dfew):
    tests = [load("dfew", dfew, "test", fold=fold) for fold in range(1, 6)]
    assert [len(clips) for clips in tests] == [7] * 5
    assert tests[0].files[0] == "Clip/clip_224x224/00001" and tests[1].files[0] == "Clip/clip_224x224/00008"
    assert sorted(file for clips in tests for file in clips.files) == [
        f"Clip/clip_224x224/{number:05d}" for number in range(1, 36)
    ]
    train = load("dfew", dfew, fold=1)
    assert len(train) == 28 and not set(train.files) & set(tests[0].files)
    assert train.classes == sorted(DFEW_NAMES)


@pytest.mark.parametrize("first", [0, 1])
def test_dfew_labels_are_told_apart_by_the_lowest_number(tmp_path, first):
    root = write_dfew(tmp_path, first_label=first, unlisted=0)
    assert load("dfew", root, "test").labels == list(DFEW_NAMES)


def test_dfew_labels_that_may_be_of_either_kind_are_refused(tmp_path):
    root = write_dfew(tmp_path, clips=7, unlisted=0)
    for split in ("train", "test"):
        write_lines(dfew_list(root, 1, split), ["video_name,label", f"{1 if split == 'train' else 2},3", "4,2", "5,6"])
    with pytest.raises(UserError, match="numbers from 2 to 6 .* unclear whether happiness is 0 or 1"):
        load("dfew", root)
    write_lines(dfew_list(root, 1, "train"), ["video_name,label", "1,0", "2,7"])
    with pytest.raises(UserError, match="numbers from 0 to 7"):
        load("dfew", root)


@pytest.mark.parametrize(
    "names", ["{number:05d}", "/home/me/DFEW/Clip/clip_224x224/{number:05d}", "D:\\DFEW\\{number}.mp4"]
)
def test_names_may_be_padded_or_paths_of_another_machine(tmp_path, names):
    assert len(load("dfew", write_dfew(tmp_path, clips=35, names=names), "test")) == 7


def test_lists_of_three_columns_state_the_number_of_frames(tmp_path):
    root = write_dfew(tmp_path, unlisted=0)
    lines = [f"/data/DFEW/{number:05d} {number + 10} {label}" for number, label in enumerate(range(7), 1)]
    write_lines(dfew_list(root, 1, "test"), lines)
    write_lines(dfew_list(root, 1, "train"), [line.replace("DFEW/0000", "DFEW/0001") for line in lines])
    listing = read_listing("dfew", root)
    assert [(clip.key, clip.label, clip.frames) for clip in listing.splits["test"][:2]] == [
        ("00001", "happiness", 11),
        ("00002", "sadness", 12),
    ]


def test_tabs_and_a_byte_order_mark_are_no_obstacle(tmp_path):
    root = write_dfew(tmp_path, unlisted=0)
    path = dfew_list(root, 1, "test")
    write_lines(path, path.read_text().replace(",", "\t").splitlines(), "\r\n", "utf-8-sig")
    assert len(load("dfew", root, "test")) == 7


@pytest.mark.parametrize("folder", ["Clip/clip_224x224_16f", "jpg_256"])
def test_other_folders_of_dfew_are_found_also_below_the_given_one(tmp_path, folder):
    write_dfew(tmp_path / "DFEW", folder=folder, clips=35)
    assert len(load("dfew", tmp_path, "test")) == 7


def test_missing_clips_are_quarantined_and_unlisted_ones_are_left_out(tmp_path, caplog):
    root = write_dfew(tmp_path)
    shutil.rmtree(root / "Clip/clip_224x224/00009")
    with pytest.raises(UserError, match="lists 1 clips that do not exist, the first is 00009"):
        load("dfew", root)
    with caplog.at_level(logging.WARNING, "tgdfer"):
        clips = load("dfew", root, strict=False)
    assert clips.quarantined == {"00009": "it is listed, but not in the folder of the data set"}
    assert list(clips.left_out) == ["Clip/clip_224x224/00036", "Clip/clip_224x224/00037"]
    assert len(clips) == 27 and "no list of the data set names it" in caplog.text


def test_folds_are_checked(tmp_path, dfew):
    """A tree of 35 clips has other sizes than DFEW, but its folds partition it."""
    sizes, faults = fold_faults(read_listing("dfew", dfew))
    assert "Fold 5 lists 7 test clips, but 2,336 are published." in sizes
    assert "Fold 1 lists 4 train clips of happiness, but 1,956 are published." in sizes
    assert not faults
    root = write_dfew(tmp_path, unlisted=0)
    path = dfew_list(root, 2, "test")
    lines = path.read_text().splitlines()
    write_lines(path, ["video_name,label", "1,1", *lines[2:-1], "14,1"])
    assert fold_faults(read_listing("dfew", root, require_valid=False))[1] == [
        "1 clips of fold 2 of DFEW are in the lists of both splits, the first is '00001'.",
        "1 clips are in two test folds, the first is 00001.",
        "1 clips are in no test fold, the first is 00008.",
        "The labels of 1 clips differ between folds, the first is 00014.",
    ]


def test_a_clip_in_both_splits_or_twice_in_one_is_an_error(tmp_path):
    root = write_dfew(tmp_path, unlisted=0)
    path = dfew_list(root, 1, "test")
    original = path.read_text()
    path.write_text(original + "00010,3\n")
    with pytest.raises(UserError, match="1 clips of fold 1 of DFEW are in the lists of both splits.*'00010'"):
        load("dfew", root)
    path.write_text(original + "1,1\n")
    with pytest.raises(UserError, match="list of test clips of fold 1 of DFEW names '00001' twice"):
        load("dfew", root)


# FERV39k


@pytest.mark.parametrize("third_column", [False, True])
def test_ferv39k_numbers_are_unique_in_scene_and_emotion_only(tmp_path, third_column):
    root = write_ferv39k(tmp_path, third_column)
    train, test = load("ferv39k", root), load("ferv39k", root, "test")
    assert (len(train), len(test)) == (12, 6)
    assert Counter(train.labels) == {"anger": 4, "happiness": 4, "sadness": 4}
    assert train.groups == {"group": ["Action"] * 6 + ["Crisis"] * 6}
    assert train.video(0).endswith("2_ClipsforFaceCrop/Action/Angry/0001")


def test_ferv39k_labels_come_from_the_path_and_numbers_are_not_read(tmp_path):
    root = write_ferv39k(tmp_path)
    for split in ("train", "test"):
        path = root / "4_setups/All_scenes" / f"{split}_All.csv"
        lines = [f"/mnt/FERV39k/2_ClipsforFaceCrop/{line.split()[0]} 8 5" for line in path.read_text().splitlines()]
        write_lines(path, lines)
    assert Counter(load("ferv39k", root, "test").labels) == {"anger": 2, "happiness": 2, "sadness": 2}
    write_lines(path, ["Action/Happy/0003 Angry"])
    with pytest.raises(UserError, match="says 'Angry', but the path is 'Action/Happy/0003'"):
        load("ferv39k", root)


# MAFW


@pytest.mark.parametrize(("captions", "videos"), [(False, False), (True, False), (False, True)])
def test_mafw_lists_with_and_without_captions(tmp_path, captions, videos):
    clips = load("mafw", write_mafw(tmp_path, captions=captions, videos=videos), "test", fold=1)
    numbers = [number for number in range(1, 34) if number % 5 == 0]
    assert clips.labels == [MAFW_NAMES[number % 11] for number in numbers]
    assert len(load("mafw", tmp_path, fold=5)) == 27


def test_mafw_numbers_are_refused(tmp_path):
    root = write_mafw(tmp_path)
    write_lines(root / "Train_Test_Set/single/no_caption/set_1/test.txt", ["00005.mp4 3"])
    with pytest.raises(UserError, match="label '3' in line 1 of .*test.txt is a number, but several orders"):
        load("mafw", root)


# AFEW, CREMA-D and RAVDESS


def test_afew_tests_on_its_validation_clips(tmp_path):
    root = write_afew(tmp_path)
    train, test = load("afew", root), load("afew", root, "test")
    assert Counter(train.labels) == Counter(test.labels) == {"anger": 2, "happiness": 2}
    assert test.files[0].startswith("validation/Anger/")


def test_crema_d_folds_are_by_actor(tmp_path):
    root = write_crema_d(tmp_path)
    tests = [set(load("crema_d", root, "test", fold=fold).people) for fold in range(1, 6)]
    assert tests == [{"1001"}, {"1019"}, {"1037"}, {"1055"}, {"1073", "1091"}]
    train = load("crema_d", root, fold=5)
    assert Counter(train.labels) == {"anger": 4, "happiness": 4} and list(train.left_out) == ["VideoFlash/trailer.mp4"]


def test_ravdess_uses_each_recording_once(tmp_path):
    root = write_ravdess(tmp_path)
    clips = load("ravdess", root, "test", fold=1)
    assert clips.people == ["Actor_01"] * 2 and clips.labels == ["calm", "anger"]
    assert all("/02-01-" in file for file in clips.files)
    assert set(load("ravdess", root, "test", fold=6).people) == {"Actor_24"}
    listing = read_listing("ravdess", root)
    reasons = Counter(listing.on_disk.ignored.values())
    assert reasons == {
        "it is the same recording with sound": 6,
        "it is a song, and the protocol uses speech": 3,
    }
    for path in root.rglob("02-01-*"):
        path.unlink()
    assert all("/01-01-" in file for file in load("ravdess", root, "test", fold=1).files)


# The command line's point of view


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data_root": None}, "DFEW needs its folder, with Clip/.* give it as --data-root"),
        ({"data_root": "/no/such/folder"}, "data_root is '/no/such/folder', but must be the folder of DFEW"),
        ({"fold": 6}, "fold is 6, but DFEW has folds 1 to 5"),
        ({"fold": 0}, "fold is 0, but DFEW has folds 1 to 5"),
    ],
)
def test_wrong_options_are_named(dfew, options, sentence):
    with pytest.raises(UserError, match=sentence):
        load_clips("dfew", "train", **{"data_root": str(dfew)} | options)


def test_another_folder_says_what_it_lacks(tmp_path):
    write_frames(tmp_path / "pictures")
    for name, dataset in PUBLISHED.items():
        with pytest.raises(UserError, match="data.root"):
            load_clips(name, "train", data_root=str(tmp_path))
        assert dataset.published_size(1, "test") != 0


def test_published_numbers_add_up():
    assert tuple(PUBLISHED) == PUBLISHED_NAMES
    for dataset in PUBLISHED.values():
        for train, test in dataset.fold_sizes:
            assert train + test == dataset.num_clips, dataset.name
        for split, counts in dataset.class_counts.items():
            assert sum(counts.values()) == dataset.published_size(1, split)
