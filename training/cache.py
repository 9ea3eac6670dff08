"""The cache: what the package keeps on this machine so that it need not be computed or downloaded again."""

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

# Bytes that the features of data sets may take. Beyond, those that were not used for longest are removed.
DEFAULT_LIMIT = 10 * 10**9
_LIMIT = "TGDFER_CACHE_LIMIT"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_KINDS = {
    "features": "frame features of a data set",
    "activations": "activations of the vision tower for a data set",
}


@dataclass(frozen=True)
class CachedFile:
    """A file that the package keeps.

    Attributes:
        path: the file.
        kind: what it holds, in words.
        size: bytes.
        used: when it was last used, in seconds since the epoch.
    """

    path: Path
    kind: str
    size: int
    used: float


def cache_folder() -> Path:
    """Folder of everything that can be computed again, in the assets cache of `huggingface_hub`.

    `$TGDFER_CACHE` names another place for it than `$HF_ASSETS_CACHE`, which is by default
    `~/.cache/huggingface/assets`.
    """
    return Path(os.environ.get("TGDFER_CACHE") or HF_ASSETS_CACHE).expanduser() / "tgdfer"


def kind_folder(kind: str) -> Path:
    """Folder of the files of a kind, such as "features". It is made if it does not exist.

    Raises:
        OSError: it cannot be made.
        ValueError: something else has its name.
    """
    return cached_assets_path("tgdfer", kind, "clips", assets_dir=cache_folder().parent)


def cache_limit() -> int:
    """Bytes that the files of `cache_folder` may take: `$TGDFER_CACHE_LIMIT`, such as `2GB`, by default 10 GB.

    Raises:
        UserError: the variable is not a size.
    """
    text = os.environ.get(_LIMIT, "").strip().upper().replace(" ", "")
    if not text:
        return DEFAULT_LIMIT
    number = text.rstrip("KMGTB")
    try:
        return int(float(number) * _UNITS[text[len(number) :]])
    except (ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{_LIMIT} is {os.environ[_LIMIT]!r}, which is no size: set it to one such as 2GB.") from error


def cached_files() -> list[CachedFile]:
    """The files of `cache_folder`, the one that was used last first."""
    found = []
    for kind, words in _KINDS.items():
        for path in (cache_folder() / kind).glob("*/*.safetensors"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # Another process has removed it meanwhile.
            found.append(CachedFile(path, words, facts.st_size, facts.st_mtime))
    return sorted(found, key=lambda file: -file.used)


def mark_used(path: Path) -> None:
    """Notes that a file is in use, so that others are removed before it."""
    os.utime(path)


def trim_cache(limit: int | None = None) -> list[CachedFile]:
    """Removes the files that were not used for longest until the others are within the limit, but never the last one.

    Args:
        limit: bytes; default `cache_limit()`.

    Returns:
        The files that were removed.
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
    """Removes the files of the cache folder that were not used for so many days; all of them where None.

    Returns:
        The files that were removed.
    """
    removed = [file for file in cached_files() if days is None or file.used < time.time() - 86400 * days]
    for file in removed:
        file.path.unlink(missing_ok=True)
    return removed


def print_cache() -> None:
    """Prints what is kept where."""
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
