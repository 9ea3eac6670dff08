"""The labels of clips and their descriptions."""

from collections.abc import Sequence

import yaml

from tgdfer.processing.description_files_tgdfer import read_descriptions
from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError


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
