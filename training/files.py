"""Reading and writing small files (YAML, JSON and text). Files are written atomically."""

import csv
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from ruamel.yaml import YAML, YAMLError

from tgdfer.training.errors import UserError

# Errors that can still occur although the output was writable when `require_writable` checked it.
UNWRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EIO}
)

# YAML 1.2 reads `no` as a string and `1e-4` as a number.
_YAML = YAML(typ="safe", pure=True)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that contains a mapping.

    Raises:
        UserError: If the file cannot be read, is not valid YAML, or does not contain a mapping.
    """
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be read; write `key: value` lines.") from error
    # Impossible numbers and dates raise a ValueError.
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} contains a {type(values).__name__}, but must contain `key: value` lines.")
    return values


def parse_yaml(text: str) -> Any:
    """Parses a text as YAML 1.2.

    Raises:
        YAMLError: If the text is not valid YAML.
    """
    return _YAML.load(text)


def dump_yaml(values: dict[str, Any]) -> str:
    """Writes a mapping as YAML that versions 1.1 and 1.2 read back as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.2 would read as something else, such as `1234e56`. PyYAML itself follows YAML 1.1."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        try:
            is_plain = parse_yaml(text) == text
        except (YAMLError, ValueError):
            is_plain = False
        return self.represent_scalar("tag:yaml.org,2002:str", text, None if is_plain else '"')


_Dumper.add_representer(str, _Dumper.represent_str)


def csv_rows(text: str) -> list[dict[str, str | None]]:
    """Parses a CSV table with a header.

    Args:
        text (`str`): Contents of the file.

    Returns:
        The cells of each row by their column. Missing cells are None.

    Raises:
        ValueError: If a row has more cells than the header.
        csv.Error: If the text is not CSV.
    """
    rows = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 1):
        if any(row.pop(None, [])):
            raise ValueError(f"row {number} has more cells than the header")
        rows.append(row)
    return rows


def read_json(path: str | Path) -> dict[str, Any]:
    """Reads a JSON file that a training run wrote.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or train again.") from error


def source_hash(package: ModuleType) -> str:
    """Returns a hash of the Python files of a package. It is used to invalidate cached output of the package."""
    files = sorted(resources.files(package).iterdir(), key=lambda file: file.name)
    sources = (file.read_bytes() for file in files if file.name.endswith(".py"))
    return hashlib.sha256(b"".join(sources)).hexdigest()


def source_state(path: Path) -> dict[str, int] | None:
    """Returns the state of a video, by which a changed video is recognised.

    Args:
        path (`Path`): A file, or a folder of frames.

    Returns:
        Size in bytes and modification time in nanoseconds. None if the video is not a file or a folder.
    """
    try:
        files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except OSError:
        return None
    if not stats:
        return None
    return {"size": sum(stat.st_size for stat in stats), "mtime": max(stat.st_mtime_ns for stat in stats)}


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically: under a temporary name first, then renamed."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to. On success, the temporary file replaces `path`. Otherwise it is deleted.

    Args:
        path (`str` or `Path`): File to write. The temporary file is in the same folder and has the same suffix.

    Raises:
        OSError: If `path` cannot be written, for example because the disk is full. The error names `path`.
    """
    path = Path(path)
    # A file name may have the maximum length of the file system. So the temporary name does not contain it.
    ending = path.suffix if len(path.suffix) < 20 else ""
    temporary = path.with_name(f".tgdfer-{secrets.token_hex(4)}{ending}")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        # Errors of FFmpeg have an error number of the operating system, but are not an OSError.
        number = getattr(error, "errno", None)
        if number not in UNWRITABLE:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def printable(text: str) -> str:
    """Returns a name in which bytes that are not valid UTF-8, and control characters, are escaped.

    Control characters could change the terminal that shows the name.
    """
    valid = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(repr(one)[1:-1] if unicodedata.category(one) == "Cc" else one for one in valid)


def require_writable(path: str | Path) -> None:
    """Checks that a file or folder can be created, before a long computation whose results it will contain.

    Args:
        path (`str` or `Path`): The file or folder. Its parent folders need not exist.

    Raises:
        UserError: If it cannot be created.
    """
    folder = Path(path).absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"Cannot write {path}: the name is too long; give a shorter one.") from error
    if not folder.is_dir():
        raise UserError(f"Cannot write {path}: {folder} is not a folder; name another place.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"Cannot write {path}: you may not write to {folder}; name another place.")


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to write to, which replaces `folder` if the `with` block succeeds.

    Raises:
        OSError: If the files cannot be written, for example because the disk is full. The error names `folder`.
    """
    folder = Path(os.path.abspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (folder.with_name(f".tgdfer-{secrets.token_hex(4)}") for _ in range(2))
    try:
        draft.mkdir()
        yield draft
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(draft, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise OSError(error.errno, os.strerror(error.errno or 0), str(folder)) from error
    finally:
        for leftover in (draft, old):
            with suppress(OSError):
                shutil.rmtree(leftover)
