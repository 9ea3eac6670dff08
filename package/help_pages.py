"""Help pages of commands, with flags on the left and texts on the right. No flag is cut off at 80 columns."""

from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

# Names of the types of values in the help. Other types are shown with the name that typer gives them.
_VALUES = {"str": "TEXT", "path": "PATH", "file": "PATH", "int": "INTEGER", "float": "NUMBER"}


class HelpCommand(TyperCommand):
    """A command whose help page is printed by this module."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the words of the usage line, such as `[OPTIONS] VIDEO...`."""
        return _usage_words(self, ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the help."""
        _print_help(self, ctx)


class HelpGroup(TyperGroup):
    """A group of commands whose help page is printed by this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the help."""
        _print_help(self, ctx)


class App(typer.Typer):
    """A `typer.Typer` whose help pages are printed by this module."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=HelpGroup, pretty_exceptions_enable=False, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        """Registers a function as a command. The arguments are those of `typer.Typer.command`."""
        return super().command(name, cls=HelpCommand, **options)


def run(command: Callable[..., None]) -> None:
    """Runs a function as a program with a single command."""
    app = App(add_completion=False)
    app.command()(command)
    app()


def _usage_words(command: Any, ctx: Any) -> list[str]:
    arguments = [parameter for parameter in command.get_params(ctx) if parameter.param_type_name == "argument"]
    words = [_argument_name(parameter) for parameter in arguments]
    return ["[OPTIONS]"] + [
        word if parameter.required else f"[{word}]" for parameter, word in zip(arguments, words, strict=True)
    ]


def _argument_name(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper() + ("" if parameter.nargs == 1 else "...")


def _print_help(command: Any, ctx: Any) -> None:
    console = Console(highlight=False)
    panels: dict[str, list[tuple[Text, Text]]] = {}
    for parameter in command.get_params(ctx):
        if not getattr(parameter, "hidden", False):
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            rows = panels.setdefault(getattr(parameter, "rich_help_panel", None) or default, [])
            rows.append((_names(parameter, ctx), _description(parameter, ctx)))
    for name in command.list_commands(ctx) if isinstance(command, TyperGroup) else ():
        short = (command.get_command(ctx, name).help or "").split("\n\n")[0]
        row = (Text(name, style="bold cyan"), Text.from_markup(" ".join(short.split())))
        panels.setdefault("Commands", []).append(row)
    width = max(
        names.__rich_measure__(console, console.options).maximum for rows in panels.values() for names, _ in rows
    )
    console.print()
    console.print(Padding(Text(command.get_usage(ctx), style="bold"), (0, 1)))
    if command.help:
        paragraphs = [" ".join(paragraph.split()) for paragraph in command.help.split("\n\n")]
        console.print(Padding(Text.from_markup("\n\n".join(paragraphs)), 1))
    for title, rows in panels.items():
        console.print(_panel(title, rows, width))
    if command.epilog:
        title, *lines = command.epilog.split("\n\n")
        console.print(Padding(Group(Text.from_markup(title), *(Padding(line, (0, 0, 0, 2)) for line in lines)), 1))


def _panel(title: str, rows: list[tuple[Text, Text]], width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=width, no_wrap=True)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=title, title_align="left", border_style="dim")


def _names(parameter: Any, ctx: Any) -> Text:
    """Returns the names of a parameter, one on each line, followed by the type of its value."""
    if parameter.param_type_name == "argument":
        return Text(_argument_name(parameter), style="bold cyan")
    names = Text("\n").join(Text(name, style="bold cyan") for name in [*parameter.opts, *parameter.secondary_opts])
    if value := _value(parameter, ctx):
        names.append(f" {'CHOICE' if '|' in value else value}", style="yellow")
    return names


def _value(parameter: Any, ctx: Any) -> str:
    """Returns the type or the choices of a value, such as `PATH` or `a|b|c`. Empty for a switch."""
    if getattr(parameter, "is_flag", True):
        return ""
    if parameter.metavar:
        return parameter.metavar
    kind = parameter.get_help_record(ctx)[0].removeprefix(parameter.opts[0]).strip(" <>")
    kind = kind.removeprefix("list[").removesuffix("]").removesuffix(" range")
    return _VALUES.get(kind, kind)


def _description(parameter: Any, ctx: Any) -> Text:
    """Returns the help text of a parameter with its choices and its default."""
    text = Text.from_markup(parameter.help or "")
    value = _value(parameter, ctx)
    if "|" in value:
        text.append(f" [choices: {value.replace('|', ', ')}]", style="yellow")
    if parameter.required:
        text.append(" [required]", style="red")
    elif default := _default(parameter):
        text.append(f" [default: {default}]", style="dim")
    return text


def _default(parameter: Any) -> str:
    """Returns the default as text. Empty if there is none, and for switches that are off by default."""
    if isinstance(parameter.show_default, str):  # This text is shown instead of the default itself.
        return parameter.show_default
    if not parameter.show_default or parameter.default in (None, [], False):
        return ""
    return "on" if parameter.default is True else str(parameter.default)
