"""What a card says about the training data, and the licence that follows from them."""

import re
from typing import Any, NamedTuple

from tgdfer.model_card.markdown import Markdown, code, escape, join, link, one_line, table

NOT_RECORDED = "not recorded"
# The only licence that this package passes on to the weights by itself, because its own code is under it.
OWN_LICENSE = "apache-2.0"
_LICENSE_ID = re.compile(r"[\w.+-]+")
# The page of a data set on the Hub, or a page below it.
_HUB_DATASET = re.compile(r"https://huggingface\.co/datasets/([\w.-]+(?:/[\w.-]+)?)")
_NON_COMMERCIAL = ("-nc", "non-commercial", "noncommercial", "research only")


def split_name(facts: dict[str, Any]) -> Markdown:
    """Formats the name of a split in `metrics.json` or `training.json`, and the name that it has in the data set."""
    name, own = facts.get("split"), facts.get("split_in_dataset")
    return Markdown(f"{code(name)} ({code(own)} in the data set)") if own else code(name)


class TrainingData(NamedTuple):
    """Data that the weights of a model were trained on.

    Attributes:
        entries (`list[dict[str, Any]]`): `training_data` of the config of the model. Empty if it was not recorded.
    """

    entries: list[dict[str, Any]]

    @property
    def license(self) -> str | None:
        """Licence that the data allow for the weights: that of this package if all of them have it, otherwise None."""
        licenses = {_license(entry).lower() for entry in self.entries}
        return OWN_LICENSE if licenses == {OWN_LICENSE} else None

    @property
    def hub_ids(self) -> list[str]:
        """Ids of the data sets that are on the Hub."""
        found = [_HUB_DATASET.match(str(entry.get("source") or "")) for entry in self.entries]
        return list(dict.fromkeys(match[1] for match in found if match))

    def table(self) -> Markdown:
        """Formats the data as a table with their source, kind, number and licence."""
        rows = [
            (
                link(entry["name"], entry["source"]) if _is_web(entry) else entry["name"],
                entry.get("kind") or NOT_RECORDED,
                f"{entry['num_clips']:,}" if isinstance(entry.get("num_clips"), int) else None,
                _license(entry),
            )
            for entry in self.entries
        ]
        return table(["data", "kind", "clips or pictures", "licence"], rows, [2])

    def notes(self) -> list[Markdown]:
        """Returns the terms and the citation of each data set, if they are recorded."""
        notes = []
        for entry in self.entries:
            texts = [one_line(entry[key]).rstrip(".") + "." for key in ("terms", "citation") if entry.get(key)]
            if texts:
                notes.append(Markdown(f"{escape(entry['name'])}: {join(texts, ' ')}"))
        return notes

    def license_notes(self) -> list[Markdown]:
        """Says which licences the data have, which of them restrict commercial use, and which are not recorded."""
        if not self.entries:
            return [Markdown("The licences of the training data were not recorded.")]
        by_license: dict[str, list[str]] = {}
        for entry in self.entries:
            by_license.setdefault(_license(entry), []).append(entry["name"])
        notes = []
        for name, data in by_license.items():
            if name == NOT_RECORDED:
                notes.append(Markdown(f"Not recorded: {join(data)}. Ask the owners before you use the weights."))
            else:
                restricted = any(word in name.lower() for word in _NON_COMMERCIAL)
                warning = " This licence restricts commercial use." if restricted else ""
                named = code(name) if _LICENSE_ID.fullmatch(name) else escape(name)
                notes.append(Markdown(f"{named}: {join(data)}.{warning}"))
        return notes


def _license(entry: dict[str, Any]) -> str:
    license = entry.get("license") or NOT_RECORDED
    return one_line(", ".join(map(str, license)) if isinstance(license, list) else license)


def _is_web(entry: dict[str, Any]) -> bool:
    return str(entry.get("source") or "").startswith(("https://", "http://"))
