"""Errors caused by the input of a user, and the messages that describe them."""

import os
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input of the user that cannot be used. The message is one sentence that names the cause and the remedy.

    The command line prints the message without a traceback and exits with code 2.
    """


class PartialResultError(UserError):
    """Some of the videos cannot be used. The results of the others are complete.

    The command line exits with code 3.

    Attributes:
        unusable (`dict[str, str]`): The reason why a video cannot be used, for each of these videos.
    """

    def __init__(self, unusable: dict[str, str], total: int):
        self.unusable = unusable
        reasons = "\n".join(f"- {reason}" for reason in unusable.values())
        super().__init__(
            f"{len(unusable)} of {total} videos cannot be used. The others have their results.\n{reasons}"
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error message about an unknown name: the most similar known name, or all known names.

    Args:
        name (`str`): The unknown name.
        known (`Iterable[str]`): The known names.

    Returns:
        `"; did you mean 'x'?"`, or `"; known are: x, y"` if no known name is similar.
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(known)}"


def unexpected_error_message(name: str, action: str, error: Exception) -> str:
    """Returns a message about an input that failed with an unexpected error.

    Args:
        name (`str`): Name of the input.
        action (`str`): What failed, as a past participle such as "analysed".
        error (`Exception`): The error.
    """
    reason = " ".join(str(error).split())
    details = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"{name} cannot be {action} ({details[:300]}); convert it, or report this error."


def is_user_error(error: BaseException) -> bool:
    """Returns whether this package raised an error about its input: a `UserError` or a `VideoDecodeError`.

    `VideoDecodeError` is recognised by its name, so that `tgdfer --help` does not import the code that reads videos.
    """
    return isinstance(error, UserError) or "VideoDecodeError" in {kind.__name__ for kind in type(error).__mro__}


def error_message(error: BaseException) -> str:
    """Returns the message of an error without the traceback that PyTorch adds to errors of worker processes."""
    message = str(error).strip()
    return message.splitlines()[-1].partition("Error: ")[2] if "Original Traceback" in message else message


def is_lost_process_error(error: RuntimeError) -> bool:
    """Returns whether gloo or NCCL raised an error because another process of the same run has ended."""
    is_distributed = int(os.environ.get("WORLD_SIZE", 1)) > 1
    phrases = ("closed by peer", "reset by peer", "remote process exit")
    return is_distributed and any(phrase in str(error) for phrase in phrases)
