"""Figures: confusion matrix, risk-coverage curve, timelines, and videos with predictions drawn in.

All figures are drawn with matplotlib objects, which need no window. However, importing matplotlib fails if
`MPLBACKEND` names a backend that is not installed. Notebooks set this variable for all their processes.
"""

import os
import sys
from contextlib import suppress


def _import_matplotlib() -> None:
    """Imports matplotlib without `MPLBACKEND`, and then selects this backend if it is installed."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend


if "MPLBACKEND" in os.environ and "matplotlib" not in sys.modules:
    _import_matplotlib()
