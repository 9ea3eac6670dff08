"""Interruption of long work: SIGTERM, which batch systems send, ends it as Ctrl-C does, with what is done kept."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import get_console


class Terminated(BaseException):
    """The process was asked to end by SIGTERM. The command line makes another exit code of it than of Ctrl-C."""


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Raises `Terminated` in the block when SIGTERM arrives, unless something else handles it already."""
    is_free = (
        threading.current_thread() is threading.main_thread()
        and hasattr(signal, "SIGTERM")
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_free:
        yield
        return
    arrived = False

    def handle(number: int, frame: Any) -> None:
        nonlocal arrived
        arrived = True
        # A batch system sends the signal to all processes. Those of a `DataLoader` end as well, of which its handler
        # would make an error, or a traceback where nothing can be raised.
        if hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
            signal.signal(signal.SIGCHLD, lambda *_: None)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except Exception as error:
        # What a helper process or another rank leaves undone may come in place of `Terminated`.
        if arrived:
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def saying_what_is_kept(sentence: Callable[[], str]) -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the block, and says what is kept and how to go on.

    Args:
        sentence: gives what is printed, once however many processes there are.
    """
    try:
        with raising_on_sigterm():
            yield
    except (KeyboardInterrupt, Terminated):
        if int(os.environ.get("RANK", 0)) == 0:
            get_console().print(sentence(), highlight=False, markup=False, soft_wrap=True)
        raise
