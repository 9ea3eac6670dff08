"""ONNX exports: they give what the model gives, in fp32 and in 8 bits, with its classes and with other ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_texts import ODD_TEXTS
from small_backbones import save_resnet, save_siglip
from small_clips import write_clip

from tgdfer.command_line import main
from tgdfer.model_card.export import onnx_files, quantisation
from tgdfer.model_card.export.onnx_predict import Classifier, ClipTokenizer, fit
from tgdfer.model_card.export.onnx_predict import main as predict
from tgdfer.processing.explanation_tgdfer import probabilities
from tgdfer.training.config import ModelConfig
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.rendered_faces import write_dataset

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
onnx = pytest.importorskip("onnx", reason="needs the extra `export`")

LABELS = ["happiness", "neutral", "sadness"]
FILES = {"model.onnx", "text_model.onnx", "config.json", "preprocessor_config.json", "processor_config.json",
         "export.json", "tokenizer.json", "tokenizer_config.json", "onnx_predict.py", "browser"}  # fmt: skip
# A trained class as it is, one with another description, and a new one.
OTHERS = {"happiness": None, "neutral": ["nothing moves"], "boredom": ["eyelids droop", "the head rests on a hand"]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """The model in the package, exported in fp32 and in 8 bits."""
    folder = tmp_path_factory.mktemp("export") / "tiny"
    assert main(["export", "tgdfer-tiny", "--format", "onnx", "--int8", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> list[str]:
    folder = write_dataset(tmp_path_factory.mktemp("data") / "rendered", clips={"test": 1}, people={"test": 1})
    return sorted(map(str, folder.rglob("*.mp4")))


def run_model(path: Path, **inputs: Any) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(str(path), options)
    names = [output.name for output in session.get_outputs()]
    values = {name: np.asarray(value) for name, value in inputs.items()}
    return dict(zip(names, session.run(names, values), strict=True))


def clips(number: int, length: int, side: int) -> dict[str, torch.Tensor]:
    """Frames, a mask with holes at any positions, and seconds that are NaN where masked."""
    mask = torch.rand(number, length) > 0.4
    mask[torch.arange(number), torch.randint(length, (number,))] = True
    seconds = torch.rand(number, length).cumsum(1).masked_fill(~mask, torch.nan)
    return {
        "pixel_values_videos": torch.randn(number, length, 3, side, side),
        "frame_mask": mask,
        "timestamps": seconds,
    }


@torch.no_grad()
def assert_agrees(model: Any, path: Path, side: int, **classes: np.ndarray) -> None:
    for number, length in ((1, 1), (2, 1), (1, 2), (3, 9)):
        clip = clips(number, length, side)
        expected, found = model(**clip), run_model(path, **clip, **classes)
        assert list(found) == ["logits", "frame_logits", "frame_relevance"]
        valid = clip["frame_mask"].unsqueeze(-1)
        for name, value in found.items():
            difference = torch.from_numpy(value) - expected[name]
            assert difference.abs().masked_fill(~valid if value.ndim == 3 else ~valid.any(1), 0).max() < 1e-4, name
        assert np.abs(found["frame_relevance"].sum(1) - 1).max() < 1e-5
        assert (found["frame_relevance"][~clip["frame_mask"].numpy()] == 0).all()


def other_classes(model: Any, processor: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Descriptions of other classes, and the inputs of the text model for them."""
    texts = {label: texts or processor.descriptions[label] for label, texts in OTHERS.items()}
    prompts = processor.class_prompts(texts)
    known = model.config.label2id
    return texts, {
        "input_ids": prompts["input_ids"],
        "description_mask": prompts["description_mask"],
        "class_index": [known.get(label, -1) for label in prompts["labels"]],
        "is_unchanged": [OTHERS[label] is None for label in prompts["labels"]],
    }


def assert_relabels(model: Any, processor: Any, folder: Path, side: int) -> None:
    texts, inputs = other_classes(model, processor)
    classes = run_model(folder / "text_model.onnx", **inputs)
    model.set_classes(processor.encode_classes(texts))
    assert_agrees(model, folder / "model.onnx", side, **classes)


def test_fp32_agrees_for_any_clips(tiny):
    model, _ = load_trained("tgdfer-tiny")
    assert_agrees(model, tiny / "model.onnx", 112)


