"""Errors of the commands of the recipes."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tgdfer.training.errors import error_message, is_user_error


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Prints user errors as one sentence, with exit code 2."""
    try:
        yield
    except ValueError as error:
        if not is_user_error(error):
            raise
        typer.secho(f"error: {error_message(error)}", fg="red", err=True)
        raise typer.Exit(2) from error
