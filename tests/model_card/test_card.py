"""The model card: its text, its metadata and its tables."""

import hashlib
import json
import os
import re
import shlex
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from safetensors.numpy import save_file

from tgdfer.command_line import main
from tgdfer.model_card.card import CardData, build_card, model_folder, write_card
from tgdfer.model_card.publish import publish
from tgdfer.training.errors import UserError
from tgdfer.weights import BUNDLED

EXPECTED = Path(__file__).with_name("expected_card.md")
# Names that the Hub's own check of the metadata knows; it answers nothing else with a warning or an error.
KNOWN_KEYS = {"library_name", "pipeline_tag", "tags", "datasets", "base_model", "metrics", "model-index"}


def edit_metrics(run: Path, **changes: object) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | changes))


def edit_config(run: Path, **changes: object) -> None:
    path = run / "best" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def expected(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("VERSION", version("tgdfer"))


def test_whole_card(run):
    assert str(build_card(run, "user/smile")) == expected(EXPECTED)


TRAINING_DATA = [
    {
        "name": "faces & figures",
        "kind": "photographs",
        "num_clips": 28000,
        "license": "cc-by-nc-4.0",
        "source": "https://faces.example/home",
        "terms": "Only for research.",
        "citation": "Barsoum et al., 2016",
    },
    {"name": "training data of openai/clip-vit-base-patch16", "kind": "not recorded"},
    {
        "name": "user/clips",
        "kind": "clips",
        "num_clips": 600,
        "split": "train",
        "source": "https://huggingface.co/datasets/user/clips",
        "license": "apache-2.0",
    },
]


@pytest.fixture
def full_run(run) -> Path:
    """A run of which everything is known that a card can show."""
    edit_config(
        run,
        clip_name="openai/clip-vit-base-patch16",
        clip_revision="57c216476eefef5ab752ec549e440a49ae4ae5f3",
        training_data=TRAINING_DATA,
        temperature=0.71,
        unsure_below=0.5234,
    )
    training = json.loads((run / "metrics.json").read_text())["training"] | {
        "lora": {"layers": 4, "text_layers": 2, "rank": 8, "alpha": 16, "dropout": 0.0},
        "versions": {"python": "3.13.1", "torch": "2.9.1", "peft": "0.20.0"},
        "hardware": {"device": "NVIDIA H100 80GB HBM3", "processes": 2, "mixed_precision": "bf16"},
        "energy_kwh": 0.0126,
        "calibration": {"num_clips": 120, "temperature": 0.71},
        "limits": ["It was shown no hats."],
        "command": "tgdfer train --config smile.yaml",
    }
    groups = {
        "age": {
            "child": {"num_clips": 12, "war": 0.5, "uar": 0.45, "recall": {}},
            "adult": {"num_clips": 18, "war": 0.6667, "uar": 0.7, "recall": {}},
        }
    }
    edit_metrics(run, training=training, groups=groups, ece=0.1412, coverage=0.6, covered_war=0.75)
    (run / "examples").mkdir()
    for name in ("anger", "a_smile"):
        (run / "examples" / f"{name}.mp4").write_bytes(b"")
    return run


def test_whole_card_of_a_run_of_which_everything_is_known(full_run):
    card = build_card(full_run, "user/smile", license="cc-by-nc-4.0", tags=["children", "tgdfer"])
    assert str(card) == expected(EXPECTED.with_name("expected_full_card.md"))


def test_metadata_is_what_the_hub_accepts(run):
    path = write_card(run)
    block = metadata_load(path)
    assert set(block) == KNOWN_KEYS
    assert block["pipeline_tag"] == "video-classification"
    assert block["library_name"] == "transformers"
    assert block["datasets"] == ["user/clips"]
    assert block["base_model"] == "openai/clip-vit-base-patch16"
    assert all(isinstance(tag, str) and tag for tag in block["tags"])
    (index,) = block["model-index"]
    (result,) = index["results"]
    assert result["task"]["type"] == "video-classification"
    assert {"type", "name", "split"} <= set(result["dataset"])
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values == {"WAR": 0.6123, "UAR": 0.6, "frame AP": 0.83}
    # The reader of huggingface_hub drops a `model-index` that it cannot parse.
    parsed = ModelCard.load(path).data
    assert [(r.metric_name, r.metric_value) for r in parsed.eval_results] == list(values.items())


def test_what_a_tower_of_timm_needs_is_installed(run):
    assert "`pip install transformers torchvision av`" in str(CardData.from_run(run).card())
    path = run / "best" / "config.json"
    tower = {"vision_config": {"model_type": "timm_wrapper"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clip_config": tower}))
    assert "`pip install transformers torchvision av timm`" in str(CardData.from_run(run).card())


def test_only_measured_figures(run):
    edit_metrics(
        run,
        frame_ap=None,
        pointing=None,
        random_frame_ap=None,
        random_pointing=None,
        baseline=None,
        num_people=None,
        training=None,
    )
    card = build_card(run, "user/smile")
    for absent in ("frame AP", "Frame AP", "ointing", "baseline", " of 5 people", "Initial model", "None", "nan"):
        assert absent not in card.text, absent
    assert "| this model | 61.2% | 60.0% |" in card.text
    assert "30 clips: split `test` of `rendered-faces`" in card.text
    assert [result.metric_name for result in card.data.eval_results] == ["WAR", "UAR"]
    assert not {"datasets", "base_model"} & set(card.data.to_dict())


def test_activity_gain_is_a_plain_number(run):
    baseline = json.loads((run / "metrics.json").read_text())["baseline"]
    edit_metrics(run, activity_gain=1.2345, baseline=baseline | {"activity_gain": 1.1})
    card = build_card(run, "user/smile")
    assert "| this model | 61.2% | 60.0% | 83.0% | 80.0% | 1.23 |" in card.text
    assert "linear layer | 50.0% | 48.0% | 60.0% |  | 1.10 |" in card.text
    assert "Activity gain is" in card.text and "Activity gain is" not in EXPECTED.read_text(encoding="utf-8")
    assert [result.metric_name for result in card.data.eval_results] == ["WAR", "UAR", "frame AP"]
    edit_metrics(run, activity_gain=None)
    assert "ctivity gain" not in build_card(run, "user/smile").text


def test_calibration_is_shown_where_there_is_one(run):
    assert "Calibration" not in EXPECTED.read_text(encoding="utf-8")
    config = json.loads((run / "best" / "config.json").read_text())
    (run / "best" / "config.json").write_text(json.dumps(config | {"temperature": 0.71, "unsure_below": 0.5234}))
    edit_metrics(run, ece=0.0412, coverage=0.8, covered_war=0.75, risk_coverage_area=0.2)
    metrics = json.loads((run / "metrics.json").read_text())
    edit_metrics(run, training=metrics["training"] | {"calibration": {"num_clips": 120, "temperature": 0.71}})
    (run / "figures" / "risk_coverage.png").write_bytes(b"\x89PNG")
    text = build_card(run, "user/smile").text
    told = text.partition("## Calibration\n")[2].partition("\nConfusion matrix")[0]
    for line in (
        "Calibrated on: 120 validation clips",
        "Temperature: 0.71",
        'Probability below which the label is "unsure": 52.3%',
        'Clips with a label other than "unsure": 80.0%',
        "WAR of these clips: 75.0%",
        "Expected calibration error (15 bins): 4.1%",
    ):
        assert f"- {line}\n" in told, line
    assert "![Share of wrong labels (risk)" in text and "Calibration:" not in text
    uncalibrated = config | {"temperature": 1.0, "unsure_below": None}
    # Not evaluated: what was chosen is known, and nothing else is claimed.
    (run / "metrics.json").unlink()
    text = build_card(run, "user/smile").text
    assert "- Temperature: 0.71" in text and "WAR of these clips" not in text and "None" not in text
    (run / "best" / "config.json").write_text(json.dumps(uncalibrated))
    assert "Calibration" not in build_card(run, "user/smile").text


SECOND = {
    "dataset": "/home/someone/FER clips",
    "split": "validation",
    "num_clips": 8,
    "labels": ["anger", "happiness", "neutral"],
    "war": 0.75,
    "uar": 0.7,
    "recall": {"anger": 0.4, "happiness": 1.0, "neutral": None},
    "confusion_matrix": [[2, 3, 0], [0, 3, 0], [0, 0, 0]],
    "ece": 0.051,
    "coverage": 0.9,
}


def test_several_measured_data_sets_have_their_own_tables(run):
    config = json.loads((run / "best" / "config.json").read_text())
    (run / "best" / "config.json").write_text(json.dumps(config | {"temperature": 0.71, "unsure_below": 0.5}))
    edit_metrics(run, ece=0.0412, also_measured=[SECOND])
    card = build_card(run, "user/smile")
    results = card.text.partition("## Results\n")[2].partition("\n## ")[0]
    first, second = results.split("### Measured on ")[1:]
    assert first.startswith("30 clips of 5 people: split `test` of `rendered-faces`\n\n| | WAR | UAR | frame AP |")
    assert "| this model | 61.2% | 60.0% | 83.0% | 80.0% |" in first and "| neutral | 10 | 40.0% |" in first
    assert second.startswith("8 clips: split `validation` of `FER clips`\n\n| | WAR | UAR |\n")
    assert "| this model | 75.0% | 70.0% |" in second and "| anger | 5 | 40.0% |" in second
    assert "baseline" not in second and "| neutral" not in second and "\n\n\n" not in results
    assert results.count("WAR is the share") == results.count("Frame AP measures") == 1
    sure = card.text.partition("## Calibration\n")[2].partition("\nConfusion matrix")[0]
    of_model, of_first, of_second = re.split(r"\nOn split .*:\n", sure)
    assert "- Temperature: 0.71" in of_model and "calibration error" not in of_model
    assert "- Expected calibration error (15 bins): 4.1%" in of_first
    assert (
        "- Expected calibration error (15 bins): 5.1%" in of_second
        and '- Clips with a label other than "unsure": 90' in of_second
    )
    one, two = ModelCard(str(card)).data.to_dict()["model-index"][0]["results"]
    assert (one["dataset"]["type"], two["dataset"]["type"]) == ("rendered-faces", "fer-clips")
    assert [metric["value"] for metric in two["metrics"]] == [0.75, 0.7]
    assert card.data.metrics == ["accuracy", "recall", "average_precision"] and "someone" not in str(card)


def test_sources_of_the_data_are_told_with_their_terms(run):
    sources = [
        {"name": "FER2013 / FER+", "num_clips": 28000, "terms": "no licence is stated.", "citation": "Barsoum, 2016"},
        {"name": "rendered faces", "num_clips": 600},
    ]
    training = {"base_model": "clip-tiny-faces", "license": "cc-by-nc-4.0", "sources": sources, "num_clips": 28600}
    training |= {"limits": ["It calls fear surprise, or sadness."], "command": "python -m recipes.x /home/someone/y"}
    edit_metrics(run, training=training)
    card = build_card(run, "user/smile")
    told = card.text.partition("## Training\n")[2].partition("\n## ")[0]
    assert "- Data: FER2013 / FER+, 28,000 clips; rendered faces, 600 clips\n" in told
    assert "\n- FER2013 / FER+: no licence is stated. Barsoum, 2016.\n" in told and "- rendered faces:" not in told
    assert "- Command: `python -m recipes.x y`" in told
    limits = card.text.partition("## Limits and responsible use\n")[2].partition("\n## ")[0]
    assert "\n- It calls fear surprise, or sadness.\n" in limits and "Videos of faces are personal data" in limits
    assert card.data.license == "cc-by-nc-4.0"
    assert "the weights are under the licence `cc-by-nc-4.0`" in card.text and "Their licence is not" not in card.text
    # A training that goes on from it has its own terms to state, and other limits.
    edit_metrics(run, training={"dataset": "user/clips", "continued_from": training})
    text = build_card(run, "user/smile").text
    assert "FER2013 / FER+, 28,000 clips" in text and "Barsoum, 2016" in text
    assert "Their licence is not" in text and "It calls fear surprise" not in text


def test_card_of_the_model_in_the_package(run):
    text = build_card(run, "tgdfer-tiny").text
    assert "# tgdfer-tiny\n" in text and "tgdfer predict clip.mp4 --plot timeline.png" in text
    assert "model=str(tgdfer.tgdfer_tiny())" in text and "AutoProcessor.from_pretrained(tgdfer.tgdfer_tiny())" in text
    assert "trust_remote_code" not in text and "](figures/confusion_matrix.png)" in text
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "card", "exec")


def test_card_says_who_finds_the_face(run):
    assert "clips that are cropped to one face" in build_card(run, "user/smile").text
    path = run / "best" / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"video_processor": {"face_crop": "largest"}}))
    text = build_card(run, "user/smile").text
    assert "finds and tracks the face" in text and "clips that are cropped to one face" not in text
    assert "`pip install transformers torchvision av opencv-python-headless`" in text


