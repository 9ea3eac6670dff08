"""What a push deletes: the files of earlier pushes that are not part of the new state, and no file of a person."""

import json
from pathlib import Path

import numpy as np
import pytest
from hub_client import HubClient
from safetensors.numpy import save_file

pytestmark = pytest.mark.slow

RECORD = "tgdfer_push.json"


def files_of(client: HubClient) -> set[str]:
    return set(client.hub.model("user/smile").head.files)


def shard(run: Path) -> None:
    """Saves the weights of the run in two files."""
    (run / "best" / "model.safetensors").unlink()
    names = {f"weight{number}": f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)}
    for weight, name in names.items():
        save_file({weight: np.ones(3, np.float32)}, run / "best" / name)
    (run / "best" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_no_pictures_after_pictures(hub_client, run):
    hub_client.publish(run)
    assert {"figures/timeline_1.png", "figures/confusion_matrix.png"} <= files_of(hub_client)
    assert hub_client.publish(run, pictures=False).code == 0
    assert not [path for path in files_of(hub_client) if path.startswith("figures")]
    assert len(hub_client.hub.model("user/smile").pushed) == 2


def test_shards_after_a_single_file_and_back(hub_client, run):
    single = (run / "best" / "model.safetensors").read_bytes()
    hub_client.publish(run)
    shard(run)
    assert hub_client.publish(run).code == 0
    shards = {path for path in files_of(hub_client) if "safetensors" in path}
    assert shards == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    for name in shards:
        (run / "best" / name).unlink()
    (run / "best" / "model.safetensors").write_bytes(single)
    assert hub_client.publish(run).code == 0
    assert {path for path in files_of(hub_client) if "safetensors" in path} == {"model.safetensors"}


def test_renamed_code_and_texts(hub_client, run):
    hub_client.publish(run)
    (run / "best" / "helpers_x.py").rename(run / "best" / "tools_x.py")
    (run / "best" / "configuration_x.py").write_text("from .tools_x import XConfig\n")
    assert hub_client.publish(run).code == 0
    assert "tools_x.py" in files_of(hub_client) and "helpers_x.py" not in files_of(hub_client)


def test_files_of_people_stay(hub_client, run):
    hub_client.publish(run)
    repo = hub_client.hub.model("user/smile")
    mine = {"notes__md": b"mine", "figures/my__png": b"mine", "helpers__py": b"mine", "__gitattributes": b"mine"}
    repo.edit(**mine)
    shard(run)
    assert hub_client.publish(run, pictures=False).code == 0
    for name, data in mine.items():
        assert repo.head.files[name.replace("__", ".")].data == data


def test_a_file_that_was_changed_on_the_hub_stays(hub_client, run):
    hub_client.publish(run)
    repo = hub_client.hub.model("user/smile")
    repo.edit(**{"figures/timeline_1__png": b"with blurred faces"})
    done = hub_client.tgdfer("push", run, "user/smile", "--no-pictures")
    assert repo.head.files["figures/timeline_1.png"].data == b"with blurred faces"
    assert "figures/confusion_matrix.png" not in repo.head.files
    assert "figures/timeline_1.png is stale, but is kept because it was changed on the Hub." in done.out


def test_old_weights_go_even_if_they_were_changed(hub_client, run):
    """They would be loaded instead of the new ones."""
    hub_client.publish(run)
    hub_client.hub.model("user/smile").edit(model__safetensors=b"others")
    shard(run)
    assert hub_client.publish(run).code == 0
    assert "model.safetensors" not in files_of(hub_client)


@pytest.mark.parametrize("record", [None, b"][", b"{}", b'{"files": [1]}'], ids=["none", "no JSON", "empty", "odd"])
def test_pushes_without_a_readable_record(hub_client, run, record):
    """Of a version that wrote none, or because somebody has edited it."""
    hub_client.publish(run)
    repo = hub_client.hub.model("user/smile")
    changes = {"tgdfer_push__json": record, "old_tgdfer__py": b"old", "mine__py": b"mine", "figures/my__png": b"mine"}
    repo.edit(**changes)
    shard(run)
    assert hub_client.publish(run, pictures=False).code == 0
    assert {"mine.py", "figures/my.png", RECORD} <= set(repo.head.files)
    gone = {"old_tgdfer.py", "model.safetensors", "figures/timeline_1.png", "figures/confusion_matrix.png"}
    assert not gone & set(repo.head.files)


def test_a_repository_of_others_loses_nothing_but_its_weights(hub_client, run):
    hub_client.publish(run)
    repo = hub_client.hub.model("user/smile")
    repo.branches["main"] = repo.commits[:1]
    mine = {
        "old_tgdfer__py": b"mine",
        "figures/timeline_1__png": b"mine",
        "README__md": b"---\ntags: [x]\n---\n# My\n",
    }
    repo.edit(model__safetensors=b"mine", **mine)
    shard(run)
    assert hub_client.publish(run, pictures=False).code == 0
    assert repo.head.files["old_tgdfer.py"].data == b"mine" == repo.head.files["figures/timeline_1.png"].data
    assert b"# My\n" in repo.head.files["README.md"].data
    assert "model.safetensors" not in repo.head.files


def test_the_record_names_what_was_written(hub_client, run):
    hub_client.publish(run)
    files = hub_client.hub.model("user/smile").head.files
    record = json.loads(files[RECORD].data)
    assert set(record["files"]) == set(files) - {RECORD, "README.md"}
    for path, ids in record["files"].items():
        assert files[path].oid in ids
    assert str(run) not in files[RECORD].data.decode()


def test_a_record_in_a_downloaded_folder_is_not_published(hub_client, run):
    """A snapshot of a repository can be published elsewhere."""
    hub_client.publish(run)
    folder = run.parent / "snapshot"
    for path, blob in hub_client.hub.model("user/smile").head.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(blob.data)
    done = hub_client.publish(folder, repo_id="user/copy")
    assert done.code == 0, done.errors
    assert set(hub_client.hub.model("user/copy").head.files) == files_of(hub_client)
