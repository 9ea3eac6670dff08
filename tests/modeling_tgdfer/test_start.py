"""At the start: an untrained model is the CLIP that it was made from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, CLIPModel, CLIPTextModel

from tgdfer import TGDFERForVideoClassification, built_in_descriptions, clip_tiny_faces
from tgdfer.modeling_tgdfer.configuration_tgdfer import BASIC_EMOTIONS

from .conftest import DIM, EOS, PARTS, differ, make_prompts, tiny_clip_config


@pytest.mark.parametrize("eos_token_id", [EOS, 2], ids=["eos", "legacy_eos"])
@torch.no_grad()
def test_one_description_a_class_gives_the_logits_of_clip(
    tmp_path: Path, frames: torch.Tensor, eos_token_id: int
) -> None:
    clip = CLIPModel(tiny_clip_config(eos_token_id)).eval()
    clip.save_pretrained(tmp_path)
    prompts = make_prompts(["anger", "fear", "joy"], descriptions=1)
    model = TGDFERForVideoClassification.from_clip(tmp_path, prompts, initial_scale=7.0)
    zero_shot = clip(input_ids=prompts["input_ids"].squeeze(1), pixel_values=frames.flatten(0, 1)).logits_per_image
    expected = 7.0 / clip.logit_scale.exp() * zero_shot
    output = model(frames)
    assert differ(output.frame_logits.flatten(0, 1), expected) < 1e-5
    # The clip's answer is CLIP's too: the mean over frames that count the more, the more they say for the class.
    relevance = expected.unflatten(0, frames.shape[:2]).softmax(1)
    assert differ(output.frame_relevance, relevance) < 1e-5
    assert differ(output.logits, (relevance * expected.unflatten(0, frames.shape[:2])).sum(1)) < 1e-4


@pytest.mark.parametrize("eos_token_id", [EOS, 2], ids=["eos", "legacy_eos"])
@torch.no_grad()
def test_several_descriptions_are_clips_texts(
    tmp_path: Path, prompts: dict, frames: torch.Tensor, eos_token_id: int
) -> None:
    clip = CLIPModel(tiny_clip_config(eos_token_id)).eval()
    clip.save_pretrained(tmp_path)
    output = TGDFERForVideoClassification.from_clip(tmp_path, prompts)(frames)
    texts = clip.get_text_features(prompts["input_ids"].flatten(0, 1)).pooler_output
    texts = F.normalize(texts, dim=-1).unflatten(0, prompts["input_ids"].shape[:2])
    images = F.normalize(clip.get_image_features(frames.flatten(0, 1)).pooler_output, dim=-1)
    images = images.unflatten(0, frames.shape[:2])
    weight = prompts["description_mask"].float().unsqueeze(-1)
    cosines = torch.einsum("btd,kmd->btkm", images, texts) * weight.squeeze(-1)
    assert differ(output.description_relevance, cosines) < 1e-5
    texts = F.normalize((texts * weight).sum(1) / weight.sum(1), dim=-1)
    assert differ(output.frame_logits, 10.0 * images @ texts.T) < 1e-4


# These parts change the answers before any training.
WITH_A_SAY = ("motion_weights", "residue")


@pytest.mark.parametrize("part", [name for name in PARTS if name not in WITH_A_SAY])
@torch.no_grad()
def test_no_part_has_a_say_yet(
    clip_folder: Path, prompts: dict, frames: torch.Tensor, untrained: TGDFERForVideoClassification, part: str
) -> None:
    options = PARTS[part]
    other = TGDFERForVideoClassification.from_clip(clip_folder, prompts, **options)
    found, expected = other(frames), untrained(frames)
    assert differ(found.frame_logits, expected.frame_logits) < 1e-5
    if "mil_pooling" not in options:
        assert differ(found.logits, expected.logits) < 1e-4


@torch.no_grad()
def test_temporal_network_and_visual_prompts_are_exact_identities(untrained: TGDFERForVideoClassification) -> None:
    features = torch.randn(2, 6, DIM)
    seen = untrained.tgdfer(frame_features=features)
    assert torch.equal(seen.last_hidden_state, F.normalize(features, dim=-1))
    assert torch.equal(seen.frame_embeds, seen.last_hidden_state)
    mask, seconds = torch.ones(2, 6, dtype=torch.bool), torch.arange(6.0).expand(2, 6)
    for grain in (untrained.tgdfer.short_term, untrained.tgdfer.long_range):
        assert grain(features, seconds, mask).abs().max() == 0
    texts = seen.text_embeds.expand(2, -1, -1)
    rewritten = untrained.visual_prompts(texts, features, torch.rand(2, 6, 5), mask)
    assert torch.equal(rewritten, F.normalize(texts, dim=-1))


@pytest.mark.parametrize("eos_token_id", [EOS, 2], ids=["eos", "legacy_eos"])
@pytest.mark.parametrize("context", ["none", "shared", "class"])
@torch.no_grad()
def test_an_empty_context_is_plain_clip(tmp_path: Path, context: str, eos_token_id: int) -> None:
    clip = CLIPModel(tiny_clip_config(eos_token_id)).eval()
    clip.save_pretrained(tmp_path)
    prompts = make_prompts(["anger", "fear"], context_length=0)
    model = TGDFERForVideoClassification.from_clip(tmp_path, prompts, context=context)
    assert model.tgdfer.text_guidance.context is None
    expected = F.normalize(clip.get_text_features(prompts["input_ids"].flatten(0, 1)).pooler_output, dim=-1)
    assert differ(model.get_text_features().last_hidden_state.flatten(0, 1), expected) < 1e-6


@pytest.mark.parametrize("context", ["shared", "class"])
@torch.no_grad()
def test_a_context_that_has_learnt_is_read_in_place_of_the_phrase(
    clip_folder: Path, prompts: dict, context: str
) -> None:
    model = TGDFERForVideoClassification.from_clip(clip_folder, prompts, context=context)
    learnt = model.tgdfer.text_guidance.context
    words = torch.randint(0, 97, (learnt.num_embeddings,))
    embeddings = model.tgdfer.clip.text_model.embeddings.token_embedding
    learnt.weight.copy_(embeddings(words))
    ids = prompts["input_ids"].clone()
    ids[..., 1:4] = words.view(-1, 1, 3)
    text_model = CLIPTextModel.from_pretrained(clip_folder)
    expected = model.tgdfer.clip.text_projection(text_model(ids.flatten(0, 1)).pooler_output)
    assert differ(model.get_text_features().last_hidden_state.flatten(0, 1), F.normalize(expected, dim=-1)) < 1e-6


@torch.no_grad()
def test_class_names_alone_are_texts_too() -> None:
    model = TGDFERForVideoClassification.from_clip(clip_tiny_faces())
    tokenizer = AutoTokenizer.from_pretrained(clip_tiny_faces())
    clip = AutoModel.from_pretrained(clip_tiny_faces())
    assert list(model.config.id2label.values()) == list(BASIC_EMOTIONS) == sorted(BASIC_EMOTIONS)
    expected = clip.get_text_features(**tokenizer(list(BASIC_EMOTIONS), padding=True, return_tensors="pt"))
    assert differ(model.get_text_features().pooler_output, F.normalize(expected.pooler_output, dim=-1)) < 1e-5


def test_basic_emotions_are_those_with_descriptions() -> None:
    assert sorted(built_in_descriptions()) == list(BASIC_EMOTIONS)


# What is no CLIP must not become one with random weights.


def test_a_folder_without_clip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        TGDFERForVideoClassification.from_clip(tmp_path / "nothing")


def test_another_model_is_not_a_clip(untrained: TGDFERForVideoClassification, tmp_path: Path, prompts: dict) -> None:
    untrained.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not a supported dual encoder .its `model_type` is tgdfer.. Give"):
        TGDFERForVideoClassification.from_clip(tmp_path, prompts)


def test_a_clip_that_lacks_weights_is_an_error(clip_folder: Path, tmp_path: Path, prompts: dict) -> None:
    CLIPModel.from_pretrained(clip_folder).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights, such as visual_projection.weight; save or download it again"):
        TGDFERForVideoClassification.from_clip(tmp_path, prompts)
