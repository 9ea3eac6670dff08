"""The trainings of the teacher and of `clip-tiny-faces`, and the weights that they write."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel, CLIPConfig, CLIPModel, CLIPTokenizer, VisionTextDualEncoderModel

from recipes.clip_tiny_faces.captions import FACTS
from recipes.clip_tiny_faces.evaluate import CONTEXT, embed_classes, embed_images
from recipes.clip_tiny_faces.export import file_hash, save_weights
from recipes.clip_tiny_faces.expression_net import ExpressionNet, load_net, save_net
from recipes.clip_tiny_faces.ferplus import CLASSES, VotedFaces
from recipes.clip_tiny_faces.measure import Parts, _text_controls, read_predictions
from recipes.clip_tiny_faces.muon import Muon
from recipes.clip_tiny_faces.photographs import Photographs
from recipes.clip_tiny_faces.scores import accuracy, bootstrap, six_class_uar, uar
from recipes.clip_tiny_faces.stills import render_stills
from recipes.clip_tiny_faces.towers import build_dual_encoder, build_image_processor, load_dual_encoder
from recipes.clip_tiny_faces.train import Recipe, TrainingData, _caption_matches, class_texts, train, training_batch
from recipes.clip_tiny_faces.train_teacher import (
    TeacherRecipe,
    TeachingData,
    adjust_biases,
    one_cycle,
    teaching_batch,
    train_teacher,
)
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import ACTION_UNITS, EMOTIONS
from tgdfer.weights import CLIP_TINY_FACES as WEIGHTS

TEACHER = TeacherRecipe(epochs=1, voted=4, labelled=2, rendered=2, width=4, checkpoint_every=2)
TINY_CLIP = {
    "text_config": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "vision_config": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "projection_dim": 8,
}
TINY = Recipe(pairs=24, voted=4, stills=2, rendered=2, checkpoint_every=2, validate_every=3)


def some_photographs(count=20):
    rng = np.random.default_rng(0)
    return Photographs(rng.integers(0, 255, (count, 112, 112), np.uint8), rng.integers(-1, 7, count))


def voted_faces(count=12):
    rng = np.random.default_rng(1)
    votes = rng.dirichlet(np.ones(len(CLASSES)), count).astype(np.float32)
    plain = rng.integers(0, 255, (count, 48, 48), np.uint8)
    aligned = rng.integers(0, 255, (count, 112, 112), np.uint8)
    return VotedFaces(plain, aligned, np.ones(count, bool), votes, rng.integers(0, 7, count))


@pytest.fixture(scope="module")
def rendered():
    return render_stills(12, people=3, seed=0)


@pytest.fixture
def data(rendered):
    return TeachingData(voted_faces(), voted_faces(6), some_photographs(), rendered)


@pytest.fixture
def ground(rendered):
    torch.manual_seed(0)
    return TrainingData(voted_faces(), voted_faces(6), some_photographs(), rendered, ExpressionNet(4).eval())


def stop_at(what, step):
    def progress(name, done, total):
        if (name, done) == (what, step):
            raise UserError("time is over")

    return progress


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_teacher_that_ran_out_of_time_loses_nothing(tmp_path, data):
    """Its dropout is drawn from torch's random state, which is kept."""
    cpu = torch.device("cpu")
    whole, seconds = train_teacher(tmp_path / "whole", TEACHER, data, cpu, lambda *_: None)
    assert seconds > 0
    with pytest.raises(UserError, match="time is over"):
        train_teacher(tmp_path / "cut", TEACHER, data, cpu, stop_at("teacher", 1))
    done = []
    resumed, _ = train_teacher(tmp_path / "cut", TEACHER, data, cpu, lambda name, step, _: done.append((name, step)))
    assert done == [("teacher", 2), ("teacher", 3)]
    assert same(whole, resumed)
    last = json.loads((tmp_path / "cut/teacher.jsonl").read_text().splitlines()[-1])
    assert {"aligned accuracy", "plain six_class_uar"} <= set(last), "each epoch is measured"
    with pytest.raises(UserError, match="another recipe"):
        train_teacher(tmp_path / "cut", replace(TEACHER, rate=0.2), data, cpu, lambda *_: None)


def test_every_photograph_is_seen_once_an_epoch(data):
    data = data._replace(voted=replace(data.voted, votes=np.eye(12, 8, dtype=np.float32)))
    seen = torch.cat([teaching_batch(TEACHER, data, step, 3).targets[:4] for step in range(3)])
    assert torch.equal(seen.sum(0), torch.ones(8)) and len(seen) == 12
    batch = teaching_batch(TEACHER, data, 0, 3)
    assert batch.pixels.shape == (8, 3, 112, 112) and batch.units.shape == (2, len(ACTION_UNITS))
    assert torch.equal(batch.pixels, teaching_batch(TEACHER, data, 0, 3).pixels)


