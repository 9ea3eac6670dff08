"""Writes the folder of an ONNX export, with the file names of Optimum."""

import json
import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tgdfer.training.errors import UserError
from tgdfer.training.files import replaced_folder, require_writable, write_text
from tgdfer.training.revisions import HubName
from tgdfer.training.saved_weights import weights_sha256

MODEL = "model.onnx"
TEXT_MODEL = "text_model.onnx"
# Suffix of the quantised files, as in Optimum.
QUANTISED = "_quantized"
SCRIPT = "onnx_predict.py"
# Says which weights were exported.
RECORD = "export.json"
# Folder of the page that runs the model in a browser.
PAGE = "browser"
# Files without which a folder is not taken for an earlier export.
REQUIRED = {MODEL, TEXT_MODEL, "config.json"}


def default_output(model: str) -> Path:
    """Returns the folder for the export of a model: `onnx` in the folder of a run, otherwise `NAME-onnx` here."""
    run = Path(model).expanduser()
    if (run / "best" / "config.json").is_file():
        return run / "onnx"
    name = run.resolve().name if run.is_dir() else HubName.parse(model).name.rpartition("/")[2]
    return Path(f"{name}-onnx")


def export_onnx(model: str, output: str | Path | None = None, int8: bool = False) -> Path:
    """Exports a trained model to ONNX.

    The folder gets

    - `model.onnx`, which classifies clips, and `text_model.onnx`, which encodes the descriptions of other classes;
    - with `int8`, `model_quantized.onnx` and `text_model_quantized.onnx`;
    - `config.json`, `preprocessor_config.json`, `processor_config.json` and the files of the tokenizer;
    - `export.json`, with the hash of the exported weights;
    - `onnx_predict.py`, a script that needs only onnxruntime, numpy and av;
    - `browser/`, a page for static web servers.

    LoRA is merged. An earlier export in the folder is replaced. Other files in its folder are kept.

    Args:
        model (`str`): Hub id, folder of a run (its best model is used) or of a model, or `tgdfer-tiny`.
        output (`str` or `Path`, *optional*): Folder to write. Defaults to `default_output`.
        int8 (`bool`, *optional*, defaults to `False`): Whether to also write files with weights of 8 bits.

    Returns:
        `Path`: The folder.

    Raises:
        UserError: If a library of the extra `export` is missing, the model cannot be read or is not a trained TG-DFER
            model, or the folder cannot be written or contains other files.
    """
    require_libraries()
    folder = default_output(model) if output is None else Path(output)
    require_export_folder(folder)
    import torch

    from tgdfer.training.models import load_trained, model_source

    record = {"weights_sha256": weights_sha256(model_source(model))}
    network, processor = load_trained(model, dtype=torch.float32)
    if network.has_lora:
        network.merge_lora()
    network.eval()
    with replaced_folder(folder) as draft:
        _write_processor(processor, draft)
        _write_config(network.config, draft)
        _write_graphs(network, processor, draft)
        if int8:
            from tgdfer.model_card.export.quantisation import quantise

            for name in (MODEL, TEXT_MODEL):
                quantise(draft / name, draft / name.replace(".onnx", f"{QUANTISED}.onnx"))
        _bake_classes(network, draft)
        write_text(draft / RECORD, json.dumps(record) + "\n")
        shutil.copyfile(Path(__file__).with_name(SCRIPT), draft / SCRIPT)
        (draft / PAGE).mkdir()
        for path in sorted(Path(__file__).with_name(PAGE).iterdir()):
            shutil.copyfile(path, draft / PAGE / path.name)
        _keep_other_files(folder, draft)
    return folder


def _keep_other_files(folder: Path, draft: Path) -> None:
    """Copies the files that an export does not write, such as the runtime of the page, from an earlier export."""
    graphs = [name.replace(".onnx", f"{ending}.onnx") for name in (MODEL, TEXT_MODEL) for ending in ("", QUANTISED)]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() not in graphs and not (draft / name).exists():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, draft / name)


def require_libraries() -> None:
    """Checks that the libraries of the extra `export` are installed.

    Raises:
        UserError: If one is missing.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(library)
        except ImportError as error:
            raise UserError(
                f"Exporting to ONNX needs the library {library}, which is not installed; "
                "`pip install '.[export]'` in the clone of tgdfer installs it."
            ) from error


def require_export_folder(folder: Path) -> None:
    """Checks that a folder can be written, and that it does not exist, is empty, or holds an earlier export.

    Raises:
        UserError: Otherwise.
    """
    require_writable(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"Cannot write {folder}: it is a file; name a folder with --output.")
    files = {path.name for path in folder.iterdir()}
    if files and not (files >= REQUIRED and SCRIPT in files):
        raise UserError(
            f"{folder} contains other files than an ONNX export, and would be replaced; name a new folder with"
            " --output."
        )


def _write_processor(processor: Any, folder: Path) -> None:
    """Saves the settings of the processor and its tokenizer, without code for transformers."""
    with TemporaryDirectory(dir=folder) as saved:
        processor.save_pretrained(saved)
        for path in sorted(Path(saved).iterdir()):
            if path.suffix == ".json":
                content = _without_code(json.loads(path.read_text(encoding="utf-8")))
                path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            if path.suffix != ".py":
                os.replace(path, folder / path.name)


def _write_config(config: Any, folder: Path) -> None:
    content = _without_code(json.loads(config.to_json_string(use_diff=False)))
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _without_code(settings: Any) -> Any:
    """Removes the names of the code that transformers would load with the settings."""
    if not isinstance(settings, dict):
        return settings
    code = ("auto_map", "custom_pipelines")
    return {name: _without_code(value) for name, value in settings.items() if name not in code}


def _write_graphs(network: Any, processor: Any, folder: Path) -> None:
    """Writes both graphs. The classes are inputs without defaults."""
    from tgdfer.model_card.export.graphs import clip_program, text_program

    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    clip_program(network, frame_size(processor.video_processor)).save(str(folder / MODEL))
    text_program(network).save(str(folder / TEXT_MODEL))


def frame_size(video_processor: Any) -> tuple[int, int]:
    """Returns height and width of the frames that a video processor gives."""
    if video_processor.do_center_crop:
        return int(video_processor.crop_size["height"]), int(video_processor.crop_size["width"])
    size = video_processor.size
    return int(size.get("height") or size["shortest_edge"]), int(size.get("width") or size["shortest_edge"])


def _bake_classes(network: Any, folder: Path) -> None:
    """Gives the inputs that describe the classes the trained values as defaults, in every file that has them.

    In ONNX, an initializer with the name of an input is the default of that input. This is the last step, because
    quantisation takes initializers for constants.
    """
    import onnx

    from tgdfer.model_card.export.graphs import class_tensors

    values = {name: value.numpy().astype(np.float32) for name, value in class_tensors(network).items()}
    for path in sorted(folder.glob(f"{Path(MODEL).stem}*.onnx")):
        proto = onnx.load(str(path))
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
        labels = json.dumps([network.config.id2label[index] for index in range(network.config.num_labels)])
        onnx.helper.set_model_props(proto, {"labels": labels})
        onnx.save(proto, str(path))
