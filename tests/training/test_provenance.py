"""What a run records about its data, its libraries and its hardware."""

import json
from pathlib import Path

import pytest
from accelerate import Accelerator
from huggingface_hub import constants
from huggingface_hub.errors import StrictDataclassError

from tgdfer import TGDFERConfig, TGDFERForVideoClassification
from tgdfer.training.config import TrainingConfig
from tgdfer.training.provenance import dataset_entry, environment_facts, with_entry
from tgdfer.training.train import train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    return tmp_path / "clips"


def test_entry_of_a_folder(folder):
    assert dataset_entry(str(folder), "train", 3) == {
        "name": "clips",
        "kind": "clips",
        "num_clips": 3,
        "split": "train",
    }


def test_a_file_is_recorded_by_its_name(tmp_path):
    (tmp_path / "clips.parquet").touch()
    assert dataset_entry(str(tmp_path / "clips.parquet"), "train", 3) == {
        "name": "clips.parquet",
        "kind": "clips",
        "num_clips": 3,
        "split": "train",
    }


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n# Clips", "cc-by-nc-4.0"),
        ("---\nlicense: [mit, cc0-1.0]\n---\n", "mit and cc0-1.0"),
        ("---\nlicense: other\nlicense_name: dfew-terms\n---\n", "dfew-terms"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\npretty_name: Clips\n---\n", None),
        ("# Clips", None),
        ("---\nlicense: [\n---\n", None),
        ("", None),
    ],
)
def test_license_comes_from_the_card_of_the_data(folder, card, license):
    (folder / "README.md").write_text(card)
    assert dataset_entry(str(folder), "train", 3).get("license") == license


def test_entry_of_a_data_set_on_the_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    entry = dataset_entry("user/clips", "train", 3)
    assert entry["source"] == "https://huggingface.co/datasets/user/clips" and "license" not in entry


def test_entries_are_added_to_those_of_the_initial_model(folder):
    first, second = dataset_entry(str(folder), "train", 3), {"name": "others", "license": "mit"}
    unknown = {"name": "training data of user/model", "kind": "not recorded"}
    assert with_entry(None, "user/model", first) == [unknown, first]
    assert with_entry([second], "user/model", first) == [second, first]
    assert with_entry([first, second], "user/model", first) == [second, first]
    # The same data are named once, with their latest number of clips. Folders of the same name may have other data.
    for name in ({"name": "dfew"}, {"name": "user/clips", "source": "https://huggingface.co/datasets/user/clips"}):
        known = {**name, "kind": "clips", "split": "train", "num_clips": 3, "license": "cc-by-nc-4.0"}
        assert with_entry([known, second], "user/model", known | {"num_clips": 9}) == [
            second,
            known | {"num_clips": 9},
        ]
        assert with_entry([known], "user/model", known | {"license": "mit"}) == [known, known | {"license": "mit"}]
    for change in ({"num_clips": 9}, {"license": "mit"}, {"kind": "photographs"}):
        assert with_entry([first], "user/model", first | change) == [first, first | change]
    assert with_entry(None, str(folder))[0]["name"] == "training data of clips"


@pytest.mark.slow
def test_data_are_carried_from_the_clip_to_every_model(clip_folder, clips_folder, descriptions_file, tmp_path):
    """A CLIP, a model that is trained on it, one that is fine-tuned from that, and its adapter."""
    clip = tmp_path / "clip"
    clip.mkdir()
    for file in Path(clip_folder).iterdir():
        (clip / file.name).write_bytes(file.read_bytes())
    pictures = {"name": "pictures", "license": "none stated", "num_clips": 400_000_000}
    config = json.loads((clip / "config.json").read_text()) | {"training_data": [pictures]}
    (clip / "config.json").write_text(json.dumps(config))
    options = {"descriptions": descriptions_file, "epochs": 1, "num_frames": 4, "feature_views": 1}
    options |= {"dataset": clips_folder, "frozen_features": True}
    train(TrainingConfig.from_options(**options, model=clip, output=tmp_path / "first"))
    first = TGDFERForVideoClassification.from_pretrained(tmp_path / "first" / "best")
    assert first.config.training_data[0] == pictures and len(first.config.training_data) == 2
    assert first.config.training_data[1]["name"] == Path(clips_folder).name
    assert not hasattr(first.config.clip_config, "training_data")

    (tmp_path / "more").symlink_to(clips_folder)
    options |= {"dataset": tmp_path / "more", "frozen_features": False, "model_options": {"lora_layers": 1}}
    train(TrainingConfig.from_options(**options, model=tmp_path / "first", output=tmp_path / "second"))
    facts = json.loads((tmp_path / "second" / "training.json").read_text())
    assert facts["lora"]["layers"] == 1 and facts["versions"]["torch"] and facts["hardware"]["processes"] == 1
    assert facts["continued_from"]["lora"] == {}
    second = TGDFERForVideoClassification.from_pretrained(tmp_path / "second" / "best")
    assert second.config.training_data[0] == pictures

    model = TGDFERForVideoClassification.from_clip(str(clip))
    model.save_adapter(tmp_path / "adapter")
    adapted = TGDFERForVideoClassification.from_adapter(tmp_path / "adapter", clip)
    assert adapted.config.training_data == model.config.training_data == [pictures]


def test_clip_without_a_record(clip_folder):
    model = TGDFERForVideoClassification.from_clip(str(clip_folder))
    name = Path(clip_folder).name
    assert model.config.training_data == [{"name": f"training data of {name}", "kind": "not recorded"}]


@pytest.mark.parametrize(
    "entry", ["FER2013", {"license": "mit"}, {"name": 3}, {"name": "a", "license": ["mit"]}, None]
)
def test_records_that_are_not_valid_are_refused(entry):
    with pytest.raises(StrictDataclassError, match="`training_data` has"):
        TGDFERConfig(training_data=[entry])


def test_environment_of_a_model_without_lora(clip_folder):
    model = TGDFERForVideoClassification.from_clip(str(clip_folder))
    facts = environment_facts(Accelerator(cpu=True), model)
    assert facts["lora"] == {} and facts["hardware"]["device"].startswith("CPU (")
    assert {"python", "tgdfer", "torch", "transformers"} <= set(facts["versions"])
