"""Models and data sets go to the Hub and come back: to this package, and to who has `transformers` alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hub_server import Hub, serve
from huggingface_hub import ModelCard
from safetensors.torch import load, load_file

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor
from tgdfer.model_card.card import build_card

from .conftest import write_run

pytestmark = pytest.mark.slow

PUBLISH = """
import sys
from tgdfer.model_card.publish import publish
publish(sys.argv[1], "user/smile")
"""

TGDFER = """
import sys
from tgdfer.command_line import main

sys.exit(main(sys.argv[1:]))
"""

LOAD_WITHOUT_TGDFER = """
import re, sys
import torch
from transformers import (
    AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor, pipeline,
)

clip, results = sys.argv[1:]
name = "user/smile"
try:
    import tgdfer
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("tgdfer can be imported here")

config = AutoConfig.from_pretrained(name, trust_remote_code=True)
backbone = AutoModel.from_pretrained(name, trust_remote_code=True)
model = AutoModelForVideoClassification.from_pretrained(name, trust_remote_code=True)
video_processor = AutoVideoProcessor.from_pretrained(name, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
for thing in (config, backbone, model, video_processor, processor):
    assert type(thing).__module__.startswith("transformers_modules."), type(thing)
inputs = processor(videos=[clip], return_tensors="pt")
assert all(torch.equal(inputs[key], value) for key, value in video_processor([clip], return_tensors="pt").items())
with torch.no_grad():
    outputs = model(**inputs)
    features = backbone.get_frame_features(inputs["pixel_values_videos"])
classify = pipeline("video-classification", model=name, trust_remote_code=True)
torch.save(
    {
        "labels": config.id2label,
        "descriptions": processor.descriptions,
        "input_ids": processor.class_prompts()["input_ids"],
        "logits": outputs.logits,
        "frame_relevance": outputs.frame_relevance,
        "features": features,
        "pipeline": classify(clip, top_k=3),
        "timeline": pipeline("emotion-timeline", model=name, trust_remote_code=True)(clip, interval=9.0),
    },
    results,
)
# The examples of the card do what they say.
from huggingface_hub import ModelCard

for block in re.findall(r"```python\\n(.*?)```", ModelCard.load(name).text, re.DOTALL):
    exec(block, {})
"""

PUSH_TO_HUB = """
import sys
import torch
from transformers import AutoModelForVideoClassification, AutoProcessor
from tgdfer import TGDFERForVideoClassification, TGDFERProcessor

folder, clip = sys.argv[1:]
model = TGDFERForVideoClassification.from_pretrained(folder, lora_layers=1)
processor = TGDFERProcessor.from_pretrained(folder)
inputs = processor(videos=[clip], return_tensors="pt")
with torch.no_grad():
    plain = model(**inputs).logits
    model.attach_lora()
    for parameter in model.parameter_groups()["lora"]:
        parameter += 0.2 * torch.randn_like(parameter)  # as if trained
    adapted = model.eval()(**inputs).logits
assert not torch.allclose(adapted, plain, atol=1e-2)

model.save_pretrained("saved", push_to_hub=True, repo_id="user/saved")
processor.save_pretrained("saved", push_to_hub=True, repo_id="user/saved")
model.push_to_hub("user/pushed", private=True)
processor.push_to_hub("user/pushed")
assert model.has_lora
again = AutoModelForVideoClassification.from_pretrained("user/pushed")
assert not again.has_lora
inputs = AutoProcessor.from_pretrained("user/pushed")(videos=[clip], return_tensors="pt")
with torch.no_grad():
    torch.testing.assert_close(again(**inputs).logits, adapted, rtol=1e-4, atol=1e-4)
"""


PUSH_SECOND_HAND = """
import sys
import torch
from transformers import AutoModelForVideoClassification, AutoProcessor, pipeline

(clip,) = sys.argv[1:]
name = "user/smile"
model = AutoModelForVideoClassification.from_pretrained(name, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
model.push_to_hub("user/parts")
processor.push_to_hub("user/parts")
pipeline("emotion-timeline", model=name, trust_remote_code=True).push_to_hub("user/pipeline")
for again in ("user/parts", "user/pipeline"):
    print("label:", pipeline("emotion-timeline", model=again, trust_remote_code=True)(clip)["people"][0]["label"])
"""

FIRST_LOAD = """
import sys
from transformers import pipeline

name, *revision = sys.argv[1:]
pipeline("emotion-timeline", model=name, trust_remote_code=True, revision=revision[0] if revision else None)
"""

TWO_FOLDERS = """
import sys
from transformers import AutoModelForVideoClassification, AutoProcessor, pipeline

clip, *folders = sys.argv[1:]
for folder in folders:
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)
    timeline = pipeline("emotion-timeline", model=folder, trust_remote_code=True)
    assert timeline(clip)["people"]
    for thing in (model.config, model, timeline.model, processor, timeline.video_processor, timeline):
        home = type(thing).__module__.rpartition(".")[0]
        marks = {
            name.rpartition(".")[2]: module.MARK
            for name, module in sorted(sys.modules.items())
            if name.startswith(f"{home}.") and hasattr(module, "MARK")
        }
        print(type(thing).__name__, marks)
"""

PUSH_CLIPS = """
import json, sys
from pathlib import Path
from datasets import ClassLabel, Dataset, DatasetDict, Video

given = json.loads(sys.argv[1])
rows = Dataset.from_list(given).cast_column("video", Video(decode=False))
rows = rows.cast_column("label", ClassLabel(names=["anger", "happiness"]))
DatasetDict(train=rows, test=rows.select([0, 9])).push_to_hub("user/clips", private=True)
for row in given:  # What is trained on comes from the Hub alone.
    Path(row["video"]).unlink()
"""

TRAIN = """
import sys
from tgdfer.command_line import main
from tgdfer.training.data.loading import load_clips

clips = load_clips("user/clips", "train")
assert clips.labels == ["anger"] * 5 + ["happiness"] * 5, clips.labels
assert clips.people == list("abcde") * 2, clips.people
assert all(isinstance(clips.video(index), bytes) for index in range(len(clips)))
for line in sys.argv[1:]:
    assert main(line.split()) == 0
"""


class Machine(NamedTuple):
    """What was done on a machine of somebody who uses a Hub.

    Attributes:
        hub: the Hub, as it is afterwards.
        home: folder of the user.
        printed: what each script printed.
    """

    hub: Hub
    home: Path
    printed: list[str]


@pytest.fixture(scope="module")
def trained(model_folder, tmp_path_factory) -> Path:
    """A run whose best model is a real one."""
    run = write_run(tmp_path_factory.mktemp("trained") / "runs" / "smile")
    shutil.rmtree(run / "best")
    shutil.copytree(model_folder, run / "best")
    return run


@pytest.fixture(scope="module")
def without_tgdfer(trained, model_folder, clip_file, tmp_path_factory) -> Iterator[Machine]:
    """Everything that is done with the published run on a machine without this package."""
    home = tmp_path_factory.mktemp("without")
    shutil.copy(clip_file, home / "clip.mp4")
    with serve() as hub:
        hub.python(PUBLISH, trained, home=home)
        assert len(hub.model("user/smile").pushed) == 1
        hub.repos["models", "user/pinned"] = hub.model("user/smile")
        printed = hub.python_scripts(
            (FIRST_LOAD, "user/smile"),
            (FIRST_LOAD, "user/pinned", hub.model("user/smile").head.oid),
            (LOAD_WITHOUT_TGDFER, clip_file, home / "results.pt"),
            (PUSH_SECOND_HAND, clip_file),
            (TWO_FOLDERS, clip_file, *folders_of_one_name(home, model_folder, "modeling")),
            home=home,
            tgdfer=False,
        )
        yield Machine(hub, home, printed)


@pytest.fixture(scope="module")
def with_tgdfer(model_folder, clip_file, clip_folder, clip_rows, tmp_path_factory) -> Iterator[Machine]:
    """A model and clips are pushed, and another model is trained on the clips from the Hub."""
    home = tmp_path_factory.mktemp("with")
    options = "--output trained --epochs 1 --num-frames 4 --frozen-features --feature-views 1 --batch-size 4"
    train = f"train --dataset user/clips --model {clip_folder} {options}"
    with serve() as hub:
        printed = hub.python_scripts(
            (PUSH_TO_HUB, model_folder, clip_file),
            (PUSH_CLIPS, json.dumps(clip_rows)),
            (TRAIN, train, "evaluate trained"),
            home=home,
        )
        yield Machine(hub, home, printed)


def folders_of_one_name(home: Path, model_folder: Path, changed: str) -> list[Path]:
    """Two folders of a model with one name, whose code differs in a file."""
    folders = [home / changed / run / "best" for run in "ab"]
    for folder in folders:
        shutil.copytree(model_folder, folder)
        with (folder / f"{changed}_tgdfer.py").open("a") as file:
            file.write(f"\nMARK = {folder.parent.name!r}\n")
    return folders


@torch.no_grad()
def test_loads_by_id_without_this_package(without_tgdfer, trained, clip_file):
    printed = without_tgdfer.printed[2]
    there = torch.load(without_tgdfer.home / "results.pt")

    model = TGDFERForVideoClassification.from_pretrained(trained / "best")
    processor = TGDFERProcessor.from_pretrained(trained / "best")
    inputs = processor(videos=[clip_file], return_tensors="pt")
    here = model(**inputs)
    assert there["labels"] == model.config.id2label == {0: "anger", 1: "happiness", 2: "neutral"}
    assert there["descriptions"] == processor.descriptions
    assert torch.equal(there["input_ids"], processor.class_prompts()["input_ids"])
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(there["logits"], here.logits, **close)
    torch.testing.assert_close(there["frame_relevance"], here.frame_relevance, **close)
    torch.testing.assert_close(there["features"], model.get_frame_features(inputs["pixel_values_videos"]), **close)
    probabilities = here.logits[0].softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    assert [answer["label"] for answer in there["pipeline"]] == [model.config.id2label[index] for index in order]
    scores = torch.tensor([answer["score"] for answer in there["pipeline"]])
    torch.testing.assert_close(scores, probabilities[order], rtol=1e-4, atol=1e-5)
    (timeline,) = there["timeline"]["people"]
    torch.testing.assert_close(
        torch.tensor(timeline["frame_relevance"]), here.frame_relevance[0, :, order[0]], rtol=1e-4, atol=1e-5
    )
    assert timeline["label"] == model.config.id2label[order[0]] and len(timeline["timestamps"]) == 4
    # What the examples of the card printed: the answer of the pipeline, then the label.
    assert printed.splitlines()[-1].startswith(model.config.id2label[order[0]])


def test_tgdfer_push_sends_all_of_a_run_in_one_commit(hub, real_run, tmp_path):
    printed = hub.python(TGDFER, "push", real_run, "user/smile", "--private", home=tmp_path)
    (commit,) = hub.model("user/smile").pushed
    assert f"Published: {hub.url}/user/smile/commit/{commit.oid}" in printed
    assert hub.model("user/smile").private

    saved = {path.name for path in (real_run / "best").iterdir() if path.is_file()}
    assert {"model.safetensors", "processor_config.json", "tokenizer.json", "modeling_tgdfer.py"} <= saved
    pictures = {f"figures/{path.name}" for path in (real_run / "figures").iterdir()}
    assert "figures/confusion_matrix.png" in pictures
    assert set(commit.files) == saved | pictures | {
        "README.md",
        "handler.py",
        "metrics.json",
        "requirements.txt",
        "tgdfer_push.json",
        "training_config.yaml",
    }
    weights = load(commit.files["model.safetensors"].data)
    assert not [name for name in weights if "lora" in name or "base_layer" in name]
    measured = json.loads((real_run / "metrics.json").read_text())
    assert json.loads(commit.files["metrics.json"].data)["confusion_matrix"] == measured["confusion_matrix"]
    assert f"| this model | {100 * measured['war']:.1f}% |" in commit.files["README.md"].data.decode()


def test_push_to_hub_merges_lora(with_tgdfer, model_folder):
    repo = with_tgdfer.hub.model("user/pushed")
    assert repo.private
    expected = {path.name for path in model_folder.iterdir()}
    assert expected <= set(repo.head.files)
    # Plain weights under plain names, as a model that never had LoRA.
    pushed = load(repo.head.files["model.safetensors"].data)
    assert set(pushed) == set(load_file(model_folder / "model.safetensors"))
    assert json.loads(repo.head.files["config.json"].data)["auto_map"]["AutoModelForVideoClassification"]
    for name in ("user/pushed", "user/saved"):
        assert {"preprocessor_config.json", "processor_config.json"} <= set(with_tgdfer.hub.model(name).head.files)
        data = with_tgdfer.hub.model(name).head.files["model.safetensors"].data
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert {"format_version", "tgdfer_version", "training_data"} <= set(header["__metadata__"])


def test_pushed_second_hand_it_is_as_whole_as_at_first(without_tgdfer):
    """By somebody who has it from the Hub, and not this package."""
    hub, printed = without_tgdfer.hub, without_tgdfer.printed[3]
    # The package alone has the handler of Inference Endpoints.
    code = {name for name in hub.model("user/smile").head.files if name.endswith(".py")} - {"handler.py"}
    for again in ("user/parts", "user/pipeline"):
        assert code == {name for name in hub.model(again).head.files if name.endswith(".py")}, again
    first, second = (line for line in printed.splitlines() if line.startswith("label:"))
    assert first == second


def test_a_pinned_revision_is_loaded_without_warnings_of_new_files(without_tgdfer):
    """transformers names each file of code at the first load; a user who pins a commit is not warned."""
    first, pinned = without_tgdfer.printed[:2]
    files = without_tgdfer.hub.model("user/smile").head.files
    code = {name for name in files if name.endswith(".py") and name != "handler.py"}
    assert first.count("A new version of the following files was downloaded") == len(code) <= 35
    assert "new version" not in pinned


def test_train_from_a_data_set_by_id(with_tgdfer):
    assert with_tgdfer.hub.dataset("user/clips").private
    run = with_tgdfer.home / "trained"
    model = TGDFERForVideoClassification.from_pretrained(run / "best")
    assert tuple(model.config.label2id) == ("anger", "happiness")
    card: ModelCard = build_card(run, "user/smile")
    assert card.data.datasets == ["user/clips"] and card.data.base_model is None
    commit = with_tgdfer.hub.dataset("user/clips").head.oid
    assert f"- Data: `user/clips` at revision `{commit}`, split `train`" in card.text
    assert {(each.dataset_type, each.dataset_split) for each in card.data.eval_results} == {("user/clips", "test")}


CHANGED = ("checkpoints", "configuration", "layers", "tracks", "video_reading")


@pytest.fixture(scope="module")
def said_of_others(model_folder, clip_file, tmp_path_factory) -> dict[str, str]:
    """What was printed of the folders in which one of these files differs."""
    home = tmp_path_factory.mktemp("folders")
    folders = [folders_of_one_name(home, model_folder, changed) for changed in CHANGED]
    scripts = [(TWO_FOLDERS, clip_file, *pair) for pair in folders]
    with serve() as hub:
        return dict(zip(CHANGED, hub.python_scripts(*scripts, home=home, tgdfer=False), strict=True))


@pytest.mark.parametrize("changed", ["modeling", *(pytest.param(name, marks=pytest.mark.slow) for name in CHANGED)])
def test_folders_of_one_name_run_their_own_code(request, changed):
    """transformers keeps the code of a folder by its last name, and the model by the class of its config."""
    if changed == "modeling":
        said = request.getfixturevalue("without_tgdfer").printed[4]
    else:
        said = request.getfixturevalue("said_of_others")[changed]
    lines = [line for line in said.splitlines() if " {" in line]
    marked = {"TGDFERForVideoClassification"}
    if changed == "configuration":
        marked.add("TGDFERConfig")
    elif changed in ("tracks", "video_reading"):
        marked = {"TGDFERProcessor", "TGDFERVideoProcessor", "EmotionTimelinePipeline"}
    assert len(lines) == 12
    for number, line in enumerate(lines):
        name, marks = line.split(maxsplit=1)
        assert marks == str({f"{changed}_tgdfer": "ab"[number // 6]} if name in marked else {}), line
