"""The command `tgdfer train`, with a flag for every option of a training run."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.markup import escape
from ruamel.yaml import YAMLError

from tgdfer.console import hide_loading_bars, print_once
from tgdfer.training.config import OPTIONS, Option, TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.files import parse_yaml, read_yaml
from tgdfer.training.interruption import reporting_interruption
from tgdfer.training.recipes.reading import DEFAULT_BACKBONE, layered, read_recipe, recipe_titles

TRAIN_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tgdfer train --dataset clips/ --output runs/first --frozen-features\n\n"
    "tgdfer train --dataset user/clips --model openai/clip-vit-base-patch16 --mixed-precision bf16\n\n"
    "tgdfer train --config clips.yaml --epochs 30 --model-options lora_layers=2 --model-options mil_pooling=topk\n\n"
    "tgdfer train --recipe dfew --backbone vit-b-16 --data-root DFEW/ --folds all --output runs/dfew\n\n"
    "tgdfer train --output runs/first --resume\n\n"
    "[bold]Recipes[/]\n\n"
    + "".join(f"{name}: {escape(title)}\n\n" for name, title in recipe_titles("recipe").items())
    + "[bold]Backbones[/]\n\n"
    + "\n\n".join(f"{name}: {escape(title)}" for name, title in recipe_titles("backbone").items())
)
# What the folder of a run is, by the name of the file with its options.
_KINDS = {"config.yaml": "the folder of a single run", "folds.yaml": "the folder of several folds"}


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds a flag for every option of a training run to a command `command(config=..., **given)`.

    The help shows the flags in panels, one for each section of the configuration. Flags that are not part of the
    configuration of a run come first.
    """
    annotations: dict[str, Any] = {
        "recipe": Annotated[
            str | None, typer.Option(metavar="NAME", help="Options for a data set, see below; all others override it")
        ],
        "backbone": Annotated[
            str | None,
            typer.Option(
                metavar="NAME", help=f"Options for a backbone, see below; with --recipe, {DEFAULT_BACKBONE} by default"
            ),
        ],
        "config": Annotated[
            Path | None, typer.Option(help="YAML file with values for the options below; it overrides recipes")
        ],
        "folds": Annotated[
            str | None,
            typer.Option(
                metavar="all or N,N",
                help="Train and test a model on each of these folds, and print a table; --output is the folder of all"
                " of them",
            ),
        ],
    }
    for name, option in OPTIONS.items():
        # None means that the flag is not given, so that it does not override the file.
        annotations[name] = Annotated[_flag_type(option.type) | None, typer.Option(**_flag(option))]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
    command.__annotations__ = annotations
    return command


def _flag_type(hint: Any) -> Any:
    """Returns the type of a flag. Choices and paths are strings, and mappings are lists of `field=value`.

    The values of a list are given one by one, and checked with the configuration.
    """
    if get_origin(hint) in (Union, UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return {Literal: str, dict: list[str], list: list[str]}.get(get_origin(hint), hint)


def _flag(option: Option) -> dict[str, Any]:
    """Returns the arguments of `typer.Option` for a flag: help text, panel, default and choices."""
    kinds = [hint for hint in (option.type, *get_args(option.type)) if get_origin(hint) in (Literal, dict)]
    shown: dict[str, Any] = {"help": escape(option.help), "rich_help_panel": option.section.capitalize()}
    # The default of the flag itself is None, so that it does not override the file.
    shown["show_default"] = str(option.default) if option.default not in (None, {}, [], False) else False
    if kinds:
        shown["metavar"] = "FIELD=VALUE" if get_origin(kinds[0]) is dict else "|".join(get_args(kinds[0]))
    return shown


@training_options
def train(
    recipe: str | None = None,
    backbone: str | None = None,
    config: Path | None = None,
    folds: str | None = None,
    **given: Any,
) -> None:
    """Train a model on labelled clips.

    Options come from the defaults, a recipe, its backbone, a YAML file, and flags. Later ones override earlier ones.
    """
    options = read_recipe(recipe, backbone)
    hide_loading_bars()
    if folds is not None:
        _train_folds(resolve_config(config, options, "folds.yaml", **given), folds)
        return
    resolved = resolve_config(config, options, **given)
    from tgdfer.training.runs.run_folder import interruption_message

    with reporting_interruption(partial(interruption_message, resolved)):
        from tgdfer.training.train import train as run_training

        run = run_training(resolved)
    print_once(f"The model is in {run / 'best'}. Next: tgdfer evaluate {run}")


def _train_folds(config: TrainingConfig, folds: str) -> None:
    """Trains and tests a model on each fold."""
    from tgdfer.training.folds import folds_interruption_message, train_folds

    with reporting_interruption(partial(folds_interruption_message, config, folds)):
        tables = train_folds(config, folds)
    missing = tables.num_folds - len(tables.last)
    rest = f" {missing} folds are not complete yet." if missing else ""
    print_once(f"The tables are in {config.run.output}: folds.md, folds.csv and folds.json.{rest}")


def resolve_config(
    file: Path | None = None,
    recipe: Mapping[str, Any] | None = None,
    saved_name: str = "config.yaml",
    **given: Any,
) -> TrainingConfig:
    """Creates the configuration of a run.

    The options come from a recipe and a YAML file, or from the run to resume. Flags override them.

    Args:
        file (`Path`, *optional*): YAML file of options.
        recipe (`Mapping[str, Any]`, *optional*): Options of a recipe, which the file overrides.
        saved_name (`str`, *optional*, defaults to `"config.yaml"`): File with the options of the run to resume, in its
            folder.
        **given: Values of the flags. None if a flag is not given. Mappings may be lists of `field=value`.

    Returns:
        `TrainingConfig`: The configuration.

    Raises:
        UserError: If an option is unknown, a value is of the wrong type, or there is no run to resume.
    """
    given = {name: value for name, value in given.items() if value not in (None, [])}
    mappings = [name for name, option in OPTIONS.items() if get_origin(option.type) is dict]
    for name in mappings:
        if isinstance(given.get(name), list):
            given[name] = dict(_parse_assignment(name, text) for text in given[name])
    values = layered(recipe or {}, read_yaml(file) if file else {})
    saved = Path(given.get("output") or values.get("output") or str(OPTIONS["output"].default)) / saved_name
    if given.get("resume") and not saved.is_file():
        others = {"config.yaml": "folds.yaml", "folds.yaml": "config.yaml"}
        if saved.with_name(others[saved_name]).is_file():
            remedy = "add --folds all" if saved_name == "config.yaml" else "leave out --folds"
            raise UserError(f"{saved.parent} is {_KINDS[others[saved_name]]}: {remedy} to resume it.")
        raise UserError(f"There is no run to resume in {saved.parent}; give the folder of the run with --output.")
    if given.get("resume") and not values:
        values = read_yaml(saved)
    return TrainingConfig.from_options(**layered(values, given))


def _parse_assignment(option: str, text: str) -> tuple[str, Any]:
    flag = "--" + option.replace("_", "-")
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{flag} expects FIELD=VALUE, but got {text!r}.")
    try:
        return name.strip(), parse_yaml(value)
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"In {flag} {text!r}, the value is not valid YAML.") from error