def test_nothing_measured(run):
    (run / "metrics.json").unlink()
    (run / "config.yaml").unlink()
    card = build_card(run, "user/smile")
    assert not {"model-index", "metrics", "datasets", "base_model"} & set(card.data.to_dict())
    for absent in ("## Results", "%", "WAR", "To reproduce", "## Training"):
        assert absent not in card.text
    assert "expressions: anger, happiness, neutral" in card.text


def test_facts_of_a_training_that_was_not_evaluated(run):
    training = json.loads((run / "metrics.json").read_text())["training"]
    (run / "metrics.json").unlink()
    (run / "training.json").write_text(json.dumps(training))
    card = build_card(run, "user/smile")
    assert "- Best epoch: 17" in card.text
    assert card.data.datasets == ["user/clips"] and "## Results" not in card.text


def test_all_stages_of_a_training_are_told(run):
    first = {"dataset": "user/faces", "epochs": 30, "seconds": 60, "base_model": "clip-tiny-faces"}
    last = {"dataset": "user/clips", "epochs": 2, "seconds": 90, "base_model": "clip-tiny-faces"}
    edit_metrics(run, training=last | {"continued_from": first})
    card = build_card(run, "user/smile")
    told = card.text.partition("## Training\n")[2].partition("\n## ")[0]
    assert "in 2 stages" in told
    one, two = told.split("### Stage ")[1:]
    assert "- Initial model: `clip-tiny-faces`\n- Data: `user/faces`" in one and "- Epochs: 30\n" in one
    assert "- Initial model: the model of the previous stage\n- Data: `user/clips`" in two and "- Epochs: 2\n" in two
    assert "Options" in two and "Options" not in one
    assert card.data.datasets == ["user/faces", "user/clips"]
    assert "stage" not in EXPECTED.read_text(encoding="utf-8").lower()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "clip-tiny-faces"}, True),
        ({"model": "user/earlier"}, True),
        ({"model": "/home/someone/runs/first/best"}, False),
        ({"model": "runs/first/best"}, False),
        ({"model": "clip-tiny-faces", "descriptions": "words.yaml"}, False),
    ],
)
def test_how_to_reproduce_is_told_to_who_has_what_it_needs(run, options, told):
    (run / "config.yaml").write_text(yaml.safe_dump({"dataset": "user/clips", **options}))
    text = build_card(run, "user/smile").text
    commands = ("tgdfer train --config training_config.yaml", "tgdfer evaluate smile")
    assert all(("To reproduce the model" in text) == (command in text) == told for command in commands)


