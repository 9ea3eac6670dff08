"""Metric modules for `evaluate.load`, which takes the path of a file and works without a network."""

from functools import cache
from pathlib import Path
from typing import Any


@cache
def load_metric(name: str) -> Any:
    """The metric of this folder of that name: expression_recognition, frame_localisation or segment_localisation."""
    import evaluate

    return evaluate.load(str(Path(__file__).with_name(f"{name}.py")))
