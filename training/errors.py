"""Errors that the input of a user can cause, and the sentences that tell about them."""

import os
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


def unforeseen(name: str, done: str, error: Exception) -> str:
    """The sentence about an input that an error of any kind has kept from being used.

    Args:
        name: the input.
        done: what could not be done with it, such as "analysed".
        error: the error.
    """
    reason = " ".join(str(error).split())
    told = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"{name} cannot be {done} ({told[:300]}); convert it, or report this error."


def is_user_error(error: BaseException) -> bool:
    """Whether an error is one that this package raises about its input: a `UserError` or a `VideoDecodeError`.

    The latter is known by its name, so that `tgdfer --help` need not import the video code.
    """
    return isinstance(error, UserError) or "VideoDecodeError" in {kind.__name__ for kind in type(error).__mro__}


def sentence_of(error: BaseException) -> str:
    """The message of an error, without the traceback that PyTorch adds to errors of a decoding process."""
    message = str(error).strip()
    return message.splitlines()[-1].partition("Error: ")[2] if "Original Traceback" in message else message


def lost_another_process(error: RuntimeError) -> bool:
    """Whether an error is what a process of several is told when another one has ended, by gloo or NCCL."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    told = ("closed by peer", "reset by peer", "remote process exit")
    return several and any(words in str(error) for words in told)