def test_other_classes_give_what_set_classes_gives(tiny):
    model, processor = load_trained("tgdfer-tiny")
    assert_relabels(model, processor, tiny, 112)


def test_files_are_named_as_by_optimum_and_need_no_code(tiny):
    names = {path.name for path in tiny.iterdir()}
    assert names == FILES | {"model_quantized.onnx", "text_model_quantized.onnx"}
    for path in tiny.glob("*.json"):
        assert "auto_map" not in path.read_text() and "custom_pipelines" not in path.read_text()
    model = onnx.load(tiny / "model.onnx")
    onnx.checker.check_model(model)
    assert json.loads(model.metadata_props[0].value)[:2] == ["anger", "disgust"]
    shapes = {value.name: [d.dim_param for d in value.type.tensor_type.shape.dim][:2] for value in model.graph.input}
    assert shapes["pixel_values_videos"] == shapes["frame_mask"] == ["batch_size", "num_frames"]


def test_8_bits_give_the_same_labels_in_smaller_files(tiny, rendered):
    model, processor = load_trained("tgdfer-tiny")
    batch = processor(videos=rendered, face_crop="none", return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch)
    found = run_model(tiny / "model_quantized.onnx", **batch)
    assert (found["logits"].argmax(1) == expected.logits.argmax(1).numpy()).all()
    assert np.abs(found["logits"] - expected.logits.numpy()).max() < 0.3
    for name in ("model", "text_model"):
        assert (tiny / f"{name}_quantized.onnx").stat().st_size < 0.36 * (tiny / f"{name}.onnx").stat().st_size
    assert (tiny / "model_quantized.onnx").stat().st_size < 4.1e6
    _, inputs = other_classes(model, processor)
    texts, quantised = (run_model(tiny / name, **inputs) for name in ("text_model.onnx", "text_model_quantized.onnx"))
    assert ((texts["text_embeds"] * quantised["text_embeds"]).sum(1) > 0.99).all()


def empty_environment(folder: Path) -> list[str]:
    """A Python that finds the standard library and three packages, and nothing else."""
    folder.mkdir()
    import av

    for package in (av, np, onnxruntime):
        home = Path(package.__file__).parent
        (folder / home.name).symlink_to(home)
        if (libraries := home.with_name(f"{home.name}.libs")).exists():
            (folder / libraries.name).symlink_to(libraries)
    start = (
        "import runpy, sys; sys.path.append(sys.argv.pop(1)); sys.argv.pop(0);"
        " runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-I", "-S", "-c", start, str(folder)]


