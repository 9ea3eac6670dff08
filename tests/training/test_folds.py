"""Training and testing on all folds: what is done once, what is continued, and what is refused."""

import json

import pytest
from launching import TORCHRUN, run
from published_trees import DFEW_NAMES, write_dfew

from tgdfer.command_line import main
from tgdfer.training import folds as driver
from tgdfer.training import train as training
from tgdfer.training.config import DataConfig, TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.folds import chosen_folds, folds_interruption_message, train_folds
from tgdfer.training.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dfew(tmp_path_factory):
    return write_dfew(tmp_path_factory.mktemp("dfew"), clips=70, unlisted=0)


@pytest.fixture
def fast(dfew, clip_folder, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text("\n".join(f"{name}: [a face of {name}]" for name in DFEW_NAMES))
    return {
        "dataset": "dfew",
        "data_root": str(dfew),
        "model": str(clip_folder),
        "descriptions": str(words),
        "output": str(tmp_path / "folds"),
        "num_frames": 2,
        "epochs": 2,
        "frozen_features": True,
        "feature_views": 1,
        "validation_fraction": 0.2,
    }


def test_killed_twice_and_resumed_the_table_is_that_of_a_whole_run(fast, tmp_path, monkeypatch, capsys):
    config = TrainingConfig.from_options(**fast)
    whole = train_folds(config.with_options(output=str(tmp_path / "whole")), "1,3")
    assert [result.fold for result in whole.last] == [1, 3] and whole.num_folds == 5
    assert whole.validation == "by clip" and list(whole.classes) == list(DFEW_NAMES), "the published order"
    assert [result.epoch for result in whole.last] == [2, 2]

    # The first time, training stops after an epoch of the first fold. The second time, testing does in the second.
    keep, ended = training._Run._save_epoch, []

    def keep_or_stop(self, row):
        keep(self, row)
        ended.append(row)
        if len(ended) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Run, "_save_epoch", keep_or_stop)
    with pytest.raises(KeyboardInterrupt):
        train_folds(config, "1,3")
    evaluate, tested = driver.evaluate_model, []

    def evaluate_or_stop(folder, **options):
        tested.append(options.get("which", "best"))
        if len(tested) == 4:
            raise KeyboardInterrupt
        return evaluate(folder, **options)

    monkeypatch.setattr(driver, "evaluate_model", evaluate_or_stop)
    with pytest.raises(KeyboardInterrupt):
        train_folds(config.with_options(resume=True), "1,3")
    assert "1 of 2 folds are complete" in folds_interruption_message(config, "1,3")
    capsys.readouterr()
    found = train_folds(config.with_options(resume=True), "1,3")
    assert len(ended) == 4 and tested == ["last", "best", "last", "best", "best"], "nothing is done twice"
    assert (found.last, found.best) == (whole.last, whole.best)
    shown = capsys.readouterr().out
    assert "Fold 1 is complete (1 of 2)" in shown and "dfew, 2 of 5 folds: last epoch" in shown
    ours, theirs = ((tmp_path / name / "folds.csv").read_text() for name in ("folds", "whole"))
    assert ours == theirs and len(ours.splitlines()) == 1 + 2 * 4


def test_folds_of_several_commands_are_in_one_table(fast, tmp_path):
    config = TrainingConfig.from_options(**fast | {"validation_fraction": 0.0, "epochs": 1})
    train_folds(config, "2")
    tables = train_folds(config, "5")
    assert [result.fold for result in tables.last] == [2, 5] and tables.best == []
    assert not (tmp_path / "folds" / "fold_2" / "last_epoch").exists(), "the last epoch counts as the best"
    with pytest.raises(UserError, match="fold_2 is not empty: continue with --resume"):
        train_folds(config, "all")
    with pytest.raises(UserError, match="epochs is 3, but the run in .* has 1"):
        train_folds(config.with_options(epochs=3), "1")
    assert not (tmp_path / "folds" / "fold_1").exists()


def test_on_the_command_line(fast, dfew, tmp_path, capsys):
    words = [
        word
        for name, value in fast.items()
        if name in ("model", "descriptions", "num_frames", "output")
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    command = ["train", "--recipe", "dfew", "--data-root", str(dfew), "--frozen-features", "--epochs", "1", *words]
    command += ["--validation-fraction", "0.2"]  # A tenth of so few clips has too few of each class.
    assert main([*command, "--feature-views", "1", "--folds", "2", "--fold", "1"]) == 2
    assert "--fold" in capsys.readouterr().err
    assert main([*command, "--feature-views", "1", "--folds", "2"]) == 0
    assert "4 folds are not complete yet" in capsys.readouterr().out
    # Without the options, which are in the folder.
    assert main(["train", "--resume", "--output", fast["output"]]) == 2
    assert "several folds: add --folds all to resume it" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "--resume", "--folds", "2", "--output", fast["output"]]) == 0
    facts = json.loads((tmp_path / "folds" / "fold_2" / "training.json").read_text())
    assert facts["fold"] == 2 and facts["epochs"] == 1
    assert main(["train", "--resume", "--folds", "1", "--output", str(tmp_path / "folds" / "fold_2")]) == 2
    assert "a single run: leave out --folds" in " ".join(capsys.readouterr().err.split())


