"""What transformers, peft and their users expect by name: text features, embeddings, attention, options, formats."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForVideoClassification
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tgdfer import TGDFERConfig, TGDFERForVideoClassification, TGDFERModel
from tgdfer.modeling_tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.configuration_tgdfer import FORMAT_VERSION

from .conftest import DIM, Maker, differ, move_all_but_clip

MASK = torch.tensor([[True] * 6, [True, False, True, True, False, True]])


@torch.no_grad()
def test_text_features_are_the_same_of_both_classes(model: TGDFERForVideoClassification) -> None:
    for network in (model, model.tgdfer):
        found = network.get_text_features()
        assert isinstance(found, BaseModelOutputWithPooling)
        assert found.pooler_output.shape == (5, DIM) and found.last_hidden_state.shape == (5, 3, DIM)
        for texts in found.values():
            assert differ(texts.norm(dim=-1), torch.ones(texts.shape[:-1])) < 1e-5
        assert isinstance(network.get_text_features(return_dict=False), tuple)
    assert torch.equal(found.pooler_output, model.tgdfer(frame_features=torch.randn(1, 2, DIM)).text_embeds)


@torch.no_grad()
def test_text_embeds(from_clip: Maker, frames: torch.Tensor) -> None:
    """(B, K, D), the same for all clips unless these rewrite the texts. Pipelines take each output apart by clips."""
    assert from_clip()(frames).text_embeds.shape == (2, 5, DIM)
    plain = from_clip(visual_prompts=False)
    found = plain(frames).text_embeds
    assert found.shape == (2, 5, DIM) and torch.equal(found[1], plain.get_text_features().pooler_output)


@torch.no_grad()
def test_the_config_may_ask_for_tuples(from_clip: Maker, frames: torch.Tensor) -> None:
    expected, model = from_clip()(frames).logits, from_clip(return_dict=False)
    assert torch.equal(model(frames)[0], expected)


@torch.no_grad()
def test_without_the_long_range_grain_there_are_no_states_to_return(from_clip: Maker, frames: torch.Tensor) -> None:
    output = from_clip(long_range=False)(frames, output_hidden_states=True, output_attentions=True)
    assert output.hidden_states == () and output.attentions == ()
    assert not TGDFERConfig().long_range, "it is off by default"


def test_input_embeddings(model: TGDFERForVideoClassification) -> None:
    tokens = model.tgdfer.clip.text_model.embeddings.token_embedding
    assert model.get_input_embeddings() is model.tgdfer.get_input_embeddings() is tokens
    new = nn.Embedding(100, 32)
    model.set_input_embeddings(new)
    assert model.tgdfer.clip.text_model.embeddings.token_embedding is new


def test_the_vocabulary_can_be_resized_and_saved(model: TGDFERForVideoClassification, tmp_path: Path) -> None:
    """Both look the text tower up in the config, as the option "auto" of DeepSpeed does for its width."""
    text = model.config.clip_config.text_config
    assert model.config.get_text_config() is text and "text_config" not in model.config.to_dict()
    model.resize_token_embeddings(text.vocab_size + 3)
    model.save_pretrained(tmp_path)
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert loaded.config.clip_config.text_config.vocab_size == len(loaded.get_input_embeddings().weight)


def test_names_and_types() -> None:
    assert TGDFERModel.input_modalities == TGDFERForVideoClassification.input_modalities == ("video",)
    assert TGDFERForVideoClassification.accepts_loss_kwargs is False
    assert TGDFERForVideoClassification._supports_flash_attn and TGDFERForVideoClassification._supports_flex_attn


# Compiled, as transformers does it, it takes half a minute of the compiler of C++.
@pytest.mark.parametrize("stance", ["force_eager", pytest.param("default", marks=pytest.mark.slow)])
@torch.no_grad()
def test_flex_attention(from_clip: Maker, stance: str) -> None:
    model = move_all_but_clip(from_clip(short_term_width=128, long_range_width=128))
    features = torch.randn(2, 6, DIM)
    expected = model(frame_features=features, frame_mask=MASK)
    model.tgdfer.short_term.config._attn_implementation = "flex_attention"
    with torch.compiler.set_stance(stance):
        found = model(frame_features=features, frame_mask=MASK)
    assert differ(found.logits, expected.logits) < 1e-3
    assert differ(found.frame_relevance, expected.frame_relevance) < 1e-5


def test_what_flash_attention_is_given(from_clip: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of the frames, and a window that counts as far as ours."""
    model, seen = from_clip(), []

    def note(module, query, key, value, attention_mask, **options):
        if "Temporal" in type(module).__name__:  # and not one of CLIP
            seen.append((attention_mask, options.get("sliding_window")))
        return value.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", note)
    model.tgdfer.short_term.config._attn_implementation = "flash_attention_2"
    model(frame_features=torch.randn(2, 6, DIM), frame_mask=MASK)
    (near, window), (far, no_window) = seen
    assert torch.equal(near, MASK) and torch.equal(far, MASK)
    assert window == model.config.short_term_window + 1 and no_window is None


