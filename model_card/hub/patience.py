"""Repeats calls to the Hub that fail for a while: rate limits (429), faults of the server (5xx), lost connections.

`huggingface_hub` repeats only some of its calls, and how long it waits cannot be set. So its client is replaced while
this package publishes. After the last try, the client raises `StillFailing`, which `huggingface_hub` does not catch.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import set_client_factory
from huggingface_hub.utils import _http, httpx, parse_ratelimit_headers

logger = logging.getLogger(__name__)

PASSING_STATUS = (408, 429, 500, 502, 503, 504)
LOST = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
# The Hub refuses to create two repositories at the same time, and `huggingface_hub` would repeat the call for ever.
BUSY = "another conflicting operation is in progress"
FIRST_WAIT = 1.0  # seconds


class StillFailing(Exception):
    """A call that failed at each try, or that it is useless or unsafe to repeat.

    Attributes:
        cause (`httpx.Response` or `Exception`): Last answer of the server, or how the connection was lost.
        tries (`int`): Number of tries.
    """

    def __init__(self, cause: httpx.Response | Exception, tries: int):
        self.response = None if isinstance(cause, Exception) else cause
        self.cause, self.tries = cause, tries
        super().__init__(f"status {cause.status_code}" if isinstance(cause, httpx.Response) else one_line(cause))

    @property
    def is_unreachable(self) -> bool:
        """Whether there was no connection at all."""
        return isinstance(self.cause, httpx.ConnectError)


@dataclass
class Answer:
    """The last call, and how it was answered.

    Attributes:
        path (`str`): Path of the URL that was called.
        response (`httpx.Response`, *optional*): Answer of the server. None if there was none.
    """

    path: str
    response: httpx.Response | None = None

    @property
    def is_commit(self) -> bool:
        """Whether the call makes a commit."""
        return re.search(r"/api/\w+/[^/]+/[^/]+/commit/", self.path) is not None

    @property
    def is_page(self) -> bool:
        """Whether the answer is a web page, as proxies and login pages give."""
        return self.response is not None and "text/html" in self.response.headers.get("content-type", "").lower()


@dataclass
class Patience:
    """How often calls are repeated, and how long each repetition waits.

    Attributes:
        tries (`int`, *optional*, defaults to 6): Largest number of tries.
        limit (`float`, *optional*, defaults to 600.0): Largest total waiting time of a call in seconds. A call fails
            at once if the server asks for a longer time.
        timeout (`float`, *optional*, defaults to 300.0): Seconds without any data after which a connection is lost.
        last (`Answer`): The last call.
        has_answered (`bool`): Whether the server has answered a call yet.
    """

    tries: int = 6
    limit: float = 600.0
    timeout: float = 300.0
    last: Answer = field(default_factory=lambda: Answer(""))
    has_answered: bool = False

    def request(self, send: Callable[..., httpx.Response], method: str, url: Any, **options: Any) -> httpx.Response:
        """Sends a request until it succeeds or is refused.

        Args:
            send (`Callable`): Method `request` of a client.
            method (`str`): Method of the request.
            url (`Any`): URL of the request.
            **options (`Any`): Options of `send`.

        Raises:
            StillFailing: If the request fails at each try, or if it fails once and makes a commit, which may have
                landed, or if the answer is a web page.
        """
        options.setdefault("timeout", httpx.Timeout(self.timeout, connect=30.0))
        body: Any = options.get("data")
        start = body.tell() if hasattr(body, "tell") else None
        waited = 0.0
        for tries in count(1):
            if start is not None:
                body.seek(start)
            failure = self._send(send, method, url, tries, options)
            if failure is None:
                assert self.last.response is not None
                return self.last.response
            seconds = self.waiting_time(failure, waited)
            if seconds is None or self.last.is_commit:
                raise failure
            wait(seconds, failure)
            waited += seconds
        raise AssertionError("count never ends")

    def _send(
        self, send: Callable[..., httpx.Response], method: str, url: Any, tries: int, options: dict[str, Any]
    ) -> StillFailing | None:
        """Sends a request once, and returns a failure that may pass.

        Raises:
            StillFailing: If the answer is a web page instead of the answer of a Hub.
        """
        self.last = Answer(urlsplit(str(url)).path)
        try:
            response = send(method, url, **options)
        except LOST as error:
            return StillFailing(error, tries)
        self.last.response, self.has_answered = response, True
        if response.status_code in PASSING_STATUS or (response.status_code == 409 and BUSY in response.text):
            return StillFailing(response, tries)
        if self.last.is_page and response.is_success:
            raise StillFailing(response, tries)
        return None

    def waiting_time(self, failure: StillFailing, waited: float) -> float | None:
        """Returns how long to wait after a failure: as long as the server asks for, or longer after each try.

        Args:
            failure (`StillFailing`): The failure.
            waited (`float`): Seconds waited so far for this call.

        Returns:
            `float`, *optional*: Seconds, or None if the call should not be repeated.
        """
        if failure.tries >= self.tries or (failure.is_unreachable and not self.has_answered):
            return None
        if failure.response is not None and failure.response.is_success:
            return None  # A web page stays one.
        asked = None if failure.response is None else asked_time(failure.response)
        seconds = FIRST_WAIT * min(2 ** (failure.tries - 1), 30) if asked is None else asked
        return seconds if waited + seconds <= self.limit else None


def asked_time(response: httpx.Response) -> float | None:
    """Returns the seconds after which the server asks to come back, or None if it does not say."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    value = response.headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def wait(seconds: float, failure: StillFailing) -> None:
    """Waits, and says so if it takes long."""
    if seconds >= 2:
        logger.warning("The Hub does not answer (%s). Trying again in %.0f s.", failure, seconds)
    time.sleep(seconds)


def one_line(error: BaseException) -> str:
    """Returns the message of an error on one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def patient_client(patience: Patience) -> Iterator[None]:
    """Makes the client of `huggingface_hub` repeat calls, within the context."""
    # A factory that the user has set, for example for a proxy, stays in use. It can only be read from this variable.
    before = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None) or _http.default_client_factory

    def make_client() -> httpx.Client:
        client = before()
        send = client.request

        def request(method: str, url: Any, **options: Any) -> httpx.Response:
            return patience.request(send, method, url, **options)

        client.request = request  # type: ignore[method-assign]
        return client

    set_client_factory(make_client)
    try:
        yield
    finally:
        set_client_factory(before)
