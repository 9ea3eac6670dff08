"""The built-in class descriptions, and the one name of each emotion among its spellings.

Each label set has a file of its own, `descriptions_NAME.yaml`. A processor that is saved carries the descriptions of
its own classes.
"""

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

LABEL_SETS = ("basic", "mafw")


@cache
def _label_set(name: str) -> dict[str, dict[str, list[str]]]:
    """Descriptions and aliases of the labels of a set, those of the set that it extends first."""
    file = Path(__file__).with_name(f"descriptions_{name}.yaml")
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    base = _label_set(own["extends"]) if "extends" in own else {}
    return {part: {**base.get(part, {}), **own[part]} for part in ("descriptions", "aliases")}


def _all(part: str) -> dict[str, list[str]]:
    return {label: texts for name in LABEL_SETS for label, texts in _label_set(name)[part].items()}


LABEL_ALIASES: dict[str, str] = {alias: label for label, aliases in _all("aliases").items() for alias in aliases}


def built_in_descriptions(labels: str | Iterable[str] = "basic") -> dict[str, list[str]]:
    """Descriptions of what the face does in each emotion and when, several a label.

    Args:
        labels: a label set, "basic" (the seven emotions of DFEW and FERV39k) or "mafw" (these, anxiety, contempt,
            disappointment and helplessness); or names of emotions of any set, in any spelling that `canonical_label`
            knows.

    Returns:
        For each canonical label, its descriptions.

    Raises:
        ValueError: a label set or labels that are not built in, by name.
    """
    if isinstance(labels, str) and labels not in LABEL_SETS:
        raise ValueError(
            f"There is no label set {labels!r}; it is one of {', '.join(LABEL_SETS)}, or a list of labels."
        )
    known = _label_set(labels)["descriptions"] if isinstance(labels, str) else _all("descriptions")
    names = list(known) if isinstance(labels, str) else [canonical_label(label) for label in labels]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"There are no built-in descriptions of {', '.join(unknown)}; write some, or keep to "
            f"{', '.join(sorted(known))}."
        )
    return {name: list(known[name]) for name in names}


def canonical_label(name: str) -> str:
    """Canonical name of an emotion: "Happy" and "HAP" are "happiness"; an unknown name only becomes lower case.

    Letters with accents are composed (Unicode NFC), because file systems and editors spell them in different ways.
    """
    name = unicodedata.normalize("NFC", name.strip().lower())
    return LABEL_ALIASES.get(name, name)
