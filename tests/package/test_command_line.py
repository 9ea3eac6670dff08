"""The command line: its options, its sentences about bad input, and its exit codes."""

import dataclasses
import errno
import inspect
import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import yaml
from command_flags import flags
from made_up_predictions import two_people
from small_clips import write_clip
from typer.main import get_command

import tgdfer
from tgdfer.command_line import app, faces, main
from tgdfer.console import expand_home, with_flag_names
from tgdfer.prediction_commands import FileOptions, HardwareOptions, ReadingOptions
from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.training import train as loop
from tgdfer.training.cache import kind_folder
from tgdfer.training.config import OPTIONS, TrainingConfig
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.training_command import resolve_config


@pytest.fixture
def output(capsys):
    """What the command printed, as one line."""
    return lambda: " ".join("".join(capsys.readouterr()).split())


@pytest.mark.slow
def test_train_interrupt_resume_evaluate(options, tmp_path, monkeypatch, output):
    validate, calls = loop._Run._validate, []

    def stop_in_the_second_epoch(self):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(self)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_validate", stop_in_the_second_epoch)
        assert main(["train", *flags(options)]) == 130
    assert f"Continue with: tgdfer train --resume --output {run}" in output()
    assert not (run / "last").exists()

    assert main(["train", "--resume", "--output", str(run)]) == 0
    assert f"tgdfer evaluate {run}" in output()
    assert [json.loads(line)["epoch"] for line in (run / "log.jsonl").read_text().splitlines()] == [1, 2]
    assert yaml.safe_load((run / "config.yaml").read_text())["model_options"] == {"lora_layers": 1}

    assert main(["evaluate", str(run)]) == 0
    printed = output()
    metrics = json.loads((run / "metrics.json").read_text())
    assert "UAR (mean recall)" in printed and f"{100 * metrics['uar']:.1f}" in printed and "frame AP" in printed


def test_every_field_of_the_config_is_a_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in shown for name in OPTIONS)
    assert "`label: [description, ...]`" in " ".join(shown.replace("│", " ").split())
    assert "tgdfer train --output runs/first --resume" in shown


