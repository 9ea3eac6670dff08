"""Libraries of which an installation may lack one."""

import importlib
from typing import Any

from tgdfer.training.errors import UserError


def require(module: str, distribution: str) -> Any:
    """Imports a library.

    Args:
        module: its name in Python.
        distribution: its name for pip.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"This output needs the library {distribution}: `pip install {distribution}`.") from error
