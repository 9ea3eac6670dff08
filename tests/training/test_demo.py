import json
from pathlib import Path

import pytest

from tgdfer.training import demo as demo_module
from tgdfer.training.demo import SHOWN, Demo
from tgdfer.training.errors import UserError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished demo, of which the first attempt was interrupted between its two trainings."""
    demo = Demo(tmp_path_factory.mktemp("runs") / "demo", clips=4, epochs=1, lora_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Demo, "_train_lora", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            demo.run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "write_dataset", lambda *_, **__: pytest.fail("rendered again"))
        demo.run()
    return demo


def test_it_leaves_what_it_promises(small: Demo) -> None:
    out = small.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_clips"] == 2 * 7 and 0 <= metrics["uar"] <= 1 and metrics["frame_ap"] is not None
    assert set(metrics["baseline"]) >= {"name", "war", "uar", "frame_ap", "pointing"}
    assert metrics["training"]["base_model"] == "clip-tiny-faces"
    card = (out / "best" / "README.md").read_text()
    assert f"{100 * metrics['uar']:.1f}" in card
    for name in ("predictions.csv", "timelines.csv", "timelines.json", "figures/confusion_matrix.png"):
        assert (out / name).stat().st_size > 0
    assert len(list((out / "figures").glob("timeline-*.png"))) == len(SHOWN)
    assert not (out / "lora").exists() and not list(out.rglob("*.tmp"))


def test_once_done_it_is_not_done_again(small: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module.loop, "train", lambda _: pytest.fail("trained again"))
    before = (small.output / "best" / "model.safetensors").stat().st_mtime_ns
    small.run()
    assert (small.output / "best" / "model.safetensors").stat().st_mtime_ns == before


def test_another_size_is_refused(small: Demo) -> None:
    with pytest.raises(UserError, match="another size"):
        Demo(small.output, clips=5).run()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds no demo"):
        Demo(tmp_path).run()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
