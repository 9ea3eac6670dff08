"""Nothing that comes from data can change a card: not its structure, its links, its pictures or its metadata."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tgdfer.model_card.card import build_card

from .test_card import edit_config, edit_metrics
from .test_markdown import HARMFUL

HARMFUL_YAML = (
    "a: b",
    "- a",
    "'a\" b",
    "!!python/object/apply:os.system ['true']",
    "&a *a",
    "a\n---\nlicense: mit\n---\n# b",
    "\ufeffa",
    "yes",
    "1e3",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "@a",
    "%a",
    "a #b",
)
# Places of data in a card, each of which is filled with a harmful text.
PLACES = (
    "labels",
    "descriptions",
    "dataset",
    "split",
    "validation",
    "base_model",
    "command",
    "baseline",
    "sources",
    "limits",
    "training_data",
    "groups",
    "license",
    "tags",
    "versions",
    "device",
    "picture",
    "config",
    "calibration",
)
ADDRESSES = ("https://huggingface.co/", "https://arxiv.org/abs/2511.10958", "https://eur-lex.europa.eu/")


def write_harmful(run: Path, text: str, places: tuple[str, ...] = PLACES) -> dict[str, Any]:
    """Write a text to places of a run, and return the options of its card."""
    metrics = json.loads((run / "metrics.json").read_text())
    training, labels = metrics["training"], metrics["labels"]
    if "labels" in places:
        labels = [text, *labels[1:]]
        metrics |= {"labels": labels, "recall": {label: 0.5 for label in labels}}
        edit_config(run, id2label=dict(enumerate(labels)))
    if "descriptions" in places:
        path = run / "best" / "processor_config.json"
        path.write_text(json.dumps({"descriptions": {labels[0]: [text, text], "neutral": [text]}}))
    for name in ("dataset", "split"):
        if name in places:
            metrics[name] = training[name] = text
    for name in ("validation", "base_model", "command"):
        if name in places:
            training[name] = text if name != "command" else "tgdfer train --descriptions " + json.dumps(text)
    if "baseline" in places:
        metrics["baseline"]["name"] = text
    if "sources" in places:
        training["sources"] = [{"name": text, "num_clips": 3, "terms": text, "citation": text}]
    if "limits" in places:
        training["limits"] = [text]
    if "training_data" in places:
        texts = dict.fromkeys(("name", "kind", "license", "source", "terms", "citation"), text)
        edit_config(run, training_data=[texts, texts | {"source": f"https://huggingface.co/{text}"}])
    if "groups" in places:
        figures = {"num_clips": 3, "war": 0.3, "uar": 0.3}
        metrics["groups"] = {text: {text: figures, "other": figures | {"uar": 0.9}}}
    if "versions" in places:
        training["versions"] = {text: text}
    if "device" in places:
        training["hardware"] = {"device": text, "mixed_precision": text}
    if "picture" in places:
        name = text.replace("/", " ")
        (run / "figures" / f"{name}.png").write_bytes(b"\x89PNG")
    if "config" in places:
        (run / "config.yaml").write_text(yaml.safe_dump({"model": text, "dataset": text, "augmentation": text}))
    if "calibration" in places:
        edit_config(run, temperature=0.5, unsure_below=0.5)
    edit_metrics(run, **metrics)
    return {"license": text if "license" in places else None, "tags": [text] if "tags" in places else ()}


def tokens_of(markdown: str) -> list[Token]:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return [token for block in reader.parse(markdown) for token in (block, *(block.children or []))]


def structure(card: ModelCard) -> list[tuple[str, str]]:
    """The parts of a page that a text from data must not add to."""
    kinds = ("heading_open", "fence", "html_block", "html_inline", "hr", "code_block", "blockquote_open", "table_open")
    return [(token.type, token.tag + token.info) for token in tokens_of(card.text) if token.type in kinds]


@pytest.mark.parametrize("text", [*HARMFUL, *HARMFUL_YAML])
def test_texts_from_data_stay_texts(run, text):
    plain = build_card(run, "user/smile", **write_harmful(run, "joy"))
    harmless, cells = structure(plain), [token.type for token in tokens_of(plain.text)]
    for picture in (run / "figures").glob("joy*"):
        picture.unlink()
    card = build_card(run, "user/smile", **write_harmful(run, text))
    assert structure(card) == harmless
    tokens = tokens_of(card.text)
    for token in tokens:
        if token.type == "image":
            assert str(token.attrs["src"]).startswith("figures/")
        elif token.type == "link_open":
            assert str(token.attrs["href"]).startswith(ADDRESSES) or text.startswith("https://"), token.attrs
    assert "<script" not in re.sub(r"`[^`\n]*`|\\<", "", card.text)
    rows = [token.type for token in tokens if token.type in ("tr_open", "td_open", "th_open")]
    assert rows.count("tr_open") == cells.count("tr_open") and rows.count("td_open") == cells.count("td_open")
    blocks = [token.content for token in tokens if token.type == "fence" and token.info == "python"]
    for block in blocks:
        compile(block, "card", "exec")


@pytest.mark.parametrize("text", [*HARMFUL, *HARMFUL_YAML])
def test_metadata_keep_their_keys(run, text):
    card = build_card(run, "user/smile", **write_harmful(run, text))
    head = str(card).split("\n---\n")[0].removeprefix("---\n")
    block = yaml.safe_load(head)
    known = {"license", "library_name", "pipeline_tag", "tags", "metrics", "model-index", "datasets", "base_model"}
    assert set(block) <= known
    assert block["license"] == " ".join(text.replace("\u2028", " ").replace("\ufeff", " ").split())
    assert block["tags"][-1] == block["license"]
    assert ModelCard(str(card)).text == card.text
    assert "\u202e" not in head and "\n\n" not in head


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_escaped_on_its_own(run, place):
    """A picture that tracks its readers, a heading and a script, in one place at a time."""
    text = "![t](https://evil.example/x.png)\n\n# Heading\n\n<script>a</script> | b"
    card = build_card(run, "user/smile", **write_harmful(run, text, (place,)))
    kinds = {token.type for token in tokens_of(card.text)}
    assert not kinds & {"html_block", "html_inline", "code_block", "blockquote_open"}
    images = [str(token.attrs["src"]) for token in tokens_of(card.text) if token.type == "image"]
    assert all(source.startswith("figures/") for source in images)
    headings = [line for line in card.text.splitlines() if line.startswith("# ")]
    assert headings == ["# smile"]


def test_names_of_folders_are_escaped(run, monkeypatch):
    """The name of a run is the title of its card, and part of its examples."""
    strange = run.rename(run.with_name('a"b`c <script> $(touch x)\n# d'))
    monkeypatch.chdir(run.parent)
    card = build_card(strange)
    tokens = tokens_of(card.text)
    titles = [
        tokens[index + 1].content for index, token in enumerate(tokens) if token.tag == "h1" and token.nesting == 1
    ]
    assert len(titles) == 1 and "script" in titles[0]
    assert not {"html_inline", "html_block"} & {token.type for token in tokens}
    for token in tokens:
        if token.type == "fence" and token.info == "python":
            compile(token.content, "card", "exec")
            assert json.dumps(f"{strange.name}/best", ensure_ascii=False) in token.content
