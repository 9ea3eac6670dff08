from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoTokenizer, CLIPModel
from transformers.modeling_utils import PreTrainedModel

from tgdfer import (
    TGDFERConfig,
    TGDFERForVideoClassification,
    TGDFERModel,
    built_in_descriptions,
    clip_tiny_faces,
)
from tgdfer.modeling_tgdfer.configuration_tgdfer import BASIC_EMOTIONS

from .conftest import DIM, EOS, make_prompts, tiny_clip_config

PARTS = {
    "no_short_term": {"short_term": False},
    "no_long_range": {"long_range": False},
    "no_visual_prompts": {"visual_prompts": False},
    "prompted": {"relevance_text": "prompted"},
    "topk": {"mil_pooling": "topk"},
    "mean": {"mil_pooling": "mean"},
    "max": {"mil_pooling": "max"},
    "no_context": {"context": "none"},
    "class_context": {"context": "class"},
}


def differ(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


# At the start: CLIP's own zero-shot answer.


@pytest.mark.parametrize("eos_token_id", [EOS, 2], ids=["eos", "legacy_eos"])
def test_an_untrained_model_is_clip(tmp_path: Path, prompts: dict, frames: torch.Tensor, eos_token_id: int) -> None:
    clip = CLIPModel(tiny_clip_config(eos_token_id)).eval()
    clip.save_pretrained(tmp_path)
    model = TGDFERForVideoClassification.from_clip(tmp_path, prompts)
    with torch.no_grad():
        output = model(frames)
        texts = clip.get_text_features(prompts["input_ids"].flatten(0, 1)).pooler_output
        texts = F.normalize(texts, dim=-1).unflatten(0, prompts["input_ids"].shape[:2])
        weight = prompts["description_mask"].float().unsqueeze(-1)
        texts = F.normalize((texts * weight).sum(1) / weight.sum(1), dim=-1)
        images = F.normalize(clip.get_image_features(frames.flatten(0, 1)).pooler_output, dim=-1)
    expected = 10.0 * (images @ texts.T).unflatten(0, frames.shape[:2])
    assert differ(output.frame_logits, expected) < 1e-4


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_every_part_starts_as_an_identity(
    clip_folder: Path, prompts: dict, frames: torch.Tensor, untrained: TGDFERForVideoClassification, options: dict
) -> None:
    other = TGDFERForVideoClassification.from_clip(clip_folder, prompts, **options)
    found, expected = other(frames), untrained(frames)
    assert differ(found.frame_logits, expected.frame_logits) < 1e-5
    if "mil_pooling" not in options:
        assert differ(found.logits, expected.logits) < 1e-4
        assert differ(found.text_embeds, expected.text_embeds) < 1e-5


def test_class_names_alone_are_texts_too() -> None:
    model = TGDFERForVideoClassification.from_clip(clip_tiny_faces())
    tokenizer = AutoTokenizer.from_pretrained(clip_tiny_faces())
    clip = CLIPModel.from_pretrained(clip_tiny_faces())
    assert list(model.config.id2label.values()) == list(BASIC_EMOTIONS) == sorted(BASIC_EMOTIONS)
    with torch.no_grad():
        expected = clip.get_text_features(**tokenizer(list(BASIC_EMOTIONS), padding=True, return_tensors="pt"))
    assert differ(model.get_text_features(), F.normalize(expected.pooler_output, dim=-1)) < 1e-5


def test_basic_emotions_are_those_with_descriptions() -> None:
    assert sorted(built_in_descriptions()) == list(BASIC_EMOTIONS)


def test_a_folder_without_clip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        TGDFERForVideoClassification.from_clip(tmp_path / "nothing")


# What a clip is must not depend on what stands beside it.


def test_masked_frames_change_nothing(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    seconds = torch.arange(6.0).expand(2, 6) / 4
    alone = model(frames, timestamps=seconds)
    for places in ([0, 1, 2, 3, 4, 5], [0, 2, 3, 5, 6, 8]):
        padded = torch.full((2, 9, *frames.shape[2:]), float("nan"))
        padded[:, places] = frames
        mask = torch.zeros(2, 9, dtype=torch.bool)
        mask[:, places] = True
        times = torch.full((2, 9), 100.0)
        times[:, places] = seconds
        output = model(padded, mask, times)
        assert differ(output.logits, alone.logits) < 1e-3
        assert differ(output.frame_relevance[:, places], alone.frame_relevance) < 1e-5
        assert output.frame_relevance[~mask].abs().max() == 0
        assert differ(output.description_relevance[:, places], alone.description_relevance) < 1e-5


def test_a_batch_gives_what_its_clips_give(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    together = model(frames)
    for index in range(len(frames)):
        alone = model(frames[index : index + 1])
        assert differ(together.logits[index], alone.logits[0]) < 1e-3
        assert differ(together.frame_relevance[index], alone.frame_relevance[0]) < 1e-5


def test_only_differences_in_time_matter(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    seconds = torch.arange(6.0).expand(2, 6) / 4
    here, later = model(frames, timestamps=seconds), model(frames, timestamps=seconds + 50)
    slower = model(frames, timestamps=seconds * 3)
    assert differ(here.logits, later.logits) < 1e-3
    assert differ(here.logits, slower.logits) > 1e-3


def test_time_matters(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    backwards = model(frames.flip(1))
    assert differ(backwards.logits, model(frames).logits) > 1e-3


@pytest.mark.parametrize("length", [1, 2, 3, 128])
def test_any_number_of_frames(model: TGDFERForVideoClassification, length: int) -> None:
    output = model(frame_features=torch.randn(2, length, DIM))
    assert output.frame_relevance.shape == (2, length, 5)
    assert torch.isfinite(output.logits).all()


@pytest.mark.parametrize("pooling", ["attention", "topk", "mean", "max"])
def test_relevance_is_a_share(model: TGDFERForVideoClassification, frames: torch.Tensor, pooling: str) -> None:
    model.config.mil_pooling = pooling
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    output = model(frames, mask)
    assert differ(output.frame_relevance.sum(1), torch.ones(2, 5)) < 1e-5
    assert output.frame_relevance[~mask].abs().max() == 0
    assert output.frame_relevance[mask].min() > 0


def test_pooling(model: TGDFERForVideoClassification) -> None:
    evidence = torch.tensor([[3.0, 1.0, 2.0, 9.0, 0.0], [1.0, 2.0, 9.0, 9.0, 9.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, True, False, True], [True, True, False, False, False]])
    relevance = torch.rand(2, 5, 1)
    model.config.topk_fraction = 0.5
    expected = {
        "attention": relevance.squeeze(-1),
        "topk": torch.tensor([[0.5, 0, 0.5, 0, 0], [0, 1.0, 0, 0, 0]]),
        "mean": torch.tensor([[0.25, 0.25, 0.25, 0, 0.25], [0.5, 0.5, 0, 0, 0]]),
        "max": torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]]),
    }
    for pooling, weights in expected.items():
        model.config.mil_pooling = pooling
        assert differ(model.pool(evidence, relevance, mask).squeeze(-1), weights) < 1e-6, pooling


def test_the_order_of_classes_swaps_columns_and_nothing_else(
    model: TGDFERForVideoClassification, prompts: dict, frames: torch.Tensor
) -> None:
    before = model(frames)
    order = [3, 0, 4, 2, 1]
    weight = model.tgdfer.text_guidance.description_weight.detach()[order]
    swapped = {key: value[order] for key, value in prompts.items() if torch.is_tensor(value)}
    model.set_classes({**prompts, **swapped, "labels": [prompts["labels"][index] for index in order]})
    model.tgdfer.text_guidance.description_weight.data = weight
    after = model(frames)
    assert differ(after.logits, before.logits[:, order]) < 1e-4
    assert differ(after.frame_relevance, before.frame_relevance[..., order]) < 1e-5


def test_padded_descriptions_have_no_say(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    before = model(frames)
    assert before.description_relevance[:, :, -1, -1].abs().max() == 0
    model.tgdfer.text_guidance.prompt_ids[-1, -1, 4:8] = 1
    model.eval()
    assert differ(model(frames).logits, before.logits) == 0


# Bad input.


def test_bad_input_is_named(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="Every frame"):
        model(frames, torch.tensor([[True] * 6, [False] * 6]))
    with pytest.raises(ValueError, match="either"):
        model()
    with pytest.raises(ValueError, match="shape"):
        model(frames[0])


def test_config_refuses_what_cannot_be() -> None:
    for field, value in {
        "mil_pooling": "sum",
        "context": "each",
        "short_term_width": 30,
        "topk_fraction": 0.0,
    }.items():
        with pytest.raises(StrictDataclassError, match=field):
            TGDFERConfig(**{field: value})


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"labels": ["a", "a", "b", "c", "d"]}, "more than once"),
        ({"input_ids": torch.zeros(5, 3, 30, dtype=torch.long)}, "30 tokens"),
        ({"context_length": 2}, "context of 2"),
    ],
)
def test_classes_that_do_not_fit(
    model: TGDFERForVideoClassification, prompts: dict, change: dict, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        model.set_classes({**prompts, **change})


# New classes.


def test_new_classes_start_from_the_old(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    old, bias = model(frames), model.bias.detach().clone()
    model.set_classes(make_prompts(["boredom", "fear", "neutral"], descriptions=2, seed=5))
    assert model.config.id2label == {0: "boredom", 1: "fear", 2: "neutral"}
    assert model.config.num_labels == 3
    assert model.bias[1:].tolist() == bias[[1, 3]].tolist()
    assert model.bias[0].item() == pytest.approx(bias.mean().item())
    assert model(frames).logits.shape == (2, 3) and old.logits.shape == (2, 5)


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_new_classes_are_saved(
    clip_folder: Path, tmp_path: Path, prompts: dict, frames: torch.Tensor, options: dict
) -> None:
    model = TGDFERForVideoClassification.from_clip(clip_folder, prompts, **options)
    model.set_classes(make_prompts(["boredom", "fear"], descriptions=4, seed=5))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert loaded.config.label2id == {"boredom": 0, "fear": 1}
    assert torch.equal(loaded(frames).logits, model(frames).logits)


# Text cache.


def test_texts_are_read_once(untrained: TGDFERForVideoClassification, prompts: dict, frames: torch.Tensor) -> None:
    model, seen = untrained, []
    model.tgdfer.clip.text_model.encoder.register_forward_hook(lambda *_: seen.append(1))

    def reads() -> int:
        before = len(seen)
        for _ in range(2):
            model(frames)
        return len(seen) - before

    assert [reads(), reads()] == [1, 0]
    for stale in (
        lambda: model.set_classes(prompts),
        lambda: model.double().float(),
        lambda: model.train().eval(),
        lambda: model.attach_lora() or model.eval(),
        lambda: model.merge_lora(),
    ):
        stale()
        assert [reads(), reads()] == [1, 0]
    model.train()
    assert reads() == 2  # the context learns, so the texts change at every step
    model.tgdfer.text_guidance.context.requires_grad_(False)
    assert [reads(), reads()] == [1, 0]


def test_other_weights_are_other_texts(untrained: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    before = untrained(frames).logits
    changed = {name: value * 1.5 if "text_model" in name else value for name, value in untrained.state_dict().items()}
    untrained.load_state_dict(changed)
    after = untrained(frames).logits
    assert differ(before, after) > 1e-3
    assert torch.equal(after, untrained.eval()(frames).logits)


def test_the_cache_of_inference_mode_can_be_trained_on(
    untrained: TGDFERForVideoClassification, frames: torch.Tensor
) -> None:
    with torch.inference_mode():
        untrained(frames)
    untrained(frames, labels=torch.tensor([0, 1])).loss.backward()


# Saving and loading.


def test_save_load(model: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor) -> None:
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "configuration_tgdfer.py",
        "modeling_tgdfer.py",
        "bags_tgdfer.py",
        "temporal_tgdfer.py",
    }
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TGDFERConfig)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, TGDFERForVideoClassification) and not loaded.training
    assert torch.equal(loaded(frames).logits, model(frames).logits)
    backbone = AutoModel.from_pretrained(tmp_path)
    assert isinstance(backbone, TGDFERModel)
    assert torch.equal(backbone(frames).last_hidden_state, model.tgdfer(frames).last_hidden_state)
    loaded.save_pretrained(tmp_path / "again")
    again = TGDFERForVideoClassification.from_pretrained(tmp_path / "again")
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), model.parameters(), strict=True))


