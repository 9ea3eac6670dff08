"""The embedded CLIP: its words, its training, its weights."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from recipes.clip_tiny_faces.augmentation import augment_photographs, augment_rendered, tint
from recipes.clip_tiny_faces.captions import FACTS, OPENINGS, caption, facts_of
from recipes.clip_tiny_faces.evaluate import file_apexes, linear_probe, recalls, rendered_apexes, zero_shot
from recipes.clip_tiny_faces.export import KINDS
from recipes.clip_tiny_faces.muon import Muon, orthogonalise
from recipes.clip_tiny_faces.stills import Stills, _draw_job, render_stills
from recipes.clip_tiny_faces.train import balanced_cross_entropy, contrastive_loss
from recipes.weights_folder import new_weights, require_weights_folder
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    PROTOTYPES,
    Pose,
    RenderedFaces,
    Setting,
    action_unit_vector,
    sample_person,
    write_dataset,
)
from tgdfer.weights import CLIP_TINY_FACES as WEIGHTS


@pytest.fixture(scope="module")
def parts():
    return AutoModel.from_pretrained(WEIGHTS).eval(), AutoTokenizer.from_pretrained(WEIGHTS)


def test_weights_load_with_plain_transformers(parts):
    model, tokenizer = parts
    processor = AutoImageProcessor.from_pretrained(WEIGHTS)
    assert model.num_parameters() <= 6_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 24e6
    assert model.config.text_config.vocab_size == len(tokenizer)
    assert model.config.text_config.eos_token_id == tokenizer.eos_token_id != 2, "2 is the legacy pooling"
    assert tokenizer.model_max_length == 77 == model.config.text_config.max_position_embeddings
    pixels = processor(np.zeros((200, 150, 3), np.uint8), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 112, 112)
    with torch.no_grad():
        assert torch.isfinite(model.get_image_features(pixel_values=pixels).pooler_output).all()


def test_the_class_descriptions_find_the_emotions_of_people_never_seen(parts):
    images, labels = rendered_apexes(clips=12)
    processor = AutoImageProcessor.from_pretrained(WEIGHTS)
    found = recalls(labels, zero_shot(*parts, processor, images, built_in_descriptions(sorted(set(labels)))))
    assert list(found) == sorted(EMOTIONS)
    assert np.mean(list(found.values())) > 0.75, "chance is 0.14"
    assert (WEIGHTS / "README.md").read_text("utf-8").startswith("---\nlicense: apache-2.0")


def test_padding_does_not_change_a_text(parts):
    model, tokenizer = parts
    texts = ["a smile", "a photo of a face: brows lowered and drawn together, lips pressed together"]
    with torch.no_grad():
        alone = model.get_text_features(**tokenizer(texts[:1], return_tensors="pt")).pooler_output
        padded = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    torch.testing.assert_close(alone[0], padded[0], atol=1e-5, rtol=1e-4)


def test_every_byte_survives_the_tokenizer(parts):
    tokenizer = parts[1]
    texts = [bytes([b]).decode("latin-1") for b in range(33, 256) if b not in (127, *range(128, 161), 173)]
    texts += ["é", "ß", "ñandú", "10 of 97", "😀", "笑顔", "über naïve café", "١٢٣", "~`|\\^"]
    for text in texts:
        for prompt in (text, f"before {text} after"):
            ids = tokenizer(prompt).input_ids
            assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
            assert tokenizer.eos_token_id not in ids[:-1], f"{prompt!r} is cut"
            expected = "".join(prompt.lower().split())
            assert "".join(tokenizer.decode(ids[1:-1]).split()) == expected
    assert set(range(len(tokenizer))) >= {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}


def test_built_in_prompts_fit_and_are_not_spelled_out(parts):
    tokenizer = parts[1]
    for text in (text for texts in built_in_descriptions().values() for text in texts):
        ids = tokenizer(f"a photo of a face: {text}").input_ids
        assert len(ids) <= 77
        assert len(ids) < 2.2 * (len(text.split()) + 8), "words, not letters"


def facts(label=None, strength=0.0, pose=None, **units):
    rng = np.random.default_rng(0)
    setting = Setting.sample(rng, RenderedFaces())
    return facts_of(sample_person(0, "a", 0), setting, pose or Pose(), action_unit_vector(units), label, strength)


def test_facts_agree_with_the_parameters():
    certain, possible = facts("happiness", 0.9, Pose(turn=-15), AU12=0.8, AU06=0.25)
    true, possible = ({FACTS[i] for i in np.flatnonzero(v)} for v in (certain, possible))
    assert {"AU12", "happiness", "turned left", "no AU04"} <= true
    assert not true & {"AU06", "no AU06", "sadness", "neutral", "facing", "turned right", "no AU12"}
    assert "AU06" in possible and true <= possible
    assert "sadness" not in possible
    # Where action units were drawn without an emotion, none is claimed and none is denied.
    certain, possible = facts(None, AU04=0.9)
    assert not {FACTS[i] for i in np.flatnonzero(certain)} & set(EMOTIONS)
    assert {FACTS[i] for i in np.flatnonzero(possible)} >= set(EMOTIONS)
    person = sample_person(0, "a", 0)
    assert certain[FACTS.index(f"{person.skin_tone} skin")]


def test_captions_say_only_what_is_true():
    rng = np.random.default_rng(0)
    stills = render_stills(40, people=5, seed=0)
    texts = set()
    for i in range(40):
        for _ in range(10):
            text, needs = caption(stills.certain[i], rng)
            texts.add(text)
            assert not (needs & ~stills.certain[i]).any()
            opening = max((o for o in OPENINGS if text.startswith(o)), key=len)
            assert needs.any() and len(text) > len(opening)
    assert len(texts) > 200
    smiling = stills.action_units[:, list(ACTION_UNITS).index("AU12")]
    assert not stills.certain[smiling < 0.1][:, FACTS.index("AU12")].any()


def test_true_captions_of_other_pictures_are_no_negatives():
    similarity = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    none = torch.zeros(3, 3, dtype=torch.bool)
    twins = torch.eye(3, dtype=torch.bool) | torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    strict = contrastive_loss(similarity, torch.eye(3, dtype=torch.bool), none)
    assert contrastive_loss(similarity, twins, none) == pytest.approx(float(strict), abs=1e-3)
    # Two twins swapped cost nothing where both are positives, and much where one is a negative.
    swapped = torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    doubtful = twins & ~torch.eye(3, dtype=torch.bool)
    assert contrastive_loss(swapped, torch.eye(3, dtype=torch.bool), none) > 4
    assert contrastive_loss(swapped, torch.eye(3, dtype=torch.bool), doubtful) < 1


def test_stills_do_not_depend_on_the_workers(monkeypatch):
    monkeypatch.setattr("recipes.clip_tiny_faces.stills._JOB", 6)
    parallel = render_stills(12, people=4, seed=2, workers=2)
    assert parallel.images.shape == (12, 112, 112, 3)
    for job, start in ((0, 0), (1, 6)):
        serial = Stills(*_draw_job(job, 6, 2, "clip-tiny-faces", 4))
        for name in ("images", "certain", "possible", "action_units", "labels"):
            assert np.array_equal(getattr(serial, name), getattr(parallel, name)[start : start + 6])


def test_a_class_gains_nothing_by_being_frequent():
    """Where pictures say nothing, the best answer is the frequencies: they must not be learnt by the logits."""
    target = torch.nn.functional.one_hot(torch.tensor([0] * 9 + [1]), 2).float()
    even, skewed = torch.zeros(10, 2), torch.zeros(10, 2)
    skewed[..., 0] = 2.0
    assert balanced_cross_entropy(even, target, [10]) < balanced_cross_entropy(skewed, target, [10])
    # Each part has frequencies of its own, and rows without a target have no part.
    mirrored = torch.cat([target, target.flip(1), torch.zeros(3, 2)])
    both = balanced_cross_entropy(torch.zeros(23, 2), mirrored, [10, 13])
    assert both == pytest.approx(float(balanced_cross_entropy(even, target, [10])), abs=1e-5)
    # Without balance the frequent class gains.
    assert balanced_cross_entropy(even, target, [10], 0.0) > balanced_cross_entropy(skewed, target, [10], 0.0)


def test_weights_replace_nothing_but_weights(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="other files than such weights"):
        require_weights_folder(tmp_path, KINDS)
    require_weights_folder(WEIGHTS, KINDS), require_weights_folder(tmp_path / "new", KINDS)


def test_augmentation_keeps_what_captions_say():
    images = np.zeros((64, 112, 112, 3), np.uint8)
    images[:, :, 60:] = (200, 100, 50)
    seen = augment_rendered(images, torch.Generator().manual_seed(0))
    assert seen.shape == (64, 3, 112, 112) and seen.min() >= 0 and seen.max() <= 1
    assert (seen[..., 90:].mean((1, 2, 3)) > seen[..., :30].mean((1, 2, 3))).all(), "left stays left"
    photographs = augment_photographs(images[..., 0], torch.Generator().manual_seed(0))
    mirrored = photographs[..., 90:].mean((1, 2, 3)) < photographs[..., :30].mean((1, 2, 3))
    assert 0.2 < mirrored.float().mean() < 0.8
    assert torch.equal(photographs, augment_photographs(images[..., 0], torch.Generator().manual_seed(0)))
    stripes = np.tile(np.array([0, 255], np.uint8), (8, 112, 56))
    coarse = augment_photographs(stripes, torch.Generator().manual_seed(0), coarse=1.0)
    assert coarse.std() < 0.5 * augment_photographs(stripes, torch.Generator().manual_seed(0)).std(), "no fine stripes"


def test_tints_colour_some_pictures_and_keep_their_shades():
    grey = torch.linspace(0.1, 0.9, 112).expand(64, 3, 112, 112)
    seen = tint(grey, torch.Generator().manual_seed(0), share=0.5)
    coloured = (seen.max(1).values - seen.min(1).values).amax((1, 2)) > 0.01
    assert 0.3 < coloured.float().mean() < 0.7 and torch.equal(seen[~coloured], grey[~coloured])
    assert (seen.diff(dim=-1) >= 0).all(), "what was darker is not lighter now"


def test_muon_steps_along_orthogonal_matrices():
    torch.manual_seed(0)
    for shape in ((8, 8), (24, 8), (8, 24)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.3 and values.max() < 1.4
    matrix, target = torch.nn.Parameter(torch.randn(6, 4)), torch.randn(6, 4)
    optimizer = Muon([matrix], lr=0.05)
    before = float(((matrix - target) ** 2).mean())
    for _ in range(60):
        optimizer.zero_grad()
        ((matrix - target) ** 2).mean().backward()
        optimizer.step()
    assert ((matrix - target) ** 2).mean() < 0.1 * before


def test_captions_of_a_class_are_true_of_its_prototype():
    rng = np.random.default_rng(0)
    present = set(PROTOTYPES["happiness"][0])
    absent = {f"no {unit}" for unit in ACTION_UNITS if unit not in present}
    facts = np.array([fact in present | absent | {"happiness"} for fact in FACTS])
    texts = {caption(facts, rng)[0] for _ in range(50)}
    assert any("smil" in text for text in texts) and len(texts) > 20
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert not words & {"sad", "sadness", "frown", "hair", "light"}


def test_apex_frames_of_files(tmp_path):
    faces = RenderedFaces(frames=(16, 18), supersampling=1)
    folder = write_dataset(tmp_path / "faces", faces, clips={"test": 1}, people={"test": 1}) / "test"
    images, labels, people = file_apexes(folder, max_frames=3)
    assert sorted(set(labels)) == sorted(EMOTIONS) and {image.shape for image in images} == {(112, 112, 3)}
    assert labels.count("neutral") == 3 and 1 <= labels.count("anger") <= 3 and len(people) == len(images)
    with pytest.raises(UserError, match=r"metadata\.jsonl"):
        file_apexes(tmp_path)


@pytest.mark.slow
def test_a_linear_probe_is_fitted_on_other_people(tmp_path, parts):
    faces = RenderedFaces(frames=(8, 10), supersampling=1, strength=(1.0, 1.0))
    clips, people = {"train": 5, "test": 1}, {"train": 5, "test": 1}
    folder = write_dataset(tmp_path / "faces", faces, clips=clips, people=people)
    processor = AutoImageProcessor.from_pretrained(WEIGHTS)
    figures = linear_probe(parts[0], processor, folder / "train", folder / "test")
    assert figures["train"] > 0.4 and figures["train"] >= figures["validation"] and 0 <= figures["test"] <= 1


def test_new_weights_can_be_read_by_every_user(tmp_path):
    with new_weights(tmp_path / "weights") as draft:
        save_file({"one": torch.ones(1)}, draft / "model.safetensors")
    assert (tmp_path / "weights" / "model.safetensors").stat().st_mode & 0o777 == 0o644
