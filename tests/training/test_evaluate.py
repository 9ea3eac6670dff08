"""Evaluation: the figures, the files and the sentences about what cannot be evaluated."""

import csv
import dataclasses
import hashlib
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import (
    EvaluationData,
    _EvaluationTask,
    _is_calibration_split,
    _resolve_task,
    evaluate_model,
)
from tgdfer.training.evaluation.result_files import plot_figures
from tgdfer.training.evaluation.tables import print_metrics
from tgdfer.training.files import read_yaml
from tgdfer.training.measure import (
    ClipPrediction,
    activity_gain,
    measure,
    measure_confidence,
    measure_model,
    predict_batches,
    predict_clips,
)
from tgdfer.training.models import load_trained
from tgdfer.training.train import train

LABELS = ["happiness", "neutral", "sadness"]
NAN = float("nan")


@pytest.fixture(scope="module")
def run(clips_folder, clip_folder, descriptions_file, tmp_path_factory):
    return train(
        TrainingConfig.from_options(
            dataset=str(clips_folder),
            model=str(clip_folder),
            descriptions=str(descriptions_file),
            output=str(tmp_path_factory.mktemp("runs") / "run"),
            num_frames=4,
            epochs=1,
            frozen_features=True,
            feature_views=1,
        )
    )


def test_writes_figures_predictions_and_picture(run, clips_folder):
    metrics = evaluate_model(run)
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert (metrics["dataset"], metrics["split"], metrics["num_clips"], metrics["num_people"]) == (
        "clips",
        "test",
        15,
        5,
    )
    assert metrics["labels"] == LABELS and metrics["model"] == "best" and metrics["training"]["num_clips"] == 12
    assert metrics["command"] == f"tgdfer evaluate {run}"
    assert metrics["weights_sha256"] == hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()
    with open(run / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == load_clips(str(clips_folder), "test").files
    assert sum(row["label"] == row["predicted"] for row in rows) / 15 == pytest.approx(metrics["war"])
    for name in ("confusion_matrix", "risk_coverage"):
        assert (run / "figures" / f"{name}.png").stat().st_size > 1000
    # The model was calibrated on the people that were held out.
    model = load_trained(run)[0]
    sure = [row for row in rows if float(row["score"]) >= round(model.config.unsure_below, 4)]
    assert metrics["calibrated"] and metrics["unsure_below"] == model.config.unsure_below
    assert metrics["coverage"] == pytest.approx(len(sure) / 15)
    right = [float(row["label"] == row["predicted"]) for row in sure]
    assert metrics["covered_war"] == (pytest.approx(sum(right) / len(right)) if right else None)
    assert 0 <= metrics["ece"] <= 1 and 0 <= metrics["risk_coverage_area"] <= 1
    assert not list(run.glob("**/.*"))


@pytest.mark.slow
def test_command_says_all_that_was_given(run, clips_folder, tmp_path):
    """As the shell reads it, blanks included; what the run decides is not repeated."""
    output = tmp_path / "a folder"
    data = EvaluationData(str(clips_folder), "train", video_column="video", label_column="label")
    metrics = evaluate_model(run, data, output=output, which="last", baseline=True)
    words = shlex.split(metrics["command"])
    assert words[:3] == ["tgdfer", "evaluate", str(run)] and words[-1] == "--baseline"
    flags = {"--dataset": clips_folder, "--split": "train", "--output": output, "--which": "last"}
    flags |= {"--video-column": "video", "--label-column": "label"}
    assert dict(zip(words[3:-1:2], words[4:-1:2], strict=True)) == {name: str(value) for name, value in flags.items()}
    config = TrainingConfig.from_options(**read_yaml(run / "config.yaml"))
    assert metrics["model"] == "last" and metrics["dataset"] == config.data.dataset.rpartition("/")[2]


def test_predictions_are_those_of_the_model_on_the_file_itself(run, clips_folder):
    model, processor = load_trained(run / "best")
    clips = load_clips(str(clips_folder), "test")
    predictions = list(predict_clips(model, processor.video_processor, clips, batch_size=4))
    for index in (0, 7, 14):
        output = model(**processor(videos=clips.video(index), return_tensors="pt"))
        label = model.config.label2id[clips.labels[index]]
        assert predictions[index].label == model.config.id2label[int(output.logits.argmax())]
        probabilities = (output.logits / model.config.temperature).softmax(-1)
        assert predictions[index].score == pytest.approx(probabilities.max().item(), abs=1e-5)
        assert predictions[index].relevance == pytest.approx(output.frame_relevance[0, :, label].tolist(), abs=1e-5)


def test_batches_of_any_loader_are_predicted_like_files(run, clips_folder):
    """Cached features and a loader that knows labels alone; figures of frames are then unknown."""
    model, processor = load_trained(run / "best")
    clips = load_clips(str(clips_folder), "test")
    expected = list(predict_clips(model, processor.video_processor, clips, batch_size=4))
    pixels = processor.video_processor([clips.video(index) for index in range(3)], return_tensors="pt")
    with torch.inference_mode():
        features = model.get_frame_features(pixels["pixel_values_videos"])
    labels = torch.tensor([model.config.label2id[label] for label in clips.labels[:3]])
    batches = [{"frame_features": features, "timestamps": pixels["timestamps"], "labels": labels}]
    predictions = list(predict_batches(model, batches))
    assert set(batches[0]) == {"frame_features", "timestamps", "labels"}
    for found, wanted in zip(predictions, expected, strict=False):
        assert found.label == wanted.label and found.score == pytest.approx(wanted.score, abs=1e-5)
        assert found.relevance == pytest.approx(wanted.relevance, abs=1e-5)
        assert np.isnan(found.intensity).all() and np.isnan(found.activity).all() and len(found.activity) == 4
    metrics = measure_model(clips.labels[:3], predictions, model.config)
    assert metrics["frame_ap"] is None and metrics["calibrated"] and 0 <= metrics["coverage"] <= 1


def test_clips_of_the_training_are_counted(run, tmp_path, caplog):
    output = tmp_path / "elsewhere"
    metrics = evaluate_model(run, EvaluationData(split="train"), output=output, errors=0)
    assert metrics["seen_in_training"] is True
    assert metrics["num_seen_in_training"] == 12, "the held-out clips were not trained on"
    assert "trained on 12 of the 15 clips of split 'train'" in caplog.text
    assert "seen_in_training" not in evaluate_model(run, output=output, errors=0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (EvaluationData("dfew", "test", data_root="DFEW", fold=1), False),
        (EvaluationData("dfew", "train", data_root="DFEW", fold=1), True),
        (EvaluationData("dfew", "test", data_root="DFEW", fold=2), True),
        (EvaluationData("dfew", "test", data_root="DFEW", split_map={"test": "train"}), True),
        (EvaluationData("mafw", "train", data_root="MAFW", fold=1), False),
    ],
)
def test_where_the_clips_of_the_calibration_are(data, expected):
    run = TrainingConfig.from_options(dataset="dfew", data_root="DFEW", fold=1)
    assert _is_calibration_split(_EvaluationTask("best", "x", data, None, run, {"validation": "by clip"})) == expected


