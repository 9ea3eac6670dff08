"""Publishing: a trained model, its code, its card and what was measured, in one commit on the Hub."""

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

# All that may leave the machine, beside the code that model and processor name. No pickle is among it: whoever loads
# one runs it.
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
# What of a run may lie beside a model in one folder, and travels under another name or in `metrics.json`.
OF_A_RUN = ("config.yaml", "figures", "training.json")
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
    """Publish the model of a run with its card in one commit.

    Args:
        run: Folder of a run (its `best` model is taken), or of a model.
        repo_id: Repository as "user/name"; it is created where it does not exist.
        private: Whether only its owner may see the repository.
        dry_run: Print what would be published, and send nothing.
        token: Access token of the Hub; by default the one that `hf auth login` or HF_TOKEN left.
        pictures: Whether the pictures of the run go along. A timeline shows frames of the clips: leave them at home
            where these may not be shown.

    Returns:
        URL of the commit; with `dry_run`, of the repository that it would go to.

    Raises:
        UserError: The run or the repository id is not fit to be published, or the Hub refuses or is out of reach.
    """
    if repo_id.count("/") != 1:
        raise UserError(f"{repo_id!r} is no repository id; write it as user/name.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is no repository id: {one_line(error)}") from error
    files = files_to_publish(run, repo_id, pictures)
    if dry_run:
        Console().print(table_of(files, repo_id))
        return f"{constants.ENDPOINT}/{repo_id}"
    if not (token or get_token()):
        raise UserError("You are not logged in to the Hub; run `hf auth login`, or set HF_TOKEN.")

    api = HfApi(token=token, library_name="tgdfer")
    try:
        # Left unsaid where it need not be private: an organisation may have a default of its own.
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise UserError(f"{repo_id} exists and is public; make it private in its settings, or drop --private.")
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(repo_id, operations, commit_message="Upload TG-DFER model").commit_url
    except UserError:
        raise
    except HfHubHTTPError as error:
        raise UserError(refusal(error, repo_id)) from error
    except (httpx.TransportError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"The Hub at {constants.ENDPOINT} is out of reach ({one_line(error)}); check your connection, HF_ENDPOINT "
            "and HF_HUB_OFFLINE."
        ) from error
    except ValueError as error:
        raise UserError(f"The Hub refused the metadata of README.md: {one_line(error)}") from error


def files_to_publish(run: str | Path, repo_id: str, pictures: bool = True) -> Files:
    """What a commit of this run holds, by path in the repository.

    Raises:
        UserError: The run holds no whole model that loads without this package, or a file that is no part of one, or
            its figures are of other weights.
    """
    run, folder = Path(run), model_folder(run)
    code = check_model(folder)
    card = CardData.from_run(run, repo_id, pictures)
    files: Files = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or (folder == run and path.name in OF_A_RUN):
            continue
        known = path.name in code or any(fnmatch(path.name, pattern) for pattern in ALLOWED)
        if not path.is_file() or not known:
            raise UserError(f"{path} is no part of a model and will not be published; move it out of {folder}.")
        files[path.name] = path
    # A model folder that is not of a run may have a card written by hand; one of a run is written anew.
    if folder != run or "README.md" not in files:
        files["README.md"] = str(card.card()).encode()
    files |= {f"figures/{path.name}": path for path in pictures_of(run) if pictures}
    if (run / "metrics.json").is_file():
        files["metrics.json"] = (json.dumps(card.metrics, indent=2) + "\n").encode()
    if card.config:
        files["training_config.yaml"] = yaml.safe_dump(card.config, sort_keys=False, allow_unicode=True).encode()
    return dict(sorted(files.items()))


def check_model(folder: Path) -> set[str]:
    """Check that a folder holds weights that can be read, a processor, and the code that both load with.

    Returns:
        Names of the code files.

    Raises:
        UserError: Something is missing or broken.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{folder} holds no weights (no .safetensors file); save the model with `save_pretrained`.")
    has_lora = False
    for path in weights:
        try:
            with safe_open(path, framework="np") as file:
                has_lora |= ".lora_" in " ".join(file.keys())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not whole ({one_line(error)}); save the model again.") from error
    code = set[str]()
    for name, saver in {"config.json": "model", "processor_config.json": "processor"}.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; write it with `{saver}.save_pretrained({str(folder)!r})`.")
        content = read_json(folder / name)
        if content.get("lora_attached") or has_lora:
            raise UserError(
                f"The LoRA of {folder} is not merged, so it would load with peft alone; write it again with"
                f" `model.save_pretrained({str(folder)!r}, merge_lora=True)`."
            )
        auto_map = content.get("auto_map") or {}
        pipelines = (content.get("custom_pipelines") or {}).values()
        named = code_of(folder, {*auto_map.values(), *(pipeline["impl"] for pipeline in pipelines)})
        missing = sorted(file for file in named if not (folder / file).is_file())
        if missing or not auto_map:
            raise UserError(
                f"{folder / name} names no code that loads without tgdfer ({', '.join(missing) or 'no auto_map'}); "
                f"write it again with `{saver}.save_pretrained`."
            )
        code |= named
    return code


def code_of(folder: Path, references: set[str]) -> set[str]:
    """Code files that references ("module.Class") name, and those that these files import, there or not."""
    waiting, seen = {reference.rpartition("--")[2].partition(".")[0] for reference in references}, set[str]()
    while waiting:
        seen.add(module := waiting.pop())
        path = folder / f"{module}.py"
        if path.is_file():
            waiting |= set(LOCAL_IMPORT.findall(path.read_text(encoding="utf-8"))) - seen
    return {f"{module}.py" for module in seen}


def table_of(files: Files, repo_id: str) -> Table:
    """The files with their sizes, to be printed."""
    sizes = {
        path: len(content) if isinstance(content, bytes) else content.stat().st_size for path, content in files.items()
    }
    table = Table("file", title=f"{repo_id} (dry run, nothing is sent)", show_footer=True)
    table.columns[0].footer = f"{len(files)} files"
    table.add_column("size", decimal(sum(sizes.values())), justify="right", no_wrap=True)
    for path, size in sizes.items():
        table.add_row(path, decimal(size))
    return table


def refusal(error: HfHubHTTPError, repo_id: str) -> str:
    """What a refusal of the Hub means to the user, in a sentence."""
    status = error.response.status_code
    if status == 401:
        return "The Hub does not know your access token; run `hf auth login`, or set HF_TOKEN to a valid one."
    if status == 403:
        return f"Your access token may not write to {repo_id}; use one with write permission, or your own user name."
    return f"The Hub refused to publish {repo_id} ({one_line(error)}); try again later, or under another name."


def one_line(error: Exception) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())