RENDERED = {"name": "rendered faces", "license": "apache-2.0"}
PHOTOGRAPHS = {"name": "photographs", "license": "none stated"}
UNKNOWN = {"name": "training data of openai/clip-vit-base-patch16"}


@pytest.mark.parametrize(
    ("data", "license"),
    [
        ([RENDERED], "apache-2.0"),
        ([RENDERED, RENDERED | {"license": "Apache-2.0"}], "apache-2.0"),
        ([RENDERED, PHOTOGRAPHS], None),
        ([RENDERED, UNKNOWN], None),
        ([RENDERED, {"name": "clips", "license": "cc-by-4.0"}], None),
        ([], None),
        (None, None),
    ],
)
def test_license_is_stated_only_where_the_data_allow_it(run, data, license):
    edit_config(run, training_data=data)
    card = build_card(run, "user/smile")
    assert card.data.to_dict().get("license") == license
    assert ("The weights inherit the terms" in card.text) == (license is None)
    assert ("should choose a licence" in card.text) == (license is None)
    assert "show no real people" not in card.text and "rendered and" not in card.text
    licence = card.text.partition("## Licence\n")[2].partition("\n## ")[0]
    for entry in data or []:
        assert entry["name"].replace("_", r"\_") in licence
    assert ("were not recorded" in licence) == (not data) and ("Not recorded" in licence) == (UNKNOWN in (data or []))


