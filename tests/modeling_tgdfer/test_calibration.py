"""The fields of a config that hold the calibration of a model."""

import json
import math

import pytest
from huggingface_hub.errors import StrictDataclassError

from tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer import configuration_tgdfer
from tgdfer.processing import explanation_tgdfer

from .conftest import Maker, make_prompts

REFERENCES = {"fear": {"eyes wide": [0.21, 0.03]}}
CALIBRATED = {"temperature": 0.7, "unsure_below": 0.55, "description_references": REFERENCES}


def test_calibration_survives_saving(tmp_path):
    TGDFERConfig(**CALIBRATED).save_pretrained(tmp_path)
    config = TGDFERConfig.from_pretrained(tmp_path)
    assert {name: getattr(config, name) for name in CALIBRATED} == CALIBRATED and config.is_calibrated


def test_configs_without_calibration_load_and_stay_as_they_are(tmp_path):
    TGDFERConfig().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    for name in CALIBRATED:
        saved.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(saved))
    config = TGDFERConfig.from_pretrained(tmp_path)
    assert (config.temperature, config.unsure_below, config.description_references) == (1.0, None, None)
    assert not config.is_calibrated


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"temperature": 0}, "`temperature` is 0; it must be above 0"),
        ({"temperature": -1.5}, "`temperature` is -1.5; it must be above 0"),
        ({"temperature": float("nan")}, "`temperature` is nan; it must be above 0 and finite"),
        ({"temperature": float("inf")}, "`temperature` is inf; it must be above 0 and finite"),
        ({"unsure_below": 1.2}, "`unsure_below` is 1.2; it must be a probability or None"),
        ({"unsure_below": math.nan}, "`unsure_below` is nan"),
        ({"unsure_below": 0.5, "id2label": {0: "unsure", 1: "fear"}}, "A class is called 'unsure'.*rename the class"),
        ({"description_references": {"fear": {"eyes wide": [0.2]}}}, r"\[0.2\] for 'eyes wide' of 'fear'"),
        ({"description_references": {"fear": {"eyes wide": [0.2, 0.0]}}}, "standard deviation above 0"),
        ({"description_references": {"fear": {"eyes wide": [math.nan, 0.1]}}}, "'eyes wide'"),
        ({"description_references": {"fear": {"eyes wide": ["a", "b"]}}}, "'eyes wide'"),
        ({"description_references": {"fear": [0.2, 0.1]}}, "of 'fear'"),
    ],
)
def test_values_that_no_calibration_has_are_named(fields, sentence):
    with pytest.raises(StrictDataclassError, match=sentence):
        TGDFERConfig(**fields)


def test_new_classes_are_not_calibrated(from_clip: Maker):
    model = from_clip()
    for name, value in CALIBRATED.items():
        setattr(model.config, name, value)
    model.set_classes(make_prompts(["awe", "doubt"]))
    assert not model.config.is_calibrated and model.config.description_references is None


def test_both_folders_have_the_same_word():
    assert configuration_tgdfer.UNSURE == explanation_tgdfer.UNSURE
