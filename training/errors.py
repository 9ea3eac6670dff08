"""The errors that a user's input can cause in this room."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """What the user gave cannot be used: the message names the culprit and the remedy in one sentence.

    The command line prints the message without a traceback and exits with code 2.
    """


class PartialResultError(UserError):
    """Some of the videos cannot be used; the results of the others are there.

    The command line exits with code 3.

    Attributes:
        unusable: for each of these videos the sentence that says why.
    """

    def __init__(self, unusable: dict[str, str], total: int):
        self.unusable = unusable
        reasons = "\n".join(f"- {reason}" for reason in unusable.values())
        super().__init__(
            f"{len(unusable)} of {total} videos cannot be used, the others have their results.\n{reasons}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known name most like `name`, or all known names if none is like it."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(known)}"
