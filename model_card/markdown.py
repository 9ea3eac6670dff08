"""Markdown that is safe for texts from data: escaping, code spans, links and tables.

Everything that a template prints passes through `finalize`, which escapes all texts except those of type `Markdown`.
A label or a description can therefore contain any characters, and appears on the page as it was written.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

# Characters that open or close an element of CommonMark, a table cell or strikethrough of GitHub Flavored Markdown, or
# a formula of the Hub. An underscore inside a word is harmless.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$#]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
# Characters that start a list, a heading or a quotation, but only at the start of a line.
_LINE_START = re.compile(r"^([-+=]|\d{1,9}(?=[.)](?: |$)))")
# Addresses that GitHub Flavored Markdown turns into links without any brackets.
_ADDRESS = re.compile(r"(?i)(?<=\bhttp)(?=://)|(?<=\bhttps)(?=://)|(?<=\bftp)(?=://)|(?<=\bwww)(?=\.)|(?=@)")
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Format characters of scripts and of emoji, which are harmless.
_JOINERS = "\u200c\u200d"


class Markdown(str):
    """A text that is already Markdown."""

    __slots__ = ()


def one_line(text: Any) -> str:
    """Converts a value to text on one line, without control characters and without marks that reverse the text."""
    visible = "".join(
        character if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE else " "
        for character in str(text)
    )
    return " ".join(visible.split())


def escape(text: Any) -> Markdown:
    """Escapes a text, so that it appears literally at any place of a page: a line, a list item or a table cell."""
    if isinstance(text, Markdown):
        return text
    line = _ADDRESS.sub("\0", one_line(text))
    line = _SPECIAL.sub(r"\\\g<0>", line).replace("\0", "\\")
    start = _LINE_START.match(line)
    if start:
        end = start.end()
        line = f"{line[:end]}\\{line[end:]}" if line[0].isdigit() else f"\\{line}"
    return Markdown(line)


def code(text: Any) -> Markdown:
    """Formats a text as a code span, in which nothing is interpreted."""
    content = one_line(text)
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * (longest + 1)
    space = " " if not content or content.startswith("`") or content.endswith("`") else ""
    return Markdown(f"{fence}{space}{content}{space}{fence}")


def code_block(language: str, content: str) -> Markdown:
    """Formats lines of code as a fenced block, which no line of the code can close."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{content.rstrip()}\n{fence}")


def link(text: Any, address: str) -> Markdown:
    """Formats a link. Only web addresses and relative paths become links, other addresses are printed as code."""
    address = one_line(address)
    if re.match(r"(?i)[a-z][a-z0-9+.-]*:", address) and not re.match(r"(?i)https?://", address):
        return code(address)
    return Markdown(f"[{escape(text)}]({quote(address, safe='/:?#=&%@+,;.~-_')})")


def picture(text: Any, address: str) -> Markdown:
    """Formats a picture. The address is a path in the repository."""
    return Markdown(f"![{escape(text)}]({quote(address, safe='/.-_')})")


def table(headings: Sequence[Any], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> Markdown:
    """Formats a table.

    Args:
        headings (`Sequence[Any]`): Heading of each column.
        rows (`Iterable[Sequence[Any]]`): Cells of each row. None is an empty cell.
        numbers (`Sequence[int]`, *optional*): Indices of the columns that are aligned to the right.
    """
    rule = ["---:" if index in numbers else "---" for index in range(len(headings))]
    head = " | ".join(map(_cell, headings)).removeprefix(" ")
    body = (" | ".join(map(_cell, row)) for row in rows)
    return Markdown("\n".join(f"| {line} |" for line in (head, " | ".join(rule), *body)))


def _cell(value: Any) -> str:
    """Formats a cell. A bar would end the cell, even in a code span."""
    return "" if value is None else re.sub(r"(?<!\\)\|", r"\\|", escape(value))


def join(values: Iterable[Any], separator: str = ", ") -> Markdown:
    """Joins values, and escapes those that are not Markdown."""
    return Markdown(separator.join(escape(value) for value in values))


def finalize(value: Any) -> Any:
    """Escapes what a template prints. `finalize` of a Jinja environment."""
    return escape(value) if isinstance(value, str) else value