def test_license_of_the_publisher_comes_first(run):
    edit_config(run, training_data=[RENDERED])
    edit_metrics(run, training={"license": "mit"})
    assert build_card(run, "user/smile").data.license == "mit"
    card = build_card(run, "user/smile", license="cc-by-nc-4.0")
    assert card.data.license == "cc-by-nc-4.0" and "under the licence `cc-by-nc-4.0`" in card.text


def test_licenses_that_restrict_use_are_named(run):
    edit_config(run, training_data=[{"name": "clips", "license": "cc-by-nc-sa-4.0"}, RENDERED])
    text = build_card(run, "user/smile").text
    assert "- `cc-by-nc-sa-4.0`: clips. This licence restricts commercial use.\n" in text
    assert "- `apache-2.0`: rendered faces.\n" in text


def test_data_sets_and_licences_are_named_as_the_hub_names_them(run):
    page = "https://huggingface.co/datasets/user/faces"
    data = [{"name": f"part {number}", "source": page + end} for number, end in enumerate(("", "/", "/tree/main?x"))]
    edit_config(run, training_data=[*data, {"name": "more", "license": ["mit", "cc-by-nc-4.0"]}])
    card = build_card(run, "user/smile")
    assert card.data.datasets == ["user/clips", "user/faces"]
    assert "- mit, cc-by-nc-4.0: more. This licence restricts commercial use.\n" in card.text


