"""Publishing: which files go to the Hub, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hub_client import client_of
from hub_server import READ_TOKEN
from safetensors.torch import load_file, save_file

from tgdfer import TGDFERForVideoClassification
from tgdfer.model_card import publish as publish_module
from tgdfer.model_card.publish import files_to_publish, publish
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_yaml
from tgdfer.training.saved_weights import weights_sha256

pytestmark = pytest.mark.slow

FILES = {
    "README.md",
    "config.json",
    "configuration_x.py",
    "figures/confusion_matrix.png",
    "figures/timeline_1.png",
    "handler.py",
    "helpers_x.py",
    "metrics.json",
    "model.safetensors",
    "processing_x.py",
    "processor_config.json",
    "requirements.txt",
    "tokenizer.json",
    "training_config.yaml",
}
RECORD = "tgdfer_push.json"


def test_one_commit_holds_everything(hub_client, run):
    url = hub_client.publish(run).out.strip()
    (commit,) = hub_client.hub.model("user/smile").pushed
    assert url == f"{hub_client.hub.url}/user/smile/commit/{commit.oid}"
    assert set(commit.files) == FILES | {RECORD}
    assert commit.files["model.safetensors"].data == (run / "best/model.safetensors").read_bytes()
    assert yaml.safe_load(commit.files["training_config.yaml"].data) == yaml.safe_load(
        (run / "config.yaml").read_text()
    )
    card = commit.files["README.md"].data.decode()
    assert 'model="user/smile"' in card and "(figures/timeline_1.png)" in card
    assert not hub_client.hub.model("user/smile").private


def test_again_without_change_makes_no_commit(hub_client, run):
    first, second = hub_client.publish(run), hub_client.publish(run)
    assert first.code == 0 and first == second
    assert len(hub_client.hub.model("user/smile").pushed) == 1


def test_again_with_a_change_sends_what_changed(hub_client, run):
    hub_client.publish(run)
    (run / "figures" / "confusion_matrix.png").write_bytes(b"\0new")
    sent = len(hub_client.hub.uploads)
    hub_client.publish(run)
    assert len(hub_client.hub.uploads) == sent + 1
    assert hub_client.hub.model("user/smile").head.files["figures/confusion_matrix.png"].data == b"\0new"
    assert len(hub_client.hub.model("user/smile").pushed) == 2


def test_private(hub_client, run):
    hub_client.publish(run, private=True)
    assert hub_client.hub.model("user/smile").private


def test_private_never_goes_into_a_public_repository(hub_client, run):
    hub_client.publish(run)
    answer = hub_client.publish(run, private=True)
    assert answer.code == 2 and answer.errors.startswith("user/smile exists and is public")
    assert len(hub_client.hub.model("user/smile").pushed) == 1


def test_without_pictures(hub_client, run):
    hub_client.publish(run, pictures=False)
    files = hub_client.hub.model("user/smile").head.files
    assert not [path for path in files if path.startswith("figures")]
    assert b"figures/" not in files["README.md"].data


def test_dry_run_sends_nothing(hub_client, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    lines = hub_client.publish(run, dry_run=True, token=None).out.splitlines()
    assert hub_client.hub.requests == []
    assert lines[-1] == f"{hub_client.hub.url}/user/smile"
    printed = "\n".join(lines)
    assert all(name in printed for name in FILES)
    assert "16.1 kB" in printed and f"{len(FILES)} files" in printed
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_facts_of_a_training_beside_a_model_travel_in_the_figures(hub_client, run):
    folder = run.parent / "plain"
    shutil.copytree(run / "best", folder)
    metrics = json.loads((run / "metrics.json").read_text())
    (folder / "training.json").write_text(json.dumps(metrics.pop("training")))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    hub_client.publish(folder)
    files = hub_client.hub.model("user/smile").head.files
    assert "training.json" not in files
    assert json.loads(files["metrics.json"].data)["training"]["num_clips"] == 600


def test_plain_model_folder_keeps_its_own_card(hub_client, run):
    folder = run.parent / "plain"
    shutil.copytree(run / "best", folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\nBy hand.\n")
    hub_client.publish(folder)
    files = hub_client.hub.model("user/smile").head.files
    assert set(files) - {RECORD} == FILES - {"metrics.json", "training_config.yaml"} - {
        f for f in FILES if "figures" in f
    }
    assert files["README.md"].data.endswith(b"By hand.\n")


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "You are not logged in to the Hub; run `hf auth login`, or set HF_TOKEN."),
        ("hf_unknown", "The Hub rejected your access token"),
        (READ_TOKEN, "Your access token has no permission to write to user/smile"),
    ],
)
def test_refused(hub_client, run, token, sentence):
    done = hub_client.publish(run, token=token)
    assert done.code == 2 and done.errors.startswith(sentence)
    assert not hub_client.hub.repos


def test_unreachable(hub, run, tmp_path):
    """The address is read when huggingface_hub is imported, so this process has an address of its own."""
    hub.url = "http://127.0.0.1:9"
    with client_of(hub, tmp_path) as client:
        done = client.publish(run)
    assert done.code == 2 and done.errors.startswith("The Hub at http://127.0.0.1:9 cannot be reached")
    assert "check your connection" in done.errors


def test_nothing_of_this_machine_is_published(real_run):
    """Of a run that was really made; weights and pictures are looked through as well."""
    files = files_to_publish(real_run, "user/smile")
    contents = {name: file if isinstance(file, bytes) else file.read_bytes() for name, file in files.items()}
    folders = {part.encode() for part in real_run.parts[1:-1]} - {b"tmp"}
    assert {b"jane-doe", b"studies-of-may"} <= folders
    for name, content in contents.items():
        assert not [folder for folder in folders | {b"patients-of-may"} if folder in content], name
        if name.endswith((".json", ".yaml")):
            assert not re.search(rb"""["' ]/\w""", content), name
    card = contents["README.md"].decode()
    assert not re.search(r"(^|[\s`\"'(=])[/~]\w", card, re.MULTILINE)
    published = TrainingConfig.from_options(**yaml.safe_load(contents["training_config.yaml"]))
    trained = TrainingConfig.from_options(**read_yaml(real_run / "config.yaml"))
    short = {"dataset": "clips", "descriptions": "words.yaml", "model": "best", "output": published.run.output}
    assert published == trained.with_options(**short)
    assert json.loads(contents["metrics.json"])["command"] == "tgdfer evaluate smile"
    assert "\n### Stage 2\n" in card and "To reproduce the model" not in card


