"""The embedded CLIP: its words, its training, its weights."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from recipes.clip_tiny_faces.augmentation import augment_photographs, augment_rendered, normalise
from recipes.clip_tiny_faces.captions import FACTS, OPENINGS, caption, facts_of, facts_of_prototype
from recipes.clip_tiny_faces.evaluate import file_apexes, linear_probe, rendered_apexes, zero_shot_recalls
from recipes.clip_tiny_faces.export import history, require_weights_folder, save_weights
from recipes.clip_tiny_faces.model import build_model, weights_hash
from recipes.clip_tiny_faces.muon import Muon, orthogonalise
from recipes.clip_tiny_faces.photographs import Photographs, facts_of_photograph, load_photographs
from recipes.clip_tiny_faces.stills import Stills, _draw_job, render_stills
from recipes.clip_tiny_faces.teacher import Teacher, TeacherRecipe, draw_balanced
from recipes.clip_tiny_faces.tokenizer import MAX_LENGTH, train_tokenizer
from recipes.clip_tiny_faces.train import Learner, Recipe, balanced_cross_entropy, contrastive_loss, train
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    Pose,
    RenderedFaces,
    Setting,
    action_unit_vector,
    sample_person,
    write_dataset,
)
from tgdfer.weights import CLIP_TINY_FACES as WEIGHTS

TEACHER = TeacherRecipe(steps=2, photographs=4, drawn=4, width=4)
TINY = Recipe(images=12, people=3, pairs=16, batch=4, checkpoint_every=2, teacher=TEACHER)


@pytest.fixture(scope="module")
def parts():
    return CLIPModel.from_pretrained(WEIGHTS).eval(), AutoTokenizer.from_pretrained(WEIGHTS)


def test_weights_load_with_plain_transformers(parts):
    model, tokenizer = parts
    processor = AutoImageProcessor.from_pretrained(WEIGHTS)
    assert model.num_parameters() <= 5_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 20e6
    assert model.config.text_config.vocab_size == len(tokenizer)
    assert model.config.text_config.eos_token_id == tokenizer.eos_token_id != 2, "2 is the legacy pooling"
    assert tokenizer.model_max_length == MAX_LENGTH == model.config.text_config.max_position_embeddings
    pixels = processor(np.zeros((200, 150, 3), np.uint8), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 112, 112)
    with torch.no_grad():
        assert torch.isfinite(model.get_image_features(pixel_values=pixels).pooler_output).all()


def test_the_class_descriptions_find_the_emotions_of_people_never_seen(parts):
    recalls = zero_shot_recalls(*parts, AutoImageProcessor.from_pretrained(WEIGHTS), *rendered_apexes(clips=12))
    assert list(recalls) == sorted(EMOTIONS)
    assert np.mean(list(recalls.values())) > 0.75, "chance is 0.14"
    assert (WEIGHTS / "README.md").read_text("utf-8").startswith("---\nlicense: apache-2.0")


def test_padding_does_not_change_a_text(parts):
    model, tokenizer = parts
    texts = ["a smile", "a photo of a face: brows lowered and drawn together, lips pressed together"]
    with torch.no_grad():
        alone = model.get_text_features(**tokenizer(texts[:1], return_tensors="pt")).pooler_output
        padded = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    torch.testing.assert_close(alone[0], padded[0], atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def small_tokenizer():
    words = [text for texts in built_in_descriptions().values() for text in texts]
    return train_tokenizer(words * 2, merges=200)


@pytest.mark.parametrize("which", ["committed", "fresh"])
def test_every_byte_survives_the_tokenizer(request, which):
    tokenizer = (
        request.getfixturevalue("parts")[1] if which == "committed" else request.getfixturevalue("small_tokenizer")
    )
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
        assert len(ids) <= MAX_LENGTH
        assert len(ids) < 2.2 * (len(text.split()) + 8), "words, not letters"


def facts(label=None, strength=0.0, pose=None, **units):
    rng = np.random.default_rng(0)
    setting = Setting.sample(rng, RenderedFaces())
    return facts_of(sample_person(0, "a", 0), setting, pose or Pose(), action_unit_vector(units), label, strength)


def test_facts_agree_with_the_parameters():
    surely, maybe = facts("happiness", 0.9, Pose(turn=-15), AU12=0.8, AU06=0.25)
    true, possible = ({FACTS[i] for i in np.flatnonzero(v)} for v in (surely, maybe))
    assert {"AU12", "happiness", "turned left", "no AU04"} <= true
    assert not true & {"AU06", "no AU06", "sadness", "neutral", "facing", "turned right", "no AU12"}
    assert "AU06" in possible and true <= possible
    assert "sadness" not in possible
    # Where action units were drawn without an emotion, none is claimed and none is denied.
    surely, maybe = facts(None, AU04=0.9)
    assert not {FACTS[i] for i in np.flatnonzero(surely)} & set(EMOTIONS)
    assert {FACTS[i] for i in np.flatnonzero(maybe)} >= set(EMOTIONS)
    person = sample_person(0, "a", 0)
    assert surely[FACTS.index(f"{person.skin_tone} skin")]


def test_captions_say_only_what_is_true():
    rng = np.random.default_rng(0)
    stills = render_stills(40, people=5, seed=0)
    texts = set()
    for i in range(40):
        for _ in range(10):
            text, needs = caption(stills.surely[i], rng)
            texts.add(text)
            assert not (needs & ~stills.surely[i]).any()
            opening = max((o for o in OPENINGS if text.startswith(o)), key=len)
            assert needs.any() and len(text) > len(opening)
    assert len(texts) > 200
    smiling = stills.action_units[:, list(ACTION_UNITS).index("AU12")]
    assert not stills.surely[smiling < 0.1][:, FACTS.index("AU12")].any()


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


def test_stills_do_not_depend_on_the_workers():
    parallel = render_stills(256, people=4, seed=2, workers=2)
    assert parallel.images.shape == (256, 112, 112, 3)
    for job, start in ((0, 0), (1, 250)):
        serial = Stills(*_draw_job(job, 6, 2, "clip-tiny-faces", 4))
        for name in ("images", "surely", "maybe", "action_units", "labels"):
            assert np.array_equal(getattr(serial, name), getattr(parallel, name)[start : start + 6])


def test_training_resumes_where_it_stopped(tmp_path):
    whole, tokenizer, seconds = train(tmp_path / "whole", TINY)
    assert seconds > 0
    log = [json.loads(line) for line in (tmp_path / "whole/pupil.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 4 and np.isfinite(log[-1]["loss"])

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "pupil" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", TINY, progress=interrupt)
    steps = []
    resumed, *_ = train(tmp_path / "cut", TINY, progress=lambda what, done, total: steps.append((what, done)))
    assert steps == [("pupil", 3), ("pupil", 4)], "neither rendered again nor begun again"
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    steps_logged = [json.loads(line)["step"] for line in (tmp_path / "cut/pupil.jsonl").read_text().splitlines()]
    assert steps_logged == sorted(set(steps_logged))
    with pytest.raises(UserError, match="another recipe"):
        train(tmp_path / "cut", Recipe(images=12, people=3, pairs=32, batch=4))
    with pytest.raises(UserError, match="other pictures"):
        train(tmp_path / "cut", TINY, some_photographs())
    assert not list(tmp_path.rglob("*.part"))


def some_photographs(count=20):
    rng = np.random.default_rng(0)
    return Photographs(rng.integers(0, 255, (count, 112, 112), np.uint8), rng.integers(-1, 7, count))


def test_photographs_and_their_teacher_take_part(tmp_path):
    photographs, done = some_photographs(), []
    model, *_ = train(tmp_path, TINY, photographs, progress=lambda what, step, total: done.append(what))
    assert done.count("teacher") == 2 and done.count("pupil") == 4
    last = json.loads((tmp_path / "pupil.jsonl").read_text().splitlines()[-1])
    assert all(np.isfinite(last[name]) for name in ("contrast", "units", "facts", "classes", "map"))
    again, *_ = train(tmp_path, TINY, photographs, progress=lambda what, step, total: done.append(what))
    assert len(done) == 7, "all is done: only the rendering was"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_teacher_that_ran_out_of_time_loses_nothing(tmp_path):
    """Its dropout is drawn from torch's random state, which is kept."""
    photographs, recipe = some_photographs(), replace(TINY, teacher=replace(TINY.teacher, steps=3), pairs=4)
    whole, *_ = train(tmp_path / "whole", recipe, photographs)
    done = []

    def stop(what, step, total):
        done.append((what, step))
        if what == "teacher" and step == 2 and len(set(done)) == len(done):
            raise UserError("time is over")

    with pytest.raises(UserError, match="time is over"):
        train(tmp_path / "cut", recipe, photographs, progress=stop)
    done.clear()
    resumed, *_ = train(
        tmp_path / "cut", recipe, photographs, progress=lambda what, step, _: done.append((what, step))
    )
    assert done[0] == ("teacher", 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_training_goes_on_from_weights(tmp_path, small_tokenizer, monkeypatch):
    from recipes.clip_tiny_faces import export

    monkeypatch.setattr(export, "rendered_apexes", lambda: rendered_apexes(clips=1))
    monkeypatch.setattr(export, "action_unit_retrieval", lambda *parts: {"AU12": 0.5})
    first = tmp_path / "first"
    save_weights(first, build_model(small_tokenizer).eval(), small_tokenizer, TINY, 60.0, some_photographs())
    recipe = replace(TINY, seed=1, start=weights_hash(first))
    model, tokenizer, seconds = train(tmp_path / "work", recipe, start=first)
    assert tokenizer.get_vocab() == small_tokenizer.get_vocab()
    begin = CLIPModel.from_pretrained(first).vision_model.encoder.layers[0].mlp.fc1.weight
    moved = (model.vision_model.encoder.layers[0].mlp.fc1.weight - begin).norm() / begin.norm()
    assert 0 < moved < 0.5, "it learns, and does not begin anew"
    with pytest.raises(UserError, match="another recipe"):
        train(tmp_path / "work", replace(recipe, start="other weights"), start=first)
    save_weights(tmp_path / "second", model, tokenizer, recipe, 120.0, start=first)
    assert [stage["seed"] for stage in history(tmp_path / "second")] == [0, 1]
    card = (tmp_path / "second/README.md").read_text()
    assert "--seed 0 --photographs FILE`, then" in card and "--seed 1 --start WEIGHTS`" in card
    assert "Training took 3 minutes" in card
    (first / "training.json").unlink()
    with pytest.raises(UserError, match="does not say how"):
        save_weights(tmp_path / "third", model, tokenizer, recipe, 1.0, start=first)


def test_a_class_gains_nothing_by_being_frequent():
    """Where pictures say nothing, the best answer is the frequencies: they must not be learnt by the logits."""
    target = torch.nn.functional.one_hot(torch.tensor([0] * 9 + [1]), 2).float()
    even, skewed = torch.zeros(1, 10, 2), torch.zeros(1, 10, 2)
    skewed[..., 0] = 2.0
    assert balanced_cross_entropy(even, target, [10]) < balanced_cross_entropy(skewed, target, [10])
    # Each part has frequencies of its own, and rows without a target have no part.
    mirrored = torch.cat([target, target.flip(1), torch.zeros(3, 2)])
    both = balanced_cross_entropy(torch.zeros(1, 23, 2), mirrored, [10, 13])
    assert both == pytest.approx(float(balanced_cross_entropy(even, target, [10])), abs=1e-5)


def test_weights_replace_nothing_but_weights(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something else than weights"):
        require_weights_folder(tmp_path)
    require_weights_folder(WEIGHTS), require_weights_folder(tmp_path / "new")


def test_photographs_come_from_a_file_without_the_labels_of_hidden_splits(tmp_path):
    from datasets import Dataset, Features, Image, Value

    pictures = [np.full((60, 60), 10 * i, np.uint8) for i in range(4)]
    rows = {"image": pictures, "label": ["happy", "", "anger", "sadness"], "split": ["train"] * 3 + ["test"]}
    features = Features({"image": Image(), "label": Value("string"), "split": Value("string")})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "faces.parquet")
    photographs = load_photographs(tmp_path / "faces.parquet")
    assert photographs.images.shape == (4, 112, 112) and photographs.images[2].max() == 20
    expected = [EMOTIONS.index("happiness"), -1, EMOTIONS.index("anger"), -1]
    assert photographs.labels.tolist() == expected
    with pytest.raises(UserError, match="not a file"):
        load_photographs(tmp_path / "none.parquet")
    Dataset.from_dict({**rows, "label": ["boredom"] * 4}, features=features).to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(UserError, match="boredom"):
        load_photographs(tmp_path / "odd.parquet")


def test_a_photograph_denies_what_its_emotion_never_shows():
    surely, maybe = ({FACTS[i] for i in np.flatnonzero(v)} for v in facts_of_photograph(EMOTIONS.index("happiness")))
    assert surely == {"happiness"}
    assert {"AU12", "no AU12", "glasses", "turned left", "AU25"} <= maybe
    assert not maybe & {"sadness", "neutral", "AU15", "AU09"}
    assert not facts_of_photograph(-1)[0].any() and facts_of_photograph(-1)[1].all()


def test_rare_emotions_are_drawn_as_often_as_others():
    labels = np.array([3] * 900 + [0] * 90 + [5] * 10 + [-1] * 500)
    drawn = labels[draw_balanced(labels, 6000, 1.0, np.random.default_rng(0))]
    assert np.bincount(drawn, minlength=7)[[0, 3, 5]] == pytest.approx([2000] * 3, rel=0.1)
    assert (drawn >= 0).all()


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


def test_the_tower_sees_the_same_with_all_patches_as_in_transformers(parts):
    model = parts[0]
    learner = Learner(model, 8).eval()
    pixels = normalise(torch.rand(2, 3, 112, 112))
    with torch.no_grad():
        embeddings, _, patches = learner.look(pixels, torch.arange(49).expand(2, -1))
        whole = model.get_image_features(pixel_values=pixels).pooler_output
        few = learner.look(pixels, torch.arange(30).expand(2, -1))
    torch.testing.assert_close(embeddings, torch.nn.functional.normalize(whole, dim=-1), atol=1e-5, rtol=1e-4)
    assert patches.shape == (2, 49, 192) and few[2].shape == (2, 30, 192)
    assert not torch.allclose(few[0], embeddings, atol=1e-3)


def test_the_teacher_has_a_place_for_every_patch():
    seen, emotions, units = Teacher(4).eval()(torch.rand(2, 3, 112, 112))
    assert seen.shape == (2, 24, 7, 7) and emotions.shape == (2, 7) and units.shape == (2, len(ACTION_UNITS))


def test_captions_of_a_class_are_true_of_its_prototype():
    rng = np.random.default_rng(0)
    texts = {caption(facts_of_prototype("happiness", rng), rng)[0] for _ in range(50)}
    assert any("smil" in text for text in texts) and len(texts) > 20
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert not words & {"sad", "sadness", "frown", "hair", "light"}


def test_weights_are_written_whole_or_not_at_all(tmp_path, small_tokenizer, monkeypatch):
    from recipes.clip_tiny_faces import export

    monkeypatch.setattr(export, "rendered_apexes", lambda: rendered_apexes(clips=1))
    monkeypatch.setattr(export, "action_unit_retrieval", lambda *parts: {"AU12": 0.5})
    model = build_model(small_tokenizer).eval()
    figures = save_weights(tmp_path / "weights", model, small_tokenizer, TINY, 1.0)
    assert 0 <= figures["uar"] <= 1
    again = CLIPModel.from_pretrained(tmp_path / "weights")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    monkeypatch.setattr(small_tokenizer, "save_pretrained", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(tmp_path / "weights", model, small_tokenizer, TINY, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert (tmp_path / "weights/tokenizer.json").is_file()


def test_apex_frames_of_files(tmp_path):
    faces = RenderedFaces(frames=(16, 18))
    folder = write_dataset(tmp_path / "faces", faces, clips={"test": 1}, people={"test": 1}) / "test"
    images, labels, people = file_apexes(folder, most=3)
    assert sorted(set(labels)) == sorted(EMOTIONS) and {image.shape for image in images} == {(112, 112, 3)}
    assert labels.count("neutral") == 3 and 1 <= labels.count("anger") <= 3 and len(people) == len(images)
    with pytest.raises(UserError, match=r"metadata\.jsonl"):
        file_apexes(tmp_path)


def test_a_linear_probe_is_fitted_on_other_people(tmp_path, parts):
    faces = RenderedFaces(frames=(16, 18), strength=(1.0, 1.0))
    clips, people = {"train": 5, "test": 1}, {"train": 5, "test": 1}
    folder = write_dataset(tmp_path / "faces", faces, clips=clips, people=people)
    processor = AutoImageProcessor.from_pretrained(WEIGHTS)
    figures = linear_probe(parts[0], processor, folder / "train", folder / "test")
    assert figures["train"] > 0.4 and figures["train"] >= figures["validation"] and 0 <= figures["test"] <= 1
