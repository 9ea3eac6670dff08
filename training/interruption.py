"""Interruption of long work: SIGTERM, which batch systems send, ends it as Ctrl-C does, with what is done kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: Any) -> None:
    raise Terminated
