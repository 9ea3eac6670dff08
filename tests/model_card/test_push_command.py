"""The command `tgdfer push`: its options, and what it publishes besides models."""

import os

import pytest
import yaml
from hub_failures import FAULTS

pytestmark = pytest.mark.slow


def test_a_branch(hub_client, run):
    hub_client.tgdfer("push", run, "user/smile")
    (run / "figures" / "timeline_1.png").unlink()
    done = hub_client.tgdfer("push", run, "user/smile", "--revision", "next", "--message", "Without a timeline")
    repo = hub_client.hub.model("user/smile")
    assert done.code == 0, done.errors
    assert len(repo.pushed) == 1 and "figures/timeline_1.png" in repo.head.files
    commit = repo.branches["next"][-1]
    assert commit.summary == "Without a timeline" and "figures/timeline_1.png" not in commit.files
    assert f"/user/smile/commit/{commit.oid}" in done.out
    # The branch exists now.
    (run / "figures" / "confusion_matrix.png").unlink()
    assert hub_client.tgdfer("push", run, "user/smile", "--revision", "next").code == 0
    assert len(repo.branches["next"]) == 4 and len(repo.pushed) == 1


def test_a_branch_of_a_new_repository(hub_client, run):
    assert hub_client.tgdfer("push", run, "user/smile", "--revision", "next").code == 0
    repo = hub_client.hub.model("user/smile")
    assert not repo.pushed and len(repo.branches["next"]) == 2


def test_pull_requests(hub_client, run):
    done = hub_client.tgdfer("push", run, "user/smile", "--create-pr", "--message", "Smiles")
    repo = hub_client.hub.model("user/smile")
    assert done.out == f"Published: {hub_client.hub.url}/user/smile/discussions/1\n"
    assert not repo.pushed and repo.pull_requests == ["Smiles"]
    (run / "figures" / "timeline_1.png").unlink()
    assert hub_client.tgdfer("push", run, "user/smile", "--revision", "refs/pr/1").code == 0
    assert len(repo.branches["refs/pr/1"]) == 3 and "figures/timeline_1.png" not in repo.at("refs/pr/1").files
    done = hub_client.tgdfer("push", run, "user/smile", "--revision", "refs/pr/7")
    assert done.code == 2
    assert done.errors == (
        "error: user/smile has no refs/pr/7; open a pull request with --create-pr, or name a branch.\n"
    )


def test_a_space(hub_client, run):
    done = hub_client.tgdfer("push", run, "user/smile", "--space", "--private")
    assert done.code == 0, done.errors
    space = hub_client.hub.space("user/smile")
    assert space.private and hub_client.hub.model("user/smile").private
    assert {"app.py", "README.md", "requirements.txt", "tgdfer/__init__.py"} <= set(space.head.files)
    metadata = yaml.safe_load(space.head.files["README.md"].data.decode().split("---")[1])
    assert metadata["sdk"] == "gradio" and metadata["models"] == ["user/smile"]
    assert f"Published the Space: {hub_client.hub.url}/spaces/user/smile/commit/{space.head.oid}" in done.out
    assert "Add a token that may read the model to the settings of the Space, as the secret HF_TOKEN." in done.out
    # The next push deletes code that is no longer part of the package, and nothing of a person.
    space.edit(**{"mine__py": b"mine"})
    assert hub_client.tgdfer("push", run, "user/smile", "--space", "--private").code == 0
    assert space.head.files["mine.py"].data == b"mine"


def test_what_is_said_about_the_model_is_not_said_about_the_space(hub_client, run):
    options = ("--license", "cc-by-nc-4.0", "--message", "Train longer", "--revision", "next", "--tag", "fun")
    done = hub_client.tgdfer("push", run, "user/smile", "--space", *options)
    assert done.code == 0 and "HF_TOKEN" not in done.out, done.errors
    (commit,) = hub_client.hub.space("user/smile").pushed
    metadata = yaml.safe_load(commit.files["README.md"].data.decode().split("---")[1])
    assert commit.summary == "Upload the Space"
    assert metadata["license"] == "apache-2.0" and metadata["tags"] == ["fun"]


def test_a_space_of_a_pull_request_is_refused_before_anything_is_sent(hub_client, run):
    done = hub_client.tgdfer("push", run, "user/smile", "--space", "--revision", "refs/pr/1")
    assert done.code == 2 and "--space cannot be combined with --revision refs/pr/1, because" in done.errors
    assert not hub_client.hub.requests


def test_a_space_that_fails_says_that_the_model_is_published(hub_client, run):
    def fail() -> None:
        hub_client.hub.before["create_repo"] = lambda: hub_client.hub.failures.update(create_repo=FAULTS["503"])

    hub_client.hub.before["commit"] = fail
    done = hub_client.tgdfer("push", run, "user/smile", "--space")
    assert done.code == 2 and done.out.startswith("Published: ")
    assert "503: We are down for maintenance" in done.errors
    assert len(hub_client.hub.model("user/smile").pushed) == 1


def test_a_dry_run_lists_everything(hub_client, run):
    done = hub_client.tgdfer("push", run, "user/smile", "--space", "--dry-run")
    assert "model.safetensors" in done.out and "requirements.txt" in done.out and not hub_client.hub.requests


@pytest.mark.parametrize("option", ["--adapter", "--space", "--no-pictures"])
def test_options_that_exclude_each_other(hub_client, run, option):
    done = hub_client.tgdfer("push", run, "user/smile", "--dataset", option)
    assert done.code == 2 and done.errors.startswith("error: --dataset publishes clips; it cannot be combined")


def test_an_export_is_published_with_its_model(hub_client, run):
    (run / "onnx").mkdir()
    for name in ("model.onnx", "config.json", "onnx_predict.py", "notes.md"):
        (run / "onnx" / name).write_bytes(b"\0x")
    assert hub_client.publish(run).code == 0
    files = set(hub_client.hub.model("user/smile").head.files)
    assert {path for path in files if path.startswith("onnx")} == {
        "onnx/model.onnx",
        "onnx/config.json",
        "onnx/onnx_predict.py",
    }
    os.utime(run / "onnx" / "model.onnx", (1, 1))
    done = hub_client.publish(run)
    assert done.code == 2 and "onnx is older than the model in " in done.errors


def test_example_clips_are_published_with_pictures(hub_client, run):
    (run / "examples").mkdir()
    (run / "examples" / "smile.mp4").write_bytes(b"\0clip")
    assert hub_client.publish(run).code == 0
    assert "examples/smile.mp4" in hub_client.hub.model("user/smile").head.files
    assert hub_client.publish(run, pictures=False).code == 0
    assert "examples/smile.mp4" not in hub_client.hub.model("user/smile").head.files
