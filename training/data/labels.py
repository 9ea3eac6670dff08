"""The labels of clips, and the descriptions that stand for them."""

from collections.abc import Sequence

import yaml

from tgdfer.processing.description_files_tgdfer import read_descriptions
from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError


def words_for(
    labels: Sequence[str], descriptions: str | None = None, known: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """The descriptions of each label: of the user's file, else of the model to start from, else the built-in ones.

    Args:
        labels: canonical names.
        descriptions: YAML file of `label: [description, ...]`.
        known: descriptions that come with the model.

    Raises:
        UserError: if a label has none, with a template of the file to write; or if the file holds something else.
    """
    own = {canonical_label(label): texts for label, texts in _read_words(descriptions).items()}
    built_in = _built_in(labels)
    words = {label: own.get(label) or (known or {}).get(label) or built_in.get(label) for label in labels}
    missing = sorted(label for label, texts in words.items() if not texts)
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
            f"No description of {', '.join(map(repr, missing))}: fill in these lines, save them as a YAML file and"
            f" give it with --descriptions FILE.\n\n{template}\n"
        )
    return {label: texts for label, texts in words.items() if texts}


def _read_words(path: str | None) -> dict[str, list[str]]:
    try:
        words = read_descriptions(path) if path else {}
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    for label, texts in words.items():
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise UserError(f"{path}: {label!r} must have a list of descriptions, such as `{label}: [a frown]`.")
    return words


def _built_in(labels: Sequence[str]) -> dict[str, list[str]]:
    """The built-in descriptions of those labels that have some."""
    found: dict[str, list[str]] = {}
    for label in labels:
        try:
            found |= built_in_descriptions([label])
        except ValueError:  # not built in
            continue
    return found


def require_known(clips: LabelledClips, labels: list[str], split: str) -> None:
    """Checks that a model knows all labels of a split.

    Raises:
        UserError: if not, with the labels that it lacks.
    """
    unknown = sorted(set(clips.labels) - set(labels))
    if unknown:
        raise UserError(
            f"Split {split!r} has the labels {', '.join(unknown)}, which the model does not know: its classes are"
            f" {', '.join(labels)}."
        )
