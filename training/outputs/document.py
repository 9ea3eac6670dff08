"""The JSON of predictions: what describes a run, and the document whose schema is `prediction.schema.json`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

# Goes up when a reader of the JSON would have to change.
SCHEMA_VERSION = 1
SCHEMA_FILE = "prediction.schema.json"
# Arrays of pixels that come with a result for pictures, and are no part of the JSON.
PIXELS = ("thumbnails", "thumbnail_seconds")


@dataclass(frozen=True)
class Run:
    """What the results of a video depend on, beside the video.

    Attributes:
        model: how the model was named.
        weights: hash of the parameters of the model and of what it says about them.
        labels: the classes of the model.
        options: all options that change results, by name.
    """

    model: str
    weights: str
    labels: list[str]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of the run. The name of the model is no part of it, since the same model may have another path."""
        told = {name: value for name, value in asdict(self).items() if name != "model"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def document(results: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str], run: Run) -> dict[str, Any]:
    """The JSON document of some results.

    Args:
        results: for each video what the pipeline gives, with explanations.
        errors: for each video that cannot be read the reason.
        run: model and options.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "run": asdict(run),
        "results": [{"file": video, **without_pixels(result)} for video, result in results.items()],
        "errors": [{"file": video, "error": reason} for video, reason in errors.items()],
    }


def without_pixels(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without its thumbnails, so that it is plain values only."""
    people = [{name: value for name, value in person.items() if name not in PIXELS} for person in result["people"]]
    return {**result, "people": people}


def json_text(value: Any) -> str:
    """JSON of a document. Other letters than ASCII are escaped, since file names may be no valid Unicode."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def load_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document."""
    return json.loads((resources.files(__package__) / SCHEMA_FILE).read_text(encoding="utf-8"))