def test_folds_of_own_clips_are_held_out_and_tested_on_the_test_split(options):
    tables = train_folds(TrainingConfig.from_options(**options | {"epochs": 1, "frozen_features": True}), "0,4")
    assert [result.fold for result in tables.last] == [0, 4] and tables.num_folds == 5
    assert tables.validation == "by person" and tables.last[0].num_clips == 15


def test_a_fold_that_was_evaluated_by_hand_is_finished_and_tested_again(options, tmp_path, monkeypatch):
    config = TrainingConfig.from_options(**options | {"frozen_features": True, "validation_fraction": 0.5})
    save = training._Run._save_epoch

    def save_and_stop(self, row):
        save(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._Run, "_save_epoch", save_and_stop)
        train_folds(config, "0")
    folder = tmp_path / "run" / "fold_0"
    evaluate_model(folder, errors=0)
    assert "0 of 1 folds are complete" in folds_interruption_message(config, "0")
    found = train_folds(config.with_options(resume=True), "0")
    assert [result.epoch for result in found.last] == [2], "one epoch of two was missing"

    evaluate_model(folder, EvaluationData(split="train"), errors=0)
    assert "0 of 1 folds are complete" in folds_interruption_message(config, "0")
    monkeypatch.setattr(driver, "train", lambda *_: pytest.fail("the fold is trained"))
    again = train_folds(config.with_options(resume=True), "0")
    assert (again.last, again.best) == (found.last, found.best)


def test_without_a_test_split_nothing_is_trained(options, tmp_path):
    config = TrainingConfig.from_options(**options | {"test_split": "exam"})
    with pytest.raises(UserError, match="has no split 'exam' on which the folds are tested"):
        train_folds(config, "all")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folds", ["all", "3"])
def test_with_a_validation_split_there_are_no_folds(options, tmp_path, folder_writer, folds):
    folder = folder_writer(tmp_path / "clips", splits=("train", "validation", "test"))
    config = TrainingConfig.from_options(**options | {"dataset": str(folder)})
    with pytest.raises(UserError, match="'validation' of .* is used for validation: leave out --fold or --folds"):
        train_folds(config, folds)
    with pytest.raises(UserError, match="leave out --fold"):
        train(config.with_options(fold=3))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "folds", "sentence"),
    [
        ({"dataset": "dfew", "data_root": "d"}, "6", "folds names fold 6, but the folds are 1 to 5"),
        ({"dataset": "dfew", "data_root": "d"}, "one", "folds is 'one', but must be all, or numbers such as 1,3"),
        ({"dataset": "dfew", "data_root": "d", "fold": 2}, "all", "fold is 2, but"),
        ({"dataset": "clips", "validation_fraction": 0.0}, "all", "no clips are held out"),
        ({"dataset": "clips", "label_kind": "multiple"}, "all", "several labels do not have"),
    ],
)
def test_folds_that_there_are_not(data, folds, sentence):
    with pytest.raises(UserError, match=sentence):
        chosen_folds(DataConfig(**data), folds)


def test_numbers_of_folds():
    assert chosen_folds(DataConfig(dataset="ravdess", data_root="d"), "all") == [1, 2, 3, 4, 5, 6]
    assert chosen_folds(DataConfig(dataset="clips", validation_fraction=0.25), "all") == [0, 1, 2, 3]
    assert chosen_folds(DataConfig(dataset="mafw", data_root="d"), "5, 2,5") == [2, 5]


def test_two_processes_train_and_test_a_fold_together(fast, dfew, tmp_path):
    (tmp_path / "options.yaml").write_text(json.dumps(fast | {"batch_size": 4}))
    command = [*TORCHRUN, "-m", "tgdfer", "train", "--config", tmp_path / "options.yaml"]
    shown = run(*command, "--folds", "4", ACCELERATE_USE_CPU="true", TGDFER_CACHE=str(tmp_path / "cache"))
    assert shown.count("Fold 4 (1 of 1)") == shown.count("dfew, 1 of 5 folds: last epoch") == 1
    assert " ".join(shown.split()).count("who is in a clip, so validation clips are held out by clip") == 1
    shown = run(*command, "--folds", "4", "--resume", ACCELERATE_USE_CPU="true")
    assert shown.count("Fold 4 is complete (1 of 1)") == 1 and "Frame features" not in shown
    assert len((tmp_path / "folds" / "folds.csv").read_text().splitlines()) == 1 + 2 * 3
