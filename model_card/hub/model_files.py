"""Which files of a run are published: the model with its code, its card and its results, and nothing else."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tgdfer.model_card.card import CardData, examples_of
from tgdfer.model_card.endpoint import endpoint_files
from tgdfer.model_card.export.onnx_files import RECORD as EXPORT_RECORD
from tgdfer.model_card.hub.patience import one_line
from tgdfer.model_card.hub.record import RECORD, Files
from tgdfer.model_card.run_files import model_folder, pictures_of
from tgdfer.training.errors import UserError
from tgdfer.training.files import dump_yaml, read_json
from tgdfer.training.saved_weights import WEIGHTS, weight_files, weights_sha256

# The only files that are uploaded, besides the code of the model and the processor. Pickle files are excluded, because
# loading them can run code.
ALLOWED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "descriptions.yaml",
    "metrics.json",
    "training_config.yaml",
    "README.md",
    "LICENSE",
)
# Files of a run that may be in the folder of a model. They are uploaded under another name or as part of
# `metrics.json`.
RUN_FILES = (
    "config.yaml",
    "examples",
    "figures",
    "handler.py",
    "onnx",
    "requirements.txt",
    "training.json",
    RECORD,
)
# Results that name or show single clips. They are never uploaded.
PRIVATE_RESULTS = ("errors", "per_class.csv", "predictions.csv")
# Files of an export.
EXPORTED = ("*.onnx", "*.onnx.data", "*.onnx_data", "*.json", "*.txt", "onnx_predict.py")
# Folders beside a model that are never uploaded with it. `tgdfer push --adapter` uploads the adapter instead.
IGNORED = ("__pycache__", "adapter")
# What writes each config and the code that it refers to.
CODE_SAVERS = {"config.json": "model", "processor_config.json": "processor"}
LOCAL_IMPORT = re.compile(r"^\s*from \.(\w+) import ", re.MULTILINE)


def files_to_publish(run: str | Path, repo_id: str, pictures: bool = True, license: str | None = None) -> Files:
    """Lists the files of a commit by their path in the repository.

    Args:
        run (`str` or `Path`): Folder of a run or of a model.
        repo_id (`str`): Repository as "user/name".
        pictures (`bool`, *optional*, defaults to `True`): Whether to include the pictures and the example clips of the
            run.
        license (`str`, *optional*): Licence of the weights, as the Hub names it, for the generated card.

    Returns:
        `dict[str, Path | bytes]`: Path or contents of each file.

    Raises:
        UserError: If the folder does not contain a complete model that loads without this package, if it contains an
            unexpected file, or if the results belong to other weights.
    """
    run, folder = Path(run), model_folder(run)
    code = check_model(folder)
    card = CardData.from_run(run, repo_id, pictures, license)
    files: Files = {}
    for path in sorted(folder.iterdir()):
        if (
            path.name.startswith(".")
            or path.name in IGNORED
            or (folder == run and path.name in (*RUN_FILES, *PRIVATE_RESULTS))
        ):
            continue
        known = path.name in code or any(fnmatch(path.name, pattern) for pattern in ALLOWED)
        if not path.is_file() or not known:
            raise UserError(f"{path} is not part of a model and cannot be published; move it out of {folder}.")
        files[path.name] = path
    # The card of a run is always generated. A model folder without a run may contain a handwritten card.
    if folder != run or "README.md" not in files:
        files["README.md"] = str(card.card()).encode()
    added = endpoint_files(card.packages) | result_files(run, card, pictures) | export_files(run, folder)
    return dict(sorted((files | added).items()))


def result_files(run: Path, card: CardData, pictures: bool) -> Files:
    """Lists the files about the training and the results of a run, without paths of this machine."""
    files: Files = {}
    if pictures:
        shown = [*pictures_of(run), *examples_of(run)]
        files |= {path.relative_to(run).as_posix(): path for path in shown}
    if (run / "metrics.json").is_file():
        files["metrics.json"] = (json.dumps(card.metrics, indent=2) + "\n").encode()
    if card.config:
        files["training_config.yaml"] = dump_yaml(card.config).encode()
    return files


def export_files(run: Path, folder: Path) -> Files:
    """Lists the files that `tgdfer export` has written in the folder of a run.

    Args:
        run (`Path`): Folder of a run.
        folder (`Path`): Folder of its model.

    Raises:
        UserError: If the export is older than the model, or has other weights.
    """
    export = run / "onnx"
    if not (export / "model.onnx").is_file():
        return {}
    record = export / EXPORT_RECORD
    exported = read_json(record).get("weights_sha256") if record.is_file() else None  # Older exports have no record.
    if exported and exported != weights_sha256(folder):
        raise UserError(
            f"{export} has other weights than {folder}; run `tgdfer export {folder} --output {export}`, or remove it."
        )
    newest = max(path.stat().st_mtime for path in (folder / "config.json", *folder.glob("*.safetensors")))
    if (export / "model.onnx").stat().st_mtime < newest:
        raise UserError(f"{export} is older than the model in {folder}; export it again, or remove it.")
    known = [path for path in sorted(export.iterdir()) if any(fnmatch(path.name, name) for name in EXPORTED)]
    return {f"onnx/{path.name}": path for path in known}


def check_model(folder: Path) -> set[str]:
    """Checks that a folder has readable weights, a processor with its tokenizer, and the code of both.

    Args:
        folder (`Path`): Folder of a model.

    Returns:
        `set[str]`: Names of the code files.

    Raises:
        UserError: If a file is missing or damaged.
    """
    weights = weight_files(folder)
    if not weights:
        raise UserError(f"{folder} contains no weights (no {WEIGHTS}); save the model with `save_pretrained`.")
    require_tokenizer(folder)
    has_lora = False
    for path in weights:
        try:
            with safe_open(path, framework="np") as file:
                has_lora |= ".lora_" in " ".join(file.keys())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged ({one_line(error)}); save the model again.") from error
    for name in CODE_SAVERS:
        if (folder / name).is_file() and (read_json(folder / name).get("lora_attached") or has_lora):
            raise UserError(
                f"The LoRA adapters in {folder} are not merged, so the model could be loaded only with peft; save it"
                f" again with `model.save_pretrained({str(folder)!r}, merge_lora=True)`."
            )
    return check_code(folder, tuple(CODE_SAVERS))


def require_tokenizer(folder: Path) -> None:
    """Checks that a folder has the tokenizer that the processor needs.

    Raises:
        UserError: If it has none.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(
            f"{folder} has no tokenizer.json, which the processor needs; write it with"
            f" `processor.save_pretrained({str(folder)!r})`."
        )


