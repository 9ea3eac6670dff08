"""The server of the live page: what it answers, and whom it refuses."""

import http.client
import json
import struct
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tgdfer.model_card.live.page import page_html
from tgdfer.model_card.live.server import MAX_FRAME_BYTES, MAX_TEXT_BYTES, LiveServer, decode_frame
from tgdfer.model_card.live.session import LiveSession


@pytest.fixture(params=[False])
def served(expressions, request):
    """A server, and `ask(method, path, ...)`, which returns status, headers and body."""
    session = LiveSession(expressions, None)
    server = LiveServer(session, page_html("tgdfer-tiny", request.param, session.interval), request.param)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def ask(method: str, name: str, body: bytes | None = None, token: str | None = None, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
        if method == "POST":
            headers = {"Origin": f"http://{server.host}", **headers}
        connection.request(method, f"/{server.token if token is None else token}/{name}", body, headers)
        response = connection.getresponse()
        found = SimpleNamespace(status=response.status, headers=response.headers, body=response.read())
        connection.close()
        return found

    yield SimpleNamespace(server=server, session=session, ask=ask)
    session.end("The test is over.")
    server.shutdown()
    server.server_close()


def jpeg(height: int = 48, width: int = 64) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def test_the_page_and_its_files_are_complete_and_refer_to_nothing_outside(served):
    page = served.ask("GET", "")
    html = page.body.decode()
    assert page.status == 200 and 'data-page="1" data-source="browser" data-interval="125"' in html
    assert "{" not in html.replace("{page}", "")
    assert "what a face shows" in html and "http" not in html
    for name in ("live.js", "live.css", "page.css"):
        file = served.ask("GET", name)
        assert file.status == 200 and len(file.body) > 500 and b"http" not in file.body
    assert served.ask("GET", "page.py").status == served.ask("GET", "../page.py").status == 404


def test_the_address_without_its_last_slash_leads_to_the_page(served):
    """Otherwise the browser would look for the files of the page elsewhere."""
    connection = http.client.HTTPConnection("127.0.0.1", served.server.server_address[1], timeout=20)
    connection.request("GET", f"/{served.server.token}")
    answer = connection.getresponse()
    assert answer.status == 308 and f"http://{served.server.host}{answer.headers['Location']}" == served.server.url
    connection.close()


def test_the_server_is_on_loopback_and_names_a_policy(served):
    assert served.server.server_address[0] == "127.0.0.1"
    headers = served.ask("GET", "").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"


def test_without_the_token_nothing_is_answered(served):
    served.ask("GET", "")
    for token in ("", "x", served.server.token[:-1], "%C3%A9"):
        assert served.ask("GET", "", token=token).status == 404
        assert served.ask("POST", "classes?page=1", b"a: b\nc: d", token=token).status == 404
    assert not served.session.expressions.own_classes


def test_another_name_for_loopback_and_other_origins_are_refused(served):
    served.ask("GET", "")
    assert served.ask("GET", "", Host="evil.example").status == 404
    refused = served.ask("POST", "classes?page=1", b"a: b\nc: d", Origin="http://evil.example")
    assert refused.status == 403 and not served.session.expressions.own_classes


@pytest.mark.parametrize(
    ("name", "size"), [("frame", MAX_FRAME_BYTES + 1), ("classes", MAX_TEXT_BYTES + 1), ("leave", 1)]
)
def test_what_is_too_large_is_refused_unread(served, name, size):
    connection = http.client.HTTPConnection("127.0.0.1", served.server.server_address[1], timeout=20)
    connection.putrequest("POST", f"/{served.server.token}/{name}?page=1")
    connection.putheader("Origin", f"http://{served.server.host}")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()  # the body is never sent
    assert connection.getresponse().status == 413
    connection.close()


def test_frames_of_the_page_reach_the_analysis(served):
    served.ask("GET", "")
    assert served.ask("POST", "frame?page=1", jpeg(), **{"X-Age": "40"}).status == 204
    captured, picture = served.session.to_analyse.take(0)
    assert picture.shape == (48, 64, 3) and picture.mean() == pytest.approx(90, abs=2)
    assert served.session.to_show.take(0) is None  # the page shows its own camera


@pytest.mark.parametrize("body", [b"", b"GIF89a", jpeg()[:60], jpeg(8, 8), jpeg(1200, 2000)])
def test_what_is_no_frame_is_refused(served, body):
    served.ask("GET", "")
    assert served.ask("POST", "frame?page=1", body).status == 400
    assert served.session.to_analyse.take(0) is None


def test_a_jpeg_that_claims_to_be_huge_is_not_decoded(monkeypatch):
    body = bytearray(jpeg())
    start = body.index(b"\xff\xc0")  # the header with height and width
    body[start + 5 : start + 9] = struct.pack(">HH", 60000, 60000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    assert decode_frame(bytes(body)) is None


@pytest.mark.parametrize("served", [True], indirect=True)
def test_frames_of_a_source_are_shown_once(served):
    assert b'data-source="server"' in served.ask("GET", "").body
    served.session.offer(12.5, np.zeros((48, 64, 3), np.uint8))
    frame = served.ask("GET", "frame?page=1")
    assert frame.headers["X-Captured"] == "12.500" and frame.body.startswith(b"\xff\xd8")
    assert served.session.to_show.take(0) is None
    assert served.ask("POST", "frame?page=1", jpeg()).status == 400  # frames come from one place only


def test_an_answer_is_given_once(served, pictures):
    served.ask("GET", "")
    for number in range(4):
        served.session.answers.put(served.session.analyse(number / 8, pictures[number]))
    answer = json.loads(served.ask("GET", "answer?page=1").body)
    assert set(answer) == {"captured", "boxes", "html", "spoken"} and answer["captured"] == 3 / 8
    assert served.session.answers.take(0) is None


def test_classes_are_replaced_and_problems_are_sentences(served):
    served.ask("GET", "")
    assert served.ask("POST", "classes?page=1", b"a: a smile\nb: a frown").status == 204
    assert set(served.session.expressions.descriptions) == {"a", "b"}
    for text, problem in ((b"alone: x", "The number of classes is 1"), (b"\xff", "not valid Unicode")):
        assert problem in json.loads(served.ask("POST", "classes?page=1", text).body)["problem"]
    assert set(served.session.expressions.descriptions) == {"a", "b"}
    assert served.ask("POST", "classes?page=1", b"").status == 204
    assert "happiness" in served.session.expressions.descriptions


def test_an_older_page_stops(served):
    served.ask("GET", "")
    served.ask("GET", "")
    for name in ("answer", "frame"):
        old = served.ask("GET", f"{name}?page=1")
        assert old.headers["X-Stop"] and "opened again elsewhere" in json.loads(old.body)["problem"]
    assert served.ask("POST", "classes?page=1", b"a: b\nc: d").headers["X-Stop"]
    assert not served.session.expressions.own_classes
    for page in ("x", "-1", "%C2%B2", ""):
        assert served.ask("GET", f"answer?page={page}").headers["X-Stop"]


def test_the_page_is_told_why_the_session_has_ended(served):
    served.ask("GET", "")
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(served.ask("GET", "answer?page=1")))
    thread.start()
    served.session.end("Camera 0 has gone.")
    thread.join(10)
    for answer in (*waiting, served.ask("GET", "answer?page=1")):
        assert answer.headers["X-Stop"] and json.loads(answer.body) == {"problem": "Camera 0 has gone."}


def test_the_camera_of_the_browser_can_disappear(served):
    served.ask("GET", "")
    assert served.ask("POST", "gone?page=1", b"").status == 204
    assert served.session.wait() == "The camera of the browser has gone."


def test_a_request_has_one_response(served):
    """A second response would be taken for that of the next request on the same connection."""
    for _ in range(2):
        served.ask("GET", "")
    connection = http.client.HTTPConnection("127.0.0.1", served.server.server_address[1], timeout=20)
    origin = {"Origin": f"http://{served.server.host}"}
    found = []
    for method, name in (("POST", "gone?page=1"), ("GET", "live.css")):
        connection.request(method, f"/{served.server.token}/{name}", b"" if method == "POST" else None, origin)
        response = connection.getresponse()
        found.append((response.status, response.headers["X-Stop"], response.read()[:1]))
    connection.close()
    assert found[0][:2] == (200, "1") and found[1][:2] == (200, None) and found[1][2]