def test_renamed_split_is_recorded_with_both_names(run, tmp_path, capsys):
    metrics = evaluate_model(run, EvaluationData(split_map={"test": "train"}), output=tmp_path / "elsewhere")
    assert (metrics["split"], metrics["split_in_dataset"]) == ("test", "train")
    print_metrics(metrics)
    assert "clips, test (train in the data set): 15 clips" in capsys.readouterr().out


def test_photographs_are_clips_of_one_frame(run, tmp_path):
    """Images in batches of one frame need neither a mask nor times."""
    model = load_trained(run / "best")[0]
    size = model.config.clip_config.vision_config.image_size
    batch = {"pixel_values_videos": torch.rand(4, 1, 3, size, size), "labels": torch.tensor([0, 1, 2, 0])}
    predictions = list(predict_batches(model, [batch]))
    assert [len(one.relevance) for one in predictions] == [1] * 4
    true_labels = [model.config.id2label[index] for index in batch["labels"].tolist()]
    metrics = measure_model(true_labels, predictions, model.config)
    plot_figures(tmp_path / "figures", metrics, true_labels, predictions)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "confusion_matrix.png",
        "risk_coverage.png",
    ]


def test_figures_made_by_hand(clips_folder):
    clips = load_clips(str(clips_folder), "test")
    happy, neutral, sad = (clips.labels.index(label) for label in LABELS)
    chosen = clips.select([happy, happy + 1, neutral, sad])
    predictions = [
        ClipPrediction(
            "happiness", 0.9, [0.7, 0.2, 0.1], [0.9, 0.0, 0.5], [NAN, NAN, NAN]
        ),  # ranks 1 and 3: AP 5/6, points well
        ClipPrediction("sadness", 0.5, [0.1, 0.9], [1.0, NAN], [NAN, NAN]),  # truth unknown: not counted
        ClipPrediction("neutral", 0.8, [0.6, 0.4], [0.0, 1.0], [NAN, NAN]),  # neutral: not counted
        ClipPrediction("sadness", 0.8, [0.6, 0.4], [0.0, 1.0], [NAN, NAN]),  # rank 2: AP 1/2, points badly
    ]
    metrics = measure(chosen.labels, predictions, LABELS)
    assert metrics["war"] == 0.75 and metrics["uar"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert metrics["recall"] == {"happiness": 0.5, "neutral": 1.0, "sadness": 1.0}
    assert metrics["confusion_matrix"] == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert metrics["frame_ap"] == pytest.approx((5 / 6 + 1 / 2) / 2) and metrics["pointing"] == 0.5


def test_confidence_made_by_hand(clips_folder):
    clips = load_clips(str(clips_folder), "test")
    happy, neutral, sad = (clips.labels.index(label) for label in LABELS)
    chosen = clips.select([happy, neutral, sad])
    said = [("happiness", 0.9), ("sadness", 0.5), ("sadness", 0.4)]
    predictions = [ClipPrediction(label, score, [], [], []) for label, score in said]
    figures = measure_confidence(chosen.labels, predictions, 0.5)
    assert (figures["coverage"], figures["covered_war"]) == (pytest.approx(2 / 3), 0.5)
    assert figures["ece"] == pytest.approx((0.1 + 0.5 + 0.6) / 3)
    assert figures["risk_coverage_area"] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert measure_confidence(chosen.labels, predictions, 0.95)["covered_war"] is None
    assert "coverage" not in measure_confidence(chosen.labels, predictions)


def test_table_says_how_sure_the_model_is(run, clips_folder, capsys):
    metrics = evaluate_model(run / "best", EvaluationData(str(clips_folder)))
    print_metrics(metrics)
    row = next(line for line in capsys.readouterr().out.splitlines() if "clips answered" in line)
    assert f"{100 * metrics['coverage']:.1f}" in row
    print_metrics(evaluate_model(run / "last", EvaluationData(str(clips_folder))))
    printed = capsys.readouterr().out
    assert "calibration error (not calibrated)" in printed and "clips answered" not in printed


def test_without_frame_truth_there_are_no_frame_figures(run, tmp_path, folder_writer):
    plain = folder_writer(tmp_path / "plain", people=2, metadata=False)
    metrics = evaluate_model(run, EvaluationData(str(plain)), output=tmp_path / "elsewhere")
    assert metrics["frame_ap"] is None and metrics["pointing"] is None and metrics["num_people"] is None
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [
        *(["errors"] if metrics["war"] < 1 else []),
        "figures",
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
    ]


def test_model_folder_alone_is_measured_without_writing(run, clips_folder, tmp_path, monkeypatch):
    alone = tmp_path / "models" / "last"
    shutil.copytree(run / "last", alone)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    metrics = evaluate_model(alone, EvaluationData(str(clips_folder), "train"))
    assert metrics["split"] == "train" and "training" not in metrics
    assert list(Path.cwd().iterdir()) == []


def test_model_of_a_run_is_known_as_such_and_nothing_is_written(run, caplog):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    metrics = evaluate_model(run / "last", EvaluationData(split="train"))
    assert metrics["model"] == "last" and metrics["training"]
    assert metrics["num_seen_in_training"] == 12 and "trained on 12 of the 15 clips" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.slow
def test_baseline_stands_beside_the_model(run, tmp_path, capsys):
    metrics = evaluate_model(run, baseline=True, output=tmp_path / "elsewhere")
    assert metrics["command"].endswith(" --baseline")
    baseline = metrics["baseline"]
    assert baseline["name"] and all(0 <= baseline[name] <= 1 for name in ("war", "uar", "frame_ap", "pointing"))
    print_metrics(metrics)
    row = next(line for line in capsys.readouterr().out.splitlines() if "UAR" in line)
    assert f"{100 * metrics['uar']:.1f}" in row and f"{100 * baseline['uar']:.1f}" in row and "33.3" in row


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "nobody/nothing", "baseline": True}, "nothing to train its baseline on"),
        ({"which": "first"}, "no 'first' model yet"),
        ({"data": EvaluationData(split="dev")}, "no split 'dev'"),
        ({"model": "nobody/nothing", "data": EvaluationData("x")}, "Cannot read the model 'nobody/nothing'"),
        ({"model": "nobody/nothing"}, "not the folder of a run: name the data set"),
    ],
)
def test_names_that_do_not_exist_are_named(run, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate_model(**{"model": run} | arguments)


def test_label_that_the_model_does_not_know(run, tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "more", people=2, metadata=False)
    (folder / "test" / "happy").rename(folder / "test" / "fear")
    (folder / "test" / "Sadness").rename(folder / "test" / "anger")
    with pytest.raises(UserError, match="labels of split 'test' .anger, fear, neutral., the model has only 'neutral'"):
        evaluate_model(run, EvaluationData(str(folder)), output=tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_truncated_weights_are_one_sentence(run, clips_folder, tmp_path):
    shutil.copytree(run / "best", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="Cannot read the model"):
        evaluate_model(tmp_path / "model", EvaluationData(str(clips_folder)))


def test_activity_gain_compares_the_deciding_frames_with_the_clip():
    quiet, unknown = [0.0] * 4, [NAN] * 4
    moves = ClipPrediction("fear", 0.9, [0.7, 0.1, 0.1, 0.1], [NAN] * 4, [4.0, 1.0, 2.0, 1.0])
    assert activity_gain([moves]) == pytest.approx(2.0)
    alike = dataclasses.replace(moves, relevance=[0.1, 0.2, 0.6, 0.1])
    assert activity_gain([moves, alike]) == pytest.approx(1.5)
    skipped = [dataclasses.replace(moves, activity=activity) for activity in (quiet, unknown)]
    assert activity_gain([moves, *skipped]) == pytest.approx(2.0)
    assert activity_gain(skipped) is None


@pytest.mark.slow
def test_results_by_group_where_the_data_have_groups(run, clips_folder, tmp_path, capsys):
    """The groups come from a column of the metadata, and the card shows them."""
    from tgdfer.model_card.card import build_card

    folder = shutil.copytree(clips_folder, tmp_path / "grouped")
    path = folder / "test" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["age"] = ("child", "adult")[number % 2]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = shutil.copytree(run, tmp_path / "measured")
    metrics = evaluate_model(output, EvaluationData(str(folder)))
    assert "groups" not in evaluate_model(run, EvaluationData(str(clips_folder)), output=tmp_path / "elsewhere")
    groups = metrics["groups"]["age"]
    assert list(groups) == ["adult", "child"]
    assert sum(group["num_clips"] for group in groups.values()) == metrics["num_clips"] == len(rows)
    right = sum(group["war"] * group["num_clips"] for group in groups.values())
    assert right == pytest.approx(metrics["war"] * len(rows))
    for group in groups.values():
        low, high = group["intervals"]["uar"]
        assert low <= group["uar"] <= high and group["intervals"]["over"] == "people"
    print_metrics(metrics)
    assert "By age" in capsys.readouterr().out
    text = build_card(output, "user/smile").text
    assert "\nBy age:\n" in text and f"| child | {groups['child']['num_clips']} |" in text


def test_the_data_set_of_a_run_by_another_path_has_its_columns(run, tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("\nlabel_column: null", "\nlabel_column: emotion"))
    dataset = Path(read_yaml(copy / "config.yaml")["dataset"])
    monkeypatch.chdir(dataset.parent)
    for name, column in ((dataset.name, "emotion"), (str(dataset), "emotion"), ("others", None)):
        task = _resolve_task(copy, EvaluationData(name), "best", None)
        assert (task.data.dataset, task.data.label_column) == (name, column)
