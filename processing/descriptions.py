"""The built-in class descriptions, and the one name of each emotion among its spellings.

They live in `descriptions.yaml`. A processor that is saved carries the descriptions of its own classes.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

BASIC_EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


@cache
def _file() -> dict[str, dict[str, list[str]]]:
    return yaml.safe_load(Path(__file__).with_name("descriptions.yaml").read_text(encoding="utf-8"))


LABEL_ALIASES: dict[str, str] = {alias: label for label, aliases in _file()["aliases"].items() for alias in aliases}


def built_in_descriptions(labels: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Descriptions of what the face does in each emotion and when, several a label.

    Args:
        labels: names of emotions, in any spelling that `canonical_label` knows; default: the seven basic ones. Built
            in are those and, as in MAFW, anxiety, contempt, disappointment and helplessness.

    Returns:
        For each canonical label, its descriptions.

    Raises:
        ValueError: labels that are not built in, by name.
    """
    known = _file()["descriptions"]
    names = [canonical_label(label) for label in (BASIC_EMOTIONS if labels is None else labels)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"There are no built-in descriptions of {', '.join(unknown)}; write some, or keep to "
            f"{', '.join(sorted(known))}."
        )
    return {name: list(known[name]) for name in names}


def canonical_label(name: str) -> str:
    """Canonical name of an emotion: "Happy" and "HAP" are "happiness"; an unknown name only becomes lower case."""
    name = name.strip().lower()
    return LABEL_ALIASES.get(name, name)
