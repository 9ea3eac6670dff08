"""Lists the benchmarks, or runs one: `python -m benchmarks` and `python -m benchmarks NAME --help`."""

import ast
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Returns the names of all benchmarks, each with the first sentence of its docstring."""
    files = {path.stem: path for path in FOLDER.glob("[a-z]*.py")}
    files |= {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    return {name: _first_sentence(path) for name, path in sorted(files.items())}


def main() -> None:
    """Runs the benchmark named by the first argument. Without a name, prints the list of benchmarks."""
    names = benchmarks()
    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        _print_list(names)
        return
    name, *rest = sys.argv[1:]
    if name not in names:
        sys.exit(f"error: There is no benchmark {name!r}; `python -m benchmarks` lists all benchmarks.")
    os.execv(sys.executable, [sys.executable, "-m", f"benchmarks.{name}", *rest])


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].partition(": `python -m")[0].rstrip(".")


def _print_list(names: dict[str, str]) -> None:
    console, table = Console(highlight=False), Table.grid(padding=(0, 2))
    for name, sentence in names.items():
        table.add_row(name, sentence)
    console.print("Usage: python -m benchmarks NAME [OPTIONS]\n\nBenchmarks:\n", markup=False)
    console.print(table)
    console.print("\n`python -m benchmarks NAME --help` shows the options of a benchmark.", markup=False)


if __name__ == "__main__":
    main()
