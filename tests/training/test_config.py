"""The configuration of a training run."""

import pytest
import yaml

from tgdfer.training.config import OPTIONS, TrainingConfig
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_yaml


def test_survives_a_round_trip_through_yaml(tmp_path):
    config = TrainingConfig.from_options(
        dataset="clips", mixed_precision="no", new_lr=1e-4, model_options={"lora_layers": 2}
    )
    config.save(tmp_path / "config.yaml")
    assert TrainingConfig.from_options(**read_yaml(tmp_path / "config.yaml")) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1234e56",
            "0x10",
            "0o7",
            "010",
            "on",
            "no",
            "True",
            "1_000",
            "12:30",
            "null",
            "~",
            "2024-01-01",
            "",
            " ",
            ".",
        ),
        *(
            "1e5",
            ".5",
            "+1",
            ".inf",
            ".NaN",
            "-",
            "- a",
            "? a",
            "a: b",
            "a #b",
            "# a",
            "<<",
            "=",
            "!a",
            "&a",
            "*a",
            "%a",
        ),
        *(
            "[",
            "{a}",
            "'a",
            '"a',
            "`",
            "@a",
            " a ",
            "a\nb",
            "a\n",
            "\t",
            "\\n",
            "caf\u00e9",
            "\u0085",
            "\u2028",
            "\ufeffa",
        ),
        *("\U0001f600", "long words " * 30, "---", "...", "a: " * 60, "\x07"),
    ],
)
def test_texts_survive_a_round_trip_through_yaml(tmp_path, text):
    config = TrainingConfig.from_options(dataset="clips", split_map={text: text}, model_options={"a": [text, 1, None]})
    config.save(tmp_path / "config.yaml")
    assert TrainingConfig.from_options(**read_yaml(tmp_path / "config.yaml")) == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["split_map"] == {text: text}


def test_every_field_explains_itself():
    assert all(option.help for option in OPTIONS.values())


