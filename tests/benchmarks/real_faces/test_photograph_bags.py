"""Bags of photographs: which photographs they contain, and the rows of the ablation on them."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_up_photographs import picture
from made_up_results import FAR

from benchmarks.ablation.report import write_ablation_report
from benchmarks.ablation.rows import rows_of
from benchmarks.harness.benchmark_dataset import Settings, frames_with_emotion
from benchmarks.harness.results import read_results
from benchmarks.harness.row import folds_of
from benchmarks.harness.runner import run_rows
from benchmarks.real_faces.photograph_bags import SHOWN, SIZE, PhotographBags, photograph_bags
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.training.errors import UserError

NUMBERS = {"train": (3, 2), "test": (1, 4)}


@pytest.fixture
def bags_of(tmp_path, clip_folder, no_detector):
    """Makes bags of a file with the given number of photographs in train and test of each label."""

    def make(numbers: dict[str, tuple[int, int]]) -> PhotographBags:
        rows = [
            {"image": {"bytes": picture(label, n), "path": ""}, "label": label, "split": split, "near": ""}
            for label, (train, test) in numbers.items()
            for split, number in (("train", train), ("validation", 1), ("test", test))
            for n in range(number)
        ]
        path = tmp_path / "photographs.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        settings = Settings(model=str(clip_folder), seeds=(0,), epochs=2)
        return photograph_bags(PhotographDataset(path, settings, tmp_path / "work"), settings, NUMBERS)

    return make


@pytest.fixture
def bags(bags_of) -> PhotographBags:
    return bags_of({"anger": (13, 50), "neutral": (60, 50), "surprise": (20, 50), "fear": (60, 49)})


def test_bags_contain_four_different_photographs_of_their_label_among_neutral_ones(bags):
    assert bags.classes == ["anger", "neutral", "surprise"], "the others have fewer than 50 test photographs"
    for split, (groups, number) in NUMBERS.items():
        assert Counter(bag.label for bag in bags.bags[split]) == dict.fromkeys(bags.classes, groups * number)
        labels = bags.photographs.labels[split]
        for bag in bags.bags[split]:
            assert len(set(bag.photographs)) == SIZE
            contents = Counter(labels[index] for index in bag.photographs)
            if bag.label == "neutral":
                assert contents == {"neutral": SIZE} and not any(bag.shown)
            else:
                assert contents == {bag.label: SHOWN, "neutral": SIZE - SHOWN}
                assert [labels[index] == bag.label for index in bag.photographs] == bag.shown
    assert len({tuple(bag.shown) for bag in bags.bags["test"]}) > 3, "the order is random"


def test_photographs_are_used_again_only_when_all_others_were_used(bags):
    for split in NUMBERS:
        labels = bags.photographs.labels[split]
        uses = Counter((bag.group, index) for bag in bags.bags[split] for index in bag.photographs)
        for label in bags.classes:
            for group in range(NUMBERS[split][0]):
                counts = [count for (g, index), count in uses.items() if g == group and labels[index] == label]
                assert max(counts) - min(counts) <= 1


def test_folds_have_no_photograph_in_common(bags):
    folds = folds_of(bags, 0)
    assert len(folds) == 3
    for fit, validation in folds:
        seen, held_out = (
            {index for bag in part for index in bags.bags["train"][bag].photographs} for part in (fit, validation)
        )
        assert seen and held_out and not seen & held_out


def test_every_test_bag_is_a_person_and_its_frames_are_its_photographs(bags):
    assert len(set(bags.test.people)) == len(bags.test) == 12
    assert bags.truth.intensity == [[float(shown) for shown in bag.shown] for bag in bags.bags["test"]]
    features, photographs = bags.features("test"), bags.photographs.features("test").features[0, :, 0]
    assert features.features.shape[:3] == (1, 12, SIZE)
    for index, bag in enumerate(bags.bags["test"]):
        assert torch.equal(features.features[0, index], photographs[bag.photographs])
    assert torch.equal(bags.features("test", seed=5).features, features.features)
    for index, mask in enumerate(frames_with_emotion(features, bags.test)[0]):
        bag = bags.bags["test"][index]
        assert mask.tolist() == ([True] * SIZE if bag.label == "neutral" else bag.shown)


def test_bags_are_the_same_in_every_process(bags):
    again = photograph_bags(bags.photographs, bags.settings, NUMBERS)
    assert again.bags == bags.bags and again.identity == bags.identity
    other = photograph_bags(bags.photographs, bags.settings, {**NUMBERS, "test": (1, 3)})
    assert other.identity != bags.identity


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"anger": (11, 50), "neutral": (60, 50)}, "few photographs of 'anger' in the split 'train'"),
        ({"anger": (12, 50), "neutral": (47, 50)}, "few photographs of 'neutral' in the split 'train'"),
        ({"anger": (12, 50), "neutral": (60, 49)}, "few test photographs of neutral"),
        ({"anger": (12, 49), "neutral": (60, 50)}, "few test photographs of neutral faces or of an emotion"),
    ],
)
def test_too_few_photographs_are_one_sentence(bags_of, numbers, message):
    with pytest.raises(UserError, match=message):
        bags_of(numbers).require_complete()


@pytest.mark.slow
def test_rows_and_section_of_the_ablation(bags, tmp_path):
    rows = rows_of(bags)
    assert "lora" not in [row.name for row in rows]
    wanted = ["frozen-mean", "frozen-top", "words", "full", "dfer-clip", "oracle"]
    assert run_rows(bags, rows, tmp_path, "the command", FAR, wanted)
    (results,) = read_results(tmp_path)
    assert set(results.rows) == set(wanted)
    assert results.rows["oracle"]["figures"]["uar"][0] > 0.9, "the brightness tells the label"
    assert np.isfinite(results.rows["full"]["figures"]["frame_ap"][0])
    assert results.rows["full"]["config"]["views"] == 1
    write_ablation_report(tmp_path, tmp_path / "ablation.md", tmp_path / "ablation.json")
    text = " ".join((tmp_path / "ablation.md").read_text().split())
    assert "## Bags of photographs" in text and "18 bags of the training split" in text
    assert "say nothing about time" in text and "the intervals are over bags" in text
