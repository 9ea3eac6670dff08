"""Checkpoints whose files hold something that no checkpoint has."""

import json
import shutil
from pathlib import Path

import pytest

from tgdfer import tgdfer_tiny
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained


@pytest.fixture
def folder(tmp_path) -> Path:
    for file in Path(tgdfer_tiny()).iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("config.json", "num_frames", -3),
        ("config.json", "long_range_layers", 10**7),
        ("config.json", "dtype", "nonsense"),
        ("config.json", "clip_config", 5),
        ("config.json", "clip_config.text_config.hidden_act", "nonsense"),
        ("config.json", "clip_config.vision_config.architecture", "local-dir:/etc"),
        ("processor_config.json", "descriptions", {"anger": 5}),
        ("processor_config.json", "context_phrase", 5),
        ("processor_config.json", "video_processor.image_std", [0, 0, 0]),
        ("preprocessor_config.json", "size", {"shortest_edge": 100_000}),
    ],
)
def test_odd_values_are_one_sentence(file, field, value, folder):
    content = json.loads((folder / file).read_text())
    *path, last = field.split(".")
    place = content
    for name in path:
        place = place[name]
    place[last] = value
    (folder / file).write_text(json.dumps(content))
    if file == "preprocessor_config.json":  # It counts where the other one has no settings.
        whole = json.loads((folder / "processor_config.json").read_text())
        whole.pop("video_processor", None)
        (folder / "processor_config.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match=r"^[^\n]*\.$"):
        load_trained(folder)


@pytest.mark.parametrize("text", ["[]", "{", "5"])
def test_a_config_that_is_none(text, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"^[^\n]*\.$"):
        load_trained(folder)
