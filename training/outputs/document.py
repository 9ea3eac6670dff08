"""The JSON document of predictions, whose schema is `prediction.schema.json`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

# Increases when the format changes in a way that readers must adapt to.
SCHEMA_VERSION = 1
SCHEMA_FILE = "prediction.schema.json"
# Arrays of pixels in a result that are only used to draw figures. They are not part of the JSON.
PIXELS = ("thumbnails", "thumbnail_seconds")


@dataclass(frozen=True)
class Run:
    """Everything except the video that determines the results for a video.

    Attributes:
        model (`str`): Model as the user named it.
        weights (`str`): Hash of the parameters of the model and of the config fields that affect its answers.
        labels (`list[str]`): Classes of the model.
        options (`dict[str, Any]`, *optional*): All options that affect results, by name.
    """

    model: str
    weights: str
    labels: list[str]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of the run. It does not include the name of the model, because a model can have several paths."""
        facts = {name: value for name, value in asdict(self).items() if name != "model"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def document(results: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str], run: Run) -> dict[str, Any]:
    """Creates the JSON document of results.

    Args:
        results (`Mapping[str, Mapping[str, Any]]`): Output of the pipeline for each video, with explanations.
        errors (`Mapping[str, str]`): Reason for each video that cannot be read.
        run (`Run`): Model and options.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "run": asdict(run),
        "results": [{"file": video, **without_pixels(result)} for video, result in results.items()],
        "errors": [{"file": video, "error": reason} for video, reason in errors.items()],
    }


def without_pixels(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a result without its thumbnails. It contains only values that JSON can represent."""
    people = [{name: value for name, value in person.items() if name not in PIXELS} for person in result["people"]]
    return {**result, "people": people}


def json_text(value: Any) -> str:
    """Returns the JSON text of a document. It is ASCII, because file names may contain invalid Unicode."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def load_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of the document."""
    return json.loads((resources.files(__package__) / SCHEMA_FILE).read_text(encoding="utf-8"))
