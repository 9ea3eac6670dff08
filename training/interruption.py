"""Interruption of long computations: Ctrl-C, and SIGTERM, which batch systems send, keep the results so far."""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich import get_console

from tgdfer.training.errors import UserError

# Exit code of a process that SIGTERM has ended, as shells and batch systems report it.
TERMINATED = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """Raised when the process receives SIGTERM. If nothing catches it, Python ends with the exit code of SIGTERM."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


class DeferredSigterm:
    """Whether SIGTERM has arrived in a block of `deferring_sigterm`.

    Attributes:
        arrived (`bool`): Whether the signal has arrived in this process.
    """

    arrived = False


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
        _accept_ended_workers()
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
def deferring_sigterm() -> Iterator[DeferredSigterm]:
    """Notes SIGTERM in the block instead of raising `Terminated`. The block ends itself when it is ready for that.

    `Terminated` is raised after the block if the signal has arrived and the block has not raised it. Nothing is noted
    if the caller has installed a handler of its own.

    Yields:
        `DeferredSigterm`: Whether the signal has arrived.
    """
    deferred = DeferredSigterm()
    is_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main_thread and hasattr(signal, "SIGTERM") else None
    if before is not signal.SIG_DFL and getattr(before, "__module__", None) != __name__:
        yield deferred
        return

    def handle(number: int, frame: Any) -> None:
        deferred.arrived = True

    signal.signal(signal.SIGTERM, handle)
    try:
        yield deferred
    except (UserError, OSError):  # For example a full disk, so that the last state could not be saved.
        raise
    except Exception as error:
        # Another process of the run may have ended first.
        if deferred.arrived:
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if deferred.arrived:
            _accept_ended_workers()
    if deferred.arrived:
        raise Terminated


def _accept_ended_workers() -> None:
    """Replaces the SIGCHLD handler of `DataLoader`, before this process ends.

    A batch system sends SIGTERM to all processes, so workers of a `DataLoader` end as well. Its handler would raise an
    error for them, or print a traceback where nothing can be raised.
    """
    if hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
        signal.signal(signal.SIGCHLD, lambda *_: None)


@cache
def kill_workers_at_exit() -> None:
    """Kills the worker processes that are left when Python ends.

    Python would end them with a single SIGTERM, which `ignore_first_sigterm` ignores, and wait for them forever.
    """
    atexit.register(_kill_workers)  # before the handler of `multiprocessing`, which was registered earlier


def _kill_workers() -> None:
    if hasattr(signal, "SIGCHLD"):  # The handler of `DataLoader` would raise an error for each of them.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def ignore_first_sigterm(worker: int = 0) -> None:
    """Makes this worker process of a `DataLoader` ignore SIGTERM once, so that its parent can save its state first.

    A batch system sends the signal to all processes. The parent ends its workers with a second one.

    Args:
        worker (`int`, *optional*, defaults to 0): Number of the worker, which is not used.
    """

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)


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
