"""Revisions of models and data sets on the Hub."""

import json
import shutil

import pytest
from hub_server import serve

from tgdfer.training.errors import UserError
from tgdfer.training.revisions import HubName, with_revision


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("user/model@v1.0", "user/model", "v1.0"),
        ("user/model@refs/pr/3", "user/model", "refs/pr/3"),
        ("gpt2@main", "gpt2", "main"),
        ("user/model", "user/model", None),
        ("/tmp/a@b/model", "/tmp/a@b/model", None),
        ("user/model@", "user/model@", None),
        ("user/model@a@b", "user/model@a@b", None),
        ("a/b/c@v1", "a/b/c@v1", None),
        ("tgdfer-tiny", "tgdfer-tiny", None),
    ],
)
def test_parse(text, name, revision):
    assert HubName.parse(text) == (name, revision)
    assert HubName.parse(text).options == ({} if revision is None else {"revision": revision})


def test_folders_with_an_at_sign_are_folders(tmp_path, monkeypatch):
    (tmp_path / "me" / "clips@home").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert HubName.parse("me/clips@home").revision is None


def test_with_revision(tmp_path):
    assert with_revision("user/model", None) == "user/model"
    assert with_revision("user/model", "v1") == with_revision("user/model@v1", "v1") == "user/model@v1"
    with pytest.raises(UserError, match="user/model@v2 names another revision than v1; give only one of them"):
        with_revision("user/model@v2", "v1")
    with pytest.raises(UserError, match="is a folder, which has no revision v1"):
        with_revision(str(tmp_path), "v1")
    with pytest.raises(UserError, match="'a b' is not a revision of 'user/model'"):
        with_revision("user/model", "a b")


PUSH = """
import sys
from huggingface_hub import HfApi
from datasets import ClassLabel
from tgdfer.command_line import main

clip, model, clips = sys.argv[1:]
api = HfApi()
for name, folder, kind in (("user/clip", clip, "model"), ("user/model", model, "model")):
    api.create_repo(name, repo_type=kind)
    api.upload_folder(repo_id=name, folder_path=folder, repo_type=kind)
assert main(["push", clips, "user/clips", "--dataset"]) == 0
"""

USE = """
import json, sys
from pathlib import Path
from tgdfer.command_line import main
from tgdfer.training.models import load_trained

video, clip_commit, model_commit, clips_commit = sys.argv[1:]
options = ["--epochs", "1", "--num-frames", "2", "--frozen-features", "--feature-views", "1", "--batch-size", "8"]
clips = f"user/clips@{clips_commit}"
assert main(["train", "--dataset", clips, "--model", f"user/clip@{clip_commit}", "--output", "a", *options]) == 0
model = ["--model", "user/model", "--revision", model_commit]
assert main(["train", "--dataset", clips, *model, "--output", "b", *options]) == 0
assert main(["evaluate", "user/model", "--revision", model_commit, "--dataset", clips, "--output", "c"]) == 0
assert main(["predict", video, *model, "--face-crop", "none", "--json", "found.json"]) == 0
assert main(["predict", video, "--model", "user/model", "--face-crop", "none"]) == 2
assert main(["predict", video, "--model", "user/model@nothing", "--face-crop", "none"]) == 2
assert main(["push", "b", "user/out", "--dry-run"]) == 0
for run in "ab":
    print(json.dumps(json.loads(Path(run, "training.json").read_text())))
print(Path("c", "metrics.json").read_text().replace(chr(10), ""))
print(json.dumps(json.loads(Path("found.json").read_text())["run"]["model"]))
"""


@pytest.mark.slow
def test_revisions_are_used_and_recorded(clip_folder, clips_folder, tmp_path):
    """The later commits of the repositories are broken, so that only the pinned ones work."""
    from tgdfer import TGDFERForVideoClassification, TGDFERProcessor
    from tgdfer.model_card.card import CardData

    processor = TGDFERProcessor.from_clip(
        str(clip_folder), {name: [name] for name in ("happiness", "neutral", "sadness")}, num_frames=2
    )
    model = TGDFERForVideoClassification.from_clip(clip_folder, processor.class_prompts(), num_frames=2)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    video = next((clips_folder / "test").rglob("*.mp4"))
    shutil.copy(video, tmp_path / "video.mp4")
    with serve() as hub:
        hub.python(PUSH, clip_folder, tmp_path / "model", clips_folder, home=tmp_path)
        repos = {name: hub.repos[kind, name] for kind, name in hub.repos}
        commits = {name: repo.head.oid for name, repo in repos.items()}
        for repo in repos.values():
            repo.edit(config__json=b"{}", **{"data/train-00000-of-00001__parquet": None})
        printed = hub.python(
            USE, "video.mp4", *(commits[name] for name in ("user/clip", "user/model", "user/clips")), home=tmp_path
        )
    first, second, metrics, used = map(
        json.loads, [line for line in printed.splitlines() if line[:1] in "{["][-3:] + [printed.splitlines()[-1]]
    )
    assert first["base_model"] == "user/clip" and first["base_model_revision"] == commits["user/clip"]
    assert second["base_model"] == "user/model" and second["base_model_revision"] == commits["user/model"]
    for facts in (first, second, metrics):
        assert facts["dataset"] == "user/clips" and facts["dataset_revision"] == commits["user/clips"]
    assert metrics["model_revision"] == commits["user/model"]
    assert used == f"user/model@{commits['user/model']}"
    data = CardData.from_run(tmp_path / "b", "user/out")
    card = str(data.card())
    assert commits["user/model"] in card and commits["user/clips"] in card
    assert data.config["dataset"] == f"user/clips@{commits['user/clips']}"
    assert data.config["model"] == "user/model" and data.config["revision"] == commits["user/model"]
