"""The benchmark of the options of training."""

import json
from dataclasses import replace

import pytest
from made_up_results import FAR, FakeDataset, row

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.row import Row
from benchmarks.harness.runner import run_rows
from benchmarks.training import rows as rows_module
from benchmarks.training.photograph_folder import photograph_folder
from benchmarks.training.report import chosen_options, write_training_report
from benchmarks.training.rows import rows_of


@pytest.fixture
def stills(photographs, dataset, tmp_path):
    """Half of the made-up photographs of the training split, and all others."""
    return photograph_folder(photographs, dataset.settings, tmp_path / "stills", {"train": 21, "validation": 42})


def test_photographs_are_drawn_written_once_and_read(photographs, stills):
    assert (len(stills.train), len(stills.test)) == (21, 42)
    assert set(stills.train.classes) <= set(photographs.labels["train"])
    first = stills.train.files[0]
    assert photographs.labels["train"][photographs.rows["train"].index(int(first.split("/")[-1][:-4]))] in first
    before = {path: path.stat().st_mtime_ns for path in stills.folder.rglob("*.png")}
    again = photograph_folder(photographs, stills.settings, stills.folder)
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("*.png")} == before
    assert not (stills.folder.parent / "stills.tmp").exists()


@pytest.mark.slow
def test_rows_train_with_their_option(dataset, stills, tmp_path, monkeypatch):
    """All rows on clips, and balancing on photographs. The candidate with the best validation clips is tested."""
    usual, trained = BenchmarkDataset.config, []
    small = {"epochs": 1, "stills_epochs": None, "model_options": {"lora_layers": 1}}
    monkeypatch.setattr(BenchmarkDataset, "config", lambda self, **options: usual(self, **options | small))
    train = rows_module.train_tgdfer
    monkeypatch.setattr(rows_module, "train_tgdfer", lambda *a, **o: trained.append(o) or train(*a, **o))
    assert run_rows(dataset, rows_of(dataset, stills), tmp_path, "the command", FAR)
    assert [options.get("ema") for options in trained] == [None, 0.99, 0.999, *[None] * (len(trained) - 3)]
    states = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results" / "real").glob("[!d]*.json")}
    assert set(states) == {"frozen", "ema", "mixup", "stills", "lora"}
    *_, before, lora = trained
    assert before["frozen_features"] and not lora["frozen_features"] and "/frozen/best" in lora["model"]
    part = states["ema"]["parts"]["seed 0"]
    assert part["chosen"]["held_out_uar"] == max(part["tried"]) and len(part["tried"]) == 2
    assert "stills" not in part["chosen"] and len(part["predicted"]) == len(dataset.test)
    balanced = [one for one in rows_of(stills) if one.name == "sampler"]
    assert isinstance(balanced[0], Row) and run_rows(stills, balanced, tmp_path, "the command", FAR)
    assert trained[-1]["class_balance"] == "sampler" and trained[-1]["batch_size"] == 64
    path = tmp_path / "training.md"
    write_training_report(tmp_path, path, tmp_path / "training.json")
    text = path.read_text()
    assert "## Real faces" in text and "## Photographs" in text and str(tmp_path) not in text
    assert path.with_suffix(".png").stat().st_size > 5_000


def test_the_report_compares_with_the_first_row(tmp_path):
    ran: list[str] = []
    base = row(ran, "frozen")

    def run(part, earlier, folder):
        better = part == "seed 1"
        chosen = {"ema": 0.99 if better else 0.999, "epochs": 3, "held_out_uar": 0.5}
        return {"predicted": ["happiness"] * 3, "scores": None, "chosen": chosen}

    def first(part, earlier, folder):
        return base.run(part, earlier, folder) | {"chosen": {"epochs": 1, "held_out_uar": 1.0}}

    rows = [replace(base, run=first), Row("ema", "+ average", ("seed 0", "seed 1"), run)]
    run_rows(FakeDataset(), rows, tmp_path, "the command", FAR)
    write_training_report(tmp_path, tmp_path / "report.md", tmp_path / "report.json")
    line = next(line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| + average"))
    assert "`--ema 0.999` (1 of 2 seeds), `--ema 0.99` (1 of 2 seeds)" in line and "| 33.3 ±0.0 |" in line
    assert "-66.7 [" in line
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["fake"]["rows"]["ema"]["minus frozen"]["uar"][0] == pytest.approx(-2 / 3)


def test_defaults_are_not_shown_as_choices():
    part = {"predicted": [], "chosen": {"epochs": 4, "held_out_uar": 0.1, "frozen_features": True}}
    assert chosen_options({"parts": {"seed 0": part}}) == ""
