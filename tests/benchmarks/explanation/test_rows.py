"""The rows about explanations, their report and their command, on small rendered clips."""

import json
import time
from dataclasses import replace

import pytest
import torch
import yaml
from typer.testing import CliRunner

from benchmarks.explanation import __main__ as command
from benchmarks.explanation.report import write_explanation_report
from benchmarks.explanation.rows import explanation_rows
from benchmarks.explanation.truth import ACTIVE, active_units, explained
from benchmarks.harness import linear_rows, trained_tgdfer
from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings, rendered_dataset
from benchmarks.harness.runner import run_rows
from benchmarks.harness.trained_model import TrainedModel
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS, INDEX, RenderedFaces

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(clip_folder, tmp_path_factory) -> BenchmarkDataset:
    """Small rendered clips, and two built-in descriptions a label, the second a situation."""
    words = tmp_path_factory.mktemp("words") / "descriptions.yaml"
    words.write_text(yaml.safe_dump({label: [t[0], t[-1]] for label, t in built_in_descriptions().items()}))
    faces = RenderedFaces(size=32, supersampling=1, frames=(8, 12))
    settings = Settings(str(clip_folder), str(words), faces, 5, 1, num_frames=4, views=1, seeds=(0,), epochs=1)
    return rendered_dataset(settings, tmp_path_factory.mktemp("work"))


def test_moved_units_are_those_of_the_frames_that_are_looked_at(dataset):
    rows = (dataset.folder / "test" / "metadata.jsonl").read_text().splitlines()
    found = dict(zip(dataset.test.files, active_units(dataset), strict=True))
    for row in map(json.loads, rows):
        moved, length = found[f"test/{row['file_name']}"], len(row["intensity"])
        places = [int((2 * part + 1) * length / 8) for part in range(4)]  # middles of quarters
        for unit in ("AU12", "AU25"):
            expected = [row["action_units"][unit][place] >= ACTIVE for place in places]
            assert moved[:, INDEX[unit]].tolist() == expected


@pytest.fixture(scope="module")
def work(dataset, tmp_path_factory):
    """The folder of all rows, run to their end."""
    folder = tmp_path_factory.mktemp("explained")
    usual = BenchmarkDataset.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_rows, "HEAD_RATES", (1e-3,))
        patch.setattr(BenchmarkDataset, "config", lambda *a, **o: usual(*a, **{"epochs": 1} | o))
        assert run_rows(dataset, explanation_rows(dataset), folder, "the command", time.monotonic() + 1e6)
        patch.setattr(trained_tgdfer, "train", lambda config: pytest.fail("what is done is run again"))
        assert run_rows(dataset, explanation_rows(dataset), folder, "the command", time.monotonic() + 1e6)
    return folder


def test_report_says_what_was_measured(work, tmp_path):
    path = tmp_path / "docs" / "explanation.md"
    figures_file = tmp_path / "figures" / "explanation.json"
    write_explanation_report(work, path, figures_file)
    text, facts = path.read_text(), json.loads(figures_file.read_text())
    assert list(facts["rows"]) == ["tgdfer", "class-words", "linear-mean", "linear-top", "shuffled"]
    for name, row in facts["rows"].items():
        figures = row["figures"]
        faithful = figures["faithful"]
        assert set(faithful) == {"all", "without_top", "without_random", "top_alone", "random_alone"}
        assert 0 < faithful["all"][0] <= 1 and faithful["without_top"][0] > 0
        assert bool(figures["words"]) == bool(figures["frames"]) == (not name.startswith("linear"))
        assert bool(figures["rationale"]) == bool(figures["words"])
        cells = [f"{100 * figures['figures']['uar'][0]:.1f}", f"{100 * faithful['all'][0]:.1f}"]
        shown = [*cells, *(f"{faithful[kind][0]:.2f}" for kind in list(faithful)[1:])]
        assert f"| {row['title']} | {' | '.join(shown)} |" in text
    assert "## Do the descriptions support the answer?" in text
    for label in EMOTIONS:
        assert f"\n- {label}: *" in text
    for secret in (str(work), str(tmp_path)):
        assert secret not in text and secret not in figures_file.read_text()
    assert "`the command`" in text and "sentences" not in figures_file.read_text()


def test_class_words_answer_by_themselves_and_are_explained_by_descriptions(dataset):
    model, processor = start_model(dataset.config(frozen_features=True).model, dataset.classes)
    words, processor.descriptions = processor.descriptions, {label: [label] for label in dataset.classes}
    model.set_classes(processor.class_prompts())
    with torch.no_grad():
        model.log_scale.fill_(6.0)  # loud, so that some frames stand out
        seen = dataset.features("test")
        answer = model(frame_features=seen.features[0].float(), timestamps=seen.timestamps[0]).logits.argmax(-1)
    run = explained(dataset, model, processor, words)
    assert run["predicted"] == [dataset.classes[index] for index in answer.tolist()]
    named = [
        (label, text)
        for label, sentence in zip(run["predicted"], run["sentences"], strict=True)
        for text in sentence.partition(": ")[2].split("; ")
        if text
    ]
    assert named and all(text in words[label] for label, text in named)


