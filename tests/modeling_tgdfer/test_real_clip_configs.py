"""The CLIPs that people start from: their real configs, with random weights.

Widths, heads, activations and vocabulary are real, the towers are one block deep: all blocks of a tower have the same
keys. Where there are weights, the feed-forward layers are narrowed: they would be many MB of the same kind. That the
shapes are those of the published configs is tested without weights.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from tgdfer import TGDFERForVideoClassification

from .conftest import differ

BOS, EOS, PHRASE = 49406, 49407, (320, 1125, 539)


@dataclass(frozen=True)
class Published:
    """What sets the config of a published CLIP apart from the others.

    Attributes:
        text: width, feed-forward width and heads of the text tower.
        vision: the same of the vision tower, then its blocks, side of the picture and of a patch.
        joint: width of the joint space.
        activation: of both towers: OpenAI's is an approximation.
    """

    text: tuple[int, int, int]
    vision: tuple[int, int, int, int, int, int]
    joint: int
    activation: str = "quick_gelu"

    def config(self) -> dict[str, Any]:
        """The `config.json`, as it stands beside the weights, with the legacy end of text that all of them name."""
        names = ("hidden_size", "intermediate_size", "num_attention_heads")
        text = dict(zip(names, self.text, strict=True))
        vision = dict(zip((*names, "num_hidden_layers", "image_size", "patch_size"), self.vision, strict=True))
        common = {"hidden_act": self.activation, "projection_dim": self.joint, "layer_norm_eps": 1e-5}
        tokens = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        text |= {"num_hidden_layers": 12, "vocab_size": 49408, "max_position_embeddings": 77, **common, **tokens}
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "logit_scale_init_value": 2.6592,
            "projection_dim": self.joint,
            "text_config": {"model_type": "clip_text_model", **text},
            "vision_config": {"model_type": "clip_vision_model", **vision, **common},
        }


PUBLISHED = {
    "openai/clip-vit-base-patch16": Published((512, 2048, 8), (768, 3072, 12, 12, 224, 16), 512),
    "openai/clip-vit-base-patch32": Published((512, 2048, 8), (768, 3072, 12, 12, 224, 32), 512),
    "openai/clip-vit-large-patch14": Published((768, 3072, 12), (1024, 4096, 16, 24, 224, 14), 768),
    "openai/clip-vit-large-patch14-336": Published((768, 3072, 12), (1024, 4096, 16, 24, 336, 14), 768),
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": Published((512, 2048, 8), (768, 3072, 12, 12, 224, 32), 512, "gelu"),
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": Published((768, 3072, 12), (1024, 4096, 16, 24, 224, 14), 768, "gelu"),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": Published((1024, 4096, 16), (1280, 5120, 16, 32, 224, 14), 1024, "gelu"),
}


def prompts() -> dict[str, Any]:
    ids = torch.full((2, 1, 12), EOS)
    ids[..., 0], ids[..., 1:4] = BOS, torch.tensor(PHRASE)
    ids[0, 0, 4:8], ids[1, 0, 4:10] = torch.randint(1000, 40000, (4,)), torch.randint(1000, 40000, (6,))
    mask = torch.ones(2, 1, dtype=torch.bool)
    return {"labels": ["anger", "joy"], "input_ids": ids, "description_mask": mask, "context_length": len(PHRASE)}


@pytest.fixture(params=PUBLISHED.values(), ids=PUBLISHED)
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Folder of a CLIP with random weights: both towers one block deep, their feed-forward layers 64 wide."""
    config = request.param.config()
    for tower in ("text_config", "vision_config"):
        config[tower]["num_hidden_layers"] = 1
        config[tower]["intermediate_size"] = 64
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(**config))
    clip.to_empty(device="cpu")
    with torch.no_grad():
        for module in clip.modules():
            for name, numbers in module.named_buffers(recurse=False):
                numbers.copy_(torch.arange(numbers.shape[-1]))  # they hold positions
                assert name == "position_ids"
        for name, weight in clip.named_parameters():
            # A few random numbers over and over: a vocabulary of other ones each takes long to draw.
            few = torch.randn(min(weight.numel(), 100_003)) * (0.02 if weight.ndim > 1 else 0.1) + ("norm" in name)
            weight.copy_(few.repeat(-(-weight.numel() // len(few)))[: weight.numel()].view_as(weight))
        clip.logit_scale.fill_(4.6052)  # as trained: 100, and not what the config starts from
    # Older checkpoints hold the numbers of the positions as well.
    numbers = {
        f"{tower}_model.embeddings.position_ids": getattr(clip, f"{tower}_model").embeddings.position_ids.clone()
        for tower in ("text", "vision")
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(clip.state_dict() | numbers, tmp_path / "model.safetensors", metadata={"format": "pt"})
    yield tmp_path
    shutil.rmtree(tmp_path)  # up to 400 MB


@pytest.fixture
def warnings_of_transformers(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """What its loggers say: they stop below the root, where `caplog` listens."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return caplog


@pytest.mark.slow
@torch.no_grad()
def test_all_of_it_is_taken_over(published: Path, warnings_of_transformers: pytest.LogCaptureFixture) -> None:
    words = prompts()
    model = TGDFERForVideoClassification.from_clip(published, words)
    assert not warnings_of_transformers.records, "it warns of missing and of unexpected weights"
    saved = {name: value for name, value in load_file(published / "model.safetensors").items() if "_ids" not in name}
    taken = model.tgdfer.clip.state_dict()
    assert saved.keys() == taken.keys()
    assert {"logit_scale", "text_projection.weight", "visual_projection.weight"} < saved.keys()
    assert all(torch.equal(taken[name], value) for name, value in saved.items())
    assert model.tgdfer.clip.logit_scale.item() == pytest.approx(4.6052)
    assert model.log_scale.exp().item() == pytest.approx(10.0)

    clip = CLIPModel.from_pretrained(published)
    side = clip.config.vision_config.image_size
    pixels = torch.randn(2, 3, side, side)
    zero_shot = clip(input_ids=words["input_ids"].squeeze(1), pixel_values=pixels).logits_per_image
    assert differ(model(pixels.unsqueeze(0)).frame_logits[0], zero_shot / clip.logit_scale.exp() * 10) < 1e-4
    texts = clip.get_text_features(words["input_ids"].squeeze(1)).pooler_output
    assert differ(model.get_text_features().pooler_output, F.normalize(texts, dim=-1)) < 1e-5


@pytest.mark.parametrize("name", PUBLISHED)
def test_at_full_size_the_keys_and_shapes_are_clips(name: str) -> None:
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(**PUBLISHED[name].config()))
        model = TGDFERForVideoClassification(
            TGDFERForVideoClassification.config_class(clip_config=PUBLISHED[name].config())
        )
        model.attach_lora()
    shapes = {name: tuple(value.shape) for name, value in clip.state_dict().items()}
    inside = {
        name.removeprefix("tgdfer.clip.").replace(".base_layer", ""): tuple(value.shape)
        for name, value in model.state_dict().items()
        if name.startswith("tgdfer.clip.") and "lora_" not in name
    }
    assert inside == shapes
