"""Options of a training as words of the command line."""

from collections.abc import Mapping
from typing import Any


def flags(options: Mapping[str, Any]) -> list[str]:
    """The command line of some options."""
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            words += [word for key, item in value.items() for word in (flag, f"{key}={item}")]
        else:
            words += [flag, str(value)]
    return words
