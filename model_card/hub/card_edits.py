"""Keeps what people edit in a card on the Hub when the card is published again.

The record of a push contains what the push generated: the values of the metadata, and a hash of each section. What
differs on the Hub was edited by somebody, and is kept. Everything else is replaced by the new card. A section is a
heading of level two with the text below it; the text before the first one is a section, too.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAMLError

from tgdfer.training.files import dump_yaml, parse_yaml

METADATA = re.compile(r"\A---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|\Z)", re.DOTALL)
LICENSE_KEYS = ("license", "license_name", "license_link")
# Keys with lists. The Hub also takes a single value for each.
LIST_KEYS = ("tags", "datasets", "metrics")
START = ""  # key of the text before the first section


@dataclass
class Card:
    """A card in parts.

    Attributes:
        metadata (`dict[str, Any]`): Values of the metadata.
        sections (`dict[str, str]`): Text of each section, with its heading, by heading.
        header (`str`): The metadata as they are written.
    """

    metadata: dict[str, Any]
    sections: dict[str, str]
    header: str = ""

    @classmethod
    def parse(cls, text: str) -> "Card":
        """Splits the text of a card."""
        text = text.replace("\r\n", "\n").removeprefix("\ufeff")
        found = METADATA.match(text)
        try:
            metadata = _plain(parse_yaml(found[1] or "")) if found else None
        except (YAMLError, ValueError, RecursionError):  # an impossible date is a ValueError
            metadata = None
        if not found or not isinstance(metadata, dict):
            return cls({}, split_sections(text))
        for key in LIST_KEYS:
            if not isinstance(metadata.get(key), list | None):
                metadata[key] = [metadata[key]]
        return cls(metadata, split_sections(text[found.end() :]), found[0])

    def describe(self) -> dict[str, Any]:
        """Returns what the record of a push says about the card."""
        return {"metadata": self.metadata, "sections": {key: digest(text) for key, text in self.sections.items()}}

    def text(self) -> str:
        """Returns the whole text."""
        return self.header + "".join(self.sections.values())


def metadata_block(metadata: dict[str, Any]) -> str:
    """Writes metadata as the lines at the top of a card."""
    return f"---\n{dump_yaml(metadata)}---\n"


def _plain(value: Any) -> Any:
    """Converts a value of YAML to one of JSON, because the record of a push is JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)


@dataclass
class EditedCard:
    """A new card with the edits of people.

    Attributes:
        text (`str`): The card.
        kept (`list[str]`): Names of the metadata and the sections that were kept.
    """

    text: str
    kept: list[str] = field(default_factory=list)


def keep_edits(
    new: str, remote: str | None, written: dict[str, Any] | None, was_pushed: bool, flags: dict[str, Any]
) -> EditedCard:
    """Returns a new card with what people have edited in the card on the Hub.

    Args:
        new (`str`): The new card.
        remote (`str`, *optional*): The card on the Hub.
        written (`dict[str, Any]`, *optional*): What the record of the last push says about its card.
        was_pushed (`bool`): Whether this package has written the card on the Hub. Without a record, its sections are
            then replaced, and its licence and all else is kept.
        flags (`dict[str, Any]`): Metadata that the user asked for. Lists are added to those of the card.
    """
    card = Card.parse(new)
    kept: list[str] = []
    metadata = card.metadata
    if remote is not None and remote.strip():
        theirs, base = Card.parse(remote), (written or {}).get("metadata")
        if theirs.header:  # Otherwise the metadata on the Hub are missing or not valid, and are written anew.
            metadata, kept = merge_metadata(card.metadata, theirs.metadata, base, was_pushed)
        card.sections, sections = merge_sections(
            card.sections, theirs.sections, (written or {}).get("sections"), was_pushed
        )
        kept = [f'"{key}"' for key in kept if key not in flags] + [f'section "{key}"' for key in sections]
    for key, value in flags.items():
        old = metadata.get(key)
        new_items = [item for item in value if item not in (old or [])] if isinstance(value, list) else []
        metadata = {**metadata, key: [*(old or []), *new_items] if isinstance(value, list) else value}
    if metadata != card.metadata:
        card.header = metadata_block(metadata)
    return EditedCard(card.text(), kept)


