"""Figures: confusion matrix, risk against coverage, timelines, and videos with predictions drawn in.

All of them are drawn with the objects of matplotlib, which need no window. But matplotlib reads `MPLBACKEND` when it
is imported, and fails where it names a backend that is not installed; notebooks set it for all their processes.
"""

import os
import sys
from contextlib import suppress


def _import_matplotlib() -> None:
    """Imports matplotlib without the backend of `MPLBACKEND`, and then sets it where it is there."""
    wanted = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = wanted


if "MPLBACKEND" in os.environ and "matplotlib" not in sys.modules:
    _import_matplotlib()
