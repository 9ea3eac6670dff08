"""LoRA: what it adapts, that it learns, that it can be merged or saved apart from its CLIP."""

import copy
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import serve
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, CLIPConfig, CLIPModel

from tgdfer import TGDFERConfig, TGDFERForVideoClassification
from tgdfer.modeling_tgdfer import checkpoints_tgdfer
from tgdfer.modeling_tgdfer.checkpoints_tgdfer import ADAPTER_NAME, adapter_state
from tgdfer.modeling_tgdfer.configuration_tgdfer import FORMAT_VERSION

from .conftest import DIM, PARTS, Maker, differ, make_prompts, move_all_but_clip, move_lora, tiny_clip_config

PROJECTIONS = ("k_proj", "out_proj", "q_proj", "v_proj")


def adapted(model: TGDFERForVideoClassification) -> set[str]:
    """Names in CLIP of the modules that LoRA adapts."""
    return {name.rsplit(".", 3)[0] for name, _ in model.tgdfer.clip.named_parameters() if "lora_" in name}


def projections(tower: str, blocks: range) -> set[str]:
    return {f"{tower}_model.encoder.layers.{block}.self_attn.{name}" for block in blocks for name in PROJECTIONS}


@pytest.fixture
def adapting(model: TGDFERForVideoClassification) -> TGDFERForVideoClassification:
    """A model with LoRA attached, every part of it away from its start."""
    model.attach_lora()
    move_lora(model)
    return model


# What is adapted.


@pytest.mark.parametrize("vision, text", [(2, 1), (3, 0), (0, 2), (1, 2), (0, 0)])
def test_the_last_blocks_of_each_tower_are_adapted(
    untrained: TGDFERForVideoClassification, frames: torch.Tensor, vision: int, text: int
) -> None:
    before = untrained(frames).logits
    untrained.config.lora_layers, untrained.config.lora_text_layers = vision, text
    untrained.attach_lora()
    assert adapted(untrained) == projections("vision", range(3 - vision, 3)) | projections("text", range(2 - text, 2))
    assert untrained.has_lora == bool(vision or text)
    assert torch.equal(untrained.eval()(frames).logits, before), "LoRA starts at zero"


def vit_b_16(**options: int) -> TGDFERForVideoClassification:
    """A model at the size of ViT-B/16, for 7 classes of 6 descriptions, without storage."""
    config = TGDFERConfig(
        clip_config=CLIPConfig(vision_config={"patch_size": 16}), max_descriptions=6, prompt_length=77, **options
    )
    with torch.device("meta"):
        model = TGDFERForVideoClassification(config)
        model.attach_lora()
    return model


def test_of_twelve_blocks_the_last_four_and_two() -> None:
    names = adapted(vit_b_16(lora_layers=4, lora_text_layers=2))
    assert len(names) == 24
    assert names == projections("vision", range(8, 12)) | projections("text", range(10, 12))


def test_more_blocks_than_there_are(untrained: TGDFERForVideoClassification) -> None:
    untrained.config.lora_layers = 9
    with pytest.raises(ValueError, match="`lora_layers` is 9, but the vision tower has 3 blocks; lower `lora_layers`"):
        untrained.attach_lora()


def test_what_is_trained(untrained: TGDFERForVideoClassification) -> None:
    untrained.attach_lora()
    trained = {name for name, parameter in untrained.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained if ".clip." in name)
    groups = untrained.parameter_groups()
    assert sum(len(group) for group in groups.values()) == len(trained)
    assert all(groups.values())