def merge_metadata(
    new: dict[str, Any], remote: dict[str, Any], base: dict[str, Any] | None, was_pushed: bool
) -> tuple[dict[str, Any], list[str]]:
    """Merges metadata, and returns them with the names of those that people have edited.

    Args:
        new (`dict[str, Any]`): New values.
        remote (`dict[str, Any]`): Values on the Hub.
        base (`dict[str, Any]`, *optional*): Values that the last push generated.
        was_pushed (`bool`): Whether the values on the Hub are generated if `base` is unknown.
    """
    if base is None:
        generated = {key: value for key, value in remote.items() if key in new and key not in LICENSE_KEYS}
        base = generated if was_pushed else {}
    merged, kept = {}, []
    for key in dict.fromkeys([*new, *remote]):
        if remote.get(key) == base.get(key):
            value = new.get(key)
        else:
            value = merge_value(key, *(values.get(key) for values in (new, remote, base)))
            kept.append(key)
        if value is not None:
            merged[key] = value
    return merged, kept


def merge_value(key: str, new: Any, remote: Any, base: Any) -> Any:
    """Merges a value that was edited on the Hub. Lists keep what was added to them and lack what was removed."""
    if key == "model-index":
        return merge_model_index(new, remote, base)
    if all(isinstance(value, list | None) for value in (new, remote, base)):
        new, remote, base = new or [], remote or [], base or []
        kept = [item for item in new if item in remote or item not in base]
        return [*kept, *(item for item in remote if item not in base and item not in kept)] or None
    return remote


def merge_model_index(new: Any, remote: Any, base: Any) -> Any:
    """Adds results that people have added on the Hub to the new ones. Old results of this package never stay."""
    try:
        new_results, old, theirs = (value[0]["results"] if value else [] for value in (new, base, remote))
        added = [result for result in theirs if result not in old and result not in new_results]
        return [{**(new or remote)[0], "results": [*new_results, *added]}] if new_results or added else None
    except (LookupError, TypeError):
        return new


def merge_sections(
    new: dict[str, str], remote: dict[str, str], base: dict[str, str] | None, was_pushed: bool
) -> tuple[dict[str, str], list[str]]:
    """Merges sections, and returns them with the headings of those that people have edited.

    Args:
        new (`dict[str, str]`): New sections.
        remote (`dict[str, str]`): Sections on the Hub.
        base (`dict[str, str]`, *optional*): Hashes of the sections that the last push generated.
        was_pushed (`bool`): Whether the sections on the Hub are generated if `base` is unknown.
    """
    if base is None:
        base = {key: digest(text) for key, text in remote.items() if key in new} if was_pushed else {}
    merged, kept = {}, []
    for key, text in new.items():
        if key not in remote:
            if key not in base:  # Otherwise somebody has deleted the section.
                merged[key] = text
        elif digest(remote[key]) == base.get(key) or not remote[key].strip():
            merged[key] = text
        else:
            merged[key] = remote[key]
            kept.append(key)
    previous = None
    for key, text in remote.items():
        if key not in new and digest(text) != base.get(key) and text.strip():
            merged = insert_after(merged, previous, key, text)
            kept.append(key)
        if key in merged:
            previous = key
    return {key: text.rstrip("\n") + "\n\n" for key, text in merged.items()} if kept else merged, kept


def insert_after(sections: dict[str, str], previous: str | None, key: str, text: str) -> dict[str, str]:
    """Inserts a section after another one, or at the start."""
    keys = list(sections)
    position = keys.index(previous) + 1 if previous in keys else 0
    pairs = list(sections.items())
    return dict([*pairs[:position], (key, text), *pairs[position:]])


def split_sections(body: str) -> dict[str, str]:
    """Splits the body of a card into sections. Headings in blocks of code do not count."""
    sections = {START: ""}
    key, fence = START, None
    for line in body.splitlines(keepends=True):
        # The line that starts a block of backticks has no others, and the line that ends a block has only its mark.
        mark = re.match(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)", line)
        if mark and fence is None:
            fence = mark[1]
        elif mark and fence is not None and mark[1].startswith(fence) and not mark[2].strip():
            fence = None
        heading = re.match(r"## +(.+?)[ #]*$", line) if fence is None else None
        if heading:
            key, number = heading[1], 1
            while key in sections:
                number += 1
                key = f"{heading[1]} ({number})"
            sections[key] = ""
        sections[key] += line
    return sections


def digest(text: str) -> str:
    """Returns a hash of a text that ignores spaces at the ends of lines and of the text."""
    lines = "\n".join(line.rstrip() for line in text.splitlines()).strip()
    return hashlib.sha256(lines.encode()).hexdigest()