def test_data_of_the_models_in_the_package():
    """What was trained on photographs is told of the model, and of every model that is fine-tuned from it."""
    clip, tiny = (
        json.loads((BUNDLED[name] / "config.json").read_text()) for name in ("clip-tiny-faces", "tgdfer-tiny")
    )
    assert {entry["kind"] for entry in clip["training_data"]} == {"photographs", "rendered pictures"}
    assert tiny["training_data"][: len(clip["training_data"])] == clip["training_data"]
    card = build_card(BUNDLED["tgdfer-tiny"], "user/tiny")
    data = card.text.partition("## Data\n")[2].partition("\n## ")[0]
    for entry in tiny["training_data"]:
        assert entry["name"] in data and entry["license"] in data
    assert "Their rights belong to their owners" in data
    assert (BUNDLED["tgdfer-tiny"] / "README.md").read_text() == str(build_card(BUNDLED["tgdfer-tiny"], "tgdfer-tiny"))


def test_figures_and_weights_are_of_one_model(run):
    shutil.copytree(run / "best", run / "last")
    edit_metrics(run, model="last")
    assert model_folder(run) == run / "last"
    (run / "metrics.json").unlink()
    assert model_folder(run) == run / "best"


def test_figures_of_other_weights_are_refused(run):
    weights = run / "best" / "model.safetensors"
    edit_metrics(run, weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    write_card(run).unlink()
    save_file({"weight": np.ones(4000, dtype=np.float32)}, weights)  # as if the training had gone on
    (run / "best" / "README.md").write_text("By hand.")
    for use in (write_card, lambda run: publish(run, "user/smile", dry_run=True)):
        with pytest.raises(
            UserError, match=rf"measured with other weights .*; evaluate again with `tgdfer evaluate {run}`\.$"
        ):
            use(run)
    assert (run / "best" / "README.md").read_text() == "By hand."
    edit_metrics(run, weights_sha256=None)
    write_card(run)


def test_plain_model_with_figures_of_other_weights_is_refused(run):
    folder = shutil.copytree(run / "best", run.parent / "plain")
    (folder / "README.md").write_text("By hand.")
    (folder / "metrics.json").write_text(json.dumps({"war": 0.9, "weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match="evaluate again"):
        publish(folder, "user/smile", dry_run=True)


def test_local_names_are_no_hub_ids(run, monkeypatch):
    training = {"dataset": "data/clips", "base_model": "/home/someone/clip"}
    edit_metrics(run, training=training, dataset="/home/someone/faces")
    monkeypatch.chdir(run)
    (run / "data/clips").mkdir(parents=True)
    card = build_card(run, "user/smile")
    assert not {"datasets", "base_model"} & set(card.data.to_dict())
    assert card.data.eval_results[0].dataset_type == "faces"
    assert "someone" not in str(card)


def test_paths_are_cut_to_their_last_names(run):
    """Whatever files hold, seen from a place where a relative path exists no more."""
    training = {"dataset": "clips", "base_model": "/home/someone/clip", "validation": "by person"}
    labels = ["anger/rage", "happiness", "neutral"]
    command = "tgdfer evaluate someone/smile --dataset 'home/of someone/faces' --output /tmp/someone/x --split test"
    edit_metrics(run, training=training, labels=labels, dataset="faces", model="C:\\someone\\smile", command=command)
    config = {"dataset": "someone/clips", "descriptions": "../someone/words.yaml", "model": "~/someone/clip"}
    config |= {"model_options": {"x": "/home/someone/y"}, "output": "someone", "resume": True, "workers": 3}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    card = CardData.from_run(run, "user/laugh")
    assert card.config == {
        "dataset": "clips",
        "descriptions": "words.yaml",
        "model": "clip",
        "model_options": {"x": "y"},
    }
    assert "someone" not in str(card.card()) + json.dumps(card.metrics)
    assert card.metrics["command"] == "tgdfer evaluate laugh --dataset faces --split test"
    assert card.metrics["training"] == {**training, "base_model": "clip"}
    assert card.metrics["labels"] == labels


def test_card_beside_the_model(run, monkeypatch):
    monkeypatch.chdir(run.parents[1])
    path = write_card(run)
    assert path == run / "best" / "README.md"
    text = path.read_text(encoding="utf-8")
    assert 'model="runs/smile/best"' in text and "# smile\n" in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 2
    assert all((path.parent / picture).is_file() for picture in pictures)


def test_card_names_no_folder_of_this_machine(run):
    assert os.sep + "runs" not in str(build_card(run))


def test_write_is_whole_or_not_at_all(run):
    path = write_card(run)
    before, names = path.read_bytes(), {file.name for file in path.parent.iterdir()}
    (run / "metrics.json").write_text('{"war": 0.')
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        write_card(run)
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == names


def test_what_pictures_show_is_said_once(run):
    for name in ("timeline-0000", "timeline-0000-2", "loss curve"):
        (run / "figures" / f"{name}.png").write_bytes(b"\x89PNG")
    text = build_card(run, "user/smile").text
    for start in ("Confusion matrix of true classes (rows)", "Probabilities of the classes over time", "Loss curve"):
        assert len(re.findall(f"^{re.escape(start)}.*:$", text, re.MULTILINE)) == 1
    assert re.findall(r"timeline-0000[-\d]*", text) == ["timeline-0000", "timeline-0000-2"]
    assert "(figures/loss%20curve.png)" in text


def test_pictures_of_several_data_sets_are_told_apart(run):
    for name in ("confusion_matrix_real_clips", "risk_coverage-photographs"):
        (run / "figures" / f"{name}.png").write_bytes(b"\x89PNG")
    text = build_card(run, "user/smile").text
    assert "predicted classes (columns):\n" in text and "predicted classes (columns): real clips:\n" in text
    assert "(coverage) get a label: photographs:\n" in text


def test_folder_of_the_data_is_named_where_they_are_not_on_the_hub(run):
    assert "repository:\n" in build_card(run, "user/smile").text
    (run / "config.yaml").write_text(yaml.safe_dump({"dataset": "faces", "model": "clip-tiny-faces"}))
    edit_metrics(run, training={"dataset": "faces"})
    assert "repository and the data in the folder `faces`:\n" in build_card(run, "user/smile").text


def test_labels_cannot_break_the_tables(run):
    metrics = json.loads((run / "metrics.json").read_text())
    labels = ["anger|rage", *metrics["labels"][1:]]
    edit_metrics(run, labels=labels, recall={**metrics["recall"], "anger|rage": 0.5})
    assert r"| anger\|rage | 10 | 50.0% |" in build_card(run, "user/smile").text


def test_run_without_a_model(tmp_path):
    with pytest.raises(UserError, match=r"contains no model .* train one with `tgdfer train`"):
        build_card(tmp_path)


def test_examples_in_the_template_are_valid_python(run):
    blocks = re.findall(r"```python\n(.*?)```", build_card(run, "user/smile").text, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        compile(block, "card", "exec")


@pytest.mark.slow
def test_examples_run(model_folder, clip_file, tmp_path, monkeypatch, capsys):
    """All blocks of Python and all commands of the card of a model in a folder, with a video of the given name."""
    shutil.copytree(model_folder, tmp_path / "smile")
    shutil.copy(clip_file, tmp_path / "clip.mp4")
    for split in ("train", "test"):
        for label in ("anger", "happiness", "neutral"):
            (tmp_path / "clips" / split / label).mkdir(parents=True)
            shutil.copy(clip_file, tmp_path / "clips" / split / label / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "features"))
    text = build_card("smile").text
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        exec(compile(block, "card", "exec"), {})
    printed = capsys.readouterr().out
    assert len(blocks) == 4 and "'score'" in printed and "tensor(" in printed
    fast = ["--epochs=1", "--num-frames=4", "--frozen-features", "--feature-views=1", "--validation-fraction=0"]
    commands = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "tgdfer" and main([*arguments, *(fast if "train" in arguments else [])]) == 0
    assert len(commands) == 3 and (tmp_path / "timeline.png").is_file()
    assert (tmp_path / "runs" / "mine" / "metrics.json").is_file()
    learnt = json.loads((tmp_path / "runs" / "mine" / "best" / "config.json").read_text())["training_data"]
    assert [entry["name"] for entry in learnt] == ["training data of clip", "clips"]


def test_metadata_is_plain_yaml(run):
    head = str(build_card(run, "user/smile")).split("---\n")[1]
    assert yaml.safe_load(head)["model-index"][0]["name"] == "smile"
