"""Adapters: published without their CLIP, and loaded by their id."""

import json
import re
import shutil

import pytest
import torch
from hub_server import serve
from rich.filesize import decimal
from safetensors import safe_open

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor, clip_tiny_faces
from tgdfer.command_line import main
from tgdfer.model_card.hub.adapter_files import adapter_files_to_publish
from tgdfer.modeling_tgdfer.checkpoints_tgdfer import ADAPTER_NAME
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained

pytestmark = pytest.mark.slow

PUSH_AND_LOAD = """
import sys
import torch
from tgdfer.command_line import main
from tgdfer.training.models import load_trained

run, clip, commit = sys.argv[1:]
assert main(["push", run, "user/smile", "--adapter"]) == 0
for name in ("user/smile", "user/smile@main"):
    model, processor = load_trained(name)
    inputs = processor(videos=[clip], return_tensors="pt")
    with torch.no_grad():
        print(model.has_lora, model.config.temperature, model(**inputs).logits[0].tolist())
assert main(["predict", clip, "--model", "user/smile", "--face-crop", "none"]) == 0
"""


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory, clips_folder, descriptions_file):
    """A run that was trained with LoRA on the CLIP of the package."""
    from tgdfer.training.config import TrainingConfig
    from tgdfer.training.train import train

    output = tmp_path_factory.mktemp("adapters") / "run"
    options = {"dataset": clips_folder, "descriptions": descriptions_file, "num_frames": 2, "epochs": 1}
    train(TrainingConfig.from_options(**options, output=output, model_options={"lora_layers": 1}, batch_size=8))
    return output


@torch.no_grad()
def test_pushed_and_loaded_by_id(lora_run, clip_file, tmp_path):
    with serve() as hub:
        printed = hub.python(PUSH_AND_LOAD, lora_run, clip_file, "main", home=tmp_path)
        files = hub.model("user/smile").head.files
    model, processor = load_trained(lora_run)
    expected = model(**processor(videos=[clip_file], return_tensors="pt")).logits[0]
    answers = [line for line in printed.splitlines() if line.startswith("True ")]
    assert len(answers) == 2
    for line in answers:
        has_lora, temperature, logits = line.split(" ", 2)
        assert float(temperature) == pytest.approx(model.config.temperature)
        torch.testing.assert_close(torch.tensor(json.loads(logits)), expected, rtol=1e-4, atol=1e-4)
    assert ADAPTER_NAME in files and "model.safetensors" not in files and "modeling_tgdfer.py" not in files
    assert len(files[ADAPTER_NAME].data) < (lora_run / "best" / "model.safetensors").stat().st_size / 2
    card = files["README.md"].data.decode()
    size = decimal(len(files[ADAPTER_NAME].data))
    assert re.search(rf"- Size: .*, {re.escape(size)} \(F32\), without the CLIP\n", card)
    assert "- LoRA: rank" in card and "merged" not in card
    assert "from_adapter(" in card and "trust_remote_code" not in card and "library_name: tgdfer" in card


def test_an_adapter_replaces_a_model_and_a_model_an_adapter(lora_run, tmp_path):
    """Both would be loaded as what they are not."""
    script = (
        "import sys\nfrom tgdfer.model_card.publish import publish\n"
        "for adapter in (False, True, False):\n    publish(sys.argv[1], 'user/smile', adapter=adapter)\n"
    )
    with serve() as hub:
        hub.python(script, lora_run, home=tmp_path)
        commits = [set(commit.files) for commit in hub.model("user/smile").pushed]
    assert [sorted(path for path in files if path.endswith(".safetensors")) for files in commits] == [
        ["model.safetensors"],
        [ADAPTER_NAME],
        ["model.safetensors"],
    ]
    assert commits[0] == commits[2] and "modeling_tgdfer.py" not in commits[1]


def test_the_code_blocks_of_the_card_run(lora_run, clip_file, tmp_path, monkeypatch):
    files = adapter_files_to_publish(lora_run, "user/smile")
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, file in files.items():
        if "/" not in name:
            (folder / name).write_bytes(file if isinstance(file, bytes) else file.read_bytes())
    shutil.copy(clip_file, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    text = (folder / "README.md").read_text()
    (block,) = (part.split("```")[0] for part in text.split("```python\n")[1:])
    exec(block.replace('"user/smile"', repr(str(folder))), {})


def test_an_adapter_of_save_adapter(model_folder, clip_folder, tmp_path):
    """Its CLIP is a local one, so others could not load it."""
    processor = TGDFERProcessor.from_pretrained(model_folder)
    model = TGDFERForVideoClassification.from_clip(clip_folder, processor.class_prompts(), lora_layers=1)
    model.attach_lora()
    model.save_adapter(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match="belongs to a local CLIP, which others cannot load; publish the whole model"):
        adapter_files_to_publish(tmp_path / "adapter", "user/smile")

    processor = TGDFERProcessor.from_clip(str(clip_tiny_faces()), {"a": ["one"], "b": ["two"]}, num_frames=2)
    model = TGDFERForVideoClassification.from_clip(clip_tiny_faces(), processor.class_prompts(), num_frames=2)
    model.save_adapter(tmp_path / "other")
    processor.save_pretrained(tmp_path / "other")
    files = adapter_files_to_publish(tmp_path / "other", "user/smile")
    assert files[ADAPTER_NAME] == tmp_path / "other" / ADAPTER_NAME
    assert load_trained(tmp_path / "other", num_frames=3)[0].config.num_frames == 3
    with pytest.raises(UserError, match="an adapter cannot be loaded with another `lora_layers` than 4"):
        load_trained(tmp_path / "other", lora_layers=1)


def test_a_model_without_lora_has_an_adapter(tmp_path):
    processor = TGDFERProcessor.from_clip(str(clip_tiny_faces()), {"a": ["one"], "b": ["two"]}, num_frames=2)
    model = TGDFERForVideoClassification.from_clip(clip_tiny_faces(), processor.class_prompts(), num_frames=2)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    files = adapter_files_to_publish(tmp_path / "model", "user/smile")
    (tmp_path / "weights").write_bytes(files[ADAPTER_NAME])
    with safe_open(tmp_path / "weights", "pt") as file:
        assert not [name for name in file.keys() if "lora" in name or ".clip." in name]  # noqa: SIM118


def test_merged_lora_without_an_adapter(lora_run, tmp_path):
    shutil.copytree(lora_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "best" / "adapter")
    with pytest.raises(UserError, match="has no adapter, and LoRA was merged into its weights; train the model again"):
        adapter_files_to_publish(tmp_path / "run", "user/smile")


def test_a_damaged_adapter(lora_run, tmp_path):
    shutil.copytree(lora_run, tmp_path / "run")
    path = tmp_path / "run" / "best" / "adapter" / ADAPTER_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"tgdfer_adapter\.safetensors is damaged"):
        adapter_files_to_publish(tmp_path / "run", "user/smile")


def test_a_space_needs_a_clip_of_the_hub(lora_run, capsys):
    """It does not contain the weights of this package."""
    assert main(["push", str(lora_run), "user/smile", "--adapter", "--space", "--dry-run"]) == 2
    assert "A Space cannot load an adapter of" in " ".join(capsys.readouterr().err.split())
