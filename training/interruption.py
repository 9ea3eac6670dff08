"""Interruption of long computations: Ctrl-C, and SIGTERM, which batch systems send, keep the results so far."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import get_console


class Terminated(BaseException):
    """Raised when the process receives SIGTERM. The command line uses another exit code for it than for Ctrl-C."""


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Raises `Terminated` in the block when SIGTERM arrives for the first time.

    The block does nothing if another handler is installed already.
    """
    is_default = (
        threading.current_thread() is threading.main_thread()
        and hasattr(signal, "SIGTERM")
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_default:
        yield
        return
    arrived = False

    def handle(number: int, frame: Any) -> None:
        nonlocal arrived
        if arrived:
            # Workers get the signal from a batch system and from their parent. The second one must not interrupt the
            # removal of temporary files, which the first one has started.
            return
        arrived = True
        # A batch system sends the signal to all processes, so workers of a `DataLoader` end as well. Its SIGCHLD
        # handler would raise an error for them, or print a traceback where nothing can be raised.
        if hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
            signal.signal(signal.SIGCHLD, lambda *_: None)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except Exception as error:
        # An interrupted worker or another rank may cause an error that arrives instead of `Terminated`.
        if arrived:
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def reporting_interruption(message: Callable[[], str]) -> Iterator[None]:
    """Prints a message if Ctrl-C or SIGTERM ends the block.

    Args:
        message (`Callable[[], str]`): Returns the message, which says what is kept and how to resume. Only the first
            process prints it.
    """
    try:
        with raising_on_sigterm():
            yield
    except (KeyboardInterrupt, Terminated):
        if int(os.environ.get("RANK", 0)) == 0:
            get_console().print(message(), highlight=False, markup=False, soft_wrap=True)
        raise