def test_script_runs_in_an_empty_environment(tiny, rendered, tmp_path):
    python = empty_environment(tmp_path / "packages")
    environment = {"PATH": os.environ["PATH"]}
    assert subprocess.run([*python[:-2], "import torch"], env=environment, capture_output=True).returncode != 0
    model, processor = load_trained("tgdfer-tiny")
    small = write_clip(tmp_path / "small.mp4", num_frames=5)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    videos = [rendered[0], str(small)]

    def classify(*options: str) -> list[dict[str, Any]]:
        command = [*python, str(tiny / "onnx_predict.py"), *videos, str(damaged), "--json", *options]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 3 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(f"error: {damaged} cannot be read")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def assert_probabilities(found: list[dict[str, Any]], temperature: float, tolerance: float) -> None:
        for video, one in zip(videos, found, strict=True):
            with torch.no_grad():
                output = model(**processor(videos=[video], face_crop="none", return_tensors="pt"))
            expected = (output.logits[0] / temperature).softmax(-1)
            assert list(one["probabilities"]) == list(model.config.id2label.values())
            assert np.abs(expected.numpy() - list(one["probabilities"].values())).max() < tolerance
            assert len(one["seconds"]) == len(one["relevance"]) <= 16

    assert_probabilities(classify(), model.config.temperature, 0.005)
    assert_probabilities(classify("--model", "model_quantized.onnx"), model.config.temperature, 0.05)
    texts, _ = other_classes(model, processor)
    (tmp_path / "others.json").write_text(json.dumps(texts))
    model.set_classes(processor.encode_classes(texts))
    assert_probabilities(classify("--descriptions", "others.json"), 1.0, 0.005)
    for unusable in ({"boredom": ["a"]}, {"boredom": "a", "interest": ["b"]}, {"boredom": [], "interest": ["b"]}, []):
        (tmp_path / "others.json").write_text(json.dumps(unusable))
        command = [*python, str(tiny / "onnx_predict.py"), *videos, "--descriptions", "others.json"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: The descri")


@pytest.mark.parametrize("size", [(40, 64), (112, 112), (300, 217), (90, 70)])
def test_script_resizes_as_the_processor(size):
    _, processor = load_trained("tgdfer-tiny")
    frames = torch.randint(256, (1, 3, *size), dtype=torch.uint8)
    frames[..., : size[1] // 2] = 250
    settings = processor.video_processor.to_dict()
    pixels = processor.video_processor([frames], face_crop="none", do_rescale=False, do_normalize=False)
    found = fit(frames[0].permute(1, 2, 0).numpy(), settings)
    assert np.abs(found.astype(float) - pixels["pixel_values_videos"][0][0].permute(1, 2, 0).numpy()).max() <= 1


def test_script_tokenizes_as_the_tokenizer(tiny):
    _, processor = load_trained("tgdfer-tiny")
    tokenizer = ClipTokenizer(json.loads((tiny / "tokenizer.json").read_text()))
    texts = [text for texts in processor.descriptions.values() for text in texts]
    for text in (*texts, *ODD_TEXTS):
        assert tokenizer.encode(text) == processor.tokenizer(text)["input_ids"], text


def test_script_gives_the_probabilities_of_several_labels(tiny, rendered, tmp_path):
    """They come from a sigmoid, and also with other classes."""
    folder = shutil.copytree(tiny, tmp_path / "several")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    classifier = Classifier(folder / "model.onnx", threads=1)
    model, processor = load_trained("tgdfer-tiny")
    model.config.problem_type = "multi_label_classification"
    for texts in (None, other_classes(model, processor)[0]):
        if texts:
            classifier.set_classes(texts)
            model.set_classes(processor.encode_classes(texts))
        with torch.no_grad():
            logits = model(**processor(videos=rendered[:1], face_crop="none", return_tensors="pt")).logits[0]
        found = classifier.classify(Path(rendered[0]))["probabilities"]
        assert np.abs(probabilities(logits, model.config).numpy() - list(found.values())).max() < 0.005
        assert abs(sum(found.values()) - 1) > 0.1


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("model.onnx", (), "config.json cannot be read"),
        ("renamed.onnx", ("--descriptions", "others.json"), r"There is no .*text_renamed.onnx"),
        ("damaged.onnx", (), "damaged.onnx cannot be loaded"),
        ("text_model.onnx", (), "text_model.onnx does not classify clips"),
    ],
)
def test_script_refuses_an_incomplete_export(tiny, tmp_path, monkeypatch, name, options, sentence):
    folder = shutil.copytree(tiny, tmp_path / "onnx")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "others.json").write_text('{"joy": ["a smile"], "grief": ["a frown"]}')
    shutil.copy(folder / "model.onnx", folder / "renamed.onnx")
    (folder / "damaged.onnx").write_bytes(b"no graph")
    if name == "model.onnx":
        (folder / "config.json").unlink()
    with pytest.raises(SystemExit, match=f"^error: .*{sentence}.*; .*[.]$"):
        predict(["clip.mp4", "--model", str(folder / name), *options])