def test_the_blocks_below_run_without_gradient(adapting: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    needs_gradient: list[bool] = []
    for block in adapting.tgdfer.clip.vision_model.encoder.layers:
        block.register_forward_hook(lambda _, inputs, output: needs_gradient.append(output.requires_grad))
    adapting.train()(frames)
    assert needs_gradient == [False, True, True]


# Attach, train, merge, save.


def train_lora(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """A few steps at a high rate, so that LoRA is far from zero."""
    model.train()
    optimizer = torch.optim.AdamW([p for group in model.parameter_groups().values() for p in group], lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        model(frames, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    model.eval()


# Looks like a machine on which some packages were never installed: to import them fails, and to ask for them too.
WITHOUT_PEFT = """
import sys

missing = {"peft", "tgdfer"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import torch
from transformers import AutoModelForVideoClassification

folder, given, results = sys.argv[1:]
frames = torch.load(given)
remote = AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)
assert type(remote).__module__.startswith("transformers_modules.")
missing.remove("tgdfer")
from tgdfer import TGDFERForVideoClassification

model = TGDFERForVideoClassification.from_pretrained(folder)
try:
    model.attach_lora()
except ImportError as error:
    sentence = str(error)
assert "peft" not in sys.modules
with torch.no_grad():
    outputs = [dict(model(frames)), dict(remote(frames))]
torch.save({"outputs": outputs, "sentence": sentence}, results)
"""


OUTPUTS = ("logits", "frame_logits", "frame_relevance", "description_relevance", "video_embeds")


def test_attach_train_save_merge(
    untrained: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor
) -> None:
    start = untrained(frames)
    untrained.attach_lora()
    train_lora(untrained, frames)
    with torch.no_grad():
        unmerged = untrained(frames)
    assert differ(unmerged.logits, start.logits) > 0.1
    assert (
        differ(
            untrained.get_frame_features(frames),
            CLIPModel.get_image_features(
                untrained.merged_copy().tgdfer.clip, frames.flatten(0, 1)
            ).pooler_output.unflatten(0, (2, 6)),
        )
        < 1e-5
    )
    untrained.save_pretrained(tmp_path, state_dict=untrained.state_dict(), merge_lora=True)
    assert untrained.has_lora, "saving changes nothing"
    assert not any("lora" in name for name in load_file(tmp_path / "model.safetensors"))
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path)
    untrained.merge_lora()
    assert not untrained.has_lora
    with torch.no_grad():
        for output in (untrained(frames), loaded(frames)):
            assert all(differ(output[name], unmerged[name]) < 1e-5 for name in OUTPUTS)


@pytest.mark.slow  # it starts another Python
def test_a_model_saved_with_lora_loads_without_peft(
    adapting: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor
) -> None:
    with torch.no_grad():
        unmerged = adapting(frames)
    adapting.save_pretrained(tmp_path / "saved", merge_lora=True)
    torch.save(frames, tmp_path / "frames.pt")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    arguments = [str(tmp_path / name) for name in ("saved", "frames.pt", "results.pt")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PEFT, *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    there = torch.load(tmp_path / "results.pt")
    assert there["sentence"] == "LoRA needs peft: `pip install peft`."
    for output in there["outputs"]:
        assert all(differ(output[name], unmerged[name]) < 1e-5 for name in OUTPUTS)


@torch.no_grad()
def test_lora_can_be_pickled(adapting: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    """As `torch.save` and started processes do."""
    file = io.BytesIO()
    torch.save(adapting, file)
    file.seek(0)
    for again in (torch.load(file, weights_only=False), copy.deepcopy(adapting)):
        assert torch.equal(again(frames).logits, adapting(frames).logits)
        modules = zip(again.modules(), adapting.modules(), strict=True)
        assert all(type(one) is type(other) for one, other in modules)
        again.attach_lora()  # is attached already
        again.merge_lora()
        assert not again.has_lora and adapting.has_lora


# Adapters.


def save_and_load(
    model: TGDFERForVideoClassification, folder: Path, clip_folder: Path
) -> TGDFERForVideoClassification:
    model.save_adapter(folder)
    return TGDFERForVideoClassification.from_adapter(folder, clip=clip_folder)


@torch.no_grad()
def test_an_adapter_gives_the_same_outputs(
    adapting: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path, frames: torch.Tensor
) -> None:
    loaded = save_and_load(adapting, tmp_path, clip_folder)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", ADAPTER_NAME}
    assert loaded.has_lora and adapting.has_lora and adapted(loaded) == adapted(adapting)
    assert not loaded.training
    assert loaded.config.id2label == adapting.config.id2label
    expected = adapting(frames)
    found = loaded(frames)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # It goes on where it was, and can be merged and saved as a whole.
    trainable = {name for name, parameter in adapting.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in loaded.named_parameters() if parameter.requires_grad} == trainable
    loaded.save_pretrained(tmp_path / "whole", merge_lora=True)
    whole = TGDFERForVideoClassification.from_pretrained(tmp_path / "whole")
    assert differ(whole(frames).frame_relevance, expected.frame_relevance) < 1e-5


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
@torch.no_grad()
def test_an_adapter_without_lora_of_other_parts_and_classes(
    from_clip: Maker, clip_folder: Path, tmp_path: Path, frames: torch.Tensor, options: dict
) -> None:
    model = from_clip(**options)
    move_all_but_clip(model)
    model.set_classes(make_prompts(["boredom", "fear"], descriptions=4, seed=5))
    loaded = save_and_load(model, tmp_path, clip_folder)
    assert not loaded.has_lora and loaded.config.label2id == {"boredom": 0, "fear": 1}
    assert torch.equal(loaded(frames).logits, model(frames).logits)


def test_what_an_adapter_holds(adapting: TGDFERForVideoClassification, tmp_path: Path) -> None:
    adapting.save_adapter(tmp_path)
    saved = load_file(tmp_path / ADAPTER_NAME)
    assert saved.keys() == {
        name for name in adapting.state_dict() if not name.startswith("tgdfer.clip.") or "lora_" in name
    }
    for part in (
        "lora_A",
        "lora_B",
        "prompt_ids",
        "description_mask",
        "description_weight",
        "context",
        "short_term",
        "long_range",
        "relevance",
        "visual_prompts",
        "log_scale",
        "bias",
    ):
        assert any(part in name for name in saved), part
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["clip_sha256"] == adapting.config.clip_sha256 and len(config["clip_sha256"]) == 64
    assert "auto_map" not in config and "custom_pipelines" not in config  # there is no code beside it
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TGDFERConfig)
    assert str(tmp_path.parent) not in (tmp_path / "config.json").read_text(), "paths are nobody's business"


@pytest.mark.parametrize("lora", [{}, {"lora_layers": 12, "lora_text_layers": 12, "lora_rank": 16}])
def test_at_the_size_of_vit_b_16_it_is_small(lora: dict) -> None:
    model = vit_b_16(**lora)
    adapter = sum(weight.nbytes for weight in adapter_state(model).values())
    plain = sum(weight.nbytes for name, weight in model.state_dict().items() if "lora_" not in name)
    assert plain > 590e6, "not ViT-B/16"
    assert adapter < 0.03 * plain


def other_clip(folder: Path, **changes: int) -> Path:
    config = tiny_clip_config()
    for name, value in changes.items():
        setattr(config.vision_config, name, value)
    torch.manual_seed(7)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("changes", [{}, {"num_hidden_layers": 4}, {"patch_size": 8}], ids=str)
def test_a_wrong_base_is_refused(adapting: TGDFERForVideoClassification, tmp_path: Path, changes: dict) -> None:
    adapting.save_adapter(tmp_path / "adapter")
    wrong = other_clip(tmp_path / "wrong", **changes)
    with pytest.raises(ValueError, match="wrong does not have the weights that this adapter was trained with"):
        TGDFERForVideoClassification.from_adapter(tmp_path / "adapter", clip=wrong)


def test_one_changed_weight_makes_a_base_wrong(
    adapting: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path
) -> None:
    adapting.save_adapter(tmp_path / "adapter")
    clip = CLIPModel.from_pretrained(clip_folder)
    with torch.no_grad():
        clip.text_model.encoder.layers[0].mlp.fc1.bias[3] += 1e-6
    clip.save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match="does not have the weights"):
        TGDFERForVideoClassification.from_adapter(tmp_path / "adapter", clip=tmp_path / "clip")


def test_a_base_in_a_folder_must_be_named(adapting: TGDFERForVideoClassification, tmp_path: Path) -> None:
    adapting.save_adapter(tmp_path)
    with pytest.raises(ValueError, match="pass it as `clip`"):
        TGDFERForVideoClassification.from_adapter(tmp_path)


def test_no_adapter_and_no_base_are_named(
    adapting: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path
) -> None:
    with pytest.raises(OSError, match=ADAPTER_NAME):
        TGDFERForVideoClassification.from_adapter(clip_folder)
    adapting.save_adapter(tmp_path)
    with pytest.raises(OSError, match="nowhere"):
        TGDFERForVideoClassification.from_adapter(tmp_path, clip=tmp_path / "nowhere")


def test_of_a_changed_clip_no_adapter_is_saved(
    adapting: TGDFERForVideoClassification, untrained: TGDFERForVideoClassification, tmp_path: Path
) -> None:
    adapting.merge_lora()
    sentence = "LoRA was merged into it, .* save the whole model with `save_pretrained`"
    with pytest.raises(ValueError, match=sentence):
        adapting.save_adapter(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    # Nor of one that was loaded with LoRA merged, even where LoRA is attached anew.
    adapting.save_pretrained(tmp_path / "whole", merge_lora=True)
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path / "whole")
    loaded.attach_lora()
    with pytest.raises(ValueError, match=sentence):
        loaded.save_adapter(tmp_path / "adapter")


def test_a_model_that_was_saved_whole_still_knows_its_base(
    model: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path, frames: torch.Tensor
) -> None:
    model.save_pretrained(tmp_path / "whole")
    whole = TGDFERForVideoClassification.from_pretrained(tmp_path / "whole")
    loaded = save_and_load(whole, tmp_path / "adapter", clip_folder)
    assert torch.equal(loaded(frames).logits, model(frames).logits)
    with pytest.raises(ValueError, match="contains a whole model"):
        whole.save_adapter(tmp_path / "whole")


def test_an_adapter_is_written_whole_or_not_at_all(
    adapting: TGDFERForVideoClassification,
    tmp_path: Path,
    clip_folder: Path,
    frames: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapting.save_adapter(tmp_path)
    before = adapting(frames).logits
    adapting.set_classes(make_prompts(["boredom", "fear"], seed=5))

    def cut_off(weights: dict, path: Path, **kwargs: object) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints_tgdfer, "save_file", cut_off)
        with pytest.raises(OSError, match="No space"):
            adapting.save_adapter(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", ADAPTER_NAME}
    loaded = TGDFERForVideoClassification.from_adapter(tmp_path, clip=clip_folder)
    assert torch.equal(loaded(frames).logits, before), "the older one is untouched"

    rename = Path.replace

    def killed(path: Path, target: Path) -> None:
        if target.name == ADAPTER_NAME:
            raise KeyboardInterrupt
        rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            adapting.save_adapter(tmp_path)
    with pytest.raises(OSError, match=ADAPTER_NAME):  # not the old weights under the new config
        TGDFERForVideoClassification.from_adapter(tmp_path, clip=clip_folder)


def test_a_damaged_adapter_is_named(adapting: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path) -> None:
    adapting.save_adapter(tmp_path)
    path = tmp_path / ADAPTER_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{ADAPTER_NAME} is damaged"):
        TGDFERForVideoClassification.from_adapter(tmp_path, clip=clip_folder)
    adapting.set_classes(make_prompts(["boredom", "fear"], seed=5))
    adapting.save_adapter(tmp_path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="do not match \\(first difference: bias\\)"):
        TGDFERForVideoClassification.from_adapter(tmp_path, clip=clip_folder)


@torch.no_grad()
def test_an_adapter_from_before_formats_were_numbered(
    adapting: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path, frames: torch.Tensor
) -> None:
    """Its LoRA is called "default", and its config has no format: it is what it was, and saved as adapters are now."""
    old, new = tmp_path / "old", tmp_path / "new"
    adapting.save_adapter(old)
    weights = load_file(old / ADAPTER_NAME)
    renamed = {re.sub(r"(lora_[AB])\.tgdfer\.", r"\1.default.", name): weight for name, weight in weights.items()}
    assert renamed.keys() != weights.keys()
    save_file(renamed, old / ADAPTER_NAME, metadata={"format": "pt"})
    config = json.loads((old / "config.json").read_text())
    del config["format_version"], config["lora_attached"]
    (old / "config.json").write_text(json.dumps(config))

    loaded = TGDFERForVideoClassification.from_adapter(old, clip=clip_folder)
    assert loaded.has_lora and adapted(loaded) == adapted(adapting)
    expected, found = adapting(frames), loaded(frames)
    assert all(torch.equal(found[name], value) for name, value in expected.items())

    loaded.save_adapter(new)
    assert load_file(new / ADAPTER_NAME).keys() == weights.keys()
    assert json.loads((new / "config.json").read_text())["format_version"] == FORMAT_VERSION


# An adapter on the Hub names the commit of its base, and is loaded onto that, whatever has been pushed since.
ADAPTER_ON_A_HUB = """
import sys
import torch
from transformers import CLIPModel
from huggingface_hub import HfApi
from tgdfer import TGDFERForVideoClassification

folder, given, results = sys.argv[1:]
prompts, features = torch.load(given)
clip = CLIPModel.from_pretrained(folder)
clip.push_to_hub("user/clip")
model = TGDFERForVideoClassification.from_clip("user/clip", prompts, lora_layers=1)
commit = HfApi().model_info("user/clip").sha
assert (model.config.clip_name, model.config.clip_revision) == ("user/clip", commit), model.config
model.attach_lora()
for parameter in model.parameter_groups()["lora"]:
    parameter.data += 0.2 * torch.randn_like(parameter)
model.eval()
model.save_adapter("adapter")
HfApi().create_repo("user/adapter", private=True)
HfApi().upload_folder(repo_id="user/adapter", folder_path="adapter")
with torch.no_grad():
    for parameter in clip.parameters():
        parameter.mul_(1.1)
clip.push_to_hub("user/clip")
assert HfApi().model_info("user/clip").sha != commit

loaded = TGDFERForVideoClassification.from_adapter("user/adapter")
pixels = torch.randn(1, 4, 3, 32, 32)
with torch.no_grad():
    assert torch.equal(loaded(pixels).logits, model(pixels).logits)
sentences = []
for change in ({"clip_revision": "main"}, {"clip_revision": "0" * 40}):
    for name, value in change.items():
        setattr(model.config, name, value)
    model.save_adapter("wrong")
    try:
        TGDFERForVideoClassification.from_adapter("wrong")
    except (ValueError, OSError) as error:
        sentences.append(f"{type(error).__name__}: {error}")
torch.save(sentences, results)
"""


@pytest.mark.slow  # it starts another Python, and a server
def test_the_dtype_of_an_adapter(untrained: TGDFERForVideoClassification, tmp_path: Path, clip_folder: Path) -> None:
    untrained.save_adapter(tmp_path)
    for dtype, expected in (("auto", torch.float32), ("float16", torch.float16), (torch.bfloat16, torch.bfloat16)):
        model = TGDFERForVideoClassification.from_adapter(tmp_path, clip=clip_folder, dtype=dtype)
        assert model.dtype == expected and not model.training
        assert {parameter.dtype for parameter in model.parameters()} == {expected}


def test_an_adapter_on_a_hub_knows_the_revision_of_its_base(clip_folder: Path, tmp_path: Path, prompts: dict) -> None:
    torch.save((prompts, torch.randn(1, 4, DIM)), tmp_path / "given.pt")
    with serve() as hub:
        hub.python(ADAPTER_ON_A_HUB, clip_folder, tmp_path / "given.pt", tmp_path / "results.pt", home=tmp_path)
    wrong, missing = torch.load(tmp_path / "results.pt")
    assert wrong.startswith("ValueError: user/clip at revision main does not have the weights that this adapter"), (
        wrong
    )
    assert missing.startswith("OSError") and "user/clip" in missing, missing
