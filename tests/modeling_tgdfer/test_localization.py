"""The dilated head: its start, its context, masked frames, losses by hand, and training with and without segments."""

import json
import math
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModel, AutoModelForVideoClassification, pipeline

from tgdfer import TGDFERConfig, TGDFERForTemporalLocalization, TGDFERForVideoClassification, TGDFERModel
from tgdfer.modeling_tgdfer.localization_tgdfer import CONSENSUS_WEIGHT, TGDFERDilatedHead, consensus_loss

from .conftest import DIM, LABELS, Maker, differ, move_all_but_clip, move_lora, switch_off_dropout

FRAMES = 24


def make(from_clip: Maker, **options: object) -> TGDFERForTemporalLocalization:
    return TGDFERForTemporalLocalization.from_classifier(from_clip(**{"long_range": False} | options))


def features(frames: int = FRAMES, clips: int = 1) -> torch.Tensor:
    return torch.randn(clips, frames, DIM, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_starts_from_the_descriptions(from_clip: Maker) -> None:
    classifier = from_clip(long_range=False, visual_prompts=False).eval()
    model, frames = make(from_clip), features()
    found, theirs = model(frame_features=frames), classifier(frame_features=frames)
    torch.testing.assert_close(found.fine_logits, theirs.frame_logits, atol=1e-5, rtol=1e-5)
    assert not found.coarse_logits.any()
    torch.testing.assert_close(found.frame_logits, theirs.frame_logits / 2, atol=1e-5, rtol=1e-5)
    top = found.frame_logits[0].topk(math.ceil(0.25 * FRAMES), dim=0).values.mean(0)
    torch.testing.assert_close(found.logits[0], top)


def test_sees_context_at_every_granularity_and_no_further(from_clip: Maker) -> None:
    """Of the head alone: 1 + 2 + 4 frames on either side with three layers."""
    head = TGDFERDilatedHead(make(from_clip, localization_layers=3).config, DIM)
    torch.nn.init.normal_(head.output.weight)
    frames = features().requires_grad_()
    head(frames, torch.ones(1, FRAMES, dtype=torch.bool))[0, 12].sum().backward()
    reached = frames.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert reached == list(range(12 - 7, 12 + 8))


@torch.no_grad()
def test_masked_frames_are_as_if_they_were_not_there(from_clip: Maker) -> None:
    model = move_all_but_clip(make(from_clip))
    frames, seconds = features(), torch.arange(FRAMES).float().unsqueeze(0)
    mask = torch.rand(1, FRAMES, generator=torch.Generator().manual_seed(1)) > 0.3
    kept = model(frame_features=frames[mask].unsqueeze(0), timestamps=seconds[mask].unsqueeze(0))
    frames[~mask] = 100.0
    whole = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
    assert differ(whole.frame_logits[mask], kept.frame_logits[0]) < 1e-4
    assert differ(whole.logits, kept.logits) < 1e-4


@torch.no_grad()
def test_losses_by_hand(from_clip: Maker) -> None:
    model = move_all_but_clip(make(from_clip, label_smoothing=0.0, instance_weight=0.0))
    frames, wanted = features(4), torch.tensor([[1, 1, -100, 3]])
    found = model(frame_features=frames, labels=wanted)
    log_p = found.frame_logits[0].log_softmax(-1)
    assert found.loss.item() == pytest.approx(-(log_p[0, 1] + log_p[1, 1] + log_p[3, 3]).item() / 3, rel=1e-5)
    weak = model(frame_features=frames, labels=torch.tensor([2])).loss.item()
    p, q = found.coarse_logits[0].softmax(-1), found.fine_logits[0].softmax(-1)
    m = (p + q) / 2
    divergence = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)).mean() / 2
    expected = -found.logits[0].log_softmax(-1)[2] + CONSENSUS_WEIGHT * divergence
    assert weak == pytest.approx(expected.item(), rel=1e-4)
    same = consensus_loss(found.fine_logits, found.fine_logits, torch.ones(1, 4, dtype=torch.bool))
    assert same.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("with_segments", [False, True])
