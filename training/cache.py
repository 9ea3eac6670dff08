"""The cache of frame features and indexes of videos on this machine: its folder, its limit, and removing files."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import cached_assets_path, try_to_load_from_cache
from huggingface_hub.constants import HF_ASSETS_CACHE
from rich import get_console
from rich.filesize import decimal
from rich.table import Table

from tgdfer.processing.detectors_tgdfer import YUNET
from tgdfer.training.errors import UserError

# Maximum size in bytes of the cached features. Above it, the least recently used files are removed.
DEFAULT_LIMIT = 10 * 10**9
_LIMIT = "TGDFER_CACHE_LIMIT"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_KINDS = {
    "features": "frame features of a data set",
    "activations": "activations of the vision tower for a data set",
    "indexes": "faces of a video for tgdfer find",
}


@dataclass(frozen=True)
class CachedFile:
    """A file in the cache.

    Attributes:
        path (`Path`): Path of the file.
        kind (`str`): Description of its contents.
        size (`int`): Size in bytes.
        used (`float`): Time of the last use, in seconds since the epoch.
    """

    path: Path
    kind: str
    size: int
    used: float


def cache_folder() -> Path:
    """Returns the folder of all cached files: `tgdfer` in the assets cache of `huggingface_hub`.

    The parent folder is `$TGDFER_CACHE`, by default `$HF_ASSETS_CACHE`, by default `~/.cache/huggingface/assets`.
    """
    return Path(os.environ.get("TGDFER_CACHE") or HF_ASSETS_CACHE).expanduser() / "tgdfer"


def kind_folder(kind: str) -> Path:
    """Returns the folder for files of a kind, such as "features", and creates it if it does not exist.

    Raises:
        OSError: If the folder cannot be created.
        ValueError: If its path exists and is not a folder.
    """
    return cached_assets_path("tgdfer", kind, "clips", assets_dir=cache_folder().parent)


def cache_limit() -> int:
    """Returns the maximum size of the cache in bytes: `$TGDFER_CACHE_LIMIT`, such as `2GB`, by default 10 GB.

    Raises:
        UserError: If the variable is not a size.
    """
    text = os.environ.get(_LIMIT, "").strip().upper().replace(" ", "")
    if not text:
        return DEFAULT_LIMIT
    number = text.rstrip("KMGTB")
    try:
        return int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError) as error:
        raise UserError(
            f"{_LIMIT} is {os.environ[_LIMIT]!r}, which is not a size: set it to, for example, 2GB."
        ) from error


def cached_files() -> list[CachedFile]:
    """Returns the files in the cache, the most recently used one first."""
    found = []
    for kind, description in _KINDS.items():
        for path in (cache_folder() / kind).glob("*/*.safetensors"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # Another process has removed it in the meantime.
            found.append(CachedFile(path, description, facts.st_size, facts.st_mtime))
    return sorted(found, key=lambda file: -file.used)


def mark_used(path: Path) -> None:
    """Records that a file is used now, so that less recently used files are removed before it."""
    os.utime(path)


def trim_cache(limit: int | None = None) -> list[CachedFile]:
    """Removes the least recently used files until the cache is within its limit. The most recent file always stays.

    Args:
        limit (`int`, *optional*): Maximum size in bytes. By default `cache_limit()`.

    Returns:
        The removed files.
    """
    limit = cache_limit() if limit is None else limit
    removed, total = [], 0
    for place, file in enumerate(cached_files()):
        total += file.size
        if place > 0 and total > limit:
            file.path.unlink(missing_ok=True)
            removed.append(file)
    return removed


def clear_cache(days: float | None = None) -> list[CachedFile]:
    """Removes cached files.

    Args:
        days (`float`, *optional*): Only files that were not used for this number of days are removed. By default all
            files are.

    Returns:
        The removed files.
    """
    removed = [file for file in cached_files() if days is None or file.used < time.time() - 86400 * days]
    for file in removed:
        file.path.unlink(missing_ok=True)
    return removed


def print_cache() -> None:
    """Prints a table of the cached files, and the size and the folder of the cache."""
    files = cached_files()
    table = Table("file", "what it holds", "size", "last used")
    for file in files:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
        table.add_row(file.path.name, file.kind, decimal(file.size), used)
    console = get_console()
    if files:
        console.print(table)
    total = sum(file.size for file in files)
    lines = [f"{cache_folder()}: {decimal(total)} of at most {decimal(cache_limit())} ({_LIMIT})."]
    detector = try_to_load_from_cache(*YUNET)
    if isinstance(detector, str):
        lines.append(f"The face detector is in the cache of the Hub: {detector}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
