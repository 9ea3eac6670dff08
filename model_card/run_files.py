"""The files of a run that a card is made of, without the paths of the machine that wrote them."""

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, read_yaml
from tgdfer.training.revisions import HubName
from tgdfer.training.saved_weights import weights_sha256

# With or without a revision, as in "user/model@v1".
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[^@\s]+)?")
# Options that are meaningful only on the machine of the training.
LOCAL_OPTIONS = ("output", "resume", "workers", "face_model")
# Options whose values are paths and never Hub ids, although a path may look like one.
PATH_OPTIONS = ("config", "data_root", "descriptions", "face_model", "output", "resume", "vote_file")
# Keys whose values are texts and never file names.
TEXT_KEYS = (
    "labels",
    "shared_labels",
    "zero_shot",
    "validation",
    "license",
    "sources",
    "limits",
    "groups",
    "hardware",
    "versions",
)


def model_folder(run: str | Path) -> Path:
    """Returns the folder of the model of a run, or the folder itself if it contains a model.

    For a run it is the model that was measured, so that the card matches the weights, or `best` if none was measured.

    Raises:
        UserError: If the folder contains no model.
    """
    run = Path(run)
    measured = read_metrics(run).get("model")
    for folder in (run / "last" if measured == "last" else run / "best", run):
        if (folder / "config.json").is_file():
            return folder
    raise UserError(
        f"{run} contains no model (no best/config.json and no config.json); train one with `tgdfer train`, or give the"
        " folder that `save_pretrained` wrote."
    )


def require_measured(folder: Path, metrics: dict[str, Any], run: Path) -> None:
    """Checks that the results belong to the weights in a folder, if the hash of the measured weights is recorded.

    Raises:
        UserError: If they belong to other weights, for example because the training was continued.
    """
    measured = metrics.get("weights_sha256")
    if measured and weights_sha256(folder) not in (None, measured):
        raise UserError(
            f"{run / 'metrics.json'} was measured with other weights than those in {folder}; evaluate again with "
            f"`tgdfer evaluate {run}`."
        )


def pictures_of(run: str | Path) -> list[Path]:
    """Returns the pictures of a run, sorted by name."""
    return sorted((Path(run) / "figures").glob("*.png"), key=lambda path: path.stem)


def is_hub_id(name: Any) -> bool:
    """Returns whether a value is a Hub id and not an existing folder. YAML may contain a number instead of a name."""
    return isinstance(name, str) and bool(HUB_ID.fullmatch(name)) and not Path(name).exists()


def shorten_path(name: str) -> str:
    """Shortens a path to its last part, because paths of the training machine are useless. Hub ids are unchanged."""
    return name if is_hub_id(name) else last_name(name)


def last_name(path: str) -> str:
    """Returns the last part of a path of any system."""
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]


def shorten_command(command: str) -> str:
    """Applies `shorten_path` to the words of a command."""
    words, option = list[str](), ""
    for word in shlex.split(command):
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        option = flag.removeprefix("--").replace("-", "_") or option
        shorten = last_name if option in PATH_OPTIONS else shorten_path
        words.append(flag + equals + shorten(value))
        option = "" if value else option
    return shlex.join(words)


def shorten_paths(value: Any) -> Any:
    """Applies `shorten_path` to all paths in nested lists and dictionaries."""
    if isinstance(value, dict):
        return {key: item if key in TEXT_KEYS else _shorten_value(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [shorten_paths(item) for item in value]
    return shorten_path(value) if isinstance(value, str) else value


def _shorten_value(key: str, value: Any) -> Any:
    if isinstance(value, str) and key in ("command", *PATH_OPTIONS):
        return shorten_command(value) if key == "command" else last_name(value)
    return shorten_paths(value)


def public_metrics(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    """Removes local paths from the results. In the command, the run is replaced by `name`."""
    public = shorten_paths(metrics)
    if (metrics.get("command") or "").startswith("tgdfer evaluate "):
        arguments = shlex.split(metrics["command"])
        for flag, value in {"--output": None, "--dataset": public.get("dataset")}.items():
            if flag in arguments:
                position = arguments.index(flag)
                arguments[position : position + 2] = [flag, value] if value else []
        options = shorten_command(shlex.join(arguments[3:]))
        public["command"] = f"{shlex.join([*arguments[:2], name])} {options}".rstrip()
    return public


def public_config(run: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Reads the options of a run or of a published model folder, without local paths.

    Raises:
        UserError: If the options cannot be read.
    """
    path = next((run / name for name in ("config.yaml", "training_config.yaml") if (run / name).is_file()), None)
    options = read_yaml(path) if path else {}
    config = {key: _shorten_value(key, value) for key, value in options.items() if key not in LOCAL_OPTIONS}
    if "dataset" in config and training.get("dataset"):
        # The path of a folder on another machine may look like a Hub id, so the record of the training is used.
        revision = HubName.parse(str(options["dataset"])).revision
        config["dataset"] = shorten_path(training["dataset"]) + (f"@{revision}" if revision else "")
    return config


def relative_name(folder: Path) -> str:
    """Returns the path of a folder relative to the working directory, or only its name if it is elsewhere."""
    folder = folder.resolve()
    here = Path.cwd()
    return (folder.relative_to(here) if folder.is_relative_to(here) else Path(folder.name)).as_posix()


def read_metrics(run: Path) -> dict[str, Any]:
    """Reads the results of a run, with the facts of its training. The facts exist even if nothing was measured."""
    metrics = read_json(run / "metrics.json") if (run / "metrics.json").exists() else {}
    if "training" not in metrics and (run / "training.json").exists():
        metrics["training"] = read_json(run / "training.json")
    return metrics


def weights_facts(files: Sequence[Path]) -> dict[str, Any]:
    """Reads the size of weights from the headers of their files.

    Returns:
        `parameters` (their number), `bytes` and `dtypes`. Empty if there are no files, or one cannot be read.
    """
    parameters, dtypes = 0, set()
    try:
        for file in files:
            with safe_open(file, framework="np") as tensors:
                slices = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118 (no dictionary)
                # Integers and booleans are tokens and masks.
                weights = [part for part in slices if "F" in part.get_dtype()]
                parameters += sum(math.prod(part.get_shape()) for part in weights)
                dtypes |= {part.get_dtype() for part in weights}
    except (OSError, SafetensorError):  # Publishing says so. A card is also useful without the size.
        return {}
    size = sum(file.stat().st_size for file in files)
    return {"parameters": parameters, "bytes": size, "dtypes": sorted(dtypes)} if files else {}
