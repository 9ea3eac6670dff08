"""What people edit in the card on the Hub stays when the card is published again."""

import pytest
import yaml
from hub_client import HubClient

from tgdfer.model_card.hub.card_edits import Card, keep_edits, split_sections

pytestmark = pytest.mark.slow

OLD = """---
license: apache-2.0
tags:
- tgdfer
- video
base_model: openai/clip
model-index:
- name: smile
  results:
  - metrics: [{type: accuracy, value: 0.5}]
---

# Smile

A model.

## Results

Accuracy 50%.

```bash
## Not a heading
```

## Limits

Few faces.
"""
NEW = OLD.replace("0.5", "0.6").replace("50%", "60%").replace("Few faces", "More faces").replace("openai", "other")


def push_again(remote: str, new: str = NEW, old: str | None = OLD, was_pushed: bool = True, **flags: object) -> Card:
    """The card after a push of `old`, edits that made it `remote`, and a push of `new`."""
    written = Card.parse(old).describe() if old else None
    return Card.parse(keep_edits(new, remote, written, was_pushed, flags).text)


def test_without_edits_the_new_card_is_published_as_it_is():
    edited = keep_edits(NEW, OLD, Card.parse(OLD).describe(), True, {})
    assert edited.text == NEW and edited.kept == []
    assert keep_edits(NEW, None, None, False, {}).text == NEW


def test_the_first_edit_is_that_of_white_space():
    remote = OLD.replace("\n", "\r\n").replace("Few faces.", "Few faces.  \r\n")
    assert keep_edits(NEW, remote, Card.parse(OLD).describe(), True, {}).text == NEW


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("license: apache-2.0", "license: cc-by-nc-4.0"),
        ("license: apache-2.0", "license: other\nlicense_name: mine\nlicense_link: LICENSE"),
        ("A model.", "My model."),
        ("Few faces.", "Only my faces."),
        ("## Limits", "## Ethics\n\nAsk first.\n\n## Limits"),
        ("# Smile\n", "# Smile\n\n## News\n\nHere.\n"),
        ("Few faces.\n", "Few faces.\n\n## Thanks\n\nTo all.\n"),
    ],
)
def test_edits_stay(before, after):
    card = push_again(OLD.replace(before, after))
    again = Card.parse(OLD.replace(before, after))
    expected = Card.parse(
        NEW.replace(before, after).replace("More faces.\n", after if "Thanks" in after else "More faces.\n")
    )
    assert card.metadata == expected.metadata
    for key in again.sections:
        edited = again.sections[key].strip() != Card.parse(OLD).sections.get(key, "").strip()
        wanted = again if edited else Card.parse(NEW)
        assert card.sections[key].strip() == wanted.sections[key].strip(), key
    # They stay for ever.
    third = keep_edits(NEW.replace("60%", "70%"), card.text(), Card.parse(NEW).describe(), True, {})
    kept = Card.parse(third.text)
    assert kept.metadata == card.metadata
    assert "70%" in kept.sections["Results"] and third.kept


def test_sections_of_people_stay_in_their_place():
    card = push_again(OLD.replace("## Limits", "## Ethics\n\nAsk first.\n\n## Limits"))
    assert list(card.sections) == ["", "Results", "Ethics", "Limits"]


def test_what_was_deleted_stays_deleted():
    remote = OLD[: OLD.index("## Limits")].replace("base_model: openai/clip\n", "")
    card = push_again(remote)
    assert "Limits" not in card.sections and "base_model" not in card.metadata
    assert "60%" in card.sections["Results"]


def test_lists_keep_what_was_added_and_removed():
    card = push_again(OLD.replace("- video", "- faces"), NEW.replace("- video", "- video\n- clip"))
    assert card.metadata["tags"] == ["tgdfer", "clip", "faces"]


def test_old_results_never_stay():
    added = "  - metrics: [{type: recall, value: 0.3}]\n---\n"
    card = push_again(OLD.replace("---\n\n# Smile", added + "\n# Smile"))
    values = [result["metrics"][0]["value"] for result in card.metadata["model-index"][0]["results"]]
    assert values == [0.6, 0.3]


def test_sections_that_are_no_longer_generated_go_unless_they_were_edited():
    new = NEW[: NEW.index("## Limits")]
    assert list(push_again(OLD, new).sections) == ["", "Results"]
    assert list(push_again(OLD.replace("Few faces", "My faces"), new).sections) == ["", "Results", "Limits"]


def test_without_a_record_the_licence_and_new_sections_stay():
    remote = OLD.replace("apache-2.0", "mit") + "\n## Thanks\n\nTo all.\n"
    card = push_again(remote, old=None)
    assert card.metadata["license"] == "mit" and card.metadata["base_model"] == "other/clip"
    assert "60%" in card.sections["Results"] and "To all." in card.sections["Thanks"]