@pytest.mark.parametrize("repo_id", ["smile", "a/b/c", "user/has space", "user/..", "user/"])
def test_no_repository_id(run, repo_id):
    with pytest.raises(UserError, match="is not a repository id"):
        publish(run, repo_id, dry_run=True)


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "pytorch_model.bin", "state.pkl", "notes.txt", "script.py", "checkpoint/x.json"]
)
def test_only_known_files_leave(run, name):
    path = run / "best" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(UserError, match="is not part of a model and cannot be published"):
        files_to_publish(run, "user/smile")


def test_hidden_files_stay(run):
    (run / "best" / ".DS_Store").write_bytes(b"x")
    (run / "best" / "__pycache__").mkdir()
    assert set(files_to_publish(run, "user/smile")) == FILES


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.json", "contains no model"),
        ("model.safetensors", "contains no weights"),
        (
            "tokenizer.json",
            r"has no tokenizer.json, which the processor needs; write it with `processor.save_pretrained",
        ),
        ("processor_config.json", r"has no processor_config.json; write it with `processor.save_pretrained"),
        ("configuration_x.py", r"The code of .*config.json is incomplete \(configuration_x.py\), .* without tgdfer"),
        ("helpers_x.py", r"The code of .*config.json is incomplete \(helpers_x.py\), .* without tgdfer"),
        (
            "processing_x.py",
            r"The code of .*processor_config.json is incomplete \(processing_x.py\), .* without tgdfer",
        ),
    ],
)
def test_incomplete_model(run, name, sentence):
    (run / "best" / name).unlink()
    with pytest.raises(UserError, match=sentence):
        publish(run, "user/smile")


