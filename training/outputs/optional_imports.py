"""Importing optional libraries."""

import importlib
from typing import Any

from tgdfer.training.errors import UserError


def import_optional(module: str, distribution: str) -> Any:
    """Imports an optional library.

    Args:
        module (`str`): Name of the module.
        distribution (`str`): Name of the package for pip.

    Raises:
        UserError: If the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"This output needs the library {distribution}: `pip install {distribution}`.") from error
