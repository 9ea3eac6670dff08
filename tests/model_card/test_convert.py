"""`tgdfer data convert`: Parquet shards with a card, from folders, published data sets and tables."""

import json
import shutil

import datasets
import pytest
import torch
import yaml
from published_trees import write_crema_d, write_dfew, write_ferv39k, write_frames

from tgdfer.command_line import main
from tgdfer.model_card import convert
from tgdfer.model_card.hub.dataset_files import dataset_files_to_publish
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.packing import pack_frames
from tgdfer.training.errors import UserError


@pytest.fixture(scope="module")
def dfew(tmp_path_factory):
    return write_dfew(tmp_path_factory.mktemp("dfew"), clips=35)


@pytest.fixture(scope="module")
def converted(dfew, tmp_path_factory):
    output = tmp_path_factory.mktemp("converted") / "dfew-parquet"
    arguments = ["data", "convert", "dfew", "--data-root", str(dfew), "--output", str(output), "--workers", "1"]
    assert main(arguments) == 0
    return output


def names(clips):
    return {
        file.rsplit("/", 1)[-1].removesuffix(".mov"): label
        for file, label in zip(clips.files, clips.labels, strict=True)
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_fold_is_a_configuration(dfew, converted, split):
    for fold in (1, 4):
        before = load_clips("dfew", split, data_root=str(dfew), fold=fold)
        after = load_clips(str(converted), split, dataset_config=f"fold_{fold}")
        assert names(after) == names(before)
    assert len(list((converted / "data").glob("*.parquet"))) == 5


def test_frames_are_packed_without_loss(tmp_path, converted, dfew):
    processor = TGDFERVideoProcessor(num_frames=3)
    for suffix, tolerance in ((".png", 0), (".jpg", 6)):
        folder = write_frames(tmp_path / suffix[1:], 3, frames=3, side=48, suffix=suffix)
        packed = pack_frames(folder)
        if suffix == ".jpg":
            assert (folder / "2.jpg").read_bytes() in packed
        before, after = (processor.read_clip(video)[0].int() for video in (str(folder), packed))
        assert before.shape == after.shape and (before - after).abs().float().mean() <= tolerance
    write_frames(tmp_path / "png", 4, frames=1, side=32)
    frames, _ = processor.read_clip(pack_frames(tmp_path / "png"))
    assert frames.shape[0] == 3


def test_the_card_warns_and_push_takes_the_files_as_they_are(converted):
    text = (converted / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---")[1])
    assert [config["config_name"] for config in metadata["configs"]] == [f"fold_{n}" for n in range(1, 6)]
    assert "DFEW may not be redistributed. Keep this repository private." in text
    assert "35 clips of faces, each with one of 7 labels." in text
    files = dataset_files_to_publish(converted, "user/dfew", converted / "unused")
    assert sorted(files) == ["README.md", *(f"data/fold_{n}-00000-of-00001.parquet" for n in range(1, 6))]
    card = files["README.md"].decode()
    assert 'load_dataset("user/dfew", "fold_1")' in card and "--dataset user/dfew --dataset-config fold_1" in card
    assert "your-name/dfew-parquet" in text and "your-name" not in card


def test_changed_shards_are_not_published(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "moved")
    shards = sorted((folder / "data").iterdir())
    shards[0].unlink()
    shards[1].write_bytes(b"cut")
    shutil.copy(shards[2], folder / "data" / "mine.parquet")
    names = f"{shards[0].name}, {shards[1].name}, mine.parquet"
    with pytest.raises(UserError, match=rf"has changed since the conversion \({names}\); remove these files if"):
        dataset_files_to_publish(folder, "user/dfew", tmp_path)
    record = json.loads((folder / "conversion.json").read_text())
    del record["shards"], record["repo_id"]  # as older versions wrote it
    (folder / "conversion.json").write_text(json.dumps(record))
    assert "data/mine.parquet" in dataset_files_to_publish(folder, "user/dfew", tmp_path)


def test_an_interrupted_conversion_continues(tmp_path, monkeypatch):
    root = write_ferv39k(tmp_path / "ferv39k")
    output = tmp_path / "out"
    written = []

    def stop_after_two(shard):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.path.name)
        return original(shard)

    original = convert.write_shard
    options = {"data_root": str(root), "shard_size": 6000}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(convert, "write_shard", stop_after_two)
        convert.convert_dataset("ferv39k", output, **options)
    assert not (output / "README.md").exists() and not list(output.glob("data/.*"))
    with pytest.raises(UserError, match="is not finished"):
        dataset_files_to_publish(output, "user/x", tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in (output / "data").iterdir()}
    facts = convert.convert_dataset("ferv39k", output, **options)
    assert facts["num_new_shards"] == facts["num_shards"] - 2 > 1 and facts["num_clips"] == 18
    assert all((output / "data" / name).stat().st_mtime_ns == time for name, time in times.items())
    clips = load_clips(str(output), "test")
    assert len(clips) == 6 and clips.groups == {"group": ["Action"] * 3 + ["Crisis"] * 3}
    (output / "data" / min(times)).unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(convert, "write_shard", stop_after_two)
        convert.convert_dataset("ferv39k", output, **options)
    with pytest.raises(UserError, match="is not finished"):
        dataset_files_to_publish(output, "user/x", tmp_path)
    assert convert.convert_dataset("ferv39k", output, **options)["num_new_shards"] == 1
    with pytest.raises(UserError, match="the conversion of other data or other options"):
        convert.convert_dataset("ferv39k", output, **options | {"shard_size": 50_000})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        convert.convert_dataset("ferv39k", tmp_path / "other", **options)


def test_unreadable_clips_are_listed(tmp_path, clips_folder):
    shutil.copytree(clips_folder, tmp_path / "clips")
    (tmp_path / "clips/train/happy/happy_0.mp4").write_bytes(b"no video")
    (tmp_path / "clips/test/happy/happy_0.mp4").unlink()
    facts = convert.convert_dataset(str(tmp_path / "clips"), tmp_path / "out")
    assert (facts["num_clips"], facts["num_quarantined"]) == (28, 2)
    assert "happy_0.mp4\tit does not exist" in (tmp_path / "out/quarantined_test.txt").read_text()
    before, after = load_clips(str(clips_folder), "train"), load_clips(str(tmp_path / "out"), "train")
    kept = [index for index, file in enumerate(before.files) if not file.endswith("happy_0.mp4")]
    assert after.files == before.select(kept).files
    assert after.people == before.select(kept).people and after.intensity == before.select(kept).intensity
    with pytest.raises(UserError, match="happy_0.mp4"):
        convert.convert_dataset(str(tmp_path / "clips"), tmp_path / "strict", strict=True)


@pytest.mark.slow
def test_several_processes_write_the_same_shards(tmp_path):
    root = write_crema_d(tmp_path / "crema")
    for workers in (1, 2):
        convert.convert_dataset("crema_d", tmp_path / f"by_{workers}", workers, data_root=str(root))
    tables = [datasets.load_dataset(str(tmp_path / f"by_{n}"), "fold_5", split="test") for n in (1, 2)]
    first, second = (table.cast_column("video", datasets.Video(decode=False))[:] for table in tables)
    assert first == second and first["person"] == ["1073", "1073", "1091", "1091"]


def test_labels_of_every_kind_survive(tmp_path, clips_folder):
    shutil.copytree(clips_folder, tmp_path / "clips")
    for split in ("train", "test"):
        path = tmp_path / "clips" / split / "metadata.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row |= {"label": "happy_sad" if row["label"] == "happy" else row["label"], "a": 3, "b": len(row["label"])}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    several = {"label_kind": "multiple"}
    votes = {"label_kind": "votes", "vote_columns": {"anger": "a", "fear": "b"}}
    for name, options, again in (
        ("several", several, several),
        ("votes", votes, votes | {"vote_columns": {"anger": "votes_anger", "fear": "votes_fear"}}),
    ):
        convert.convert_dataset(str(tmp_path / "clips"), tmp_path / name, **options)
        before = load_clips(str(tmp_path / "clips"), "train", **options)
        after = load_clips(str(tmp_path / name), "train", **again)
        assert before.soft.names == after.soft.names
        assert torch.allclose(torch.tensor(before.soft.values), torch.tensor(after.soft.values))
