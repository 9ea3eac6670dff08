"""Reading recipes, and layering their options."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.files import read_yaml

DEFAULT_BACKBONE = "clip-tiny-faces"
_FOLDERS = {"recipe": "data_sets", "backbone": "backbones"}


def recipe_titles(kind: str) -> dict[str, str]:
    """Returns the titles of all recipes: the first line of each file.

    Args:
        kind (`str`): "recipe" for data sets, or "backbone".
    """
    titles = {}
    for file in sorted(resources.files(__package__).joinpath(_FOLDERS[kind]).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            first = file.read_text(encoding="utf-8").partition("\n")[0]
            titles[file.name.removesuffix(".yaml")] = first.removeprefix("# ")
    return titles


def read_recipe(recipe: str | None = None, backbone: str | None = None) -> dict[str, Any]:
    """Returns the options of a recipe: those for the data set, and those for the backbone.

    Args:
        recipe (`str`, *optional*): Name of the recipe of a data set, such as "dfew".
        backbone (`str`, *optional*): Name of the backbone. With a recipe, "clip-tiny-faces" by default.

    Returns:
        The options. Empty if neither is named.

    Raises:
        UserError: If there is no such recipe or backbone. The message suggests a similar name.
    """
    if recipe is None:
        return {} if backbone is None else _read("backbone", backbone)
    return layered(_read("recipe", recipe), _read("backbone", backbone or DEFAULT_BACKBONE))


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merges options, of which later ones override earlier ones. Mappings are merged field by field."""
    merged: dict[str, Any] = {}
    for options in layers:
        for name, value in options.items():
            before = merged.get(name)
            merged[name] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _read(kind: str, name: str) -> dict[str, Any]:
    known = recipe_titles(kind)
    if name not in known:
        raise UserError(f"There is no {kind} {name!r}{did_you_mean(name, known)}")
    folder = Path(str(resources.files(__package__)))
    options = read_yaml(folder / _FOLDERS[kind] / f"{name}.yaml")
    if "descriptions" in options:  # A file beside the recipes.
        options["descriptions"] = str(folder / options["descriptions"])
    return options
