"""Training and evaluation with several labels, with votes, with remedies for imbalance, and with unreadable clips."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from published_trees import write_frames

from tgdfer import TGDFERConfig
from tgdfer.command_line import main
from tgdfer.model_card.card import build_card
from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, bag_loss, hard_labels
from tgdfer.training import train as loop
from tgdfer.training.balancing import balancing_inputs
from tgdfer.training.config import OptimisationConfig, TrainingConfig
from tgdfer.training.data.batches import ClipDataset, no_marks
from tgdfer.training.data.columns import read_labels
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.soft_labels import read_multiple_labels, read_vote_file, read_votes
from tgdfer.training.data.waiting import WaitingTimer
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import evaluate_model
from tgdfer.training.label_kinds import require_several_labels
from tgdfer.training.metrics.label_kinds import multiple_label_figures, vote_figures
from tgdfer.training.models import start_model
from tgdfer.training.train import train

# Labels, losses and metrics by hand


def test_several_labels_are_lists_or_joined_texts():
    soft = read_multiple_labels("here", ["Happy_surprised", ["anger"], "sad, ANG"], "label", ["a", "b", "c"])
    assert soft.names == ["anger", "happiness", "sadness", "surprise"]
    assert soft.values.tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 0]]
    assert soft.texts() == ["happiness + surprise", "anger", "anger + sadness"]
    assert soft.ordered(["surprise", "sadness", "happiness", "anger", "fear"])[0].tolist() == [1, 0, 1, 0, 0]
    for value in (3, [], "", [1, 2]):
        with pytest.raises(UserError, match="label"):
            read_multiple_labels("here", ["anger", value], "label", ["a", "b"])


def test_labels_that_are_read_as_one_are_named(caplog):
    with caplog.at_level(logging.WARNING):
        assert read_labels("here", ["Happy", " happy", "HAPPY", "fear"], "label", list("abcd"))[2:] == [
            "happiness",
            "fear",
        ]
        assert caplog.messages == []
        read_labels("here", ["joy", "Happy", "happy", "afraid", "scared", "sad"], "label", list("abcdef"))
        read_multiple_labels("there", ["joy_sad", ["happy"]], "label", ["a", "b"])
    assert [message.split(". ")[0] for message in caplog.messages] == [
        "here has several names for a label, which are read as one: afraid, scared as fear; happy, joy as happiness",
        "there has several names for a label, which are read as one: happy, joy as happiness",
    ]


def test_votes_come_from_columns_or_from_positions_in_a_list():
    columns = {"hap": [3, 0, 0], "votes": [[1, 0], [2, 2], [0, 0]]}
    soft, without = read_votes("here", columns, {"happy": "hap", "fear": "votes[1]", "anger": "votes[0]"}, ["a"] * 3)
    assert soft.names == ["anger", "fear", "happiness"]
    assert soft.values.tolist() == [[0.25, 0, 0.75], [0.5, 0.5, 0], [0, 0, 0]]
    assert list(without) == [2] and "no vote" in without[2]
    for wanted, sentence in (
        ({"a": "hap", "b": "gone"}, "no column 'gone'"),
        ({"a": "hap", "b": "votes[2]"}, "numbers of votes"),
        ({"a": "hap"}, "--vote-columns"),
        ({"happy": "hap", "joy": "votes[0]"}, "The vote_columns of happy and joy are about one label, happiness: add"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_votes("here", columns, wanted, ["a"] * 3)


def test_a_vote_file_finds_its_clips_by_name(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("order,1happy,2sad\n2,4,1\n1,0,5\n7,1,1\n")
    keys = ["Clip/clip_224x224/00001", "Clip/clip_224x224/00002", "Clip/00003"]
    columns = read_vote_file(str(path), keys, ["1happy", "2sad"])
    assert columns["1happy"] == ["0", "4", None]
    with pytest.raises(UserError, match="No column of the vote_file"):
        read_vote_file(str(path), ["x.mp4"])
    path.write_text(path.read_text() + "00003,1,2,3,4,5,6,7,8,9\n")
    with pytest.raises(UserError, match=r"Cannot read the vote_file .* has more cells than the header\)"):
        read_vote_file(str(path), ["Clip/00003"])


def test_the_numbers_of_rows_are_no_names_of_clips(tmp_path):
    path, keys = tmp_path / "votes.csv", ["train/00001", "train/00002", "train/00003"]
    path.write_text(",clip,hap,sad\n0,00003,10,0\n1,00001,0,10\n2,00002,10,0\n3,00005,0,10\n4,00004,10,0\n")
    assert read_vote_file(str(path), keys)["hap"] == ["0", "10", "10"]
    path.write_text("row,clip,hap\n1,00003,10\n2,00009,0\n3,00008,0\n")  # More numbers of rows than names fit.
    assert read_vote_file(str(path), keys)["hap"] == [None, None, "10"]
    path.write_text("row,clip,hap\n1,3,10\n2,1,0\n3,2,10\n")
    with pytest.raises(UserError, match="The columns 'row' and 'clip' of the vote_file .*: remove the one"):
        read_vote_file(str(path), keys, ["hap"])
    path.write_text("name,path\n1.mp4,a/1.mp4\n1.mp4,b/1.mp4\n2.mp4,b/2.mp4\n")
    assert read_vote_file(str(path), ["x/b/1.avi", "x/a/1.avi"])["path"] == ["b/1.mp4", "a/1.mp4"]


def test_rows_of_a_vote_file_are_found_by_their_folders_where_names_repeat(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("file,joy\nanger/0001.mp4,1\nfear/0001.mp4,2\nfear/0002.mp4,3\n")
    keys = ["train/fear/0001.mp4", "train/anger/0001.mp4", "train/joy/2.avi"]
    assert read_vote_file(str(path), keys, ["joy"])["joy"] == ["2", "1", "3"]
    with pytest.raises(UserError, match="Several rows of the vote_file .* are about 0001.mp4"):
        read_vote_file(str(path), ["0001.mp4"])
    with pytest.raises(UserError, match="a/0002.mp4 and b/0002.mp4 have the same row of the vote_file"):
        read_vote_file(str(path), ["a/0002.mp4", "b/0002.mp4"])


def test_losses_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
    votes = torch.tensor([[0.5, 0.5, 0.0], [-100.0, -100.0, -100.0]])
    expected = -(0.5 * logits[0].log_softmax(0)[0] + 0.5 * logits[0].log_softmax(0)[1])
    assert bag_loss(logits, votes, None, 0.0) == pytest.approx(float(expected))
    one_hot = torch.eye(3)[[0, 2]]
    weights = torch.tensor([1.0, 2.0, 3.0])
    for options in ((None, 0.0), (weights, 0.0), (None, 0.1), (weights, 0.1)):
        assert bag_loss(logits, one_hot, *options) == pytest.approx(
            float(bag_loss(logits, torch.tensor([0, 2]), *options))
        )
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, several)
    assert bag_loss(logits, several, None, 0.0, several=True) == pytest.approx(float(expected))
    assert bag_loss(logits, torch.full((2, 3), -100.0), None, 0.0, several=True) == 0
    assert hard_labels(votes).tolist() == [0, IGNORED]
    assert hard_labels(torch.zeros(2, 3)).tolist() == [IGNORED] * 2, "nobody has voted"
    assert hard_labels(several, several=True).tolist() == [IGNORED, 1]


def test_a_weight_counts_a_clip_several_times_and_never_changes_its_best_answer():
    """Also with smoothing, of which a rare class must not get more than its share."""
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
    labels, weights = torch.tensor([0, 2]), torch.tensor([1.0, 1.0, 3.0])
    repeated = [0, 1, 1, 1]
    expected = bag_loss(logits[repeated], labels[repeated], None, 0.1)
    assert bag_loss(logits, labels, weights, 0.1) == pytest.approx(float(expected))
    rare = torch.tensor([1.0, 1.0, 1000.0])
    several = torch.tensor([[1.0, 0.0, 0.0]])
    for target, is_multiple in ((labels[:1], False), (torch.eye(3)[:1], False), (several, True)):
        answer = torch.zeros(1, 3, requires_grad=True)
        bag_loss(answer, target, rare, 0.1, several=is_multiple).backward()
        assert answer.grad[0, 0] < 0 < answer.grad[0, 2], "the label rises, and the rare class falls"


def test_metrics_by_hand():
    targets = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]])
    probabilities = np.array([[0.9, 0.6, 0.8], [0.7, 0.1, 0.9], [0.6, 0.1, 0.2]])
    figures = multiple_label_figures(probabilities, targets, ["anger", "fear", "sadness"])
    assert figures["average_precision"]["fear"] is None and figures["f1"]["sadness"] == 1
    assert figures["average_precision"]["anger"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["f1"]["anger"] == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    assert figures["exact_match"] == pytest.approx(1 / 3)
    votes = np.array([[0.5, 0.5], [1.0, 0.0]])
    figures = vote_figures(np.array([[0.4, 0.6], [0.25, 0.75]]), votes)
    expected = (0.5 * np.log(0.5 / 0.4) + 0.5 * np.log(0.5 / 0.6) + np.log(1 / 0.25)) / 2
    assert figures["kl_divergence"] == pytest.approx(expected)
    assert figures["top_vote_accuracy"] == 0.5  # Both labels of the first clip have most votes.


class _Data:
    targets, soft_targets = [0, 0, 0, 1], None


@pytest.mark.parametrize(
    ("balance", "several", "expected"),
    [
        ("none", False, {}),
        ("sampler", False, {}),
        ("weights", False, {"class_weights": [4 / 6, 2.0]}),
        ("adjustment", False, {"logit_adjustment": [np.log(0.75), np.log(0.25)]}),
        ("weights", True, {"class_weights": [1 / 3, 3.0]}),
        ("adjustment", True, {"logit_adjustment": [np.log(3), np.log(1 / 3)]}),
    ],
)
def test_remedies_for_imbalance(balance, several, expected):
    data = _Data()
    data.soft_targets = torch.eye(2)[data.targets] if several else None
    found = balancing_inputs(data, OptimisationConfig(class_balance=balance), several)
    assert {name: pytest.approx(values.tolist()) for name, values in found.items()} == expected


def test_waiting_is_measured():
    class Loader:
        def __len__(self):
            return 3

        def __iter__(self):
            yield from range(3)

    timer = WaitingTimer(Loader())
    assert list(timer) == [0, 1, 2] and len(timer) == 3
    assert len(timer.shares) == 3 and all(0 <= share <= 1 for share in [*timer.shares, timer.share])


# Whole runs


@pytest.fixture
def rows(options):
    """Rewrites the metadata of a copy of the data set, row by row."""
    source, folder = Path(options["dataset"]), Path(options["output"]).parent / "clips"
    shutil.copytree(source, folder)
    options["dataset"] = str(folder)

    def change(function):
        for split in ("train", "test"):
            path = folder / split / "metadata.jsonl"
            changed = [function(json.loads(line)) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in changed))
        return folder

    return change


def test_several_labels_are_trained_and_measured(options, rows, capsys):
    rows(lambda row: row | {"label": [row["label"], "sad"] if row["label"] == "happy" else [row["label"]]})
    run = train(TrainingConfig.from_options(**options, label_kind="multiple", class_balance="weights"))
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert {"map", "f1"} <= set(json.loads((run / "log.jsonl").read_text().splitlines()[0]))
    assert main(["evaluate", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["clips_with"] == {"happiness": 5, "neutral": 5, "sadness": 10}
    assert 0 <= metrics["map"] <= 1 and "happiness + sadness" in (run / "predictions.csv").read_text()
    assert "average precision" in capsys.readouterr().out
    assert f"| this model | {100 * metrics['map']:.1f}% |" in build_card(run).text


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_votes_are_trained_and_measured(options, rows, frozen):
    def votes(row):
        label = row.pop("label").lower()
        return row | {
            "h": 3.0 * (label == "happy") + 1,
            "n": 3.0 * (label == "neutral"),
            "s": 2 * (label == "sadness"),
        }

    rows(votes)
    columns = {"happy": "h", "neutral": "n", "sad": "s"}
    changes = {"label_kind": "votes", "vote_columns": columns, "frozen_features": frozen, "feature_views": 1}
    run = train(TrainingConfig.from_options(**options, **changes, class_balance="adjustment"))
    metrics = evaluate_model(run)
    assert metrics["votes"]["kl_divergence"] >= 0 and 0 <= metrics["votes"]["top_vote_accuracy"] <= 1
    assert set(metrics["recall"]) == {"happiness", "neutral", "sadness"}


@pytest.mark.parametrize("kind", ["multiple", "single"])
def test_loss_of_a_model_that_goes_on_from_another_kind_of_labels(options, kind, monkeypatch):
    """Several labels have a loss of their own, and the model says which one it was trained with."""
    config = TrainingConfig.from_options(**options, frozen_features=True, feature_views=1, label_kind=kind)
    other = None if kind == "multiple" else "multi_label_classification"
    seen = []

    def start(*args):
        model, processor = start_model(*args)
        model.config.problem_type = other
        return model, processor

    def stop(self, config, accelerator, model, *args, **kwargs):
        seen.append(model.config.problem_type)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "start_model", start)
    monkeypatch.setattr(loop._Run, "__init__", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert seen == ["multi_label_classification" if kind == "multiple" else None]


def test_a_model_of_single_labels_is_not_evaluated_on_several():
    require_several_labels(TGDFERConfig(problem_type="multi_label_classification"))
    with pytest.raises(UserError, match="--label-kind multiple"):
        require_several_labels(TGDFERConfig())


def add_unreadable_clips(folder):
    """Adds three clips to both splits: no video, no file, and a folder with a good header and damaged frames."""
    for split in ("train", "test"):
        (folder / split / "happy" / "happy_1.mp4").write_bytes(b"no video")
        write_frames(folder / split / "happy" / "frames.mp4", frames=8)
        for number in (1, 2, 3, 7):
            (folder / split / "happy" / "frames.mp4" / f"{number}.jpg").write_bytes(b"no picture")
        with (folder / split / "metadata.jsonl").open("a") as file:
            file.write(json.dumps({"file_name": "happy/frames.mp4", "label": "happy", "person": "train-1"}) + "\n")
            file.write(json.dumps({"file_name": "happy/gone.mp4", "label": "happy", "person": "train-1"}) + "\n")


@pytest.mark.slow
def test_a_resumed_training_keeps_its_quarantine(options, rows, monkeypatch):
    add_unreadable_clips(rows(lambda row: row))
    config = TrainingConfig.from_options(**options, frozen_features=False, validation_fraction=0.0)

    def stop(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "_calibrate", stop)
        train(config)
    listed = (Path(config.run.output) / "quarantined_train.txt").read_text()
    run = train(config.with_options(resume=True))
    assert "frames.mp4\tThe frame" in listed and (run / "quarantined_train.txt").read_text() == listed
    assert json.loads((run / "training.json").read_text())["num_quarantined"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_unreadable_clips_are_quarantined_in_training_and_evaluation(options, rows, frozen, caplog):
    folder = rows(lambda row: row)
    add_unreadable_clips(folder)
    shutil.copytree(folder / "test", folder / "validation")
    config = TrainingConfig.from_options(**options, frozen_features=frozen, feature_views=1)
    with caplog.at_level(logging.WARNING, "tgdfer"):
        run = train(config)
    for split in ("train", "validation"):
        listed = (run / f"quarantined_{split}.txt").read_text()
        for name in ("happy_1.mp4", "gone.mp4\tit does not exist", "frames.mp4\tThe frame"):
            assert name in listed, listed
    assert json.loads((run / "training.json").read_text())["num_quarantined"] == 3
    assert "put into quarantine" in caplog.text
    metrics = evaluate_model(run)
    assert (metrics["num_clips"], metrics["num_quarantined"]) == (14, 3)
    assert sum(map(sum, metrics["confusion_matrix"])) == 14
    assert (run / "quarantined_test.txt").read_text().count("\n") == 3
    with pytest.raises(UserError, match="lists 1 clips that do not exist"):
        train(config.with_options(strict=True, output=str(run.parent / "strict")))


def test_strict_datasets_raise_and_others_substitute(clips_folder, clip_writer, tmp_path):
    from tgdfer.processing.video_file_tgdfer import VideoDecodeError
    from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

    for label in ("happy", "sad"):
        for number in range(2):
            clip_writer(tmp_path / "train" / label / f"{number}.mp4")
    clips = load_clips(str(tmp_path), "train")
    (tmp_path / "train" / "happy" / "0.mp4").write_bytes(b"broken now")
    processor = TGDFERVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, num_frames=4)
    for training in (True, False):
        strict = ClipDataset(clips, clips.classes, processor, 4, training)
        with pytest.raises(VideoDecodeError):
            strict.collate([strict[index] for index in range(4)])
        marks = no_marks(clips)
        data = ClipDataset(clips, clips.classes, processor, 4, training, unreadable=marks)
        batch = data.collate([data[index] for index in range(4)])
        assert marks.tolist() == [True, False, False, False]
        assert batch["labels"].tolist() == [0 if training else IGNORED, 0, 1, 1]
        assert batch["pixel_values_videos"].shape == (4, 4, 3, 32, 32)
