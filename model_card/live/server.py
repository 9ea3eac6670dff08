"""The server of the live page, on loopback.

The address contains a random token, without which nothing is answered. The page asks for the next frame once it has
received one, and for the next answer once it has shown one. So nothing piles up if it is slow, and nothing is kept for
it.
"""

import hmac
import io
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from PIL import Image

from tgdfer.model_card.live.session import LiveSession
from tgdfer.model_card.live.views import answer_message
from tgdfer.model_card.space.clips import MAX_LETTERS
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
# Files of the page: folder, and media type.
FILES = {
    "live.js": (HERE, "text/javascript"),
    "live.css": (HERE, "text/css"),
    "page.css": (HERE.parent / "space", "text/css"),
}
# Nothing may come from elsewhere, and no other page may contain this one. The HTML of the answers has `style`
# attributes.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Largest frame that the page may send, in bytes and in pixels, and largest text, in bytes.
MAX_FRAME_BYTES, MAX_FRAME_PIXELS, MAX_TEXT_BYTES = 2_000_000, 1920 * 1080, 4 * MAX_LETTERS
# Seconds for which a request waits for a frame or an answer, and for which a connection may be silent.
PATIENCE, TIMEOUT = 1.0, 30.0


class LiveServer(ThreadingHTTPServer):
    """Serves the page of a session on a free port.

    Args:
        session (`LiveSession`): The session.
        page (`str`): HTML of the page. `{page}` in it is replaced by the number of the page.
        has_source (`bool`): Whether the frames come from this machine. Otherwise the page sends those of its camera.
    """

    daemon_threads = True

    def __init__(self, session: LiveSession, page: str, has_source: bool):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.session, self.page, self.has_source = session, page, has_source
        self.token = secrets.token_urlsafe(24)
        self.host = f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{self.host}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores that the browser closes a connection, as it does when a page is closed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            logger.exception("A request of the page could not be answered.")


class _Handler(BaseHTTPRequestHandler):
    """Answers one request. Every request needs the token, the name of this server, and a page of its own."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tgdfer", ""
    timeout = TIMEOUT
    # Otherwise the end of a picture waits until the browser has acknowledged its beginning, up to 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Sends the page, its files, a frame or an answer."""
        name = self._name()
        if name == "" and not urlsplit(self.path).path.endswith("/"):
            self._send(308, headers={"Location": f"/{self.server.token}/"})  # the page refers to files beside it
        elif name == "":
            page = self.server.page.replace("{page}", str(self.server.session.new_page()))
            self._send(200, page.encode(), "text/html; charset=utf-8")
        elif name in FILES:
            folder, kind = FILES[name]
            self._send(200, (folder / name).read_bytes(), f"{kind}; charset=utf-8")
        elif name in ("frame", "answer"):
            self._for_newest_page(self._send_frame if name == "frame" else self._send_answer)
        else:
            self._send(404)

    def do_POST(self) -> None:
        """Takes a frame of the camera of the page, other classes, or the message that the page or camera is gone."""
        name = self._name()
        limit = {"frame": MAX_FRAME_BYTES, "classes": MAX_TEXT_BYTES, "leave": 0, "gone": 0}.get(name or "")
        length = self.headers.get("Content-Length", "")
        # Other pages cannot send this request with our address as its origin.
        is_own = self.headers.get("Origin") == f"http://{self.server.host}"
        if limit is None or not is_own or not length.isascii() or not length.isdigit() or int(length) > limit:
            self.close_connection = True  # what the body contains is not read
            self._send(404 if limit is None else 403 if not is_own else 413)
            return
        body = self.rfile.read(int(length))
        if name == "leave":
            self.server.session.leave(self._page())
            self._send(204)
        elif name == "gone":
            self._for_newest_page(self._lose_camera)
        else:
            self._for_newest_page(lambda: self._take_frame(body) if name == "frame" else self._take_classes(body))

    def _name(self) -> str | None:
        """Returns what is asked for, without the token. None if the token or the host is wrong."""
        token, _, name = urlsplit(self.path).path.removeprefix("/").partition("/")
        is_known = hmac.compare_digest(token.encode(), self.server.token.encode())
        # Another name that leads to loopback is an attempt to make the browser take this server for another site.
        return name if is_known and self.headers.get("Host") == self.server.host else None

    def _page(self) -> int:
        number = parse_qs(urlsplit(self.path).query).get("page", ["0"])[0]
        return int(number) if number.isascii() and number.isdigit() else 0

    def _for_newest_page(self, answer: Callable[[], None]) -> None:
        """Answers a request, unless the page was opened again elsewhere, or the session has ended."""
        session = self.server.session
        if not session.hear(self._page()):
            self._send_stop("This page was opened again elsewhere, and stops here.")
        elif session.ended.is_set():
            self._send_nothing()
        else:
            answer()

    def _send_frame(self) -> None:
        frame = self.server.session.frame(PATIENCE)
        if frame is None:
            self._send_nothing()
        else:
            captured, picture = frame
            self._send(200, picture, "image/jpeg", {"X-Captured": f"{captured:.3f}"})

    def _send_answer(self) -> None:
        answer = self.server.session.answers.take(PATIENCE)
        if answer is None:
            self._send_nothing()
        else:
            self._send_json(answer_message(answer))

    def _send_nothing(self) -> None:
        """Says that there is no frame or answer yet, or that there will be none any more."""
        session = self.server.session
        if session.ended.is_set():
            self._send_stop(session.sentence)
        else:
            self._send(204)

    def _send_stop(self, sentence: str) -> None:
        """Tells the page to stop. The status is 200, because browsers report any other one as a failure."""
        self._send_json({"problem": sentence}, {"X-Stop": "1"})

    def _lose_camera(self) -> None:
        self.server.session.end("The camera of the browser has gone.")
        self._send(204)

    def _take_frame(self, body: bytes) -> None:
        """Takes a frame of the camera of the page. It was captured some milliseconds ago."""
        picture = None if self.server.has_source else decode_frame(body)
        if picture is None:
            self._send(400)
            return
        age = self.headers.get("X-Age", "0")
        seconds = int(age) / 1000 if age.isascii() and age.isdigit() and len(age) < 6 else 0.0
        self.server.session.offer(time.time() - seconds, picture, shown=False)
        self._send(204)

    def _take_classes(self, body: bytes) -> None:
        try:
            self.server.session.set_classes(body.decode("utf-8"))
        except UnicodeDecodeError:
            self._send_json({"problem": "The text has characters that are not valid Unicode; type it again."})
        except UserError as error:
            self._send_json({"problem": str(error)})
        else:
            self._send(204)

    def _send_json(self, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(content).encode(), "application/json", headers)

    def _send(
        self, status: int, body: bytes = b"", kind: str = "text/plain", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Prints nothing about requests."""


def decode_frame(body: bytes) -> np.ndarray | None:
    """Decodes a JPEG to RGB (H, W, 3), uint8. Returns None if it is none, or too large."""
    try:
        # The size is read from the header, before anything is decoded.
        with Image.open(io.BytesIO(body), formats=["JPEG"]) as header:
            width, height = header.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if width * height > MAX_FRAME_PIXELS or min(width, height) < 16:
        return None
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