@torch.no_grad()
def test_dropouts_are_read_at_run_time(untrained: TGDFERForVideoClassification) -> None:
    features = torch.randn(2, 6, DIM)
    untrained.train()
    for name in ("feature_dropout", "instance_dropout", "long_range_dropout"):
        for other in ("feature_dropout", "instance_dropout", "long_range_dropout"):
            setattr(untrained.config, other, 0.0)
        untrained.tgdfer.long_range.up.weight.normal_()
        still = untrained(frame_features=features).logits
        assert torch.equal(untrained(frame_features=features).logits, still)
        setattr(untrained.config, name, 0.9)
        assert any(differ(untrained(frame_features=features).logits, still) > 1e-4 for _ in range(5)), name


def test_positions_of_save_pretrained(model: TGDFERForVideoClassification, tmp_path: Path) -> None:
    """As `PreTrainedModel` has them: `push_to_hub` is the fourth."""
    model.save_pretrained(tmp_path, True, None, False, "20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert differ(TGDFERForVideoClassification.from_pretrained(tmp_path).bias.detach(), model.bias.detach()) == 0


# Options of `from_clip`.


def test_unknown_options_are_refused(clip_folder: Path, prompts: dict) -> None:
    for name, sentence in {
        "visual_prompt": "no option 'visual_prompt'; did you mean 'visual_prompts'",
        "lora_layer": "did you mean 'lora_layers'",
        "zzz": "no option 'zzz'; see `TGDFERConfig`",
        "clip_name": "no option 'clip_name'",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            TGDFERForVideoClassification.from_clip(clip_folder, prompts, **{name: False})


def test_hub_options_are_not_saved(clip_folder: Path, prompts: dict, tmp_path: Path) -> None:
    options = {"token": "hf_secret", "cache_dir": str(tmp_path / "cache"), "local_files_only": True}
    model = TGDFERForVideoClassification.from_clip(clip_folder, prompts, num_frames=4, **options)
    model.save_pretrained(tmp_path)
    saved = (tmp_path / "config.json").read_text()
    assert "hf_secret" not in saved and "cache" not in saved and json.loads(saved)["num_frames"] == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, "float16", "auto", None], ids=str)
@torch.no_grad()
def test_dtype(clip_folder: Path, prompts: dict, frames: torch.Tensor, dtype: object) -> None:
    options = {} if dtype is None else {"dtype": dtype}
    model = TGDFERForVideoClassification.from_clip(clip_folder, prompts, **options)
    expected = {"float16": torch.float16, torch.bfloat16: torch.bfloat16}.get(dtype, torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {expected} and model.dtype == expected
    assert torch.isfinite(model(frames).logits).all()


def test_no_random_clip_is_built(clip_folder: Path, prompts: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    built, build = [], modeling_tgdfer.build_dual_encoder

    def note(config: object) -> nn.Module:
        built.append(build(config))
        return built[-1]

    monkeypatch.setattr(modeling_tgdfer, "build_dual_encoder", note)
    model = TGDFERForVideoClassification.from_clip(clip_folder, prompts)
    assert len(built) == 1 and all(parameter.is_meta for parameter in built[0].parameters())
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


# Formats.


def saved_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_a_folder_says_its_format(model: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor) -> None:
    model.save_pretrained(tmp_path)
    assert saved_config(tmp_path)["format_version"] == FORMAT_VERSION
    config = saved_config(tmp_path)
    del config["format_version"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(frames).logits, model(frames).logits), "as before formats were numbered"
    loaded.save_pretrained(tmp_path / "again")
    assert saved_config(tmp_path / "again")["format_version"] == FORMAT_VERSION


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"format_version": 99}, "saved in format 99, .* Upgrade it with `pip install -U tgdfer`"),
        ({"format_version": 0, "sharpness": 2.0}, "format 0. .* has the field 'sharpness', which .* does not know"),
    ],
    ids=["newer", "renamed_field"],
)
def test_other_formats_are_refused(
    model: TGDFERForVideoClassification, tmp_path: Path, change: dict, sentence: str
) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(saved_config(tmp_path) | change))
    with pytest.raises(ValueError, match=sentence):
        TGDFERForVideoClassification.from_pretrained(tmp_path)


def test_renamed_weights_are_refused(model: TGDFERForVideoClassification, tmp_path: Path) -> None:
    renamed = {name.replace("short_term", "short_grain"): value for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=renamed)
    (tmp_path / "config.json").write_text(json.dumps(saved_config(tmp_path) | {"format_version": 0}))
    with pytest.raises(ValueError, match="format 0, whose weights have other names .*short_grain"):
        TGDFERForVideoClassification.from_pretrained(tmp_path)


FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format_1"


@torch.no_grad()
def test_a_model_of_format_1_gives_the_same_answers() -> None:
    """The folder was written when the format was; it is never written anew."""
    expected = json.loads((FORMAT_1 / "expected.json").read_text())
    model = AutoModelForVideoClassification.from_pretrained(FORMAT_1)
    features = torch.linspace(-1, 1, 2 * 4 * 8).sin().view(2, 4, 8)
    mask = torch.tensor([[True, True, True, True], [True, False, True, False]])
    output = model(frame_features=features, frame_mask=mask, timestamps=torch.arange(4.0).repeat(2, 1) / 5)
    assert [model.config.id2label[index] for index in range(3)] == expected["labels"]
    assert differ(output.logits, torch.tensor(expected["logits"])) < 1e-4
    relevance = torch.tensor(expected["frame_relevance"])
    assert differ(output.frame_relevance, relevance) < 1e-5
