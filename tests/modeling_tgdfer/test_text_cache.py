"""The class texts are read once, and again when something has made them stale: calls of the text tower, counted.

Where something that reads them may get a gradient they are read each time, so most tests are without gradient.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tgdfer import TGDFERForVideoClassification

from .conftest import DIM, differ, make_prompts, move_lora

Reads = Callable[[], int]


def count_reads(model: TGDFERForVideoClassification) -> Reads:
    """How often the text tower runs in two passes."""
    seen: list[int] = []
    model.tgdfer.clip.text_model.encoder.register_forward_hook(lambda *_: seen.append(1))

    def reads() -> int:
        before = len(seen)
        for _ in range(2):
            model(frame_features=torch.randn(2, 6, DIM, dtype=model.dtype, device=model.device))
        return len(seen) - before

    return reads


@torch.no_grad()
def test_texts_are_read_once(untrained: TGDFERForVideoClassification) -> None:
    reads = count_reads(untrained)
    assert [reads(), reads()] == [1, 0]
    untrained.get_text_features()
    untrained.tgdfer(frame_features=torch.randn(1, 3, DIM))
    assert reads() == 0


@torch.no_grad()
def test_texts_are_kept_from_step_to_step(untrained: TGDFERForVideoClassification) -> None:
    """`Trainer` sets the mode at every step. Frozen texts need not be read again."""
    untrained.config.context = "none"
    untrained.train()
    reads = count_reads(untrained)
    counts = []
    for _ in range(3):
        untrained.train()
        counts.append(reads())
    assert counts == [1, 0, 0]


STALE: dict[str, Callable[[TGDFERForVideoClassification], object]] = {
    "train": lambda model: model.train().eval(),
    "train_of_the_base_model": lambda model: model.tgdfer.train().eval(),
    "set_classes": lambda model: model.set_classes(make_prompts(["anger", "awe"])),
    "load_state_dict": lambda model: model.load_state_dict(model.state_dict()),
    "load_state_dict_of_the_base_model": lambda model: model.tgdfer.load_state_dict(model.tgdfer.state_dict()),
    "load_state_dict_of_clip": lambda model: model.tgdfer.clip.load_state_dict(model.tgdfer.clip.state_dict()),
    "load_state_dict_of_the_text_tower": lambda model: model.tgdfer.clip.text_model.load_state_dict(
        model.tgdfer.clip.text_model.state_dict()
    ),
    "load_state_dict_of_the_prompts": lambda model: model.tgdfer.text_guidance.load_state_dict(
        model.tgdfer.text_guidance.state_dict()
    ),
    "dtype_of_clip_and_back": lambda model: model.tgdfer.clip.half().float(),
    "another_text_tower": lambda model: setattr(
        model.tgdfer.clip, "text_model", copy.deepcopy(model.tgdfer.clip.text_model)
    ),
    "other_weights_through_data": lambda model: model.tgdfer.clip.text_projection.weight.data[0].add_(1e-6),
    "another_context_through_data": lambda model: model.tgdfer.text_guidance.context.weight.data.neg_(),
    "without_lora": lambda model: [
        module.enable_adapters(False) for module in model.modules() if hasattr(module, "lora_A")
    ],
    "other_weights_in_place": lambda model: model.tgdfer.clip.text_projection.weight.requires_grad_(False).mul_(2),
    "merge_lora": lambda model: model.merge_lora(),
    "merge_lora_of_the_base_model": lambda model: model.tgdfer.merge_lora(),
    "dtype": lambda model: model.double(),
    "dtype_of_the_base_model": lambda model: model.tgdfer.float(),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
@torch.no_grad()
def test_what_makes_them_stale(
    untrained: TGDFERForVideoClassification, change: Callable[[TGDFERForVideoClassification], object]
) -> None:
    untrained.attach_lora()
    untrained.eval()
    reads = count_reads(untrained)
    assert [reads(), reads()] == [1, 0]
    change(untrained)
    assert [reads(), reads()] == [1, 0]


@torch.no_grad()
def test_a_copy_reads_its_own(untrained: TGDFERForVideoClassification) -> None:
    before = untrained.get_text_features().pooler_output
    twin = copy.deepcopy(untrained)
    assert twin.tgdfer._text_cache.description_embeds is None
    twin.tgdfer.clip.text_projection.weight.normal_()
    assert differ(twin.get_text_features().pooler_output, before) > 1e-3
    assert torch.equal(untrained.get_text_features().pooler_output, before)


@torch.no_grad()
def test_clip_in_another_dtype_gives_its_texts_in_it(untrained: TGDFERForVideoClassification) -> None:
    assert untrained.tgdfer.get_text_features().pooler_output.dtype == torch.float32
    untrained.tgdfer.clip.double()
    assert untrained.tgdfer.get_text_features().pooler_output.dtype == torch.float64


@torch.no_grad()
def test_another_device_makes_them_stale(untrained: TGDFERForVideoClassification) -> None:
    untrained.get_text_features()
    elsewhere = untrained.to("meta")  # a device that every machine has
    assert elsewhere.get_text_features().pooler_output.device.type == "meta"


@torch.no_grad()
def test_a_loaded_model_reads_its_own(untrained: TGDFERForVideoClassification, tmp_path: Path) -> None:
    untrained.get_text_features()
    untrained.save_pretrained(tmp_path)
    loaded = TGDFERForVideoClassification.from_pretrained(tmp_path)
    reads = count_reads(loaded)
    assert [reads(), reads()] == [1, 0]


@torch.no_grad()
def test_other_weights_are_other_texts(untrained: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    before = untrained(frames).logits
    changed = {name: value * 1.5 if "text_model" in name else value for name, value in untrained.state_dict().items()}
    untrained.load_state_dict(changed)
    after = untrained(frames).logits
    assert differ(before, after) > 1e-3
    assert torch.equal(after, untrained.eval()(frames).logits)


# In training, they are read at every step where something that reads them learns, and once where nothing does.


@pytest.mark.parametrize(
    "context, lora_text_layers, expected",
    [("shared", 0, [2, 2]), ("class", 0, [2, 2]), ("none", 0, [1, 0]), ("none", 1, [2, 2])],
    ids=["context", "class_context", "frozen", "lora_in_the_text_tower"],
)
def test_in_training(
    clip_folder: Path, prompts: dict, context: str, lora_text_layers: int, expected: list[int]
) -> None:
    model = TGDFERForVideoClassification.from_clip(
        clip_folder, prompts, context=context, lora_text_layers=lora_text_layers
    )
    model.config.lora_layers = 2
    model.attach_lora()
    reads = count_reads(model.train())
    assert [reads(), reads()] == expected


def test_in_training_with_a_frozen_context(untrained: TGDFERForVideoClassification) -> None:
    untrained.tgdfer.text_guidance.context.requires_grad_(False)
    reads = count_reads(untrained.train())
    assert [reads(), reads()] == [1, 0]


def test_after_training_they_are_those_that_were_learnt(untrained: TGDFERForVideoClassification) -> None:
    before = untrained.get_text_features().pooler_output
    untrained.train()
    optimizer = torch.optim.SGD(untrained.tgdfer.text_guidance.parameters(), lr=1.0)
    untrained(frame_features=torch.randn(2, 6, DIM), labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    untrained.eval()
    after = untrained.get_text_features().pooler_output
    assert differ(before, after) > 1e-3
    assert torch.equal(after, untrained.eval().get_text_features().pooler_output)


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_what_was_read_outlives_its_mode(
    untrained: TGDFERForVideoClassification, frames: torch.Tensor, mode: Callable
) -> None:
    with mode():
        untrained(frames)
    assert untrained.tgdfer.get_text_features().pooler_output.dtype == torch.float32
    exact = untrained(frames, labels=torch.tensor([0, 1]))
    exact.loss.backward()
    assert torch.equal(exact.logits, untrained.eval()(frames).logits)


# What the cache must not do.


def test_the_context_gets_its_gradient_in_eval_mode(untrained: TGDFERForVideoClassification) -> None:
    features, labels = torch.randn(2, 6, DIM), torch.tensor([0, 1])
    with torch.no_grad():
        untrained(frame_features=features)
    untrained(frame_features=features, labels=labels).loss.backward()
    in_eval = untrained.tgdfer.text_guidance.context.weight.grad
    assert in_eval is not None and in_eval.abs().max() > 0


@torch.no_grad()
def test_weights_that_are_swapped_and_swapped_back(untrained: TGDFERForVideoClassification) -> None:
    """As an exponential moving average of the weights does around an evaluation."""
    features = torch.randn(2, 6, DIM)
    before = untrained(frame_features=features).logits
    kept = [parameter.detach().clone() for parameter in untrained.parameters()]
    for parameter in untrained.parameters():
        parameter.data.mul_(1.1)
    averaged = untrained(frame_features=features).logits
    assert torch.equal(averaged, copy.deepcopy(untrained)(frame_features=features).logits)
    for parameter, value in zip(untrained.parameters(), kept, strict=True):
        parameter.data.copy_(value)
    assert differ(averaged, before) > 1e-3
    assert torch.equal(untrained(frame_features=features).logits, before)


@torch.no_grad()
def test_a_switched_off_adapter_is_not_heard(untrained: TGDFERForVideoClassification) -> None:
    plain = untrained.get_text_features().pooler_output
    untrained.attach_lora()
    move_lora(untrained)
    adapted = untrained.get_text_features().pooler_output
    assert differ(plain, adapted) > 1e-3
    lora = [module for module in untrained.modules() if hasattr(module, "lora_A")]
    for enabled, expected in ((False, plain), (True, adapted)):
        for module in lora:
            module.enable_adapters(enabled)
        assert torch.equal(untrained.get_text_features().pooler_output, expected)


@torch.no_grad()
def test_adapters_of_every_kind_are_noticed(untrained: TGDFERForVideoClassification) -> None:
    peft = pytest.importorskip("peft")
    config = peft.IA3Config(target_modules=r".*text_model.*(k_proj|v_proj)", feedforward_modules=[])
    adapted = peft.get_peft_model(untrained, config).eval()
    for name, parameter in adapted.named_parameters():
        if "ia3_" in name:
            parameter.mul_(3.0)
    frames = torch.randn(2, 6, DIM)
    with_it = adapted(frame_features=frames).text_embeds
    with adapted.disable_adapter():
        without = adapted(frame_features=frames).text_embeds
    assert differ(with_it, without) > 1e-3
    assert differ(adapted(frame_features=frames).text_embeds, with_it) < 1e-6