@pytest.mark.parametrize("says_so", [True, False], ids=["config", "weights"])
def test_lora_that_is_not_merged_is_refused(model_folder, tmp_path, says_so):
    """Such a folder would load with peft alone, or without what was learnt."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    model = TGDFERForVideoClassification.from_pretrained(folder, lora_layers=1)
    model.attach_lora()
    model.save_pretrained(folder)
    if not says_so:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "lora_attached": False}))
    with pytest.raises(UserError, match=r"The LoRA adapters in .*model are not merged.*merge_lora=True"):
        publish(folder, "user/smile")

    model.save_pretrained(folder, merge_lora=True)
    weights = files_to_publish(folder, "user/smile")["model.safetensors"]
    assert not [name for name in load_file(weights) if "lora" in name or "base_layer" in name]


def test_paths_that_look_like_ids_do_not_leave(run, monkeypatch):
    """`patients/dfew` is a folder if an option for paths names it."""
    monkeypatch.chdir(run)
    metrics = json.loads((run / "metrics.json").read_text())
    options = "--data-root patients/dfew --vote-file=patients/votes.csv --descriptions patients/words.yaml --fold 2"
    metrics["command"] = f"tgdfer evaluate studies/smile {options}"
    metrics["training"]["command"] = f"tgdfer train --dataset user/clips {options}"
    (run / "metrics.json").write_text(json.dumps(metrics))
    config = {"model": "openai/clip", "data_root": "patients/dfew", "descriptions": "patients/words.yaml"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    files = files_to_publish(run, "user/smile")
    assert not [name for name, content in files.items() if isinstance(content, bytes) and b"patients" in content]
    published = json.loads(files["metrics.json"])
    short = "--data-root dfew --vote-file=votes.csv --descriptions words.yaml --fold 2"
    assert published["command"] == f"tgdfer evaluate smile {short}"
    assert published["training"]["command"] == f"tgdfer train --dataset user/clips {short}"


def test_file_names_are_no_markup(capsys):
    publish_module.Console(width=80).print(publish_module.files_table({"examples/[/b].mp4": b"", "[red]": b""}, "a/b"))
    shown = capsys.readouterr().out
    assert "examples/[/b].mp4" in shown and "[red]" in shown


def test_truncated_weights(run):
    path = run / "best" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        publish(run, "user/smile")


def shard(run: Path, weight_map: dict[str, str]) -> None:
    (run / "best" / "model.safetensors").unlink()
    save_file({"a": torch.zeros(3)}, run / "best" / "model-00001-of-00002.safetensors")
    (run / "best" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_missing_shards(run):
    shard(run, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    sentence = "best lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names; save the model"
    with pytest.raises(UserError, match=sentence):
        files_to_publish(run, "user/smile")
    shutil.copy(run / "best" / "model-00001-of-00002.safetensors", run / "best" / "model-00002-of-00002.safetensors")
    assert "model-00002-of-00002.safetensors" in files_to_publish(run, "user/smile")
    (run / "best" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="index.json names no files of weights; save the model again"):
        files_to_publish(run, "user/smile")


def test_figures_of_other_shards_are_refused(run):
    shard(run, {"a": "model-00001-of-00002.safetensors"})
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "weights_sha256": weights_sha256(run / "best")}))
    files_to_publish(run, "user/smile")
    save_file({"a": torch.ones(3)}, run / "best" / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="was measured with other weights than those in"):
        files_to_publish(run, "user/smile")


def test_an_export_of_other_weights_is_refused(run):
    """`tgdfer export RUN` exports the best model, and the measured one may be the last."""
    shutil.copytree(run / "best", run / "last")
    save_file({"weight": torch.ones(3)}, run / "last" / "model.safetensors")
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "model": "last"}))
    (run / "onnx").mkdir()
    (run / "onnx" / "export.json").write_text(json.dumps({"weights_sha256": weights_sha256(run / "best")}))
    (run / "onnx" / "model.onnx").write_bytes(b"graph")
    with pytest.raises(UserError, match="onnx has other weights than .*last; run `tgdfer export .*last --output .*on"):
        files_to_publish(run, "user/smile")
    (run / "onnx" / "export.json").write_text(json.dumps({"weights_sha256": weights_sha256(run / "last")}))
    assert "onnx/export.json" in files_to_publish(run, "user/smile")


def test_model_without_auto_map(run):
    config = json.loads((run / "best/config.json").read_text())
    (run / "best/config.json").write_text(json.dumps({**config, "auto_map": {}}))
    with pytest.raises(UserError, match=r"\(no auto_map\), .*; save it again with `model.save_pretrained`"):
        publish(run, "user/smile")


def test_errors_and_lists_of_clips_are_never_sent(run, model_folder):
    """Neither from the folder of a run, nor if they were written into the folder of a model."""
    for folder in (run, shutil.copytree(model_folder, run.parent / "alone")):
        before = set(files_to_publish(folder, "user/smile"))
        (folder / "errors").mkdir()
        (folder / "errors" / "most_confident.png").write_bytes(b"a face")
        for name in ("errors/most_confident.csv", "predictions.csv", "per_class.csv"):
            (folder / name).write_text("file\n")
        assert set(files_to_publish(folder, "user/smile")) == before
