"""Settings of a video processor that come with a checkpoint of anybody."""

import json

import pytest

from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.saved_settings_tgdfer import CALLER_SETTINGS
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("size", {"shortest_edge": 100_000}, "a size with sides from 1 to 4096"),
        ("size", {}, "a size"),
        ("crop_size", {"height": -5, "width": 4}, "a size"),
        ("image_std", [0, 0, 0], "one or three finite numbers above 0"),
        ("image_std", [float("nan")] * 3, "one or three finite numbers above 0"),
        ("image_mean", ["a", "b", "c"], "one or three finite numbers"),
        ("image_mean", [0.5] * 100_000, "one or three finite numbers"),
        ("num_frames", -3, "a whole number from 1 to 10000"),
        ("num_frames", 10**9, "a whole number from 1 to 10000"),
        ("num_frames", 2.5, "a whole number"),
        ("fps", 0, "a number above 0"),
        ("rescale_factor", 0, "a number above 0"),
        ("resample", 77, "one of 0, 1"),
        ("sampling", "all", "one of segments"),
        ("face_crop", "everybody", "one of none"),
        ("face_size", 10**6, "a whole number"),
        ("face_margin", "wide", "a number above -0.5"),
        ("do_resize", "yes", "true or false"),
    ],
)
def test_values_that_no_processor_has_are_refused_in_one_sentence(name, value, wanted, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(
        ValueError, match=rf"^The saved processor settings contain {name} [^\n]*must be {wanted}"
    ) as error:
        TGDFERVideoProcessor.from_pretrained(tmp_path)
    assert len(str(error.value)) < 300


def test_what_is_up_to_the_caller_is_not_taken_from_a_checkpoint(tmp_path):
    hostile = {"url_timeout": 1e9, "url_max_bytes": 2**60, "url_allow_private": True, "video_backend": "nonsense"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**hostile, "face_model": "/etc/passwd"}))
    loaded, plain = TGDFERVideoProcessor.from_pretrained(tmp_path), TGDFERVideoProcessor()
    assert all(getattr(loaded, name) == getattr(plain, name) for name in CALLER_SETTINGS)
    given = TGDFERVideoProcessor.from_pretrained(tmp_path, url_timeout=3.0, url_allow_private=True)
    assert (given.url_timeout, given.url_allow_private) == (3.0, True)
    assert not set(CALLER_SETTINGS) & set(given.to_dict())


def test_every_setting_survives_a_round_trip(tmp_path):
    processor = TGDFERVideoProcessor(num_frames=5, face_crop="all", fps=2.5, size={"height": 32, "width": 48})
    processor.save_pretrained(tmp_path)
    assert TGDFERVideoProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()


def test_the_processor_of_a_clip_is_checked_as_well(clip_folder, tmp_path):
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"image_std": [0, 1, 1]}))
    with pytest.raises(ValueError, match="image_std"):
        TGDFERProcessor.from_clip(str(tmp_path), None)
