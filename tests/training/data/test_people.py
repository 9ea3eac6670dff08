"""People who are in two splits: each pair is counted and warned about."""

import json
import logging

import pytest

from tgdfer.training.config import DataConfig
from tgdfer.training.data.people import count_shared_people
from tgdfer.training.data.splits import load_parts


@pytest.fixture(scope="module")
def folder(folder_writer, tmp_path_factory):
    """Three splits, in which people have the names train-0, train-1, validation-0 and so on."""
    return folder_writer(tmp_path_factory.mktemp("clips"), people=2, splits=("train", "validation", "test"))


@pytest.fixture
def rename(folder):
    """Gives people of a split other names, until the end of the test."""
    kept = {path: path.read_text() for path in folder.glob("*/metadata.jsonl")}

    def rename(split: str, **names: str) -> None:
        path = folder / split / "metadata.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["person"] = names.get(row["person"].replace("-", "_"), row["person"])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    yield rename
    for path, text in kept.items():
        path.write_text(text)


def shared(folder, **options):
    data = DataConfig(dataset=str(folder), **options)
    train, validation, _ = load_parts(data, 0)
    return count_shared_people(data, train, validation)


def test_every_pair_of_splits_is_compared(folder, rename, caplog):
    with caplog.at_level(logging.WARNING, "tgdfer"):
        assert shared(folder) == {} and not caplog.records
        rename("validation", validation_0="train-0", validation_1="somebody")
        rename("test", test_0="somebody", test_1="train-1 ")
        assert shared(folder) == {"validation": {"train": 1}, "test": {"train": 1, "validation": 1}}
    messages = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert messages == [
        "1 of the 2 people of the split 'validation' are also in 'train'",
        "1 of the 2 people of the split 'test' are also in 'train'",
        "1 of the 2 people of the split 'test' are also in 'validation'",
    ]


def test_held_out_people_are_part_of_the_training_split(folder, rename):
    rename("test", test_0="train-0", test_1="train-1")
    options = {"test_split": "test", "validation_fraction": 0.5}
    (folder / "validation").rename(folder.parent / "put_aside")
    try:
        assert shared(folder, **options) == {"test": {"train": 2}}
    finally:
        (folder.parent / "put_aside").rename(folder / "validation")


def test_people_in_photographs_have_the_same_names(folder, rename, folder_writer, tmp_path, caplog):
    stills = folder_writer(tmp_path / "stills", people=1, splits=("train",))
    rename("test", test_0="train-0")
    with caplog.at_level(logging.WARNING, "tgdfer"):
        found = shared(folder, stills=str(stills))
    assert found == {"test": {"photographs": 1, "train": 1}}
    assert "are also in the photographs of" in caplog.text and "unless only their names are the same" in caplog.text
    assert shared(folder, stills=str(tmp_path / "gone")) == {"test": {"train": 1}}
