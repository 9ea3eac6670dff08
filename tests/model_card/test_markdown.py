"""Texts from data appear in Markdown as they were written: nothing in them is interpreted."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tgdfer.model_card.markdown import (
    Markdown,
    code,
    code_block,
    escape,
    finalize,
    join,
    link,
    one_line,
    picture,
    table,
)

HARMFUL = (
    "<script>alert(1)</script>",
    "<img src=https://evil.example/x.png>",
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "<https://evil.example>",
    "https://evil.example",
    "joy\n# Heading",
    "joy\r\n\r\n## Heading\n\n- item",
    "joy\u2028# Heading",
    "# joy",
    "joy\n===",
    "---",
    "> joy",
    "1. joy",
    "2) joy",
    "+ joy",
    "a | b",
    "\\| a",
    "a \\",
    "`a`",
    "``` a",
    "**a** _b_ ~~c~~",
    "&lt;b&gt; &amp;",
    "$x$ $$y$$",
    "[^1]: note",
    "[a]: https://evil.example",
    "<!-- a",
    "    indented",
    "| a |\n| --- |\n| b |",
    "a@b.example",
    "www.evil.example",
)
TEXTS = st.one_of(
    st.sampled_from(HARMFUL), st.text(max_size=40), st.text("\\`*_[]()<>|~$&#!-+=.:/ ab1\n", max_size=24)
)


def parsed(markdown: str) -> list[Token]:
    """Every token of a page, as GitHub Flavored Markdown reads it."""
    reader = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    return [token for block in reader.parse(markdown) for token in (block, *(block.children or []))]


def shown(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in ("text", "text_special", "code_inline"))


def kinds(tokens: list[Token]) -> set[str]:
    return {token.type for token in tokens}


@settings(max_examples=40, deadline=None)
@given(TEXTS)
@example("0.")
@example("\\")
@pytest.mark.parametrize("before", ["", "word ", "- ", "**", "A colon: "])
def test_escaped_texts_are_shown_as_they_are(before, text):
    after = "**" if before == "**" else ""
    page = parsed(f"{before}{escape(text)}{after}")
    plain = parsed(f"{before}a{after}")
    if one_line(text):
        assert kinds(page) - {"text_special"} == kinds(plain), text
        assert shown(page).replace("A colon: ", "").removeprefix("word ") == one_line(text)


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_code_shows_texts_as_they_are(text):
    page = parsed(f"a {code(text)} b")
    assert kinds(page) == {"paragraph_open", "paragraph_close", "inline", "text", "code_inline"}
    (span,) = [token.content for token in page if token.type == "code_inline"]
    assert span.strip() == one_line(text).strip()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_tables_keep_their_cells(cells):
    page = parsed(table(["name", "value"], [(text, code(other)) for text, other in cells], [1]))
    opened = [token.type for token in page if token.type in ("tr_open", "td_open", "th_open")]
    assert opened == ["tr_open", "th_open", "th_open"] + ["tr_open", "td_open", "td_open"] * len(cells)
    assert not kinds(page) & {"html_inline", "html_block", "image", "link_open", "heading_open", "s_open", "em_open"}


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_no_line_closes_a_block_of_code(text):
    (block,) = parsed(code_block("python", f"print({text!r})\n{text}"))
    assert block.type == "fence" and block.info == "python"


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS)
def test_links_have_only_their_own_address(text, address):
    page = parsed(f"a {link(text, 'https://hub.example/' + address)} b")
    (opened,) = [token for token in page if token.type == "link_open"]
    assert str(opened.attrs["href"]).startswith("https://hub.example/")
    assert not kinds(page) & {"html_inline", "image", "heading_open"}


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", " JAVASCRIPT:x", "vbscript:x"])
def test_addresses_that_run_code_are_no_links(address):
    assert not kinds(parsed(link("a", address))) & {"link_open", "image"}


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS)
def test_pictures_lie_in_the_repository(text, name):
    page = parsed(picture(text, f"figures/{name}"))
    (image,) = [token for token in page if token.type == "image"]
    assert str(image.attrs["src"]).startswith("figures/")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("anger|rage", r"anger\|rage"),
        ("a well-known <b>", r"a well-known \<b\>"),
        ("https://a.example", r"https\://a.example"),
        ("see www.a.example or x@a.example", r"see www\.a.example or x\@a.example"),
        ("- a", r"\- a"),
        ("3. a", r"3\. a"),
        ("3.5 a_b", "3.5 a_b"),
        ("_a_ b__c", r"\_a\_ b\_\_c"),
        ("a\u202eb\u0000c", "a b c"),
        ("Zürich 怒り 👩\u200d💻", "Zürich 怒り 👩\u200d💻"),
    ],
)
def test_escapes_are_few(text, escaped):
    assert escape(text) == escaped


def test_markdown_is_escaped_once():
    assert escape(escape("a*b")) == finalize(Markdown(r"a\*b")) == r"a\*b" and finalize(3) == 3
    assert join(["a*", code("b*")]) == r"a\*, `b*`"