COMMANDS = ("train", "evaluate", "compare", "predict", "join", "faces", "push", "export", "cache", "demo")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_80_columns_cuts_no_flag_and_shows_no_type_of_a_switch(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 and "\u2026" not in shown
    group = get_command(app)
    parameters = (group.commands[command] if command else group).params
    names = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
    for name in (*(name for name in names if name.startswith("--")), "--help"):
        assert re.search(rf"{name}(?![\w-])", shown), name
    assert not re.search(r"bool|<\w+>|\bstr\b", shown)


def test_groups_of_options_are_named_after_the_sections_of_the_configuration(capsys):
    sections = [name.capitalize() for name in TrainingConfig.model_fields]
    for command, expected in (
        ("train", sections),
        ("evaluate", ["Data", "Model", "Run"]),
        ("predict", ["Data", "Model", "Faces"]),
        ("faces", ["Data", "Faces"]),
    ):
        assert main([command, "--help"]) == 0
        titles = re.findall(r"^╭─ ([\w ]+?) ─", capsys.readouterr().out, re.MULTILINE)
        assert [title for title in titles if title in sections] == expected


def test_help_shows_choices_defaults_and_values(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"--class-balance CHOICE .*\[choices: none, weights, sampler, adjustment] \[default: none]", shown
    )
    assert re.search(r"--epochs INTEGER .*\[default: 20]", shown) and "--model-options FIELD=VALUE" in shown
    assert main(["push", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "push [OPTIONS] RUN USER/NAME" in shown and re.search(r"--pictures .*\[default: on]", shown)


@pytest.mark.parametrize("command", ["tgdfer", "python -m tgdfer"])
def test_version(command):
    program = (
        [str(Path(sys.executable).with_name("tgdfer"))] if command == "tgdfer" else [sys.executable, "-m", "tgdfer"]
    )
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"tgdfer {tgdfer.__version__}\n"


def test_shells_complete_commands_and_flags():
    program = str(Path(sys.executable).with_name("tgdfer"))
    for typed, expected in (("tgdfer ev", "evaluate"), ("tgdfer evaluate --bas", "--baseline")):
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_TGDFER_COMPLETE": "complete_bash"}
        done = subprocess.run([program], capture_output=True, text=True, env={**os.environ, **words})
        assert done.stdout.split() == [expected]


def test_flags_override_the_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("dataset: clips\nepochs: 3\nnew_lr: 1e-3\nmodel_options: {lora_layers: 1, lora_rank: 4}\n")
    config = resolve_config(file, epochs=5, frozen_features=False, model_options=["lora_rank=2", "mil_pooling=topk"])
    assert (config.optimisation.epochs, config.optimisation.new_lr, config.model.frozen_features) == (5, 1e-3, False)
    assert config.model.model_options == {"lora_layers": 1, "lora_rank": 2, "mil_pooling": "topk"}


def test_flags_may_switch_off_what_the_file_switches_on(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("dataset: clips\nfrozen_features: true\n")
    assert resolve_config(file).model.frozen_features is True
    assert resolve_config(file, frozen_features=False).model.frozen_features is False


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train", "No data set to train on"),
        ("train --dataset /no/such/folder", "Cannot read the data set '/no/such/folder'"),
        ("train --dataset nobody/nothing", "Cannot read the data set 'nobody/nothing'"),
        ("train --config {tmp}/none.yaml", "Cannot read {tmp}/none.yaml"),
        ("train --config {tmp}/typo.yaml", "Unknown option 'epoch'; did you mean 'epochs'?"),
        ("train --dataset {clips} --model-options lora", "--model-options expects FIELD=VALUE, but got 'lora'"),
        ("train --dataset {clips} --class-balance loss", "--class-balance is 'loss', but must be 'none'"),
        ("train --dataset {clips} --model nobody/nothing", "Cannot read the model 'nobody/nothing'"),
        (
            "train --dataset {clips} --model-options lora_layers=[1",
            "In --model-options 'lora_layers=[1', the value is not valid YAML.",
        ),
        ("train --dataset {clips} --output {tmp}/typo.yaml", "Cannot write {tmp}/typo.yaml/config.yaml: {tmp}/typo"),
        ("train --dataset {clips} --output {tmp}/typo.yaml/run", "Cannot write {tmp}/typo.yaml/run/config.yaml: "),
        ("predict x.mp4 --model m --plot timeline", "timeline is not a file name for a figure: it must end in .png"),
        ("predict x.mp4 --model m --plot x.txt", "x.txt is not a file name for a figure: it must end in .png"),
        (
            "predict x.mp4 --model m --plot {tmp}/typo.yaml/x.png",
            "Cannot write {tmp}/typo.yaml/x.png: {tmp}/typo.yaml",
        ),
        ("predict x.mp4 --model m --csv {tmp}/typo.yaml/x.csv", "Cannot write {tmp}/typo.yaml/x.csv: {tmp}/typo.yaml"),
        ("predict x.mp4 --model m --json {tmp}/typo.yaml/x", "Cannot write {tmp}/typo.yaml/x: {tmp}/typo.yaml is not"),
        ("predict x.mp4 --fps 2 --every 1", "--fps and --every both set which frames are analysed; give only one"),
        ("predict x.mp4 --every 0", "--every is 0, but must be between 1e-05 and 100000."),
        ("predict x.mp4 --fps -2", "--fps is -2, but must be between 1e-05 and 100000."),
        (
            "predict x.mp4 --label bored",
            "--label expects LABEL=DESCRIPTION, such as 'bored=half-closed eyes', but got 'bored'",
        ),
        ("predict x.mp4 --fps 1e-320", "--fps is 9.99989e-321, but must be between"),
        ("predict x.mp4 --label a=b --label c=d --label a=e", "--label describes 'a' twice: give its descriptions"),
        ("predict x.mp4 --label bored=;", "--label expects LABEL=DESCRIPTION"),
        (
            "predict x.mp4 --label bored=tired",
            "With a single class, every answer would be the same; describe at least two",
        ),
        ("predict x.mp4 --descriptions {tmp}/none.yaml", "Cannot read {tmp}/none.yaml"),
        ("predict x.mp4 --descriptions {tmp}/typo.yaml", "The descriptions cannot be used: The class"),
        ("predict x.mp4 --shard 4/3 --jsonl x.jsonl", "--shard is '4/3', but must be like 3/16"),
        ("predict x.mp4 --shard 1/3", "A part of a list needs a file for its results: name it with --jsonl."),
        ("predict x.mp4 --resume", "--resume needs the file to continue: name it with --jsonl."),
        ("predict x.mp4 --device abacus", "There is no device 'abacus' on this machine"),
        ("predict x*.mp4", "No file matches 'x*.mp4'; check the pattern."),
        ("faces {clips} {tmp}/crops --margin 5", "--margin is 5, but must be above -0.5 and below 4."),
        ("data check {clips} --fold 2", "fold is only for the data sets"),
        ("data check {clips} --vote-columns anger=a", "--label-kind is 'single', but votes are given"),
        ("find x.mp4 smile --min-score nan", "--min-score is nan, but must be a finite number."),
        ("data check dfew --data-root {clips} --fold 0", "fold is 0, but DFEW has folds 1 to 5"),
        ("predict x.mp4 --subtitles x.txt", "x.txt is not a file name for subtitles: it must end in .vtt or .srt."),
        ("join x.jsonl --csv x.csv", "Cannot read x.jsonl: No such file"),
        ("evaluate m --dataset {clips} --output {tmp}/typo.yaml", "Cannot write {tmp}/typo.yaml/metrics.json"),
        (
            "demo --output {tmp}/typo.yaml",
            "Cannot write {tmp}/typo.yaml/demo.json: {tmp}/typo.yaml is not a folder; name another place.",
        ),
        ("train --resume --output {tmp}/none", "There is no run to resume in {tmp}/none"),
        ("evaluate {tmp}/none --dataset {clips}", "Cannot read the model"),
        ("evaluate {tmp}/none", "{tmp}/none is not the folder of a run"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, sentence, clips_folder, tmp_path, output, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typo.yaml").write_text("dataset: clips\nepoch: 3\n")
    names = {"tmp": tmp_path, "clips": clips_folder}
    assert main(arguments.format(**names).split()) == 2
    printed = output()
    assert printed.startswith("error: " + sentence.format(**names)) and printed.count("error:") == 1
    assert "Traceback" not in printed
    assert sorted(os.listdir(tmp_path)) == ["typo.yaml"]


@pytest.mark.parametrize("arguments", ["train --epochs many", "train --no-such-flag", "no-such-command"])
def test_misspelt_commands_exit_with_code_2(arguments):
    assert main(arguments.split()) == 2


def test_template_of_missing_words_is_printed_as_it_must_be_saved(options, tmp_path, folder_writer, capsys):
    folder = folder_writer(tmp_path / "clips", people=2, metadata=False, splits=("train",))
    (folder / "train" / "happy").rename(folder / "train" / "bored")
    arguments = {**options, "dataset": folder, "validation_fraction": 0.5, "epochs": 1}
    assert main(["train", *flags(arguments)]) == 2
    template = capsys.readouterr().err.split("--descriptions FILE.\n\n", 1)[1]
    assert list(yaml.safe_load(template)) == ["bored"]


def test_broken_clip_in_a_decoding_process_is_still_one_sentence(options, output, monkeypatch):
    from tgdfer.processing.video_file_tgdfer import VideoDecodeError
    from tgdfer.training.data.batches import ClipDataset

    def unreadable(self, index):
        raise VideoDecodeError("clip.mp4 is empty (0 bytes); copy or download it again.")

    monkeypatch.setattr(ClipDataset, "__getitem__", unreadable)
    assert main(["train", *flags({**options, "workers": 1})]) == 2
    assert output().endswith("error: clip.mp4 is empty (0 bytes); copy or download it again.")


def test_errors_that_are_not_the_users_are_not_hidden(options, monkeypatch):
    monkeypatch.setattr(loop, "load_parts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", *flags(options)])
    monkeypatch.setattr(loop, "load_parts", lambda *_: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["train", *flags(options)])


def test_full_disk_is_one_sentence_and_a_missing_file_of_ours_is_not_hidden(options, monkeypatch, output):
    def fail(number):
        raise OSError(number, os.strerror(number), "runs/first/last")

    monkeypatch.setattr(loop._Run, "_save_epoch", lambda self, row: fail(errno.ENOSPC))
    assert main(["train", *flags(options)]) == 2
    assert output().endswith("error: Cannot write runs/first/last: No space left on device.")
    monkeypatch.setattr(loop, "load_parts", lambda *_: fail(errno.ENOENT))
    with pytest.raises(FileNotFoundError):
        main(["train", *flags({**options, "output": options["output"] + "2"})])


def test_error_class_is_documented_as_a_value_error():
    assert issubclass(UserError, ValueError)


def test_help_comes_without_the_heavy_libraries(tmp_path):
    code = (
        "import sys; from tgdfer.command_line import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets', 'accelerate')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "train" in done.stdout


def test_defaults_of_faces_are_those_of_the_face_settings():
    """They are repeated in the signature because importing the settings would slow down the help."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(faces).parameters.items()}
    flags = {"crop": "face_crop", "detector": "face_detector", "every": "detect_every"}
    for field in dataclasses.fields(FaceSettings):
        if (name := flags.get(field.name, field.name)) in defaults:
            assert defaults[name] == field.default, field.name
    assert {"size", "margin", "detect_every", "no_face"} <= set(defaults)


def test_messages_name_the_options_of_the_command_line():
    flags = {"no_face": "--no-face", "face_model": "--face-model", "label": "--label"}
    for said, shown in (
        ('set no_face="full_frame" to use whole frames.', "set --no-face full_frame to use whole frames."),
        ("the path of its model as `face_model`.", "the path of its model as `--face-model`."),
        ("no_face is 'x', but must be 'y'.", "--no-face is 'x', but must be 'y'."),
        ("a label is missing in /data/no_face/x.mp4.", "a label is missing in /data/no_face/x.mp4."),
        ("no_face/1.mp4 does not exist.", "no_face/1.mp4 does not exist."),
        ("not be downloaded within 60 s; raise `url_timeout`.", "not be downloaded within 60 s; download it and use"),
        ("it is larger than 9 MiB; raise `url_max_bytes`.", "it is larger than 9 MiB; download it and use the file."),
    ):
        assert with_flag_names(said, flags).startswith(shown)


def test_a_video_without_a_face_names_the_option(clips_folder, output, monkeypatch):
    from tgdfer.processing import detectors_tgdfer

    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: lambda picture: np.zeros((0, 15)))
    video = next(clips_folder.glob("test/*/*.mp4"))
    assert main(["predict", str(video)]) == 2
    assert "--no-face full_frame" in output()


def test_warnings_name_the_option(output, monkeypatch):
    def warn(*_):
        logging.getLogger("tgdfer.processing").warning("give the path of its model as `%s`", "face_model")
        raise UserError("enough")

    monkeypatch.setattr("tgdfer.training.predict.predict", warn)
    assert main(["predict", "x.mp4"]) == 2
    assert "its model as `--face-model`" in output()


def test_defaults_of_predict_are_those_of_what_it_calls():
    """They are repeated in the flags because importing the others would slow down the help."""
    from tgdfer.training.hardware import DTYPES, Hardware
    from tgdfer.training.outputs import PredictionFiles

    for group, target in ((HardwareOptions, Hardware), (FileOptions, PredictionFiles)):
        assert {field.name: field.default for field in dataclasses.fields(group)} == {
            field.name: field.default for field in dataclasses.fields(target)
        }
    dtype = get_type_hints(HardwareOptions)["dtype"]
    assert get_args(dtype) == DTYPES


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_hardware_can_be_chosen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--device", "--dtype", "--batch-size", "Hardware"))


def test_flags_reach_what_they_are_for(monkeypatch):
    called = []
    monkeypatch.setattr("tgdfer.training.predict.predict", lambda *arguments: called.append(arguments) or {})
    words = ["--label", "bored=half-closed eyes; a slack mouth", "--label", "awake=wide open eyes"]
    options = ["--fps", "4", "--dtype", "float16", "--device", "cpu", "--batch-size", "3", "--segments-csv", "s.csv"]
    long_list = ["--jsonl", "f.jsonl", "--resume", "--shard", "3/16"]
    assert main(["predict", "x.mp4", "y.mp4", *words, *options, *long_list]) == 0
    ((videos, model, files, reading, batch),) = called
    assert (videos, model) == (["x.mp4", "y.mp4"], "tgdfer-tiny")
    assert reading.descriptions == {"bored": ["half-closed eyes", "a slack mouth"], "awake": ["wide open eyes"]}
    assert reading.interval == 0.25 and dataclasses.astuple(reading.hardware) == ("cpu", "float16", 3)
    assert reading.faces == {"face_crop": None, "face_detector": None, "face_model": None, "no_face": None}
    assert files.segments_csv == Path("s.csv") and files.csv is None
    assert (batch.jsonl, batch.resume, str(batch.shard)) == (Path("f.jsonl"), True, "Shard(number=3, count=16)")


def test_words_of_the_command_line_come_before_those_of_the_file(tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text("joy: [a smile]\nsorrow: [tears]\n")
    assert ReadingOptions(descriptions=file, label=["joy=a broad smile"]).classes() == {
        "joy": ["a broad smile"],
        "sorrow": ["tears"],
    }
    assert ReadingOptions().classes() is None and ReadingOptions().interval() is None
    assert ReadingOptions(every=0.5).interval() == 0.5


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_terminals_that_cannot_show_a_name_stop_nothing(encoding, monkeypatch):
    """Names of files and labels are in any script, and may have bytes that are no text."""

    def found(*_):
        raise PartialResultError({"x": "\u60b2\u3057\u307f/caf\udce9.mp4 \u2026"}, 2)

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr("tgdfer.training.predict.predict", lambda *_: {"\u60b2\u3057\u307f.mp4": two_people()})
    assert main(["predict", "x.mp4"]) == 0
    out.flush()
    assert len(out.buffer.getvalue()) > 100
    monkeypatch.setattr("tgdfer.training.predict.predict", found)
    assert main(["predict", "x.mp4"]) == 3
    err.flush()
    assert b".mp4" in err.buffer.getvalue()


def test_a_tilde_is_the_home_where_shells_leave_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = ["~/a.mp4", "--csv=~/f.csv", "--output", "~", "a~/b", "--label", "a=~/x", "~other/x"]
    expected = [
        "/home/me/a.mp4",
        "--csv=/home/me/f.csv",
        "--output",
        "/home/me",
        "a~/b",
        "--label",
        "a=~/x",
        "~other/x",
    ]
    assert expand_home(given) == expected


def test_cache_is_listed_and_cleared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path))
    (kind_folder("features") / "a.safetensors").write_bytes(bytes(2000))
    assert main(["cache"]) == 0 and "2.0 kB" in capsys.readouterr().out
    assert main(["cache", "--older-than", "3"]) == 2
    assert "--older-than only works together with --clear; add --clear to remove old files." in capsys.readouterr().err
    assert main(["cache", "--clear", "--older-than", "3"]) == 0 and "Removed 0 files" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0 and "Removed 1 file (2.0 kB in total)" in capsys.readouterr().out
    assert not list(kind_folder("features").iterdir())


@pytest.mark.slow
def test_a_prediction_imports_nothing_that_it_does_not_need(tmp_path):
    """What draws and what trains takes seconds to import. Notebooks set MPLBACKEND, which changes nothing here."""
    clip = write_clip(tmp_path / "a.mp4")
    code = (
        "import sys; from tgdfer.command_line import main; "
        f"assert main(['predict', {str(clip)!r}, '--face-crop', 'none']) == 0; "
        "needless = {'datasets', 'evaluate', 'matplotlib', 'pandas', 'peft', 'pyarrow', 'sklearn'}; "
        "print('imported:', *sorted(needless & set(sys.modules)))"
    )
    environment = {**os.environ, "MPLBACKEND": "not_installed"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"
