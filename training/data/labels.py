"""The labels of clips and their descriptions."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import yaml

from tgdfer.processing.description_files_tgdfer import read_descriptions
from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.soft_labels import SoftLabels
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)


def descriptions_for(
    labels: Sequence[str], path: str | None = None, known: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """Returns the descriptions of each label: those of the user's file, of the model, or the built-in ones.

    Args:
        labels (`Sequence[str]`): Canonical labels.
        path (`str`, *optional*): YAML file of `label: [description, ...]`.
        known (`dict[str, list[str]]`, *optional*): Descriptions of the model that training starts from.

    Raises:
        UserError: If a label has no descriptions (the message contains a template of the file to write), or if the
            file is not valid.
    """
    own = {canonical_label(label): texts for label, texts in _read_file(path).items()}
    built_in = _built_in(labels)
    descriptions = {label: own.get(label) or (known or {}).get(label) or built_in.get(label) for label in labels}
    missing = sorted(label for label, texts in descriptions.items() if not texts)
    if missing:
        template = yaml.safe_dump(
            {
                label: [
                    f"what brows, eyes and mouth do when a face shows {label}",
                    f"another sign of {label}, or the situation that it comes from",
                ]
                for label in missing
            },
            width=119,
            allow_unicode=True,
        )
        raise UserError(
            f"There is no description of {', '.join(map(repr, missing))}: fill in these lines, save them as a YAML"
            f" file, and give it with --descriptions FILE.\n\n{template}\n"
        )
    return {label: texts for label, texts in descriptions.items() if texts}


def _read_file(path: str | None) -> dict[str, list[str]]:
    """Reads a file of descriptions, if there is one."""
    try:
        descriptions = read_descriptions(path) if path else {}
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    for label, texts in descriptions.items():
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise UserError(f"{path}: {label!r} must have a list of descriptions, such as `{label}: [a frown]`.")
    return descriptions


def _built_in(labels: Sequence[str]) -> dict[str, list[str]]:
    """Returns the built-in descriptions of the labels that have some."""
    found: dict[str, list[str]] = {}
    for label in labels:
        try:
            found |= built_in_descriptions([label])
        except ValueError:  # This label has no built-in descriptions.
            continue
    return found


def require_known(clips: LabelledClips, labels: list[str], split: str) -> None:
    """Checks that a model has all labels of a split as classes.

    Raises:
        UserError: If it lacks some of them. The message names them.
    """
    unknown = sorted(set(clips.classes) - set(labels))
    if unknown:
        raise UserError(
            f"Split {split!r} has the labels {', '.join(unknown)}, which the model does not know: its classes are"
            f" {', '.join(labels)}."
        )


def with_labels(clips: LabelledClips, labels: list[str], place: str) -> LabelledClips:
    """Returns the photographs whose label the clips have too, and says how many others are left out.

    Of votes, the photographs whose most frequent label the clips have are kept, with the votes for shared labels.

    Args:
        clips (`LabelledClips`): The photographs.
        labels (`list[str]`): Labels of the clips.
        place (`str`): Name of the photographs in messages, such as "split 'train' of photographs".

    Raises:
        UserError: If fewer than two labels are left.
    """
    shared = [label for label in clips.classes if label in labels]
    if len(shared) < 2:
        raise UserError(
            f"The {place} has the labels {', '.join(clips.classes)}, but the clips have {', '.join(labels)}: stills"
            " needs at least two labels that both have."
        )
    if shared == clips.classes:
        return clips
    kept = [index for index, label in enumerate(clips.labels) if label in shared]
    clips_kept = clips
    if clips.soft is not None:
        votes = clips.soft.values[:, [clips.soft.names.index(label) for label in shared]]
        shares = (votes / np.maximum(votes.sum(1, keepdims=True), 1e-9)).astype(np.float32)
        clips_kept = replace(clips, soft=SoftLabels(clips.soft.kind, shared, shares))
    clips_kept = clips_kept.select(kept)
    others = ", ".join(label for label in clips.classes if label not in shared)
    logger.warning(
        "%d of the %d photographs in %s are left out, because no clip has their label (%s).",
        len(clips) - len(clips_kept),
        len(clips),
        place,
        others,
    )
    return clips_kept
