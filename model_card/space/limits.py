"""The limits of a model that the page shows: what holds for every model, and what was measured for this one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from tgdfer.training.models import model_source
from tgdfer.training.revisions import HubName
from tgdfer.training.saved_weights import weights_sha256

GENERAL = (
    "The answer names an expression: what a face shows. It does not tell what somebody feels, and no decision about a"
    " person should depend on it.",
    "Small, turned, covered or dark faces are often misread. Ask the people you film.",
)
# A class that is found less often than this is named.
WEAK_RECALL = 0.7


@dataclass(frozen=True)
class Limitations:
    """Sentences about the limits of a model.

    Attributes:
        general (`Sequence[str]`): What holds for every model.
        weak (`Sequence[str]`): The classes that were rarely found in the test, if the model was measured.
        remarks (`Sequence[str]`): What the authors of the model wrote.
    """

    general: Sequence[str] = GENERAL
    weak: Sequence[str] = ()
    remarks: Sequence[str] = ()


def limits_of(model: str | Path) -> Limitations:
    """Returns the limits of a model, from its `metrics.json` and its `training.json`.

    Args:
        model (`str` or `Path`): Folder of a run or of a model, Hub id, or name of a model in the package.
    """
    metrics = _read(model, "metrics.json")
    training = metrics.get("training") or _read(model, "training.json")
    measured = [metrics, *(metrics.get("also_measured") or [])] if _is_of_model(metrics, model) else []
    weak = [sentence for one in measured for sentence in _weak_classes(one)]
    return Limitations(weak=weak, remarks=training.get("limits") or [])


def _is_of_model(metrics: dict[str, Any], model: str | Path) -> bool:
    """Whether the results are those of the weights of a model, as far as both are known."""
    measured = metrics.get("weights_sha256")
    return not measured or weights_sha256(model_source(model)) in (None, measured)


def _weak_classes(measured: dict[str, Any]) -> list[str]:
    """Returns a sentence about the classes with a low recall in one data set, or nothing."""
    recall = measured.get("recall") or {}
    counts = dict(zip(measured.get("labels") or [], map(sum, measured.get("confusion_matrix") or []), strict=False))
    weak = [
        f"{value:.0%} of {counts[label]} for {label}"
        for label, value in sorted(recall.items(), key=lambda one: one[1] if one[1] is not None else 1.0)
        if value is not None and value < WEAK_RECALL and counts.get(label)
    ]
    if not weak:
        return []
    name = measured.get("dataset") or "its test"
    if measured.get("seen_in_training"):
        name += ", which has clips that the model was trained on"
    listed = " and ".join([", ".join(weak[:-1]), weak[-1]] if weak[1:] else weak)
    return [f"In {name}, the model named the right expression only for {listed}."]


def _read(model: str | Path, name: str) -> dict[str, Any]:
    """Reads a JSON file of a model, or of the run that contains it. Returns {} if there is none."""
    folder = Path(model).expanduser()
    folders = [folder, folder.parent] if folder.name in ("best", "last") else [folder]
    path = next((one / name for one in folders if (one / name).is_file()), None)
    if path is None:
        found = cached_file(
            model_source(model),
            name,
            **HubName.parse(str(model)).options,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        path = None if found is None else Path(found)
    try:
        content = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
