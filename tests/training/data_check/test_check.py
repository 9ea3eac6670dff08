"""`tgdfer data check` on a tree with ten planted faults, and on one without any."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from published_trees import dfew_list, write_dfew

from benchmarks.data_check.planted_faults import FAULTS, plant_faults, write_good_tree
from tgdfer.command_line import main
from tgdfer.training.data_check.check import check_dataset
from tgdfer.training.data_check.hashes import (
    MIN_LIKENESS,
    distance,
    likeness,
    perceptual_hash,
    similar_pairs,
    thumbnails,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_good_tree(tmp_path_factory.mktemp("good") / "clips")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, good) -> Path:
    folder = tmp_path_factory.mktemp("faulty") / "clips"
    shutil.copytree(good, folder)
    plant_faults(folder)
    return folder


def kinds(report, severity=None):
    return [f["kind"] for f in report["findings"] if severity in (None, f["severity"]) and f["severity"] != "note"]


def test_a_good_tree_has_no_findings(good, tmp_path, capsys):
    assert main(["data", "check", str(good), "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    assert kinds(report) == [] and report["num_errors"] == 0
    assert report["clips"] == {"train": {"anger": 4, "happiness": 4}, "test": {"anger": 4, "happiness": 4}}
    assert (tmp_path / "out" / "labels.png").stat().st_size > 1000
    assert "No errors." in capsys.readouterr().out


def test_all_ten_planted_faults_are_found(faulty, tmp_path, capsys):
    assert main(["data", "check", str(faulty), "--output", str(tmp_path / "out"), "--workers", "1"]) == 1
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    for fault, (kind, name) in FAULTS.items():
        texts = [" ".join([f["message"], *f["names"]]) for f in report["findings"] if f["kind"] == kind]
        assert any(name in text for text in texts), fault
    assert report["sizes"]["train"] == {"found": 11, "usable": 8, "published": None}
    # Nothing else is found.
    assert sum(len(f["names"]) or 1 for f in report["findings"] if f["severity"] != "note") == len(FAULTS) == 10
    printed = " ".join(capsys.readouterr().out.split())
    assert "checks found errors" in printed and "encoded again" in printed


def test_the_same_video_with_two_labels_is_an_error(good, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(good, folder)
    shutil.copy(next((folder / "train" / "anger").glob("*.mp4")), folder / "train" / "happiness" / "copy.mp4")
    metadata = folder / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    rows.append(rows[0] | {"file_name": "happiness/copy.mp4", "label": "happiness"})
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check_dataset(str(folder))
    (found,) = (f for f in report["findings"] if f["kind"] == "two labels")
    assert found["severity"] == "error" and len(found["names"]) == 1
    assert "(anger)" in found["names"][0] and "copy.mp4 (happiness)" in found["names"][0]


def test_published_lists_with_faults(tmp_path):
    root = write_dfew(tmp_path / "dfew", clips=35, unlisted=1)
    shutil.rmtree(root / "Clip/clip_224x224/00003")
    (root / "Clip/clip_224x224/00010/2.jpg").write_bytes(b"no picture")
    shutil.rmtree(root / "Clip/clip_224x224/00012")
    shutil.copytree(root / "Clip/clip_224x224/00001", root / "Clip/clip_224x224/00012")
    path = dfew_list(root, 1, "test")
    path.write_text(path.read_text() + "00020,6\n")
    report = check_dataset("dfew", data_root=str(root))
    texts = {f["kind"]: f["names"] or [f["message"]] for f in report["findings"]}
    assert texts["missing"] == ["00003: it is listed, but not in the folder of the data set"]
    assert texts["unreadable"][0].startswith("Clip/clip_224x224/00010: The frame ")
    assert texts["extra"] == ["Clip/clip_224x224/00036: no list of the data set names it"]
    assert "Clip/clip_224x224/00012 = Clip/clip_224x224/00001" in texts["same video"]
    assert any("in the lists of both splits, the first is '00020'" in f["message"] for f in report["findings"])
    assert "Fold 2 lists 7 test clips, but 2,341 are published." in texts["fold size"]
    assert report["sizes"]["test"] == {"found": 8, "usable": 7, "published": 2341}
    assert report["sizes"]["train"]["usable"] == 27


def test_other_frame_counts_than_the_list_has(tmp_path):
    root = write_dfew(tmp_path, unlisted=0, frames=4)
    for split in ("train", "test"):
        path = dfew_list(root, 1, split)
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        path.write_text("".join(f"{name} {5 if name == '8' else 4} {label}\n" for name, label in rows))
    report = check_dataset("dfew", data_root=str(root))
    (finding,) = [f for f in report["findings"] if f["kind"] == "frame count"]
    assert finding["names"] == ["Clip/clip_224x224/00008: 4 frames, listed are 5"]


def test_an_option_that_cannot_be_used_is_no_finding(capsys):
    assert main(["data", "check", "dfew", "--data-root", "/no/such/folder"]) == 2
    assert "--data-root" in " ".join(capsys.readouterr().err.split())


# Perceptual hashes


def pictures(seed: int, count: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
    resized = [np.asarray(av.VideoFrame.from_ndarray(one, "rgb24").reformat(96, 96).to_ndarray()) for one in base]
    return np.stack(resized).transpose(0, 3, 1, 2)


def test_the_hash_survives_noise_scaling_and_brightness_but_not_other_content():
    frames = pictures(0)
    value = perceptual_hash(frames)
    noisy = np.clip(frames + np.random.default_rng(1).normal(0, 8, frames.shape), 0, 255).astype(np.uint8)
    darker = (frames * 0.7).astype(np.uint8)
    for changed in (noisy, darker, frames[:, :, ::2, ::2]):
        assert distance(value, perceptual_hash(changed)) < 0.1
    assert distance(value, perceptual_hash(pictures(2))) > 0.3


def test_pairs_are_found_among_many_and_black_clips_match_nothing():
    first = [perceptual_hash(pictures(seed)) for seed in range(12)]
    black = perceptual_hash(np.zeros((8, 3, 64, 64), np.uint8))
    assert black is None
    second = [black, perceptual_hash(pictures(50)), first[7], black]
    assert similar_pairs([*first, black], second) == [(7, 2, 0.0)]
    assert similar_pairs([black], second) == []


def test_likeness_rules_out_hashes_that_are_similar_by_chance():
    """Patterns of few patches have similar hashes now and then, but other pictures."""
    frames = pictures(4)
    brighter = np.clip(frames.astype(int) // 2 + 60, 0, 255).astype(np.uint8)
    assert likeness(thumbnails(frames), thumbnails(brighter)) > MIN_LIKENESS
    assert likeness(thumbnails(frames), thumbnails(frames[:, :, ::2, ::2])) > MIN_LIKENESS
    assert likeness(thumbnails(frames), thumbnails(pictures(5))) < 0.5


def test_a_short_clip_repeats_its_last_frame():
    frames = pictures(3, 2)
    assert (perceptual_hash(frames) == perceptual_hash(np.concatenate([frames, *[frames[1:]] * 6]))).all()
