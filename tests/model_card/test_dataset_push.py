"""Folders of clips on the Hub: Parquet shards with a card, from which models are trained."""

import json

import datasets
import pytest
import yaml
from hub_server import serve

from tgdfer.model_card.hub.dataset_files import dataset_files_to_publish
from tgdfer.training.data import shards as shard_files
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError

pytestmark = pytest.mark.slow

PUSH_AND_READ = """
import json, sys
from tgdfer.command_line import main
from tgdfer.training.data import shards as shard_files
from tgdfer.training.data.loading import load_clips

folder, commit = sys.argv[1:]
assert main(["push", folder, "user/clips", "--dataset", "--private", "--license", "cc-by-4.0", "--tag", "mine"]) == 0
for split in ("train", "test"):
    clips = load_clips("user/clips", split)
    videos = [len(clips.video(index)) for index in range(len(clips))]
    print(json.dumps([clips.labels, clips.people, clips.files, clips.intensity, videos]))
"""


def test_pushed_and_read_by_id(clips_folder, tmp_path):
    with serve() as hub:
        printed = hub.python(PUSH_AND_READ, clips_folder, "main", home=tmp_path)
        repo = hub.dataset("user/clips")
    assert repo.private and len(repo.pushed) == 1
    assert set(repo.head.files) == {
        "README.md",
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
        "tgdfer_push.json",
    }
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("[[")]
    assert len(lines) == 2
    for split, (labels, people, files, intensity, sizes) in zip(("train", "test"), lines, strict=True):
        clips = load_clips(str(clips_folder), split)
        assert labels == clips.labels and people == clips.people and len(files) == len(clips)
        assert intensity == [pytest.approx(values) for values in clips.intensity]
        assert sizes == [(clips_folder / file).stat().st_size for file in clips.files]
    card = repo.head.files["README.md"].data.decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "cc-by-4.0" and metadata["tags"][-1] == "mine"
    assert metadata["task_categories"] == ["video-classification"]
    assert 'load_dataset("user/clips")' in card
    for file in repo.head.files.values():
        assert str(clips_folder).encode() not in file.data


def test_columns_and_shards(clips_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "SHARD_SIZE", 10_000)
    files = dataset_files_to_publish(clips_folder, "user/clips", tmp_path)
    shards = {split: [path for path in files if path.startswith(f"data/{split}-")] for split in ("train", "test")}
    assert len(shards["train"]) > 1
    paths = {split: [str(files[name]) for name in names] for split, names in shards.items()}
    read = datasets.load_dataset("parquet", data_files=paths, cache_dir=str(tmp_path / "cache"))
    assert read["train"].features == read["test"].features
    assert isinstance(read["train"].features["video"], datasets.Video)
    assert read["train"].features["label"] == datasets.ClassLabel(names=["happiness", "neutral", "sadness"])
    assert len(read["train"]) == len(load_clips(str(clips_folder), "train"))


def test_the_card_of_the_folder_is_kept(clips_folder, tmp_path):
    import shutil

    folder = tmp_path / "clips"
    shutil.copytree(clips_folder, folder)
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [mine]\n---\n# My clips\n\nAll agreed.\n")
    (folder / "LICENSE").write_text("MIT\n")
    files = dataset_files_to_publish(folder, "user/clips", tmp_path)
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "mit" and "mine" in metadata["tags"]
    assert metadata["configs"][0]["data_files"][0]["path"].startswith("data/")
    assert card.endswith("# My clips\n\nAll agreed.\n") and files["LICENSE"] == folder / "LICENSE"


def test_labels_cannot_write_the_card(clip_writer, tmp_path):
    for label in ("<script>x", "a|b"):
        folder = tmp_path / "clips" / "train" / label
        folder.mkdir(parents=True)
        clip_writer(folder / "0.mp4")
    card = dataset_files_to_publish(tmp_path / "clips", "user/clips", tmp_path)["README.md"].decode()
    assert "\\<script\\>x" in card and "a\\|b" in card and "<script>" not in card.replace("\\<script\\>", "")


def test_the_metadata_of_the_folder_are_yaml_1_2(clip_writer, tmp_path):
    for label in ("anger", "fear"):
        (tmp_path / "clips" / "train" / label).mkdir(parents=True)
        clip_writer(tmp_path / "clips" / "train" / label / "0.mp4")
    (tmp_path / "clips" / "README.md").write_text("---\ntags: faces\nlanguage: no\n---\n")
    card = dataset_files_to_publish(tmp_path / "clips", "user/clips", tmp_path)["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["tags"] == ["tgdfer", "facial-expression-recognition", "video", "faces"]
    assert metadata["language"] == "no"


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_no_data_set(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not a folder|no clips|Cannot read the data set"):
        dataset_files_to_publish(tmp_path / name, "user/clips", tmp_path)