def test_reads_what_yaml_spells_in_its_own_way(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset: clips\nnew_lr: 1e-4\nmixed_precision: no\nmax_grad_norm: 1\n")
    config = TrainingConfig.from_options(**read_yaml(path))
    found = config.optimisation.new_lr, config.run.mixed_precision, config.optimisation.max_grad_norm
    assert found == (1e-4, "no", 1.0)


@pytest.mark.parametrize(
    ("value", "steps", "seconds"),
    [
        (None, None, None),
        (500, 500, None),
        ("500", 500, None),
        ("90s", None, 90),
        ("0.5m", None, 30),
        ("2h", None, 7200),
    ],
)
def test_interval_of_checkpoints(value, steps, seconds):
    run = TrainingConfig.from_options(dataset="clips", checkpoint_every=value).run
    assert (run.checkpoint_steps, run.checkpoint_seconds) == (steps, seconds)


def test_a_single_tracker_needs_no_list(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset: clips\nreport_to: tensorboard\ncheckpoint_every: 500\n")
    config = TrainingConfig.from_options(**read_yaml(path))
    assert config.run.report_to == ["tensorboard"] and config.run.checkpoint_every == "500"


def test_a_run_names_local_data_by_absolute_paths(tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    (tmp_path / "words.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TrainingConfig.from_options(dataset="clips", descriptions="~/words.yaml", validation_fraction=0.5)
    kept = config.with_absolute_paths()
    assert (kept.data.dataset, kept.model.descriptions) == (str(tmp_path / "clips"), str(tmp_path / "words.yaml"))
    assert (kept.model.model, kept.faces.face_model, kept.data.validation_fraction) == ("clip-tiny-faces", None, 0.5)
    assert TrainingConfig.from_options(dataset="user/clips").with_absolute_paths().data.dataset == "user/clips"
    assert kept.with_absolute_paths() == kept


def test_model_options_are_not_shared_between_configs():
    TrainingConfig.from_options(dataset="a").model.model_options["lora_layers"] = 2
    assert TrainingConfig.from_options(dataset="b").model.model_options == {}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"datset": "clips"}, "'datset'; did you mean 'dataset'?"),
        ({"dataset": "clips", "zzz": 1}, "'zzz'; known are: .*batch_size"),
        ({}, "No data set"),
        ({"dataset": "clips", "epochs": "ten"}, "epochs is 'ten', but must be a valid integer"),
        ({"dataset": "clips", "epochs": True}, "epochs is True, but must be a valid integer"),
        ({"dataset": "clips", "frozen_features": 1}, "frozen_features is 1, but must be a valid boolean"),
        ({"dataset": "clips", "new_lr": "fast"}, "new_lr is 'fast'"),
        (
            {"dataset": "clips", "checkpoint_every": "10 minutes"},
            "checkpoint_every is '10 minutes', but must be a num",
        ),
        ({"dataset": "clips", "checkpoint_every": "0"}, "checkpoint_every is '0', but must be a number of steps"),
        ({"dataset": "clips", "checkpoint_every": "0.0m"}, "checkpoint_every is '0.0m', but must be"),
        ({"dataset": "clips", "checkpoint_every": True}, "checkpoint_every is True, but must be a valid string"),
        ({"dataset": "clips", "report_to": ["wandb"]}, "report_to is 'wandb', but must be 'trackio' or 'tensorboard'"),
        ({"dataset": "clips", "epochs": 0}, "epochs is 0, but must be greater than or equal to 1"),
        ({"dataset": "clips", "fold": 5}, "fold is 5, but must be below the number of folds, 5"),
        ({"dataset": "clips", "validation_fraction": 0.9}, "validation_fraction is 0.9"),
        (
            {"dataset": "clips", "validation_fraction": 0.4},
            "validation_fraction is 0.4, but one of several",
        ),
        ({"dataset": "clips", "validation_fraction": 1e-320}, "one of several equal folds is held out"),
        ({"dataset": "clips", "stills_vote_columns": {"anger": "a"}}, "but stills is not"),
        ({"dataset": "clips", "stills_epochs": 3}, "stills_epochs is given, but stills is not"),
        ({"dataset": "clips", "class_balance": "loss"}, "must be 'none', 'weights', 'sampler' or 'adjustment'"),
        ({"dataset": "clips", "model_options": "lora"}, "model_options is 'lora'"),
    ],
)
def test_names_what_is_wrong(values, sentence):
    with pytest.raises(UserError, match=sentence):
        TrainingConfig.from_options(**values)


@pytest.mark.parametrize(
    "attack",
    [
        "dataset: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{mark}]]",
        "dataset: !!python/object/new:os.system ['touch {mark}']",
        "!!python/object/apply:os.system ['touch {mark}']",
        "dataset: !!python/name:os.system",
        "dataset: !include /etc/passwd",
    ],
)
def test_yaml_makes_no_objects_and_runs_nothing(attack, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "config.yaml"
    path.write_text(attack.replace("{mark}", str(mark)))
    for read in (read_yaml, lambda file: descriptions_for(["a"], str(file))):
        with pytest.raises(UserError, match=r"^[^\n]*(is not valid YAML|holds no descriptions)"):
            read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 3000, "nested too deeply"),
        ("{a: " * 2000, "nested too deeply"),
        (f"epochs: {'9' * 5000}", "is not valid YAML"),
        ("dataset: 2001-99-99", "is not valid YAML"),
        ("a: &a [x, x]\n" + "".join(f"k{i}: &k{i} [*a, *a]\n" for i in range(9)), "Unknown option 'a'"),
    ],
)
def test_yaml_that_is_made_to_fail_fails_in_one_sentence(text, sentence, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        TrainingConfig.from_options(**read_yaml(tmp_path / "config.yaml"))


@pytest.mark.parametrize(
    ("text", "sentence"), [("- a\n", "contains a list"), ("a: [", "is not valid YAML"), (None, "Cannot read")]
)
def test_names_a_yaml_file_that_cannot_be_used(tmp_path, text, sentence):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_yaml(path)


@pytest.mark.parametrize("other", ["test_split", "validation_split"])
def test_nothing_is_measured_on_the_split_that_is_trained_on(other):
    with pytest.raises(UserError, match=f"{other} is 'mine', but must differ from the split to train on"):
        TrainingConfig.from_options(dataset="clips", **{"train_split": "mine", other: "mine"})
