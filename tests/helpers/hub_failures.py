"""The ways in which the Hub of the tests fails: refusals, faults, web pages instead of answers, lost connections."""

from dataclasses import dataclass, field
from http import HTTPStatus

FOREVER = 10**6
PAGE = b"<!DOCTYPE html><html><head><title>Sorry</title></head><body><h1>Sorry</h1></body></html>"


@dataclass(frozen=True)
class Failure:
    """How one call fails.

    Attributes:
        status: status of the answer. None closes the connection without an answer.
        reason: what the server says about it.
        times: how often the call fails before it succeeds.
        page: whether the answer is a web page, as of a proxy, and not JSON.
        body: body of the answer, if it is neither JSON nor a web page.
        after: whether the call first does its work.
        headers: further headers of the answer.
    """

    status: HTTPStatus | None
    reason: str = ""
    times: int = FOREVER
    page: bool = False
    body: bytes | None = None
    after: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """Whether the call succeeds if it is repeated a few times."""
        return self.times < FOREVER


def _soon(status: HTTPStatus, reason: str, times: int = FOREVER, **options: bool) -> Failure:
    """A failure after which the server asks the client to come back at once."""
    return Failure(status, reason, times, headers={"Retry-After": "0"}, **options)


REFUSALS = {
    "401": Failure(HTTPStatus.UNAUTHORIZED, "Invalid credentials"),
    "402": Failure(HTTPStatus.PAYMENT_REQUIRED, "Payment required for this account"),
    "403": Failure(HTTPStatus.FORBIDDEN, "You don't have the rights to do this"),
    "404": Failure(HTTPStatus.NOT_FOUND, "Nothing is here"),
    "409": Failure(HTTPStatus.CONFLICT, "Another change is being made"),
    "413": Failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Your payload is too large"),
    "storage limit": Failure(HTTPStatus.FORBIDDEN, "Private repository storage limit reached, please upgrade"),
}
FAULTS = {
    "429": _soon(HTTPStatus.TOO_MANY_REQUESTS, "We had to rate limit you"),
    "500": _soon(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side"),
    "503": _soon(HTTPStatus.SERVICE_UNAVAILABLE, "We are down for maintenance"),
    "503 page": _soon(HTTPStatus.SERVICE_UNAVAILABLE, "", page=True),
    "long wait": Failure(HTTPStatus.TOO_MANY_REQUESTS, "Come back later", headers={"Retry-After": "86400"}),
    "broken connection": Failure(None),
}
NO_ANSWERS = {
    "page": Failure(HTTPStatus.OK, page=True),
    "403 page": Failure(HTTPStatus.FORBIDDEN, page=True),
    "no JSON": Failure(HTTPStatus.OK, body=b"]["),
    "other JSON": Failure(HTTPStatus.OK, body=b'{"hello": "world"}'),
}
PASSING = {
    "429 once": _soon(HTTPStatus.TOO_MANY_REQUESTS, "We had to rate limit you", 1),
    "500 once": _soon(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side", 1),
    "503 twice": _soon(HTTPStatus.SERVICE_UNAVAILABLE, "We are down for maintenance", 2),
    "broken connection once": Failure(None, times=1),
    "done, then broken connection": Failure(None, times=1, after=True),
    "done, then 500": Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "Oops", 1, after=True, headers={"Retry-After": "0"}),
}
FAILURES = REFUSALS | FAULTS | NO_ANSWERS | PASSING
