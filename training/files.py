"""Reading and writing the small files of a run: YAML, JSON and text, each written whole or not at all."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from ruamel.yaml import YAML, YAMLError

from tgdfer.training.errors import UserError

# What makes an output unwritable that looked writable when it was asked for.
UNWRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EIO}
)

# YAML 1.2, in which `no` is a word and `1e-4` is a number.
_YAML = YAML(typ="safe", pure=True)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        UserError: if the file cannot be read, is no YAML or holds something else.
    """
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be read; write `key: value` lines.") from error
    # Numbers and dates that do not exist raise a ValueError.
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, but must hold `key: value` lines.")
    return values


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, by the rules of YAML 1.2.

    Raises:
        YAMLError: the text is not valid YAML.
    """
    return _YAML.load(text)


def read_json(path: str | Path) -> dict[str, Any]:
    """Reads a JSON file that a run has written.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or train again.") from error


def source_hash(package: ModuleType) -> str:
    """Hash of the Python files of a package, by which is known that what it makes may be another."""
    files = sorted(resources.files(package).iterdir(), key=lambda file: file.name)
    sources = (file.read_bytes() for file in files if file.name.endswith(".py"))
    return hashlib.sha256(b"".join(sources)).hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Writes a file whole or not at all: to a temporary name first, then renamed."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives the path of a file to write, which takes the place of `path` once it is whole, and else disappears.

    Args:
        path: the file that is wanted. The other one lies beside it and has the same ending.

    Raises:
        OSError: the place is full or closed; it names `path`.
    """
    path = Path(path)
    # The name of the file may be as long as its file system allows, so the temporary one does not contain it.
    ending = path.suffix if len(path.suffix) < 20 else ""
    temporary = path.with_name(f".tgdfer-{secrets.token_hex(4)}{ending}")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        # Those of FFmpeg have the numbers of the system, but are of other types.
        number = getattr(error, "errno", None)
        if number not in UNWRITABLE:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def printable(text: str) -> str:
    """A name that can be written as UTF-8, whatever bytes the file system has in it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def require_writable(path: str | Path) -> None:
    """Checks that a file or folder can be made where there may be none yet, before hours go into what it will hold.

    Raises:
        UserError: if not.
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
