"""The versions of packages that published files need: those with which the model was published."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

_NAME = re.compile(r"[\w.-]+")


def dependencies() -> list[str]:
    """Returns the names of the packages that this package requires, without those of its extras."""
    found = (_NAME.match(line) for line in requires("tgdfer") or [] if "extra ==" not in line)
    return [name[0] for name in found if name]


def pinned(names: Iterable[str]) -> str:
    """Returns the text of a `requirements.txt` with the installed version of each package.

    Builds for one kind of hardware have a local version, such as `2.9.0+cu128`. It is left out, because the package
    index offers only the public version. A package that is not installed is not pinned.
    """
    return "".join(f"{_requirement(name)}\n" for name in names)


def _requirement(name: str) -> str:
    try:
        return f"{name}=={version(name).partition('+')[0]}"
    except PackageNotFoundError:
        return name
