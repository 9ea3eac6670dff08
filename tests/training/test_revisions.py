"""Revisions of models and data sets on the Hub."""

import json
import shutil

import pytest
from hub_client import client_of
from hub_server import Repo, serve

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


# What every training and evaluation here has in common.
QUICK = ["--epochs", "1", "--num-frames", "2", "--frozen-features", "--feature-views", "1", "--batch-size", "8"]


def put(hub, name, folder):
    """Puts a model on the Hub."""
    hub.repos["models", name] = Repo(private=False)
    hub.model(name).edit(**{path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})


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
    video = shutil.copy(next((clips_folder / "test").rglob("*.mp4")), tmp_path / "video.mp4")
    with serve() as hub, client_of(hub, tmp_path) as client:

        def run(*arguments, code=0):
            done = client.tgdfer(*arguments)
            assert done.code == code, done.errors[-3000:]

        put(hub, "user/clip", clip_folder)
        put(hub, "user/model", tmp_path / "model")
        run("push", clips_folder, "user/clips", "--dataset")
        repos = {name: hub.repos[kind, name] for kind, name in hub.repos}
        commits = {name: repo.head.oid for name, repo in repos.items()}
        for repo in repos.values():
            repo.edit(config__json=b"{}", **{"data/train-00000-of-00001__parquet": None})
        clips = f"user/clips@{commits['user/clips']}"
        clip = ["--model", f"user/clip@{commits['user/clip']}"]
        revision = ["--revision", commits["user/model"]]
        run("train", "--dataset", clips, *clip, "--output", "a", *QUICK)
        run("train", "--dataset", clips, "--model", "user/model", *revision, "--output", "b", *QUICK)
        run("evaluate", "user/model", *revision, "--dataset", clips, "--output", "c", "--errors", "0")
        predict = ["predict", video, "--face-crop", "none", "--model"]
        run(*predict, "user/model", *revision, "--json", "found.json")
        run(*predict, "user/model", code=2)
        run(*predict, "user/model@nothing", code=2)
        run("push", "b", "user/out", "--dry-run")
    first, second = (json.loads((tmp_path / run / "training.json").read_text()) for run in "ab")
    metrics = json.loads((tmp_path / "c" / "metrics.json").read_text())
    used = json.loads((tmp_path / "found.json").read_text())["run"]["model"]
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
