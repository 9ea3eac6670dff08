"""The demo at its smallest size, interrupted and resumed."""

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest

from tgdfer import demo as demo_module
from tgdfer.demo import SHOWN, Demo
from tgdfer.training import features
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import RenderedFaces, write_dataset

pytestmark = pytest.mark.slow

# Clips that take little to draw: a third of the frames, and a ninth of the pixels that are drawn for each.
FACES = RenderedFaces(frames=(16, 18), supersampling=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished demo of the least size; attempts were interrupted between its trainings, and in its last moves."""
    demo = Demo(tmp_path_factory.mktemp("runs") / "demo", clips=2, epochs=1, lora_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "write_dataset", partial(write_dataset, faces=FACES))
        patch.setattr(Demo, "_train_lora", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            demo.run()
    for moves in (0, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo_module, "write_dataset", lambda *_, **__: pytest.fail("rendered again"))
            interrupt_after(moves, demo.output, patch)
            with pytest.raises(KeyboardInterrupt):
                demo.run()
            assert not (demo.output / "lora").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "train", lambda config: pytest.fail(f"trained again: {config.run.output}"))
        patch.setattr(features, "ClipDataset", only_of(features.ClipDataset, "test"))
        demo.run()
    return demo


def interrupt_after(moves: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Stops when the given number of things has been moved into a folder from the run that is done."""
    replace, moved = os.replace, []

    def replace_or_stop(source, target) -> None:
        if Path(target).parent == folder and Path(source).parent.name == "lora_done":
            if len(moved) == moves:
                raise KeyboardInterrupt
            moved.append(target)
        replace(source, target)

    patch.setattr(demo_module.os, "replace", replace_or_stop)


def only_of(clips: type, split: str) -> type:
    """Clips that may be looked at in one split alone: the features of the others must be in the cache."""

    class Checked(clips):
        def __init__(self, labelled, *args, **kwargs) -> None:
            assert all(file.startswith(split) for file in labelled.files)
            super().__init__(labelled, *args, **kwargs)

    return Checked


def test_it_leaves_what_it_promises(small: Demo) -> None:
    out = small.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_clips"] == 1 * 7 and 0 <= metrics["uar"] <= 1 and metrics["frame_ap"] is not None
    assert set(metrics["baseline"]) >= {"name", "war", "uar", "frame_ap", "pointing"}
    assert metrics["training"]["base_model"] == "clip-tiny-faces"
    assert metrics["training"]["continued_from"]["epochs"] == 1
    card = (out / "best" / "README.md").read_text()
    assert f"{100 * metrics['uar']:.1f}" in card
    for name in ("predictions.csv", "timelines.csv", "timelines.json", "figures/confusion_matrix.png"):
        assert (out / name).stat().st_size > 0
    assert len(list((out / "figures").glob("timeline-*.png"))) == len(SHOWN)
    assert not list(out.glob("lora*")) and not list(out.rglob("*.tmp"))


def test_once_done_it_is_not_done_again(
    small: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_module, "train", lambda _: pytest.fail("trained again"))
    before = (small.output / "best" / "model.safetensors").stat().st_mtime_ns
    small.run()
    assert (small.output / "best" / "model.safetensors").stat().st_mtime_ns == before
    assert re.search(r"The demo took \d+\.\d minutes and \d+\.\d GB of memory", capsys.readouterr().out)


def test_other_settings_are_refused(small: Demo) -> None:
    with pytest.raises(UserError, match="a demo with other settings"):
        Demo(small.output, clips=5).run()


def test_one_clip_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="clips is 1, but must be at least 2"):
        Demo(tmp_path / "demo", clips=1).run()
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="was not created by the demo"):
        Demo(tmp_path).run()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