@pytest.fixture
def trained(clip_folder, tmp_path) -> TrainedModel:
    """A model of the built-in descriptions, saved as a trained and calibrated one is, with its classes backwards."""
    torch.manual_seed(3)
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), sorted(EMOTIONS)[::-1])
    with torch.no_grad():
        model.log_scale.fill_(6.0)  # loud, so that some frames stand out
    model.config.unsure_below = 0.99
    model.config.description_references = {
        label: {text: [-1.0, 0.1] if place == 0 else [1.0, 0.1] for place, text in enumerate(texts)}
        for label, texts in processor.descriptions.items()
    }
    processor.video_processor.face_crop = "largest"
    model.save_pretrained(tmp_path / "elsewhere")
    processor.save_pretrained(tmp_path / "elsewhere")
    return TrainedModel(str(tmp_path / "elsewhere"))


def test_trained_model_is_explained_as_the_product_explains_it(dataset, trained, tmp_path):
    """By its own features and words, of which only those are named that exceed what clips in general have."""
    row = next(row for row in explanation_rows(dataset, trained) if row.name == "trained")
    assert row.title == "TG-DFER, elsewhere" and str(tmp_path) not in str(row.config)
    run = row.run("once", {}, tmp_path)
    model, processor = trained.network
    first = processor(videos=dataset.test.video(0), num_frames=4, face_crop="none", return_tensors="pt")
    with torch.inference_mode():
        answer = model.config.id2label[int(model(**first).logits.argmax())]
    assert run["predicted"][0] == answer and "unsure" not in run["predicted"]
    words = processor.descriptions
    named = [
        (label, text)
        for label, sentence in zip(run["predicted"], run["sentences"], strict=True)
        for text in sentence.partition(": ")[2].split("; ")
        if text
    ]
    assert named and all(text == words[label][0] for label, text in named)
    if run["words"]["clips"]:
        assert 0 <= run["words"]["named"] <= 1


def test_command_measures_a_trained_model_beside_the_others(dataset, trained, monkeypatch, tmp_path):
    """Run and report, of this row alone."""
    monkeypatch.setattr(command, "rendered_dataset", lambda settings, folder: dataset)
    rows = explanation_rows
    monkeypatch.setattr(command, "explanation_rows", lambda *a: [row for row in rows(*a) if row.name == "trained"])
    arguments = ["--work", str(tmp_path / "work"), "--trained", trained.source, "--out", str(tmp_path / "out.md")]
    answer = CliRunner().invoke(command.app, [*arguments, "--figures", str(tmp_path / "out.json")])
    assert answer.exit_code == 0, answer.output
    text = (tmp_path / "out.md").read_text()
    assert text.count("| TG-DFER, elsewhere |") == 4 and "--trained elsewhere" in text and str(tmp_path) not in text
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["rows"]["trained"]["figures"]["words"]["clips"]


def test_other_measures_or_words_are_other_rows(dataset):
    def keys(dataset):
        return {row.name: row.config for row in explanation_rows(dataset)}

    first = keys(dataset)
    assert len({json.dumps(config, sort_keys=True) for config in first.values()}) == 5
    other = keys(replace(dataset, settings=replace(dataset.settings, seeds=(1,))))
    assert first["shuffled"]["words"] != other["shuffled"]["words"]


def test_command_writes_the_report_when_all_is_done(dataset, work, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(command, "rendered_dataset", lambda settings, folder: dataset)
    monkeypatch.setattr(command, "run_rows", lambda *a: asked.append(a) or len(asked) > 1)
    (tmp_path / "explanation").symlink_to(work)
    arguments = ["--work", str(tmp_path), "--out", str(tmp_path / "out.md"), "--clips", "6"]
    arguments += ["--figures", str(tmp_path / "out.json")]
    answer = CliRunner().invoke(command.app, [*arguments, "--minutes", "1"])
    assert answer.exit_code == 0 and "Run the same command again" in answer.output
    assert not (tmp_path / "out.md").exists()
    answer = CliRunner().invoke(command.app, arguments)
    assert answer.exit_code == 0 and "Wrote " in answer.output and "out.md." in answer.output.replace("\n", "")
    assert (tmp_path / "out.md").read_text().startswith("# Are the explanations true?")
    assert asked[0][2] == tmp_path / "explanation", "not among the baselines"
    assert asked[0][3] == "python -m benchmarks.explanation --clips 6"