def test_the_rate_rises_and_falls():
    rates = [one_cycle(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1, abs=0.05) and np.argmax(rates) in (19, 20)
    assert rates[0] < 0.1 and rates[-1] < 0.01


def test_rare_classes_are_answered_more_often_after_the_adjustment():
    net = ExpressionNet(4)
    before = net.emotions.bias.detach().clone()
    votes = np.full((10, len(CLASSES)), 0.01, np.float32)
    votes[:, 3] = 0.93
    shift = (adjust_biases(net, votes, 0.5).emotions.bias - before).detach()
    assert shift[0] - shift[3] == pytest.approx(0.5 * np.log(93), rel=1e-3)


def test_the_teacher_is_kept_in_half_precision(tmp_path):
    net = ExpressionNet(4).eval()
    save_net(net, tmp_path / "net.safetensors")
    pixels = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        seen, again = net(pixels), load_net(tmp_path / "net.safetensors")(pixels)
    assert seen.map.shape == (2, 32, 6, 6) and seen.logits.shape == (2, len(CLASSES))
    torch.testing.assert_close(seen.logits, again.logits, atol=5e-3, rtol=5e-2)
    with pytest.raises(UserError, match="train the teacher first"):
        load_net(tmp_path / "none.safetensors")


@pytest.mark.slow
def test_training_resumes_where_it_stopped(tmp_path, ground):
    whole, tokenizer, seconds = train(tmp_path / "whole", TINY, ground, WEIGHTS)
    assert seconds > 0
    log = [json.loads(line) for line in (tmp_path / "whole/pupil.jsonl").read_text().splitlines()]
    assert all(np.isfinite(log[0][name]) for name in ("contrast", "classes", "features", "map", "units", "facts"))
    assert "zero-shot six_class_uar" in log[-1]
    with pytest.raises(UserError, match="time is over"):
        train(tmp_path / "cut", TINY, ground, WEIGHTS, stop_at("pupil", 1))
    steps = []
    resumed, *_ = train(tmp_path / "cut", TINY, ground, WEIGHTS, lambda what, done, total: steps.append((what, done)))
    assert steps == [("pupil", 2), ("pupil", 3)], "not begun again"
    assert same(whole, resumed)
    with pytest.raises(UserError, match="another recipe"):
        train(tmp_path / "cut", replace(TINY, pairs=32), ground, WEIGHTS)
    with pytest.raises(UserError, match="other pictures"):
        train(tmp_path / "cut", TINY, ground._replace(stills=some_photographs(9)), WEIGHTS)
    assert not list(tmp_path.rglob("*.part"))
    begin = build_dual_encoder(WEIGHTS)[0].text_model.encoder.layers[0].mlp.fc1.weight
    moved = (whole.text_model.encoder.layers[0].mlp.fc1.weight - begin).norm() / begin.norm()
    assert 0 < moved < 0.5, "it goes on from the weights"


def test_the_dual_encoder_loads_again_and_is_small(tmp_path):
    model, tokenizer = build_dual_encoder(WEIGHTS)
    assert model.num_parameters() <= 6_000_000
    assert isinstance(model, VisionTextDualEncoderModel)
    model.eval().save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    again, words = load_dual_encoder(tmp_path)
    assert type(again) is type(model) is type(AutoModel.from_pretrained(tmp_path))
    pictures = list(some_photographs(2).images)
    processor = build_image_processor()
    one, other = (embed_images(m, processor, pictures) for m in (model, again))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    texts = {"happiness": ["a smile"]}
    torch.testing.assert_close(embed_classes(model, tokenizer, texts), embed_classes(again, words, texts))


def test_a_training_goes_on_from_both_towers_of_earlier_weights(tmp_path):
    model, tokenizer = build_dual_encoder(WEIGHTS)
    model.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    assert same(model, build_dual_encoder(tmp_path)[0])


def test_a_plain_clip_gives_its_text_tower_alone(tmp_path):
    earlier = CLIPModel(CLIPConfig(**TINY_CLIP))
    earlier.save_pretrained(tmp_path)
    CLIPTokenizer.from_pretrained(WEIGHTS).save_pretrained(tmp_path)
    model = build_dual_encoder(tmp_path)[0]
    assert isinstance(model, VisionTextDualEncoderModel)
    assert same(model.text_model, earlier.text_model)
    torch.testing.assert_close(model.text_projection.weight, earlier.text_projection.weight)
    assert model.logit_scale == earlier.logit_scale


def test_muon_turns_kernels_as_it_turns_matrices():
    torch.manual_seed(0)
    matrix, gradient = torch.randn(4, 18), torch.randn(4, 18)
    flat, kernel = torch.nn.Parameter(matrix.clone()), torch.nn.Parameter(matrix.view(4, 2, 3, 3).clone())
    flat.grad, kernel.grad = gradient.clone(), gradient.view(4, 2, 3, 3).clone()
    for parameter in (flat, kernel):
        Muon([parameter], lr=0.1, weight_decay=0.01).step()
    assert not torch.equal(flat, matrix)
    torch.testing.assert_close(kernel.flatten(1), flat)


def test_captions_of_photographs_follow_the_votes(ground):
    votes = np.zeros((12, 8), np.float32)
    votes[:, [0, 3]] = 0.75, 0.25
    drawn = []
    for step in range(60):
        batch = training_batch(ground._replace(voted=replace(ground.voted, votes=votes)), TINY, step)
        drawn += [FACTS[i] for row in batch.certain[:4] for i in np.flatnonzero(row)]
        assert batch.targets[:4, 0].tolist() == [0.75] * 4
    assert set(drawn) == {"anger", "happiness"}
    assert drawn.count("anger") / len(drawn) == pytest.approx(0.75, abs=0.1)


def test_a_caption_fits_its_own_photograph_and_is_in_doubt_for_others(ground):
    batch = training_batch(ground, TINY, 0)
    facts = {name: i for i, name in enumerate(FACTS)}
    happy = np.array([fact == "happiness" for fact in FACTS])
    possible = happy | np.array([fact == "AU12" for fact in FACTS])
    needs = np.stack([happy, happy])
    needs[0, facts["AU12"]] = True
    batch = batch._replace(certain=np.stack([happy, happy]), possible=np.stack([possible, possible]))
    fits, doubtful = _caption_matches(batch, np.arange(2), needs)
    assert fits.tolist() == [[True, True], [False, True]] and doubtful.tolist() == [[False, False], [True, False]]


def test_every_class_has_as_many_texts():
    texts = class_texts(np.random.default_rng(0))
    assert len(texts) == 3 * len(CLASSES)
    described = {f"{CONTEXT} {text}" for text in built_in_descriptions()["anger"]}
    assert len(described & set(texts[:3])) == 2
    assert not described & set(texts[3:])


def test_weights_are_written_whole_or_not_at_all(tmp_path, ground, monkeypatch):
    from recipes.clip_tiny_faces import export
    from recipes.clip_tiny_faces.measure import Figure

    monkeypatch.setattr(export, "measure_rendered", lambda parts: [("rendered faces", Figure(0.5, 0.4, 0.6))])
    model, tokenizer = build_dual_encoder(WEIGHTS)
    parts = Parts(model.eval(), tokenizer, build_image_processor())
    save_weights(tmp_path / "weights", parts, TINY, 60.0, ground)
    again = AutoModel.from_pretrained(tmp_path / "weights")
    assert same(model, again)
    card = (tmp_path / "weights/README.md").read_text()
    assert "VisionTextDualEncoderModel" in card and "| rendered faces | 50.0  [40.0, 60.0] |" in card
    assert "Goodfellow" in card and "Barsoum" in card and "12 photographs" in card
    monkeypatch.setattr(tokenizer, "save_pretrained", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(tmp_path / "weights", parts, TINY, 60.0, ground)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert (tmp_path / "weights/tokenizer.json").is_file()
    with pytest.raises(UserError, match="does not exist"):
        file_hash(tmp_path / "none.safetensors")


def test_scores_and_their_intervals():
    labels = np.array([0] * 50 + [3] * 100 + [1] * 2)
    right, half = labels.copy(), labels.copy()
    half[:25] = half[150:] = 3
    assert accuracy(labels, half) == pytest.approx(125 / 152)
    assert uar(labels, half) == pytest.approx((0.5 + 1 + 0) / 3)
    assert six_class_uar(labels, half) == pytest.approx(0.75), "without disgust"
    low, high = bootstrap(labels, right, accuracy, half, rounds=200)
    assert 0 < low < 27 / 152 < high
    assert bootstrap(labels, right, accuracy, right, rounds=50) == (0, 0)
    # All pictures of a person come and go together, which makes the interval wider.
    by_person = bootstrap(labels, half, accuracy, groups=[str(i // 25) for i in range(152)], rounds=200)
    alone = bootstrap(labels, half, accuracy, rounds=200)
    assert by_person[1] - by_person[0] > 1.5 * (alone[1] - alone[0])


@pytest.mark.slow
def test_shuffled_descriptions_and_class_names_are_measured():
    model, tokenizer = load_dual_encoder(WEIGHTS)
    parts = Parts(model, tokenizer, build_image_processor())
    classes = embed_classes(model, tokenizer, built_in_descriptions(EMOTIONS)).numpy()
    labels = np.repeat(np.arange(7), 10)
    figures = dict(_text_controls(parts, classes[labels], labels))
    assert figures["shuffled descriptions, uar"].value < 0.4, "seven descriptions that are seen, dealt anew"
    assert 0 <= figures["by class names, accuracy"].value <= 1


def test_answers_of_another_tool(tmp_path):
    file = tmp_path / "fer.txt"
    file.write_text("happy\nangry\nneutral\n")
    assert read_predictions(file, 3).tolist() == [EMOTIONS.index(name) for name in ("happiness", "anger", "neutral")]
    with pytest.raises(UserError, match="3 labels for 4 photographs"):
        read_predictions(file, 4)
    file.write_text("bored")
    with pytest.raises(UserError, match="bored"):
        read_predictions(file, 1)
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path / "none.txt", 1)
