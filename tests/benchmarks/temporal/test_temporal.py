"""Pairs of the same frames: what a model of single frames can know of them, and their report."""

import json

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.fitting import predict
from benchmarks.harness.heads import LinearHead, TextGuidedHead
from benchmarks.harness.runner import run_rows
from benchmarks.temporal.dataset import pair_dataset
from benchmarks.temporal.pairs import FRAMES, KINDS, LABELS, sample_pairs
from benchmarks.temporal.report import write_temporal_report
from benchmarks.temporal.rows import temporal_rows
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import RenderedFaces


@pytest.fixture(scope="module")
def dataset(clip_folder):
    faces = RenderedFaces(size=32, supersampling=1)
    settings = Settings(model=str(clip_folder), faces=faces, views=1, seeds=(0,), epochs=1)
    return pair_dataset(settings, {"train": (6, 1), "test": (4, 1)})


def runs(flags: np.ndarray) -> list[int]:
    """Lengths of the runs of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return (edges[1::2] - edges[::2]).tolist()


@pytest.mark.parametrize("pair", sample_pairs("train", 30, 1), ids=lambda pair: f"{pair.person} {pair.kind}")
def test_clips_of_a_pair_have_the_same_frames_in_another_order(pair):
    (label, felt), (neutral, other) = pair.clips
    assert (label, neutral) == (KINDS[pair.kind], "neutral")
    assert sorted(felt) == sorted(other) == list(range(FRAMES)) and list(felt) != list(other)
    slow, quick = pair.levels[felt], pair.levels[other]
    assert runs(slow > 0) == [np.count_nonzero(slow)], "the emotion comes and goes once"
    if pair.kind == "smile":
        assert runs(quick >= 0.5) == [np.count_nonzero(quick >= 0.5)] == runs(slow >= 0.5)
        assert np.abs(np.diff(slow)).max() < 0.5, "no jump"
    else:
        assert max(runs(quick > 0)) <= 2 < runs(slow > 0)[0] and len(runs(quick > 0)) >= 2


def test_people_of_the_splits_differ():
    train, test = ({pair.person for pair in sample_pairs(split, 5, 1)} for split in ("train", "test"))
    assert len(train) == len(test) == 5 and not train & test


def test_both_clips_of_a_pair_have_exactly_the_same_features(dataset):
    bags = dataset.features("test")
    clips = bags.features[0].double()
    assert len(clips) == len(dataset.test) == 16
    for felt, other in zip(clips[::2], clips[1::2], strict=True):
        assert not torch.equal(felt, other)
        assert torch.equal(felt.sort(0).values, other.sort(0).values)


@pytest.mark.parametrize("pooling", ["mean", "top"])
def test_linear_models_of_single_frames_are_at_most_at_chance(dataset, pooling):
    """Whatever the weights are, both clips of a pair get the same answer."""
    generator = torch.Generator().manual_seed(0)
    width = dataset.features("test").features.shape[-1]
    head = LinearHead(torch.zeros(width), torch.ones(width), len(LABELS), pooling)
    for _ in range(20):
        head.linear.weight.data.copy_(torch.randn(len(LABELS), width, generator=generator))
        check_both_the_same(predict(head, dataset.features("test"))[0], dataset)


@pytest.mark.parametrize("pooling", ["attention", "topk", "mean", "max"])
def test_tgdfer_without_its_grains_is_at_most_at_chance(dataset, pooling):
    options = {"context": "none", "short_term": False, "long_range": False, "mil_pooling": pooling}
    torch.manual_seed(0)
    model, _ = start_model(dataset.config(frozen_features=True, model_options=options).model, list(LABELS))
    for parameter in (*model.relevance.parameters(), *model.visual_prompts.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    check_both_the_same(predict(TextGuidedHead(model), dataset.features("test"))[0], dataset)


def check_both_the_same(logits, dataset):
    assert torch.allclose(logits[::2], logits[1::2], atol=1e-4)
    # Of two equal answers, at most one is right.
    predicted = logits[::2].argmax(-1).repeat_interleave(2)
    truth = torch.tensor([LABELS.index(label) for label in dataset.test.labels])
    assert (predicted == truth).float().mean() <= 0.5


@pytest.mark.slow
def test_run_and_report(dataset, tmp_path):
    rows = [row for row in temporal_rows(dataset) if row.name in ("frozen-top", "full", "curves")]
    assert run_rows(dataset, rows, tmp_path, "a command", np.inf)
    report, figures = tmp_path / "docs" / "temporal.md", tmp_path / "temporal.json"
    write_temporal_report(tmp_path, report, figures, dataset.pairs("test"))
    text, facts = report.read_text(), json.loads(figures.read_text())
    assert list(facts) == ["frozen-top", "full", "curves"]
    assert facts["frozen-top"]["accuracies"]["all"][0] <= 0.5
    assert set(facts["full"]["accuracies"]) == {"all", "smile", "lids", "shuffled", "reversed"}
    assert facts["frozen-top"]["minus single frames"] is None and len(facts["full"]["minus single frames"]) == 3
    assert facts["curves"]["accuracies"]["shuffled"] is None
    assert "| random forest, given the true curves |" in text and "`a command`" in text
    assert imread(report.with_suffix(".png")).std() > 0.1
