"""Reading of the metadata files of a data set, which `datasets` reads as well."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.files import csv_rows

# Names of the files.
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def metadata_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a metadata file with their numbers, which start at 1."""
    try:
        if file.suffix == ".parquet":
            from pyarrow import parquet

            rows: Any = enumerate(parquet.read_table(file).to_pylist(), 1)
        elif file.suffix == ".csv":
            # Empty cells are unknown values.
            cells = csv_rows(file.read_text(encoding="utf-8-sig"))
            rows = enumerate(({name: value or None for name, value in row.items()} for row in cells), 1)
        else:
            lines = file.read_text(encoding="utf-8-sig").split("\n")
            rows = ((number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip())
        for number, row in rows:
            if not isinstance(row, dict):
                raise UserError(
                    f'Row {number} of {file} is not an object: write a line such as {{"file_name": "a.mp4"}}.'
                )
            yield number, row
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8.") from error
    except (OSError, ValueError, csv.Error, RecursionError) as error:  # Errors of pyarrow are subclasses of these.
        raise UserError(f"{file} cannot be read ({' '.join(str(error).split())}): repair it or remove it.") from error