def test_a_card_that_this_package_never_wrote_stays():
    remote = "---\nlicense: mit\ntags: [mine]\n---\n# My own\n\n## Results\n\nMine.\n"
    card = push_again(remote, old=None, was_pushed=False)
    assert card.metadata["license"] == "mit" and card.metadata["tags"] == ["tgdfer", "video", "mine"]
    assert card.sections[""].strip() == "# My own" and "Mine." in card.sections["Results"]
    assert "More faces." in card.sections["Limits"]


def test_a_card_that_the_website_created_has_only_a_licence():
    card = push_again("---\nlicense: mit\n---\n", old=None, was_pushed=False)
    assert card.metadata["license"] == "mit"
    assert card.sections == Card.parse(NEW).sections


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "---\n",
        "---\nlicense: [\n---\nText.\n",
        "\x00",
        "---\n- a\n---\n",
        "---\na: &x [*x]\n---\n",
        "\ufeff" + OLD,
    ],
)
def test_odd_cards(remote):
    card = push_again(remote)
    assert card.metadata["tags"] == ["tgdfer", "video"]
    assert keep_edits(NEW, remote, None, False, {}).text


def test_headings_in_code_are_no_sections():
    assert list(Card.parse(OLD).sections) == ["", "Results", "Limits"]
    assert Card.parse(OLD).text() == OLD
    twice = Card.parse("## A\n1\n## A\n2\n")
    assert twice.sections == {"": "", "A": "## A\n1\n", "A (2)": "## A\n2\n"}


def test_a_block_ends_only_with_its_own_mark():
    for block in ("```\n```python\n## no\n```", "~~~ x`\n```\n## no\n~~~", "````\n```\n## no\n`````  "):
        assert list(split_sections(f"## A\n{block}\n## B\n")) == ["", "A", "B"], block
    assert list(split_sections("## A\n```code``` in a line\n## B\n")) == ["", "A", "B"]


def test_metadata_are_yaml_1_2():
    """As on the Hub, where `no` is Norwegian."""
    remote = OLD.replace("tags:\n- tgdfer\n- video", "language: no\nrevision: 1e3\n2024-01-01: x\ntags: mine")
    card = Card.parse(keep_edits(NEW, remote, None, False, {"tags": ["faces"]}).text)
    assert card.metadata["language"] == "no" and card.metadata["revision"] == 1000
    assert card.metadata["2024-01-01"] == "x" and card.metadata["tags"] == ["tgdfer", "video", "mine", "faces"]
    assert yaml.safe_load(card.header.split("---")[1])["language"] == "no"


def test_flags_replace_edits_and_are_kept_later():
    card = push_again(OLD.replace("apache-2.0", "mit"), license="cc-by-4.0", tags=["faces", "video"])
    assert card.metadata["license"] == "cc-by-4.0" and card.metadata["tags"] == ["tgdfer", "video", "faces"]
    # The record contains what was generated, so that a flag counts as an edit.
    later = Card.parse(keep_edits(NEW, card.text(), Card.parse(NEW).describe(), True, {}).text)
    assert later.metadata == card.metadata


def read_card(client: HubClient) -> Card:
    return Card.parse(client.hub.model("user/smile").head.files["README.md"].data.decode())


def test_pushes(hub_client, run):
    """The whole way: edits on the website between pushes of a run whose results change."""
    done = hub_client.tgdfer("push", run, "user/smile", "--license", "mit", "--tag", "faces", "--tag", "fun")
    assert done.code == 0, done.errors
    first = read_card(hub_client)
    assert first.metadata["license"] == "mit" and first.metadata["tags"][-2:] == ["faces", "fun"]
    text = first.text().replace("license: mit", "license: cc-by-4.0") + "\n## Thanks\n\nTo all.\n"
    hub_client.hub.model("user/smile").edit(README__md=text.encode())
    metrics = run / "metrics.json"
    metrics.write_text(metrics.read_text().replace("0.6123", "0.7123"))
    done = hub_client.tgdfer("push", run, "user/smile")
    second = read_card(hub_client)
    assert second.metadata["license"] == "cc-by-4.0" and second.metadata["tags"] == first.metadata["tags"]
    assert "To all." in second.sections["Thanks"]
    assert "71.2%" in second.text() and "61.2%" not in second.text()
    assert 'README.md keeps what was edited on the Hub: "tags", "license", section "Thanks".' in done.out
    # Nothing has changed, so nothing is committed.
    commits = len(hub_client.hub.model("user/smile").pushed)
    assert hub_client.publish(run).code == 0
    assert len(hub_client.hub.model("user/smile").pushed) == commits