def test_learns_which_frames_show_a_class(with_segments: bool, from_clip: Maker) -> None:
    """Frames of class 2 point in a direction of their own, and those of class 3 fill the rest of the clip."""
    model = make(from_clip, localization_width=16)
    switch_off_dropout(model)
    axes = torch.eye(DIM)
    clips = 0.1 * torch.randn(8, 12, DIM) + axes[1]
    wanted = torch.full((8, 12), 3)
    for clip in range(4):
        clips[clip, clip : clip + 4] += 2 * axes[0]
        wanted[clip, clip : clip + 4] = 2
    labels = torch.tensor([2] * 4 + [3] * 4)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(60):
        loss = model.train()(frame_features=clips, labels=wanted if with_segments else labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = model.eval()(frame_features=clips).frame_logits
    if with_segments:
        assert (scores.argmax(-1) == wanted).float().mean() > 0.95
    margin = (scores[..., 2] - scores[..., 3])[:4]
    shown = wanted[:4] == 2
    assert margin[shown].min() > margin[~shown].max(), "frames that show the class rank first"


@torch.no_grad()
def test_save_and_load(from_clip: Maker, tmp_path: Path) -> None:
    model, frames = move_all_but_clip(make(from_clip)), features()
    model.save_pretrained(tmp_path)
    assert {"localization_tgdfer.py", "modeling_tgdfer.py"} <= {path.name for path in tmp_path.iterdir()}
    loaded = TGDFERForTemporalLocalization.from_pretrained(tmp_path)
    expected, found = (one(frame_features=frames).frame_logits for one in (model, loaded))
    assert torch.equal(found, expected) and list(loaded.config.id2label.values()) == LABELS
    assert not [name for name, p in loaded.named_parameters() if p.requires_grad and ".clip." in name]


def test_auto_classes_find_the_head(from_clip: Maker, tmp_path: Path) -> None:
    model = move_all_but_clip(make(from_clip))
    model.save_pretrained(tmp_path / "localizer")
    saved = json.loads((tmp_path / "localizer/config.json").read_text())
    assert saved["auto_map"] == {
        "AutoConfig": "configuration_tgdfer.TGDFERConfig",
        "AutoModel": "localization_tgdfer.TGDFERForTemporalLocalization",
    }
    assert "custom_pipelines" not in saved
    loaded = AutoModel.from_pretrained(tmp_path / "localizer")
    assert isinstance(loaded, TGDFERForTemporalLocalization)
    assert torch.equal(loaded.head.output.weight, model.head.output.weight)
    assert isinstance(AutoModel.from_config(model.tgdfer.config), TGDFERForTemporalLocalization)
    assert type(AutoModel.from_config(TGDFERConfig(clip_config=model.config.clip_config))) is TGDFERModel


@pytest.mark.slow  # it starts another Python
def test_auto_model_without_this_package(from_clip: Maker, tmp_path: Path) -> None:
    model = move_all_but_clip(make(from_clip))
    model.save_pretrained(tmp_path / "localizer")
    script = """if True:
        import sys
        from transformers import AutoModel
        model = AutoModel.from_pretrained("localizer", trust_remote_code=True)
        assert "tgdfer" not in sys.modules
        print(type(model).__name__, float(model.head.output.weight.sum()))
    """
    environment = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    name, total = done.stdout.split()
    assert name == "TGDFERForTemporalLocalization"
    assert float(total) == pytest.approx(model.head.output.weight.sum().item(), rel=1e-4)


def test_models_with_another_head_are_refused(from_clip: Maker, tmp_path: Path) -> None:
    classifier = from_clip(long_range=False)
    classifier.save_pretrained(tmp_path / "classifier")
    # A classifier that was loaded from the Hub has pipelines in its config.
    TGDFERForTemporalLocalization.from_classifier(classifier).save_pretrained(tmp_path / "localizer")
    assert "custom_pipelines" not in json.loads((tmp_path / "localizer/config.json").read_text())
    for load in (TGDFERForVideoClassification, AutoModelForVideoClassification):
        message = "localizer contains a TGDFERForTemporalLocalization, not a TGDFERForVideoClassification; load it"
        with pytest.raises(ValueError, match=f"{message} with `TGDFERForTemporalLocalization`\\."):
            load.from_pretrained(tmp_path / "localizer")
    message = "classifier contains a TGDFERForVideoClassification, not a TGDFERForTemporalLocalization; load it"
    with pytest.raises(ValueError, match=f"{message} with `TGDFERForVideoClassification` and convert it"):
        TGDFERForTemporalLocalization.from_pretrained(tmp_path / "classifier")
    with pytest.raises(ValueError, match="localizer contains a TGDFERForTemporalLocalization"):
        pipeline("emotion-timeline", model=str(tmp_path / "localizer"))
    for folder in ("classifier", "localizer"):
        assert type(TGDFERModel.from_pretrained(tmp_path / folder)) is TGDFERModel


def test_attached_lora_is_refused(from_clip: Maker) -> None:
    classifier = from_clip(lora_layers=1)
    classifier.attach_lora()
    with pytest.raises(ValueError, match="call its method `merge_lora` first"):
        TGDFERForTemporalLocalization.from_classifier(classifier)


@torch.no_grad()
def test_lora_that_peft_has_merged(from_clip: Maker) -> None:
    classifier = from_clip(lora_layers=1)
    classifier.attach_lora()
    move_lora(classifier)
    config = peft.LoraConfig(target_modules=["tgdfer.short_term.down"])
    merged = peft.get_peft_model(classifier, config).merge_and_unload()
    model, frames = TGDFERForTemporalLocalization.from_classifier(merged), features()
    assert not model.config.lora_attached and model.tgdfer.config is model.config
    expected = merged.eval()(frame_features=frames).frame_logits
    assert differ(model(frame_features=frames).frame_logits, expected / 2) < 1e-4
    model.attach_lora()
    assert model.has_lora and not merged.has_lora


def test_what_is_frozen_and_how_attention_is_computed_stay(from_clip: Maker) -> None:
    classifier = from_clip(long_range=True)
    classifier.set_attn_implementation("eager")
    classifier.tgdfer.text_guidance.requires_grad_(False)
    classifier.bias.requires_grad_(False)
    model = TGDFERForTemporalLocalization.from_classifier(classifier.bfloat16())
    assert model.config._attn_implementation == "eager"
    assert model.tgdfer.clip.config.vision_config._attn_implementation == "eager"
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained >= {"log_scale", *(f"head.{name}" for name, _ in model.head.named_parameters())}
    assert not [name for name in trained if name == "bias" or "text_guidance" in name or ".clip." in name]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_labels_that_are_no_indices_are_refused(from_clip: Maker) -> None:
    several = from_clip(long_range=False)
    several.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="multi_label_classification.*; set it to None, and train with one label"):
        TGDFERForTemporalLocalization.from_classifier(several)
    model, frames = make(from_clip), features(len(LABELS), clips=2)
    wrong = (torch.rand(2, len(LABELS)), torch.zeros(2, 3, dtype=torch.long), torch.tensor(1), torch.zeros(2))
    for labels in wrong:
        with pytest.raises(ValueError, match=r"`labels` has .* index of each clip \(2,\), or of each frame \(2, 5\)"):
            model(frame_features=frames, labels=labels)
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="a localizer gives each frame one label"):
        model(frame_features=frames, labels=torch.zeros(2, len(LABELS), dtype=torch.long))


