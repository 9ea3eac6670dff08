"""The report and the command on real faces."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_up_results import FAR
from typer.testing import CliRunner

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.row import Row
from benchmarks.harness.runner import run_rows
from benchmarks.real_faces import __main__ as command
from benchmarks.real_faces import report as room
from benchmarks.real_faces.clip_rows import clip_rows
from benchmarks.real_faces.named_descriptions import FACES, descriptions_file, write_descriptions
from benchmarks.real_faces.photograph_rows import photograph_rows
from benchmarks.real_faces.report import write_real_faces_report
from tgdfer.training import models


@pytest.mark.slow
def test_report_on_photographs_and_clips(photographs, dataset, fer, clip_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.real_faces.photographs.ENOUGH", 6)
    work = tmp_path / "results"
    assert run_rows(photographs, photograph_rows(photographs, fer, None), work, "the command", FAR)
    rows = [row for row in clip_rows(dataset, fer, None) if row.name in ("random", "fer-mean", "fer-top")]
    assert run_rows(dataset, rows, work, "the command", FAR)
    write_descriptions(work, None, Settings(model=str(clip_folder)))
    path, figures = tmp_path / "docs" / "real_faces.md", tmp_path / "figures.json"
    write_real_faces_report(work, path, figures)
    text = path.read_text()
    for name in ("confusion", "risk", "words"):
        assert f"](real_faces_{name}.png)" in text
        assert (path.parent / f"real_faces_{name}.png").stat().st_size > 5_000
    assert "## Photographs" in text and ": clips" in text and str(tmp_path) not in text
    assert max(map(len, text.splitlines())) < 400
    facts = json.loads(figures.read_text())
    assert set(facts) == {"photographs", "real"} and "probabilities" not in figures.read_text()
    measured = facts["photographs"]["rows"]["probe"]["measured"]
    value, low, high = measured["minus"]["war"]
    assert low <= value <= high
    assert f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in text
    assert "minus" not in facts["photographs"]["rows"]["fer"]["measured"]


@pytest.mark.slow
def test_command_measures_and_reports_all_rows(
    photographs_file, no_detector, clips_folder, clip_folder, descriptions_file, fer, trained, tmp_path, monkeypatch
):
    """The model in the package is measured when no other is named."""
    monkeypatch.setitem(models.BUNDLED, "tgdfer-tiny", Path(trained.source))
    monkeypatch.setattr(command, "FerEnvironment", lambda folder: fer)
    settings = Settings(str(clip_folder), str(descriptions_file), num_frames=4, views=1, lora_views=1, seeds=(0,))
    monkeypatch.setattr(command, "Settings", lambda model: settings)
    monkeypatch.setattr("benchmarks.harness.linear_rows.HEAD_RATES", (1e-3,))
    work, docs = tmp_path / "work", tmp_path / "docs"
    env = {"TGDFER_REALCLIPS": "", "TGDFER_FERPLUS": ""}
    files = ["--photographs", str(photographs_file), "--real", str(clips_folder)]
    rows = ("descriptions", "shuffled", "fer", "frozen-mean", "frozen-top", "oracle", "fer-top", "trained")
    rows = [word for name in rows for word in ("--row", name)]
    monkeypatch.delenv("TGDFER_TRAINED", raising=False)
    answer = CliRunner().invoke(command.app, ["run", "--work", str(work), *files, *rows], env=env)
    assert answer.exit_code == 0, answer.output
    figures = ["--out", str(docs / "real.md"), "--figures", str(docs / "real.json")]
    assert CliRunner().invoke(command.app, ["report", "--work", str(work), *figures]).exit_code == 0
    text = (docs / "real.md").read_text()
    flat = " ".join(text.split())
    assert text.count("| TG-DFER, tgdfer-tiny |") == 3 and "--trained" not in text
    for pictures in ("photographs", "clips"):
        assert re.search(rf"TG-DFER, tgdfer-tiny gives a label for \S+% of the {pictures}[^|]* 30.0%", flat), text
    facts = json.loads((docs / "real.json").read_text())
    for data in ("photographs", "real"):
        row = facts[data]["rows"]["trained"]
        value, low, high = row["measured"]["calibration_error"]
        assert 0 <= low <= value <= high <= 1 and f"{value:.3f} [{low:.3f}, {high:.3f}]" in text
        assert "confidence" not in row["parts"]["once"] and row["measured"]["unsure_below"] == 0.3


def test_uar_of_frequent_classes_leaves_out_rare_ones(photographs, tmp_path, monkeypatch):
    """Anger is always wrong and rare: it counts in the UAR of all classes alone."""
    labels = photographs.truth.labels
    predicted = ["fear" if label == "anger" else label for label in labels]
    row = Row("fer", "fer", ("once",), lambda *a: {"predicted": predicted, "scores": None})
    assert run_rows(photographs, [row], tmp_path, "", FAR)
    results = room.read_results(tmp_path)[0]
    monkeypatch.setattr(room, "frequent", lambda labels: [label for label in sorted(set(labels)) if label != "anger"])
    measured = room._measure_rows(results)["fer"]
    assert measured["frequent"]["uar"] == (1.0, 1.0, 1.0)
    assert measured["figures"]["uar"][0] == pytest.approx(6 / 7)


def test_share_and_accuracy_of_the_labels_that_are_given(photographs, tmp_path):
    """Half of the labels are given, and half of these are right."""
    labels = photographs.truth.labels
    places = np.arange(len(labels))
    sure = {"confidence": np.where(places % 2 == 0, 0.9, 0.2).tolist(), "right": (places % 4 == 0).tolist()}
    run = {"predicted": labels, "scores": None, "unsure_below": 0.5, **sure}
    row = Row("trained", "TG-DFER, x", ("once",), lambda *a: run)
    assert run_rows(photographs, [row], tmp_path, "", FAR)
    results = room.read_results(tmp_path)[0]
    measured = room._measure_rows(results)
    of_row = measured["trained"]
    assert of_row["coverage"] == 0.5 and of_row["covered_war"] == pytest.approx(11 / 21)
    value, low, high = of_row["calibration_error"]
    assert low < value < high and value == pytest.approx(0.5 * (0.9 - 11 / 21) + 0.5 * 0.2)
    text = " ".join("\n".join(room._unsure(results, measured, "photographs")).split())
    assert text == (
        "TG-DFER, x gives a label for 50.0% of the photographs, and 52.4% of these labels are correct. It answers"
        ' "unsure" for the others, because their probability is below 50.0%.'
    )


def test_words_of_rendered_faces(clip_folder, tmp_path):
    write_descriptions(tmp_path, None, Settings(model=str(clip_folder)))
    found = json.loads(descriptions_file(tmp_path).read_text())
    assert len(found["faces"]) == FACES and len({face["label"] for face in found["faces"]}) == 7
    assert all(face["words"] and 0 < face["score"] <= 1 for face in found["faces"])


def test_mistakes_are_one_sentence_and_code_2(tmp_path, photographs_file, settings, trained):
    work = ["--work", str(tmp_path / "work")]
    run = ["run", *work, "--model", settings.model, "--trained", trained.source]
    for arguments, message in (
        (["report", *work], "no finished rows"),
        (run, "nothing to measure"),
        ([*run, "--photographs", str(photographs_file), "--row", "fe"], "no row 'fe'"),
        ([*run, "--photographs", str(tmp_path)], "is not a file"),
    ):
        answer = CliRunner().invoke(command.app, arguments, env={"TGDFER_REALCLIPS": "", "TGDFER_FERPLUS": ""})
        assert answer.exit_code == 2 and message in answer.output and "Traceback" not in answer.output


def test_command_is_kept_without_paths(tmp_path, photographs_file, clips_folder, settings, monkeypatch, trained):
    monkeypatch.setitem(models.BUNDLED, "tgdfer-tiny", Path(trained.source))
    asked = []
    monkeypatch.setattr(command, "run_rows", lambda *a: asked.append(a) or len(asked) < 2)
    arguments = ["run", "--work", str(tmp_path), "--photographs", str(photographs_file), "--real", str(clips_folder)]
    answer = CliRunner().invoke(command.app, [*arguments, "--model", settings.model, "--row", "fer-top"])
    assert answer.exit_code == 0 and "Run the same command again" in answer.output
    assert [one[0].name for one in asked] == ["photographs", "real"]
    assert [[row.name for row in one[1]] for one in asked] == [[], ["fer-top"]]
    assert asked[0][3] == (
        "python -m benchmarks.real_faces run --model clip --photographs FILE --real FOLDER --row fer-top"
    )