def test_an_initialised_model_loads_no_key_twice_and_misses_none(
    model: TGDFERForVideoClassification, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    _, report = TGDFERForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]


def test_missing_weights_start_as_an_untrained_model(model: TGDFERForVideoClassification, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    kept = {name: value for name, value in model.state_dict().items() if ".clip." in name}
    PreTrainedModel.save_pretrained(model, tmp_path, state_dict=kept)
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path)
    for start in (loaded.tgdfer.short_term.up, loaded.tgdfer.long_range.up, loaded.relevance.score):
        assert start.weight.abs().max() == 0
    assert loaded.log_scale.exp().item() == pytest.approx(10.0)
    frequencies = loaded.tgdfer.short_term.attention.time_frequencies
    assert torch.equal(frequencies, loaded.tgdfer.short_term.attention.frequencies())


# LoRA.


def test_lora_starts_at_zero_in_the_last_blocks(untrained: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    before = untrained(frames).logits
    untrained.attach_lora()
    adapted = {name.rsplit(".", 3)[0] for name, _ in untrained.tgdfer.clip.named_parameters() if "lora_" in name}
    projections = ("k_proj", "out_proj", "q_proj", "v_proj")
    assert adapted == {
        f"{block}.self_attn.{projection}"
        for block in (
            "vision_model.encoder.layers.1",
            "vision_model.encoder.layers.2",
            "text_model.encoder.layers.1",
        )
        for projection in projections
    }
    assert torch.equal(untrained.eval()(frames).logits, before)


def test_what_is_trained(untrained: TGDFERForVideoClassification) -> None:
    untrained.attach_lora()
    trained = {name for name, parameter in untrained.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained if ".clip." in name)
    groups = untrained.parameter_groups()
    assert sum(len(group) for group in groups.values()) == len(trained)
    assert all(groups.values())


def test_a_loaded_model_has_its_clip_frozen(model: TGDFERForVideoClassification, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    for loaded in (AutoModelForVideoClassification.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert not any(parameter.requires_grad for parameter in loaded.base_model.clip.parameters())
        assert any(parameter.requires_grad for parameter in loaded.parameters())


def test_lora_is_saved_merged(untrained: TGDFERForVideoClassification, tmp_path: Path, frames: torch.Tensor) -> None:
    untrained.attach_lora()
    with torch.no_grad():
        for name, parameter in untrained.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    untrained.eval()
    output = untrained(frames)
    untrained.save_pretrained(tmp_path, state_dict=untrained.state_dict())
    assert untrained.has_lora
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path)
    assert not loaded.has_lora
    assert differ(loaded(frames).frame_relevance, output.frame_relevance) < 1e-5
    assert differ(loaded(frames).logits, output.logits) < 1e-3
    untrained.merge_lora()
    assert differ(untrained(frames).logits, output.logits) < 1e-3


def test_more_blocks_than_there_are(untrained: TGDFERForVideoClassification) -> None:
    untrained.config.lora_layers = 9
    with pytest.raises(ValueError, match="9 blocks"):
        untrained.attach_lora()


# Training.


def test_it_overfits_a_few_clips(untrained: TGDFERForVideoClassification) -> None:
    features, labels = torch.randn(8, 6, DIM), torch.arange(8) % 5
    groups = untrained.parameter_groups()
    optimizer = torch.optim.AdamW([parameter for group in groups.values() for parameter in group], lr=1e-2)
    untrained.train()
    for _ in range(60):
        loss = untrained(frame_features=features, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    untrained.eval()
    assert (untrained(frame_features=features).logits.argmax(-1) == labels).all()


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_every_trainable_parameter_learns(
    clip_folder: Path, prompts: dict, frames: torch.Tensor, options: dict
) -> None:
    every_loss = {"alignment_weight": 0.1, "separation_weight": 0.1, "smoothness_weight": 0.1, "instance_weight": 0.1}
    dropouts = {"feature_dropout": 0.0, "instance_dropout": 0.3, "long_range_dropout": 0.0}
    model = TGDFERForVideoClassification.from_clip(
        clip_folder, prompts, lora_layers=1, **options, **every_loss, **dropouts
    )
    model.attach_lora()
    with torch.no_grad():  # away from the zeros of the start, behind which nothing has a gradient yet
        for parameter in [parameter for group in model.parameter_groups().values() for parameter in group]:
            parameter += 0.1 * torch.randn_like(parameter)
    model.train()
    model(frames, labels=torch.tensor([0, 3])).loss.backward()
    still = {
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    }
    assert not still


def test_dropped_instances_spare_one(untrained: TGDFERForVideoClassification) -> None:
    untrained.config.instance_dropout = 0.99
    untrained.train()
    mask = torch.tensor([[True] * 6, [False, True, True, False, False, False]])
    for _ in range(20):
        kept = untrained.tgdfer.drop_instances(mask)
        assert kept.any(1).all() and not (kept & ~mask).any()
    assert torch.equal(untrained.eval().tgdfer.drop_instances(mask), mask)


def test_imbalance_changes_the_loss_alone(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    labels = torch.tensor([0, 1])
    plain = model(frames, labels=labels)
    weighted = model(frames, labels=labels, class_weights=torch.tensor([5.0, 1, 1, 1, 1]))
    adjusted = model(frames, labels=labels, logit_adjustment=torch.tensor([0.0, 0, 3, 0, 0]))
    assert len({plain.loss.item(), weighted.loss.item(), adjusted.loss.item()}) == 3
    assert torch.equal(plain.logits, weighted.logits) and torch.equal(plain.logits, adjusted.logits)


# What transformers expects.


def test_model_outputs_equivalence(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    as_dict, as_tuple = model(frames), model(frames, return_dict=False)
    assert len(as_tuple) == len([value for value in as_dict.values() if value is not None])
    assert torch.equal(as_tuple[0], as_dict.logits)


def test_hidden_states_and_attentions(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    model.set_attn_implementation("eager")
    output = model(frames, output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in output.hidden_states] == [(2, 6, 64)] * 2
    assert [weights.shape for weights in output.attentions] == [(2, 4, 6, 6)]
    assert model(frames).hidden_states is None


def test_eager_matches_sdpa(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, True]])
    sdpa = model(frames, mask)
    model.set_attn_implementation("eager")
    model.eval()
    assert differ(model(frames, mask).logits, sdpa.logits) < 1e-3


def test_determinism(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    assert torch.equal(model(frames).logits, model(frames).logits)


def test_autocast(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(frames).logits.float().softmax(-1)
    assert differ(model(frames).logits.softmax(-1), rounded) < 2e-2


def test_features_stand_for_pixels(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    features = model.get_frame_features(frames)
    assert features.shape == (2, 6, DIM)
    assert torch.equal(model(frame_features=features).logits, model(frames).logits)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # renamed in transformers 5.23
def test_gradient_checkpointing(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    model.config.instance_dropout = model.config.lora_dropout = 0.0
    model.tgdfer.feature_dropout.p = model.tgdfer.long_range.drop = 0.0
    model.attach_lora()
    model.train()
    plain = model(frames, labels=torch.tensor([0, 1])).loss
    model.gradient_checkpointing_enable()
    checkpointed = model(frames, labels=torch.tensor([0, 1])).loss
    checkpointed.backward()
    assert plain.item() == pytest.approx(checkpointed.item(), abs=1e-5)
    assert all(parameter.grad is not None for parameter in model.parameter_groups()["lora"])


def test_compile_and_export(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    with torch.no_grad():
        expected = model(frames).logits
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert differ(compiled(frames).logits, expected) < 1e-5

        class Exported(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, features: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
                return self.model(frame_features=features, frame_mask=mask, timestamps=seconds).logits

        def inputs(clips: int, length: int) -> tuple[torch.Tensor, ...]:
            seconds = torch.arange(float(length)).repeat(clips, 1)
            return torch.randn(clips, length, DIM), torch.ones(clips, length, dtype=torch.bool), seconds

        sizes = {0: torch.export.Dim("clips", min=1, max=64), 1: torch.export.Dim("frames", min=1, max=256)}
        program = torch.export.export(Exported(), inputs(2, 6), dynamic_shapes=(sizes, sizes, sizes)).module()
        for clips, length in ((1, 1), (2, 2), (3, 9)):
            given = inputs(clips, length)
            assert differ(program(*given), Exported()(*given)) < 1e-4