def test_clips_without_label_do_not_count(from_clip: Maker) -> None:
    model, frames = move_all_but_clip(make(from_clip, instance_weight=0.5)), features(6, clips=2)
    assert model(frame_features=frames, labels=torch.tensor([-100, -100])).loss == 0
    loss = model(frame_features=frames, labels=torch.tensor([1, -100])).loss
    alone = model(frame_features=frames[:1], labels=torch.tensor([1])).loss
    torch.testing.assert_close(loss, alone)


def test_a_clip_of_masked_frames_spoils_nothing(from_clip: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask is checked only on a CPU and outside compiled graphs."""
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    model, mask = move_all_but_clip(make(from_clip)), torch.tensor([[True] * 4, [False] * 4])
    found = model(frame_features=features(4, clips=2), frame_mask=mask, labels=torch.tensor([1, 2]))
    assert found.logits.isfinite().all()
    found.loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_features_and_dtype_are_those_of_the_classifier(from_clip: Maker, frames: torch.Tensor) -> None:
    classifier = from_clip(long_range=False)
    model = TGDFERForTemporalLocalization.from_classifier(classifier)
    assert torch.equal(model.get_frame_features(frames), classifier.get_frame_features(frames))
    assert torch.equal(model.get_text_features().pooler_output, classifier.get_text_features().pooler_output)
    phrases = torch.randint(0, 97, (3, 9), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.encode_phrases(phrases), classifier.encode_phrases(phrases))
    assert model.get_input_embeddings() is model.tgdfer.get_input_embeddings()
    found = model.to(torch.bfloat16)(frame_features=features(), labels=torch.tensor([1]))
    assert {value.dtype for name, value in found.items() if name != "loss"} == {torch.bfloat16}
    assert found.loss.dtype == torch.float32


@pytest.mark.slow  # tracing takes seconds
def test_compiles_and_exports_in_one_graph(from_clip: Maker) -> None:
    model = move_all_but_clip(make(from_clip, instance_weight=0.5))
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    inputs = {"frame_features": features(6, clips=2), "frame_mask": mask}
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    for labels in (torch.tensor([1, -100]), torch.full((2, 6), 3)):
        expected = model(**inputs, labels=labels).loss
        torch.testing.assert_close(compiled(**inputs, labels=labels).loss, expected)
    sizes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}
    with torch.no_grad():
        exported = torch.export.export(model, (), inputs, dynamic_shapes=sizes).module()
        longer = {"frame_features": features(11, clips=3), "frame_mask": torch.ones(3, 11, dtype=torch.bool)}
        torch.testing.assert_close(exported(**longer)["frame_logits"], model(**longer).frame_logits)