def check_code(folder: Path, names: tuple[str, ...]) -> set[str]:
    """Checks that configs and the code that they refer to are complete.

    Args:
        folder (`Path`): Folder of a model.
        names (`tuple[str, ...]`): Names of the configs.

    Returns:
        `set[str]`: Names of the code files.

    Raises:
        UserError: If a file is missing.
    """
    code = set[str]()
    for name in names:
        saver = CODE_SAVERS[name]
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; write it with `{saver}.save_pretrained({str(folder)!r})`.")
        content = read_json(folder / name)
        auto_map = content.get("auto_map") or {}
        pipelines = (content.get("custom_pipelines") or {}).values()
        required = code_files(folder, {*auto_map.values(), *(pipeline["impl"] for pipeline in pipelines)})
        missing = sorted(file for file in required if not (folder / file).is_file())
        if missing or not auto_map:
            raise UserError(
                f"The code of {folder / name} is incomplete ({', '.join(missing) or 'no auto_map'}), so the model "
                f"cannot be loaded without tgdfer; save it again with `{saver}.save_pretrained`."
            )
        code |= required
    return code


def code_files(folder: Path, references: set[str]) -> set[str]:
    """Returns the names of the code files of references ("module.Class"), and of the files that they import.

    The files need not exist.
    """
    pending = {reference.rpartition("--")[2].partition(".")[0] for reference in references}
    visited: set[str] = set()
    while pending:
        visited.add(module := pending.pop())
        path = folder / f"{module}.py"
        if path.is_file():
            pending |= set(LOCAL_IMPORT.findall(path.read_text(encoding="utf-8"))) - visited
    return {f"{module}.py" for module in visited}
