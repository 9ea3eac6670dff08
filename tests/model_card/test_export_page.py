"""The scripts of the page of an ONNX export, in Node: they do with frames, logits and texts what Python does."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_texts import ODD_TEXTS

from tgdfer.model_card.export import onnx_files
from tgdfer.model_card.export.onnx_files import frame_size
from tgdfer.model_card.export.onnx_predict import fit, normalise
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.weights import BUNDLED

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")

PAGE = Path(onnx_files.__file__).with_name("browser")
SIDE = 61


@pytest.fixture
def node(tmp_path):
    """Runs a script after the imports of the page. The variable `given` has a value, and `answer` sends one back."""

    def run(script: str, given: Any) -> Any:
        for name in ("frames", "model"):
            shutil.copy(PAGE / f"{name}.js", tmp_path / f"{name}.mjs")
        start = """
            import { readFileSync, writeFileSync } from "node:fs";
            import { prepare } from "./frames.mjs";
            import { ClipTokenizer, Model } from "./model.mjs";
            const given = JSON.parse(readFileSync("given.json"));
            const answer = (value) => writeFileSync("answer.json", JSON.stringify(value));
        """
        (tmp_path / "given.json").write_text(json.dumps(given))
        (tmp_path / "script.mjs").write_text(start + script)
        subprocess.run(["node", "script.mjs"], cwd=tmp_path, check=True, timeout=60)
        return json.loads((tmp_path / "answer.json").read_text())

    return run


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
        {"size": {"height": 24, "width": 32}, "do_center_crop": False},
        {"size": {"shortest_edge": 32}, "do_center_crop": False, "do_normalize": False},
        {"size": {"shortest_edge": 30}, "crop_size": {"height": 33, "width": 28}, "do_rescale": False},
        {"do_resize": False, "crop_size": {"height": 32, "width": 64}},
    ],
    ids=["plain", "resized more", "as SigLIP", "not normalised", "padded", "not resized"],
)
def test_frames_are_those_of_the_script(node, options):
    processor = TGDFERVideoProcessor(**{"resample": 3, **options})
    settings = json.loads(processor.to_json_string())
    picture = np.random.default_rng(0).integers(256, size=(SIDE, SIDE, 4), dtype=np.uint8)
    script = """
        const data = Uint8ClampedArray.from(given.bytes);
        const getContext = () => ({ getImageData: () => ({ data }) });
        const canvas = { width: given.side, height: given.side, getContext };
        const { pixels, height, width } = prepare([{ canvas }, { canvas }], given.settings);
        answer({ pixels: [...pixels], height, width });
    """
    found = node(script, {"bytes": picture.flatten().tolist(), "side": SIDE, "settings": settings})
    expected = normalise(np.stack([fit(picture[..., :3], settings)] * 2), settings)
    assert (found["height"], found["width"]) == frame_size(processor) == expected.shape[2:]
    different = np.abs(np.reshape(found["pixels"], expected.shape) - expected) > 1e-3
    assert different.mean() < 0.01  # a value between two bytes may be rounded to either


def test_an_unknown_filter_is_refused(node):
    script = """
        const canvas = { width: 1, height: 1, getContext: () => ({ getImageData: () => ({ data: given }) }) };
        const settings = { do_resize: true, size: { shortest_edge: 2 }, resample: 1 };
        try { prepare([{ canvas }], settings); } catch (error) { answer(error.message); }
    """
    assert node(script, [1, 2, 3, 4]) == "this page cannot resize with `resample` 1"


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_probabilities(node, several):
    script = """
        const model = Object.assign(new Model(), { labels: [], config: given.config });
        model.trained = { labels: model.labels };
        const trained = model.probabilities(given.logits);
        model.labels = [];
        answer([trained, model.probabilities(given.logits)]);
    """
    logits = np.array([2.0, -800.0, 1.0])
    config = {"temperature": 2.0, "problem_type": "multi_label_classification" if several else None}
    found = node(script, {"config": config, "logits": logits.tolist()})
    for odds, probabilities in zip((np.exp(logits / 2), np.exp(logits)), found, strict=True):
        assert probabilities == pytest.approx((odds / (1 + odds) if several else odds / odds.sum()).tolist())


def test_texts_become_the_tokens_of_the_tokenizer(node):
    from transformers import AutoTokenizer

    content = json.loads((BUNDLED["tgdfer-tiny"] / "tokenizer.json").read_text(encoding="utf-8"))
    script = "answer(given.texts.map((text) => new ClipTokenizer(given.content).encode(text)));"
    found = node(script, {"texts": ODD_TEXTS, "content": content})
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["tgdfer-tiny"])
    assert found == [tokenizer(text)["input_ids"] for text in ODD_TEXTS]
