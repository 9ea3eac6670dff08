"""Data sets in every form: Parquet with bytes, saved and streamed data sets, photographs, renamed splits."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips, load_readable_clips, open_dataset, people_of
from tgdfer.training.data.splits import load_parts
from tgdfer.training.errors import UserError


@pytest.fixture(scope="module")
def rows(clips_folder):
    """The columns of a data set with the bytes of videos."""
    clips = load_clips(str(clips_folder), "train")
    contents = [Path(clips.video(index)).read_bytes() for index in range(len(clips))]
    return {"clip": contents, "label": clips.labels, "person": clips.people}


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "clips.parquet"
    datasets.Dataset.from_dict(rows).to_parquet(path)
    return path


def videos(rows):
    features = datasets.Features(
        {"clip": datasets.Video(decode=False), "label": datasets.Value("string"), "person": datasets.Value("string")}
    )
    values = rows | {"clip": [{"bytes": content, "path": None} for content in rows["clip"]]}
    return datasets.Dataset.from_dict(values, features)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_parquet_file_with_a_column_of_bytes(parquet, rows, streaming):
    options = {"video_column": "clip", "streaming": streaming}
    clips = load_readable_clips(str(parquet), "train", **options)
    assert clips.labels == rows["label"] and clips.people == rows["person"]
    video = clips.video(3)
    assert isinstance(video, str) == streaming
    assert (Path(video).read_bytes() if streaming else video) == rows["clip"][3]
    if streaming:  # The bytes are copied to files, which are videos.
        assert load_clips(str(parquet), "train", streaming=True).labels == rows["label"]
    else:
        with pytest.raises(UserError, match="has no column of type Video, but clip may have videos: name one"):
            load_clips(str(parquet), "train")


@pytest.mark.parametrize("with_splits", [False, True])
def test_a_folder_that_save_to_disk_has_written(rows, tmp_path, with_splits):
    data = videos(rows)
    (datasets.DatasetDict({"train": data, "eval": data}) if with_splits else data).save_to_disk(tmp_path / "saved")
    clips = load_clips(str(tmp_path / "saved"), "train")
    assert clips.labels == rows["label"] and clips.video(0) == rows["clip"][0]
    splits = open_dataset(str(tmp_path / "saved"))
    assert list(splits) == (["train", "eval"] if with_splits else ["train"])


def test_splits_get_other_names(rows, tmp_path):
    data = videos(rows)
    datasets.DatasetDict({"fit": data, "eval": data.select(range(6))}).save_to_disk(tmp_path / "saved")
    names = {"train": "fit", "test": "eval"}
    assert list(open_dataset(str(tmp_path / "saved"), split_map=names)) == ["train", "test"]
    config = TrainingConfig.from_options(dataset=str(tmp_path / "saved"), split_map=names)
    train, validation, by = load_parts(config.data, seed=0)
    assert (len(train.clips), by) == (15, "by person") and validation is not None
    assert people_of(str(tmp_path / "saved"), "test", split_map=names) == {f"train-{n}" for n in range(5)}
    with pytest.raises(UserError, match="split_map has test=dev, but .* has no split 'dev': its splits are 'fit'"):
        load_clips(str(tmp_path / "saved"), "test", split_map={"test": "dev"})
    with pytest.raises(UserError, match="split_map has validation=eval and test=eval, but each split of"):
        load_parts(config.with_options(split_map={"validation": "eval", "test": "eval"}).data, seed=0)


def test_photographs_are_clips_of_one_frame_with_votes_in_a_list(tmp_path):
    """The form of FER+."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)) for _ in range(4)]
    rows = {"image": pictures, "votes": [[4, 0, 6], [0, 9, 1], [0, 0, 0], [5, 5, 0]]}
    features = datasets.Features({"image": datasets.Image(), "votes": datasets.List(datasets.Value("int8"), length=3)})
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "ferplus.parquet")
    columns = {"neutral": "votes[0]", "happiness": "votes[1]", "anger": "votes[2]"}
    options = {"video_column": "image", "label_kind": "votes", "vote_columns": columns, "strict": False}
    clips = load_readable_clips(str(tmp_path / "ferplus.parquet"), "train", **options)
    assert clips.labels == ["anger", "happiness", "happiness"] and clips.classes == ["anger", "happiness", "neutral"]
    assert clips.soft is not None and clips.soft.values[0].tolist() == pytest.approx([0.6, 0, 0.4])
    assert clips.quarantined == {"train/2": "it has no vote for any of the labels."}
    frames, _ = TGDFERVideoProcessor(num_frames=4).read_clip(clips.video(0))
    assert frames.shape == (1, 3, 48, 48)


def test_published_data_sets_are_options_of_a_run(tmp_path, monkeypatch):
    from published_trees import write_dfew

    write_dfew(tmp_path, clips=70)
    config = TrainingConfig.from_options(dataset="dfew", data_root=str(tmp_path), fold=2, validation_fraction=0.0)
    (tmp_path / "dfew").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert config.with_absolute_paths().data.dataset == "dfew"
    (tmp_path / "dfew").rmdir()
    train, validation, _ = load_parts(config.data, seed=0)
    assert len(train.indices) == 56 and validation is None
    held_out = load_parts(config.with_options(validation_fraction=0.5).data, seed=0)
    assert len(held_out[0].indices) + len(held_out[1].indices) == 56
    with pytest.raises(UserError, match="data_root is only for the data sets dfew"):
        load_clips(str(tmp_path), "train", data_root=str(tmp_path))
