"""What the embedded weights were trained on, with licences, for `training_data` in their configs."""

import json
from pathlib import Path
from typing import Any

from tgdfer.training.files import read_json, write_text

FERPLUS = {
    "name": "FER2013 with the votes of FER+",
    "kind": "photographs",
    "source": "https://github.com/microsoft/FERPlus",
    "license": "none stated for the photographs, mit for the votes",
    "terms": "The photographs come from image search and were published for research. Their rights belong to their"
    " owners, which matters if these weights are used in a product.",
    "citation": "Goodfellow et al., 2013, arXiv 1307.0414; Barsoum et al., 2016, arXiv 1608.01041",
}
PUBLIC_FIGURES = {
    "name": "photographs of public figures from muxspace/facial_expressions",
    "kind": "photographs",
    "source": "https://github.com/muxspace/facial_expressions",
    "license": "apache-2.0",
    "terms": "The licence is that of the repository.",
}
CLIPS_OF_PUBLIC_FIGURES = {
    **PUBLIC_FIGURES,
    "name": "clips made of photographs of public figures from muxspace/facial_expressions",
    "kind": "clips made of photographs",
}
RENDERED_PICTURES = {
    "name": "pictures of faces rendered by tgdfer",
    "kind": "rendered pictures",
    "license": "apache-2.0",
}
RENDERED_CLIPS = {"name": "clips of faces rendered by tgdfer", "kind": "rendered clips", "license": "apache-2.0"}


def counted(entry: dict[str, str], number: int) -> dict[str, Any]:
    """Returns an entry of `training_data` with its number of pictures or clips."""
    return {**entry, "num_clips": number}


def write_training_data(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Writes the training data of a model to its `config.json`."""
    config = read_json(folder / "config.json") | {"training_data": entries}
    write_text(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
