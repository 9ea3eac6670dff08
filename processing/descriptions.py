"""Built-in class descriptions, and canonical names of emotions.

Each label set has its own file, `descriptions_NAME.yaml`. A saved processor contains the descriptions of its classes.
"""

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

LABEL_SETS = ("basic", "mafw")


@cache
def _label_set(name: str) -> dict[str, dict[str, list[str]]]:
    """Reads the descriptions and aliases of a label set, including those of the set that it extends."""
    file = Path(__file__).with_name(f"descriptions_{name}.yaml")
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    base = _label_set(own["extends"]) if "extends" in own else {}
    return {part: {**base.get(part, {}), **own[part]} for part in ("descriptions", "aliases")}


def _all(part: str) -> dict[str, list[str]]:
    return {label: texts for name in LABEL_SETS for label, texts in _label_set(name)[part].items()}


LABEL_ALIASES: dict[str, str] = {alias: label for label, aliases in _all("aliases").items() for alias in aliases}


def built_in_descriptions(labels: str | Iterable[str] = "basic") -> dict[str, list[str]]:
    """Returns the built-in descriptions of how a face looks in each emotion. Each label has several descriptions.

    Args:
        labels (`str` or `Iterable[str]`, *optional*, defaults to `"basic"`): A label set, or names of emotions in any
            spelling that `canonical_label` knows. The label set "basic" has the seven emotions of DFEW and FERV39k.
            "mafw" adds anxiety, contempt, disappointment and helplessness.

    Returns:
        `dict[str, list[str]]`: The descriptions of each canonical label.

    Raises:
        ValueError: If the label set or a label is not built in.
    """
    if isinstance(labels, str) and labels not in LABEL_SETS:
        raise ValueError(f"There is no label set {labels!r}; use one of {', '.join(LABEL_SETS)}, or a list of labels.")
    known = _label_set(labels)["descriptions"] if isinstance(labels, str) else _all("descriptions")
    names = list(known) if isinstance(labels, str) else [canonical_label(label) for label in labels]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"There are no built-in descriptions of {', '.join(unknown)}; write some, or use labels among "
            f"{', '.join(sorted(known))}."
        )
    return {name: list(known[name]) for name in names}


def canonical_label(name: str) -> str:
    """Returns the canonical name of an emotion, such as "happiness" for "Happy" and "HAP".

    An unknown name is converted to lower case. Accented letters are composed (Unicode NFC), because file systems and
    editors encode them in different ways.

    Args:
        name (`str`): Name or abbreviation of an emotion.

    Returns:
        `str`: The canonical name.
    """
    name = unicodedata.normalize("NFC", name.strip().lower())
    return LABEL_ALIASES.get(name, name)
