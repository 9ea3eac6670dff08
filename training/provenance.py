"""What a run was made of: its training data with their licence, the versions of the libraries, and the hardware."""

import json
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from huggingface_hub import DatasetCard, DatasetCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx
from yaml import YAMLError

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.reading_options import PUBLISHED_NAMES
from tgdfer.training.revisions import HubName

# Libraries whose version can change the result of a training.
LIBRARIES = ("tgdfer", "torch", "torchvision", "transformers", "accelerate", "peft", "datasets", "av")


def dataset_entry(dataset: str, split: str, num_clips: int) -> dict[str, Any]:
    """Describes the training data of a run as an entry of `TGDFERConfig.training_data`.

    The licence is the `license` in the metadata of the `README.md` of the data set. It is missing if the data set has
    no such file, or the file states no licence.

    Args:
        dataset (`str`): Hub id, folder or file of the data set, or name of a published one. Of a path, only the last
            part is recorded.
        split (`str`): Name of the training split.
        num_clips (`int`): Number of training clips.
    """
    if dataset in PUBLISHED_NAMES:
        return {"name": dataset, "kind": "clips", "num_clips": num_clips, "split": split}
    is_local = os.path.exists(os.path.expanduser(dataset))
    dataset = dataset if is_local else HubName.parse(dataset).name
    card = _read_card(dataset, is_local)
    entry: dict[str, Any] = {
        "name": Path(dataset).expanduser().resolve().name if is_local else dataset,
        "kind": "rendered clips" if "rendered-faces" in (getattr(card, "tags", None) or []) else "clips",
        "num_clips": num_clips,
        "split": split,
        "license": _license_of(card),
        "source": None if is_local else f"https://huggingface.co/datasets/{dataset}",
    }
    return {name: value for name, value in entry.items() if value is not None}


def with_entry(
    before: list[dict[str, Any]] | None, model: str, entry: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Adds the data of a training to those of the model that it starts from.

    Args:
        before (`list[dict[str, Any]]`, *optional*): `training_data` of the initial model. If nothing was recorded, an
            entry says so.
        model (`str`): Hub id, folder or name of the initial model.
        entry (`dict[str, Any]`, *optional*): Data of the training. An earlier entry of the same data is replaced. Data
            on the Hub and published data are the same if their names are, whatever their number of clips. Of folders
            only the last part is recorded, so the number must be the same, too. Another licence is never replaced.
    """
    if not before:
        name = Path(model).expanduser().resolve().name if os.path.isdir(os.path.expanduser(model)) else model
        before = [{"name": f"training data of {name}", "kind": "not recorded"}]
    if entry is None:
        return before
    is_known = "source" in entry or entry["name"] in PUBLISHED_NAMES
    key = ("name", "source", "split", "license", "kind", *(() if is_known else ("num_clips",)))
    kept = [other for other in before if any(other.get(name) != entry.get(name) for name in key)]
    return [*kept, entry]


def environment_facts(accelerator: Accelerator, model: TGDFERForVideoClassification) -> dict[str, Any]:
    """Returns the LoRA, the versions of the libraries and the hardware of a training.

    Args:
        accelerator (`Accelerator`): Accelerator of the training.
        model (`TGDFERForVideoClassification`): Model to train.

    Returns:
        `lora` (empty if it is not attached), `versions` by library, and `hardware` with `device`, `processes` and
        `mixed_precision`.
    """
    config = model.config
    lora = {
        "layers": config.lora_layers,
        "text_layers": config.lora_text_layers,
        "rank": config.lora_rank,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
    }
    for name in ("options", "text_options"):
        lora |= {name: fields} if (fields := getattr(config, f"lora_{name}")) else {}
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # Optional, or run from a folder that is not installed.
            continue
    on_gpu = accelerator.device.type == "cuda"
    device = torch.cuda.get_device_name(accelerator.device) if on_gpu else _cpu_name()
    hardware = {
        "device": device,
        "processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
    }
    return {"lora": lora if model.has_lora else {}, "versions": versions, "hardware": hardware}


def machine() -> dict[str, Any]:
    """Describes the machine without its name or owner. Other machines may round numbers differently."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "system": platform.platform(),
        "cores": cores,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }


def command() -> str:
    """Returns the command line of this process, without the folder of the program."""
    interpreter, *rest = sys.orig_argv
    if rest and Path(rest[0]).name == "tgdfer":
        return shlex.join(["tgdfer", *rest[1:]])
    return shlex.join([Path(interpreter).name, *rest])


def commit() -> str | None:
    """Returns the commit of the running code, with `-dirty` if files have changed. None if it is not known.

    It is known in a clone of the repository, and after an installation from a Git address.
    """
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # A copy of this folder inside another repository does not belong to the commits of that repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return _installed_commit()


def _installed_commit() -> str | None:
    """Returns the commit that pip recorded for an installation from a Git address."""
    try:
        origin = json.loads(Distribution.from_name("tgdfer").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    return origin.get("vcs_info", {}).get("commit_id")


def _cpu_name() -> str:
    """Returns the number of threads that torch uses on the CPU, and the architecture of the CPU."""
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def _read_card(dataset: str, is_local: bool) -> DatasetCardData:
    """Reads the metadata of the card of a data set. They are empty if there is no card that can be read."""
    try:
        source = Path(dataset).expanduser() / "README.md" if is_local else dataset
        return DatasetCard.load(source, ignore_metadata_errors=True).data
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx.TransportError):
        return DatasetCardData()
    except (OSError, ValueError, YAMLError):  # The file cannot be read, or is no card.
        return DatasetCardData()


def _license_of(card: DatasetCardData) -> str | None:
    """Returns the licence in the metadata of a card. Several licences are joined."""
    stated = card.license
    if stated == "other":
        stated = getattr(card, "license_name", None) or stated
    if isinstance(stated, list):
        return " and ".join(map(str, stated)) or None
    return str(stated) if stated else None
