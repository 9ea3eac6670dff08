"""The command line from clips to the Hub, and what it says where something is wrong with what it is given."""

import csv
import json
import shutil
from pathlib import Path

import av
import datasets
import numpy as np
import pytest
import yaml
from hub_server import serve

from tgdfer.command_line import main
from tgdfer.training import train as loop

pytestmark = pytest.mark.slow

CLI = "import sys; from tgdfer.command_line import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def trained(clips_folder, clip_folder, descriptions_file, tmp_path_factory) -> Path:
    """A run that was interrupted, resumed and measured, all by commands."""
    run = tmp_path_factory.mktemp("runs") / "first"
    command = f"train --dataset {clips_folder} --model {clip_folder} --descriptions {descriptions_file} --output {run}"
    keep, ended = loop._Run._save_epoch, []

    def keep_one(self, row):
        ended.append(row)
        if len(ended) == 2:
            raise KeyboardInterrupt
        keep(self, row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_save_epoch", keep_one)
        assert main(f"{command} --epochs 2 --num-frames 4 --model-options lora_layers=1".split()) == 130
    assert not (run / "last").exists()
    assert main(["train", "--resume", "--output", str(run)]) == 0
    assert main(["evaluate", str(run), "--baseline"]) == 0
    return run


def test_training_was_resumed_and_measured_beside_the_baseline(trained):
    assert [json.loads(line)["epoch"] for line in (trained / "log.jsonl").read_text().splitlines()] == [1, 2]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["num_clips"] == 15 and metrics["command"] == f"tgdfer evaluate {trained} --baseline"
    assert 0 <= metrics["baseline"]["uar"] <= 1 and metrics["weights_sha256"]


def test_videos_are_read(trained, clips_folder, tmp_path):
    videos = [str(path) for path in sorted(clips_folder.glob("test/*/*_0.mp4"))]
    outputs = {name: tmp_path / f"t.{name}" for name in ("csv", "json")} | {"plot": tmp_path / "t.png"}
    flags = [word for name, path in outputs.items() for word in (f"--{name}", str(path))]
    assert main(["predict", *videos, "--model", str(trained), "--face-crop", "none", *flags]) == 0
    results = json.loads(outputs["json"].read_text())["results"]
    assert [result["file"] for result in results] == videos
    rows = list(csv.DictReader(outputs["csv"].open()))
    assert [row["label"] for row in rows[::4]] == [result["people"][0]["label"] for result in results]
    assert len(list(tmp_path.glob("t-*.png"))) == len(videos) == 3


def test_another_training_starts_from_the_run(trained, clips_folder, descriptions_file, tmp_path):
    output = tmp_path / "second"
    command = f"train --dataset {clips_folder} --model {trained} --output {output} --frozen-features --epochs 1"
    assert main(f"{command} --descriptions {descriptions_file} --num-frames 4 --feature-views 1".split()) == 0
    facts = json.loads((output / "training.json").read_text())
    assert facts["continued_from"] == json.loads((trained / "training.json").read_text())


def test_model_goes_to_the_hub_and_is_measured_by_id(trained, clips_folder, tmp_path):
    with serve() as hub:
        hub.python(CLI, "push", trained, "user/smile", "--private", home=tmp_path)
        (commit,) = hub.model("user/smile").pushed
        assert commit.files["model.safetensors"].data == (trained / "best" / "model.safetensors").read_bytes()
        published = json.loads(commit.files["metrics.json"].data)
        hub.python(CLI, "evaluate", "user/smile", "--dataset", clips_folder, "--output", "by_id", home=tmp_path)
    again = json.loads((tmp_path / "by_id" / "metrics.json").read_text())
    assert again["confusion_matrix"] == published["confusion_matrix"] and again["weights_sha256"] is None


def without_video(path: Path) -> Path:
    """Half a second of silence, and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return path


BROKEN = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "audio": without_video,
}


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Runs a command that must be refused in one line, and leave the folder as it was; gives that line."""
    monkeypatch.setattr(datasets.utils.tqdm, "__init__", _silent(datasets.utils.tqdm.__init__))
    monkeypatch.chdir(tmp_path)

    def run(arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(arguments.split()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "Traceback" not in line
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return run


def _silent(init):
    return lambda self, *args, **kwargs: init(self, *args, **kwargs | {"disable": True})


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_clip_of_a_data_set(kind, options, trained, folder_writer, tmp_path, refused):
    folder = folder_writer(tmp_path / "clips")
    for split in ("train", "test"):
        BROKEN[kind](folder / split / "happy" / "happy_1.mp4")
    rest = f"--descriptions {options['descriptions']} --output {tmp_path / 'run'} --num-frames 4 --frozen-features"
    assert "happy_1.mp4" in refused(f"train --strict --dataset {folder} --model {options['model']} {rest}")
    assert "happy_1.mp4" in refused(f"evaluate --strict {trained} --dataset {folder} --output {tmp_path / 'measured'}")


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_video(kind, trained, clip_writer, tmp_path, refused):
    BROKEN[kind](clip_writer(tmp_path / "clip.mp4"))
    assert "clip.mp4" in refused(f"predict clip.mp4 --model {trained} --csv t.csv --json t.json --plot t.png")


def test_wrong_key(clips_folder, tmp_path, refused):
    (tmp_path / "config.yaml").write_text(f"dataset: {clips_folder}\nepoch: 3\n")
    assert "'epoch'; did you mean 'epochs'?" in refused("train --config config.yaml --output run")


def test_label_without_words(clips_folder, tmp_path, capsys, monkeypatch):
    """Alone in saying more than a line: the template to fill in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(clips_folder, tmp_path / "clips")
    for path in (tmp_path / "clips").rglob("metadata.jsonl"):
        path.write_text(path.read_text().replace('"label": "happy"', '"label": "bored"'))
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "--dataset", "clips", "--output", "run"]) == 2
    printed = capsys.readouterr().err
    sentence, template = printed[printed.index("error: ") :].split("\n\n", 1)
    assert sentence.startswith("error: There is no description of 'bored': fill in these lines")
    assert list(yaml.safe_load(template)) == ["bored"] and "Traceback" not in printed
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_with_one_class(clip_writer, tmp_path, refused):
    for index in range(2):
        clip_writer(tmp_path / "clips" / "train" / "happy" / f"{index}.mp4")
    assert "only one class, 'happiness'" in refused("train --dataset clips --output run")


@pytest.mark.parametrize("command", ["train --output run --model", "evaluate", "predict {clip} --csv t.csv --model"])
def test_checkpoints_that_cannot_be_used(command, clips_folder, tmp_path, refused):
    clip = next(clips_folder.glob("test/*/*.mp4"))
    data = "" if command.startswith("predict") else f" --dataset {clips_folder}"
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert "bert is a checkpoint of bert" in refused(f"{command.format(clip=clip)} bert{data}")
    assert "Cannot read the model 'nobody/nothing'" in refused(f"{command.format(clip=clip)} nobody/nothing{data}")


def test_unreadable_hub_id_of_a_data_set(trained, refused):
    assert "Cannot read the data set 'nobody/nothing'" in refused("train --dataset nobody/nothing --output run")
    assert "Cannot read the data set 'nobody/nothing'" in refused(f"evaluate {trained} --dataset nobody/nothing")
