"""Reading of class descriptions from YAML or JSON files."""

import unicodedata
from pathlib import Path
from typing import Any

import yaml

_TEXT, _TRUTH = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool"


def read_descriptions(file: str | Path) -> dict[str, Any]:
    """Reads a YAML or JSON file of `label: [description, ...]`. All labels are read as text, including `no` and `01`.

    Args:
        file (`str` or `Path`): Path of the file.

    Returns:
        `dict[str, Any]`: The unchecked value of each label. Labels are composed (Unicode NFC).

    Raises:
        ValueError: If the file has another structure.
        OSError: If the file cannot be read.
    """
    try:
        loader = yaml.SafeLoader(Path(file).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if isinstance(node, yaml.MappingNode):
            _mark_as_text(node)
            descriptions = loader.construct_document(node)
            if all(isinstance(label, str) for label in descriptions):
                return {unicodedata.normalize("NFC", label): texts for label, texts in descriptions.items()}
    except RecursionError as error:
        raise ValueError(f"{file} is nested too deeply; write `label: [description, ...]` lines.") from error
    # PyYAML raises a ValueError, and not a YAMLError, for malformed dates and numbers.
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from error
    raise ValueError(f"{file} holds no descriptions; write `label: [description, ...]` lines.")


def _mark_as_text(descriptions: yaml.MappingNode) -> None:
    """Marks labels as text, and also words in the lists that YAML 1.1 reads as booleans, such as `no` and `on`."""
    for label, texts in descriptions.value:
        if isinstance(label, yaml.ScalarNode):
            label.tag = _TEXT
        for text in texts.value if isinstance(texts, yaml.SequenceNode) else []:
            if text.tag == _TRUTH:
                text.tag = _TEXT
