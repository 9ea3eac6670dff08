"""The header of a file of weights says what it contains: format, version and training data."""

import json
from importlib.metadata import version

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.checkpoints_tgdfer import ADAPTER_NAME, write_metadata
from tgdfer.modeling_tgdfer.configuration_tgdfer import FORMAT_VERSION

DATA = [{"name": "clips", "license": "cc-by-4.0", "num_clips": 12}]


@pytest.fixture
def model(clip_folder):
    model = TGDFERForVideoClassification.from_clip(clip_folder, num_frames=2, lora_layers=1)
    model.config.training_data = DATA
    return model


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def assert_described(path):
    found = header(path)
    assert found["format"] == "pt" and found["format_version"] == str(FORMAT_VERSION)
    assert found["tgdfer_version"] == version("tgdfer")
    assert json.loads(found["training_data"]) == DATA


def test_whole_models(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert_described(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == (tmp_path / "config.json").stat().st_mode & 0o777
    again = TGDFERForVideoClassification.from_pretrained(tmp_path)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    assert not list(tmp_path.glob(".*"))


def test_shards(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 1
    for file in files:
        assert_described(file)
    TGDFERForVideoClassification.from_pretrained(tmp_path)


def test_merged_and_adapters(model, tmp_path):
    model.attach_lora()
    model.save_pretrained(tmp_path / "merged", merge_lora=True)
    assert_described(tmp_path / "merged" / "model.safetensors")
    model.save_adapter(tmp_path / "adapter")
    assert_described(tmp_path / "adapter" / ADAPTER_NAME)


def test_without_training_data(model, tmp_path):
    model.config.training_data = None
    model.save_pretrained(tmp_path)
    assert set(header(tmp_path / "model.safetensors")) == {"format", "format_version", "tgdfer_version"}


def test_the_same_weights_give_the_same_file(model, tmp_path):
    for name in "ab":
        model.save_pretrained(tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize("text", ["", "x" * 5000, "é\n\"'\\", "{}"])
def test_only_the_header_changes(tmp_path, text):
    path = tmp_path / "model.safetensors"
    weights = {"a": torch.arange(5), "b": torch.rand(3, 7), "empty": torch.zeros(0), "half": torch.rand(3).half()}
    save_file(weights, path, metadata={"format": "pt"})
    for _ in range(2):
        write_metadata(path, {"format": "pt", "text": text})
        assert header(path) == {"format": "pt", "text": text}
        assert all(torch.equal(load_file(path)[name], weight) for name, weight in weights.items())


def test_metadata_of_others_are_kept(model, tmp_path):
    """transformers writes those of a quantisation, without which the weights cannot be loaded."""
    model.save_pretrained(tmp_path)
    write_metadata(tmp_path / "model.safetensors", {"quantisation": "int8"})
    model.config.save_pretrained(tmp_path)
    assert_described(tmp_path / "model.safetensors")
    assert header(tmp_path / "model.safetensors")["quantisation"] == "int8"
