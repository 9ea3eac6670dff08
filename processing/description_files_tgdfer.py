"""Files of class descriptions, which users write: YAML or JSON, of which only text is taken."""

import unicodedata
from pathlib import Path
from typing import Any

import yaml

_TEXT, _TRUTH = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool"


def read_descriptions(file: str | Path) -> dict[str, Any]:
    """Reads a YAML or JSON file of `label: [description, ...]`. Labels are text, also `no` and `01`.

    Returns:
        What the file has for each label, which is not checked. Labels are composed (Unicode NFC).

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
    """
    try:
        loader = yaml.SafeLoader(Path(file).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if isinstance(node, yaml.MappingNode):
            _take_as_text(node)
            words = loader.construct_document(node)
            if all(isinstance(label, str) for label in words):
                return {unicodedata.normalize("NFC", label): texts for label, texts in words.items()}
    except RecursionError as error:
        raise ValueError(f"{file} is nested too deeply; write `label: [description, ...]` lines.") from error
    # Numbers and dates that do not exist are values of a wrong kind, not mistakes of YAML.
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from error
    raise ValueError(f"{file} holds no descriptions; write `label: [description, ...]` lines.")


def _take_as_text(words: yaml.MappingNode) -> None:
    """Marks labels as text, and words in the lists that YAML 1.1 takes for true or false, such as `no` and `on`."""
    for label, texts in words.value:
        if isinstance(label, yaml.ScalarNode):
            label.tag = _TEXT
        for text in texts.value if isinstance(texts, yaml.SequenceNode) else []:
            if text.tag == _TRUTH:
                text.tag = _TEXT