# Backbones, LoRA, and the parts of the network whose state is another one than in `tgdfer-tiny`.
VARIANTS: dict[str, dict[str, Any]] = {
    "clip_with_lora": {"lora_layers": 1, "lora_text_layers": 1, "context": "class", "mil_pooling": "attention"},
    "resnet": {"visual_prompts": False, "context": "none", "mil_pooling": "mean"},
    "siglip": {"relevance_text": "prompted", "mil_pooling": "max"},
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in VARIANTS])
def test_other_models_agree(kind, clip_folder, tmp_path):
    """Slow, because a graph takes seconds to export."""
    backbone = {
        "clip_with_lora": lambda: clip_folder,
        "resnet": lambda: save_resnet(tmp_path / "clip", clip_folder),
        "siglip": lambda: save_siglip(tmp_path / "clip", blocks=1),
    }[kind]()
    words = tmp_path / "words.json"
    words.write_text(json.dumps({label: [f"{label} {number}" for number in range(2)] for label in LABELS}))
    options = ModelConfig(
        model=str(backbone), descriptions=str(words), num_frames=4, model_options=VARIANTS[kind], frozen_features=False
    )
    if kind != "clip_with_lora":
        options.frozen_features = True
    model, processor = start_model(options, LABELS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".clip." not in name and not name.endswith("scale"):
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
            elif "lora_" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.eval()
    assert model.has_lora == (kind == "clip_with_lora")
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    folder = onnx_files.export_onnx(str(tmp_path / "model"), tmp_path / "onnx")
    assert {path.name for path in folder.iterdir()} >= FILES
    assert_agrees(model, folder / "model.onnx", 32)
    assert_relabels(model, processor, folder, 32)


def test_weights_of_8_bits_cannot_overflow_in_16_bits():
    weight = np.random.default_rng(0).normal(size=(97, 30)).astype(np.float32)
    weight[:, 0], weight[:, 1] = 0, 3
    integers, scale = quantisation.quantise_columns(weight)
    assert np.abs(integers * scale - weight).max() <= (scale / 2).max() + 1e-6
    pairs = np.concatenate([integers, np.zeros((1, 30), np.int8)]).reshape(-1, 2, 30).astype(int)
    assert 255 * np.maximum(pairs, 0).sum(1).max() < 2**15 and 255 * np.minimum(pairs, 0).sum(1).min() >= -(2**15)


@pytest.fixture
def fast_export(monkeypatch):
    """Replaces the graphs, which take seconds to export, by files of a few bytes."""

    def write(network: Any, processor: Any, folder: Path) -> None:
        for name in ("model.onnx", "text_model.onnx"):
            (folder / name).write_text("graph")

    monkeypatch.setattr(onnx_files, "_write_graphs", write)
    monkeypatch.setattr(onnx_files, "_bake_classes", lambda network, folder: None)
    monkeypatch.setattr(quantisation, "quantise", lambda source, target: target.write_text("8 bits"))


def test_an_export_replaces_an_earlier_one_and_nothing_else(fast_export, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "deep" / "onnx"
    assert main(["export", "--int8", "--output", str(folder)]) == 0
    assert (folder / "model_quantized.onnx").is_file()
    (folder / "browser" / "ort").mkdir()
    for mine in ("clip.mp4", "browser/ort/runtime.js"):
        (folder / mine).write_text("mine")
    assert main(["export", "--output", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == FILES | {"clip.mp4"}
    assert (folder / "clip.mp4").read_text() == (folder / "browser" / "ort" / "runtime.js").read_text() == "mine"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    for output, reason in ((tmp_path / "notes", "contains other files"), (folder / "config.json", "it is a file")):
        capsys.readouterr()
        assert main(["export", "--output", str(output)]) == 2
        assert reason in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    monkeypatch.setattr(quantisation, "quantise", fail)
    for output in (folder, tmp_path / "new"):
        assert main(["export", "--int8", "--output", str(output)]) == 2
        assert "No space left on device" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "notes"}
    assert [path.name for path in folder.parent.iterdir()] == ["onnx"]


@pytest.mark.parametrize("model, reason", [("clip-tiny-faces", "not of a trained TG-DFER"), ("no-such", "no-such")])
def test_other_checkpoints_give_a_sentence(model, reason, tmp_path, capsys):
    assert main(["export", model, "--output", str(tmp_path / "onnx")]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.startswith("error: ") and reason in shown and not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_gives_a_sentence(library, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["export", "--output", str(tmp_path / "onnx")]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert f"needs the library {library}" in shown and "pip install '.[export]'" in shown


def test_default_folder(tmp_path):
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "config.json").write_text("{}")
    assert onnx_files.default_output(str(tmp_path / "run")) == tmp_path / "run" / "onnx"
    assert onnx_files.default_output("user/model") == Path("model-onnx")
    assert onnx_files.default_output("user/model@refs/pr/3") == Path("model-onnx")
    assert onnx_files.default_output("tgdfer-tiny") == Path("tgdfer-tiny-onnx")
