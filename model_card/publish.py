"""Publishes a trained model with its code, its card and its results in one commit on the Hub."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx, validate_repo_id
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from safetensors import SafetensorError, safe_open

from tgdfer.model_card.card import CardData, model_folder, pictures_of
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json

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
RUN_FILES = ("config.yaml", "figures", "training.json")
LOCAL_IMPORT = re.compile(r"^\s*from \.(\w+) import ", re.MULTILINE)

Files = dict[str, Path | bytes]


def publish(
    run: str | Path,
    repo_id: str,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    pictures: bool = True,
) -> str:
    """Publishes the model of a run with its card in one commit.

    Args:
        run (`str` or `Path`): Folder of a run, whose `best` model is used, or of a model.
        repo_id (`str`): Repository as "user/name". It is created if it does not exist.
        private (`bool`, *optional*, defaults to `False`): Whether the repository is visible only to its owner.
        dry_run (`bool`, *optional*, defaults to `False`): Whether to print the files without uploading them.
        token (`str`, *optional*): Access token of the Hub. Defaults to that of `hf auth login` or `HF_TOKEN`.
        pictures (`bool`, *optional*, defaults to `True`): Whether to upload the pictures of the run. A timeline shows
            frames of the clips. Set it to `False` if these must not be published.

    Returns:
        `str`: URL of the commit, or with `dry_run` of the repository.

    Raises:
        UserError: If the run or the repository id cannot be published, or the Hub rejects the upload or cannot be
            reached.
    """
    if repo_id.count("/") != 1:
        raise UserError(f"{repo_id!r} is not a repository id; write it as user/name.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is not a repository id: {one_line(error)}") from error
    files = files_to_publish(run, repo_id, pictures)
    if dry_run:
        Console().print(files_table(files, repo_id))
        return f"{constants.ENDPOINT}/{repo_id}"
    if not (token or get_token()):
        raise UserError("You are not logged in to the Hub; run `hf auth login`, or set HF_TOKEN.")

    api = HfApi(token=token, library_name="tgdfer")
    try:
        # None uses the default of the organisation.
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise UserError(f"{repo_id} exists and is public; make it private in its settings, or omit --private.")
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(repo_id, operations, commit_message="Upload TG-DFER model").commit_url
    except UserError:
        raise
    except HfHubHTTPError as error:
        raise UserError(explain_refusal(error, repo_id)) from error
    except (httpx.TransportError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"The Hub at {constants.ENDPOINT} cannot be reached ({one_line(error)}); check your connection, "
            "HF_ENDPOINT and HF_HUB_OFFLINE."
        ) from error
    except ValueError as error:
        raise UserError(f"The Hub refused the metadata of README.md: {one_line(error)}") from error


def files_to_publish(run: str | Path, repo_id: str, pictures: bool = True) -> Files:
    """Lists the files of a commit by their path in the repository.

    Args:
        run (`str` or `Path`): Folder of a run or of a model.
        repo_id (`str`): Repository as "user/name".
        pictures (`bool`, *optional*, defaults to `True`): Whether to include the pictures of the run.

    Returns:
        `dict[str, Path | bytes]`: Path or contents of each file.

    Raises:
        UserError: If the folder does not contain a complete model that loads without this package, if it contains an
            unexpected file, or if the results belong to other weights.
    """
    run, folder = Path(run), model_folder(run)
    code = check_model(folder)
    card = CardData.from_run(run, repo_id, pictures)
    files: Files = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or (folder == run and path.name in RUN_FILES):
            continue
        known = path.name in code or any(fnmatch(path.name, pattern) for pattern in ALLOWED)
        if not path.is_file() or not known:
            raise UserError(f"{path} is not part of a model and cannot be published; move it out of {folder}.")
        files[path.name] = path
    # The card of a run is always generated. A model folder without a run may contain a handwritten card.
    if folder != run or "README.md" not in files:
        files["README.md"] = str(card.card()).encode()
    files |= {f"figures/{path.name}": path for path in pictures_of(run) if pictures}
    if (run / "metrics.json").is_file():
        files["metrics.json"] = (json.dumps(card.metrics, indent=2) + "\n").encode()
    if card.config:
        files["training_config.yaml"] = yaml.safe_dump(card.config, sort_keys=False, allow_unicode=True).encode()
    return dict(sorted(files.items()))


def check_model(folder: Path) -> set[str]:
    """Checks that a folder has readable weights, a processor, and the code of both.

    Args:
        folder (`Path`): Folder of a model.

    Returns:
        `set[str]`: Names of the code files.

    Raises:
        UserError: If a file is missing or damaged.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{folder} contains no weights (no .safetensors file); save the model with `save_pretrained`.")
    has_lora = False
    for path in weights:
        try:
            with safe_open(path, framework="np") as file:
                has_lora |= ".lora_" in " ".join(file.keys())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged ({one_line(error)}); save the model again.") from error
    code = set[str]()
    for name, saver in {"config.json": "model", "processor_config.json": "processor"}.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; write it with `{saver}.save_pretrained({str(folder)!r})`.")
        content = read_json(folder / name)
        if content.get("lora_attached") or has_lora:
            raise UserError(
                f"The LoRA adapters in {folder} are not merged, so the model could be loaded only with peft; save it"
                f" again with `model.save_pretrained({str(folder)!r}, merge_lora=True)`."
            )
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


def files_table(files: Files, repo_id: str) -> Table:
    """Formats the files and their sizes as a table."""
    sizes = {
        path: len(content) if isinstance(content, bytes) else content.stat().st_size for path, content in files.items()
    }
    table = Table("file", title=f"{repo_id} (dry run, nothing is uploaded)", show_footer=True)
    table.columns[0].footer = f"{len(files)} files"
    table.add_column("size", decimal(sum(sizes.values())), justify="right", no_wrap=True)
    for path, size in sizes.items():
        table.add_row(path, decimal(size))
    return table


def explain_refusal(error: HfHubHTTPError, repo_id: str) -> str:
    """Explains an error response of the Hub in a sentence."""
    status = error.response.status_code
    if status == 401:
        return "The Hub rejected your access token; run `hf auth login`, or set HF_TOKEN to a valid token."
    if status == 403:
        return (
            f"Your access token has no permission to write to {repo_id}; use a token with write permission, or a "
            "repository under your own user name."
        )
    return f"The Hub refused to publish {repo_id} ({one_line(error)}); try again later, or use another name."


def one_line(error: Exception) -> str:
    """Returns the message of an error on one line."""
    return " ".join(str(error).split())
