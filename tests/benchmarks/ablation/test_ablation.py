"""The ablation: heads of other methods, rows that differ by one part, and the report, on data whose truth is known."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.ablation import other_methods, report, rows
from benchmarks.ablation.free_texts import free_text_model
from benchmarks.ablation.report import gap, write_ablation_report
from benchmarks.ablation.variants import LADDER, WITH, WITHOUT, variant_model
from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.feature_dataset import FeatureDataset
from benchmarks.harness.fitting import Recipe, predict, train_head, uar
from benchmarks.harness.heads import TextGuidedHead
from benchmarks.harness.published_rows import with_published_rows
from benchmarks.harness.results import read_results
from benchmarks.harness.row import targets_of
from benchmarks.harness.runner import run_rows
from tgdfer.training.errors import UserError

DIM, FRAMES, FAR = 16, 8, time.monotonic() + 1e6
LABELS = ["anger", "happiness", "neutral"]
SETTINGS = Settings(seeds=(0, 1), epochs=3, num_frames=FRAMES)


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    """Clips of ten people in which a few frames show the emotion, as a direction of their own."""
    rng = np.random.default_rng(0)
    directions = {label: rng.normal(size=DIM) for label in LABELS}
    arrays = {name: [] for name in ("frame_features", "label", "split", "person", "intensity")}
    for person in range(16):
        for label in LABELS:
            for _ in range(2):
                shown = np.zeros(FRAMES)
                if label != "neutral":
                    shown[rng.integers(0, FRAMES - 3) :][:3] = 1
                rest = directions["neutral"] + 0.3 * rng.normal(size=DIM)
                frames = rest + shown[:, None] * (2 * directions[label] - rest) + 0.2 * rng.normal(size=(FRAMES, DIM))
                split = "train" if person < 10 else "test"
                for name, value in zip(arrays, (frames, label, split, f"person {person}", shown), strict=True):
                    arrays[name].append(value)
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, **{name: np.array(values) for name, values in arrays.items()})
    return path


@pytest.fixture
def dataset(features_file) -> FeatureDataset:
    return FeatureDataset(features_file, SETTINGS)


def every_head(dataset):
    seen, everything = dataset.features("train"), np.arange(len(dataset.train))
    heads = {name: make(dataset, seen, everything, 0) for name, _, make in rows.OTHER_METHODS}
    full = next(variant for variant in LADDER if variant.name == "full")
    return heads | {"tgdfer": TextGuidedHead(variant_model(dataset, full, 0))}


def test_masked_frames_change_no_answer(dataset):
    """Padding at the end, whatever it holds, is as if it were not there."""
    seen = dataset.features("test")
    frames, mask, seconds = seen.features[0, :5].float(), seen.frame_mask[0, :5], seen.timestamps[0, :5]
    junk = torch.randn(5, 3, DIM)
    longer = torch.cat([frames[:, :-1], junk], 1)
    hidden = torch.cat([mask[:, :-1], torch.zeros(5, 3, dtype=torch.bool)], 1)
    times = torch.cat([seconds[:, :-1], torch.full((5, 3), 9.0)], 1)
    for name, head in every_head(dataset).items():
        head.eval()
        with torch.no_grad():
            if name == "dfer-clip":  # its positions are learnt for so many frames
                longer_, hidden_, times_ = longer[:, :FRAMES], hidden[:, :FRAMES], times[:, :FRAMES]
            else:
                longer_, hidden_, times_ = longer, hidden, times
            short, padded = head(frames[:, :-1], mask[:, :-1], seconds[:, :-1]), head(longer_, hidden_, times_)
        torch.testing.assert_close(short[0], padded[0], atol=1e-4, rtol=1e-4, msg=name)
        if short[1] is not None:
            kept = padded[1][:, : FRAMES - 1]
            torch.testing.assert_close(short[1], kept, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_every_head_learns_what_few_frames_show(dataset):
    seen, targets = dataset.features("train"), targets_of(dataset)
    truth = torch.tensor([dataset.classes.index(label) for label in dataset.test.labels])
    for name, head in every_head(dataset).items():
        train_head(head, seen, targets, np.arange(len(targets)), Recipe(rate=3e-3, epochs=25), 0)
        logits, scores = predict(head, dataset.features("test"))
        assert uar(logits, truth) > 0.7, name
        assert scores.isnan().all() == (name == "dfer-clip"), name
        assert scores.shape == (len(dataset.test), FRAMES, len(LABELS))


def test_linear_softmax_pooling_is_the_weighted_mean_of_shares():
    head = other_methods.LinearSoftmaxPooling(torch.zeros(2), torch.ones(2), 2)
    torch.nn.init.eye_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    logits, scores = head(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.ones(1, 2, dtype=torch.bool))
    shares = scores.softmax(-1)
    expected = (shares**2).sum(1) / shares.sum(1)
    torch.testing.assert_close(logits.exp(), expected)


def test_top_k_shrinks_from_all_frames_to_a_share():
    head = other_methods.ShrinkingTopK(torch.zeros(1), torch.ones(1), 1, share=0.25, shrink_epochs=4).train()
    torch.nn.init.ones_(head.linear.weight)
    frames, mask = torch.tensor([[[1.0], [1.0], [-1.0], [-1.0]]]), torch.ones(1, 4, dtype=torch.bool)
    bias = head.linear.bias.detach()
    means = []
    for epoch in (1, 3, 5, 9):
        head.start_epoch(epoch)
        means.append((head(frames, mask)[0].detach() - bias).item())
    assert means == pytest.approx([0.0, 1 / 3, 1.0, 1.0], abs=1e-5)


def test_frames_come_in_another_order_at_the_same_seconds(dataset):
    seen = dataset.features("test")
    seen = replace(seen, frame_mask=seen.frame_mask.clone())
    seen.frame_mask[:, 0, 6:] = False
    backwards = rows.reorder(seen, "reversed", 0)
    assert torch.equal(backwards.features[0, 0, :6], seen.features[0, 0, :6].flip(0)), "masked frames stay last"
    assert torch.equal(backwards.features[0, 1], seen.features[0, 1].flip(0))
    assert torch.equal(backwards.timestamps, seen.timestamps)
    shuffled = rows.reorder(seen, "shuffled", 0)
    assert not torch.equal(shuffled.features, seen.features)
    assert torch.equal(shuffled.features.sum((0, 1, 2)), rows.reorder(seen, "shuffled", 0).features.sum((0, 1, 2)))
    assert torch.equal(shuffled.features[0, 0, 6:].sort(0).values, seen.features[0, 0, 6:].sort(0).values)


def test_variants_differ_by_their_part_alone(dataset):
    models = {v.name: variant_model(dataset, v, 0) for v in LADDER + WITHOUT + WITH if not v.class_names}
    sizes = {name: sum(p.numel() for p in m.parameters() if p.requires_grad) for name, m in models.items()}
    assert sizes["descriptions"] < sizes["short"] <= sizes["attention"] < sizes["full"] < sizes["long"]
    grains = {
        name: (model.tgdfer.short_term is not None, model.tgdfer.long_range is not None)
        for name, model in models.items()
    }
    assert grains["full"] == (True, False) and grains["no-short"] == (False, False)
    assert grains["long"] == (True, True) and grains["long-only"] == (False, True)
    assert models["attention"].visual_prompts is None and models["no-attention"].config.mil_pooling == "mean"
    assert models["full"].config.visual_prompt_source == "cross_attention"
    assert models["contrast"].config.visual_prompt_source == "contrast"


@pytest.fixture(scope="module")
def measured(features_file, tmp_path_factory):
    """Some rows, on given features."""
    work = tmp_path_factory.mktemp("work")
    dataset = FeatureDataset(features_file, SETTINGS)
    wanted = ["frozen-mean", "oracle", "frozen-top", "full", "no-short", "dsmil", "dfer-clip"]
    assert run_rows(dataset, rows.rows_of(dataset), work, "the command", FAR, wanted)
    return work


def test_free_class_vectors_start_at_about_length_one():
    """At length sqrt(D) a step of AdamW hardly turns them, and the temporal network learns in their place."""
    texts = free_text_model(LABELS, 192, FRAMES, context="none").tgdfer.text_guidance
    lengths = texts.context.weight.norm(dim=-1)
    assert ((lengths > 0.7) & (lengths < 1.3)).all()
    assert texts.context.weight.requires_grad


@pytest.mark.slow
def test_rows_keep_what_was_said_of_held_out_people(measured):
    (results,) = read_results(measured)
    part = results.rows["full"]["parts"]["seed 0"]
    assert len(part["held_out"]) == 60 and set(part["held_out"]) <= set(LABELS)
    assert set(part["drops"]) == {"shuffled", "reversed"} and part["trained_parameters"] > 1000
    assert len(part["tried"]) == len(rows.RATES) and len(results.rows["full"]["parts"]["seed 1"]["tried"]) == 1
    assert results.rows["dfer-clip"]["figures"]["frame_ap"] is None
    assert "faithful" not in results.rows["dfer-clip"]["parts"]["seed 0"]
    assert set(part["faithful"]) == {"all", "without_top", "without_random", "top_alone", "random_alone"}


@pytest.mark.slow
def test_the_report_compares_the_full_network_with_every_row(measured, tmp_path, monkeypatch):
    (pairs := tmp_path / "temporal.json").write_text(json.dumps({"full": {"accuracies": {"all": [0.974, 0.013]}}}))
    monkeypatch.setattr(report, "PAIRS", pairs)
    monkeypatch.setattr(report, "PAIRS_OF", "features")
    write_ablation_report(measured, tmp_path / "ablation.md", tmp_path / "ablation.json")
    text = (tmp_path / "ablation.md").read_text()
    assert "| TG-DFER, frozen, minus | held-out UAR | UAR | frame AP |" in text
    assert "− short-term grain" in text and "the command" in text and (tmp_path / "ablation.png").stat().st_size > 5000
    table = text.partition("| method |")[2].partition("\n\n")[0]
    assert table.count("| 97.4 ±1.3 |") == 1, "only one row was measured on pairs"
    facts = json.loads((tmp_path / "ablation.json").read_text())["features"]
    assert set(facts["full minus"]["no-short"]) == {"uar", "frame_ap", "held_out_uar"}
    assert "held_out_uar" not in facts["full minus"]["frozen-mean"]
    assert "predicted" not in json.dumps(facts)
    table = text.partition("### Do the predictions depend on the top frames?")[2]
    assert "| DSMIL |" in table and "DFER-CLIP" not in table.partition("\n## ")[0], "it has no score"


@pytest.mark.slow
def test_published_rows_are_compared_with_new_rows(measured, tmp_path):
    """A later measurement of single rows, on another machine, extends the report."""
    out, figures = tmp_path / "ablation.md", tmp_path / "ablation.json"
    write_ablation_report(measured, out, figures)
    text, facts = out.read_text(), json.loads(figures.read_text())["features"]
    work = tmp_path / "work"
    shutil.copytree(measured / "results", work / "results")
    for path in (work / "results" / "features").glob("*.json"):
        if path.stem not in ("dataset", "dsmil"):
            path.unlink()
    write_ablation_report(work, out, figures)
    assert out.read_text() == text, "the published outcomes are precise enough"
    shutil.rmtree(work / "results" / "features")
    with pytest.raises(UserError, match="no finished rows"):
        write_ablation_report(work, out, figures)
    other = replace(read_results(measured)[0], identity="of other clips")
    assert set(with_published_rows([other], {"features": facts})[0].rows) == set(other.rows)
    without_outcomes = {name: facts[name] for name in ("rows", "full minus", "gap")}
    assert with_published_rows([], {"features": without_outcomes}) == []
    both = {"features": facts, "others": facts}
    assert [data.name for data in with_published_rows([replace(other, name="others")], both)] == ["features", "others"]
    (alone,) = with_published_rows([], {"features": facts})
    assert set(alone.rows) == set(facts["rows"])
    found = report.part_differences(alone)["dsmil"]
    assert found == {name: pytest.approx(values, abs=1e-3) for name, values in facts["full minus"]["dsmil"].items()}


@pytest.mark.slow
def test_the_gap_is_that_between_the_better_baseline_and_the_oracle(measured):
    (results,) = read_results(measured)
    reached = {"frozen-mean": 0.5, "frozen-top": 0.6, "full": 0.7, "oracle": 0.8}
    rows_ = {name: {"figures": {"uar": (value, None)}} for name, value in reached.items()}
    assert gap(replace(results, rows=rows_))["closed"] == pytest.approx(0.5)
    assert gap(replace(results, rows={**rows_, "oracle": rows_["frozen-top"]})) is None
    assert gap(replace(results, rows={name: rows_[name] for name in ("full", "oracle")})) is None


def test_files_of_features_that_lack_something_are_named(tmp_path, features_file):
    with pytest.raises(UserError, match=r"none\.npz cannot be read"):
        FeatureDataset(tmp_path / "none.npz", SETTINGS)
    with np.load(features_file) as file:
        np.savez(tmp_path / "short.npz", **{name: file[name] for name in file if name != "person"})
    with pytest.raises(UserError, match="lacks the array 'person'"):
        FeatureDataset(tmp_path / "short.npz", SETTINGS)
    pickled = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickled.npz", frame_features=pickled, allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        FeatureDataset(tmp_path / "pickled.npz", SETTINGS)
